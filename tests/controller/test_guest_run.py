"""Users' nets and ours in one Run: proven, timed, compared, or refused in one line."""

import dataclasses

import pytest
from command import NULL, Inline

from bench import UsageError
from bench.commands import resume
from bench.commands.requests import RunRequest
from bench.record.run import Run

pytestmark = pytest.mark.process

#: The null Net's values, and passes that take a while, since one that takes no time is not believed.
MINE = """
import time
from impls import null_alexnet
def build({parameters}):
    net = null_alexnet.Net(variant, {weights}, how)
    forward, forward_backward = net.forward, net.forward_backward
    net.forward = lambda: [time.sleep({ms} / 1e3), forward()][1]
    net.forward_backward = lambda: [time.sleep(2 * {ms} / 1e3), forward_backward()][1]
    {more}
    return net
"""


COUNTED = ("params", "macs", "gflop_per_s", "peak_fraction")


def write(folder, name="mine.py", parameters="variant, weights, how", weights="weights", ms=5, more="pass"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MINE.format(parameters=parameters, weights=weights, ms=ms, more=more))
    return f"{path}:build"


@pytest.fixture(scope="module")
def guest_run(tmp_path_factory):
    """A Run of our net, one that is proven, one that takes no weights, one that is off and one that is no net."""
    folder = tmp_path_factory.mktemp("guests")
    own = "dict(__import__('impls.weights').weights.initial(variant))"
    off = "old = net.logits; net.logits = lambda handles: old(handles) + 1"
    nets = (
        write(folder, "right.py"),
        write(folder, "unproven.py", parameters="variant, how", weights=own),
        write(folder, "off.py", more=off),
        write(folder, "none.py", more="net = [net]"),
    )
    words = [word for net in nets for word in ("--net", net)]
    return Inline(folder)("run", *NULL, *words)


def test_nets_that_take_our_weights_are_proven_and_failures_stop_no_other_net(guest_run):
    rows = {(row["net"], row["pass"]): row for row in Run(guest_run.folder).rows()}
    assert guest_run.code == 1
    assert [rows[net, "forward"]["valid"] for net in (None, "right", "unproven", "off", "none")] == [
        *(True, True, True),
        *(False, False),
    ]
    assert rows["right", "forward"]["parity_logits"] < 1e-6
    assert rows["unproven", "forward"]["parity_logits"] is None
    assert "not_proven" in rows["unproven", "forward"]["flags"]
    assert "not_proven" not in rows["right", "forward"]["flags"]
    assert "disagrees with the float64 reference" in rows["off", "forward"]["invalid_reason"]
    lacks = "none.py:build returned a list, which lacks load, forward, forward_backward, wait, logits, gradients"
    assert rows["none", "forward"]["invalid_reason"] == f"{lacks}: expected a Net (impls/net.py)"


def test_a_net_that_is_not_proven_has_its_own_params_and_no_macs(guest_run):
    rows = {(row["net"], row["pass"]): row for row in Run(guest_run.folder).rows()}
    counted = [{name: rows[net, "forward"][name] for name in COUNTED} for net in ("right", "unproven")]
    assert None not in [counted[0][name] for name in ("params", "macs", "gflop_per_s")]
    assert counted[1] == dict.fromkeys(COUNTED) | {"params": counted[0]["params"]}  # by the null Net's layers


#: Values that the first call makes, and of which a training pass can use only its own, as of torch's lazy modules.
LAZY = """net.layers, made = None, []
    first, second = net.forward, net.forward_backward
    net.forward = lambda: [made or made.append("inference"), first()][1]
    net.forward_backward = lambda: [made or made.append("training"), 1 / (made == ["training"]), second()][2]
"""


def test_a_lazy_net_that_is_not_proven_is_timed_and_not_judged_by_the_variants_macs(tmp_path):
    """It does next to nothing: with the variant's MACs its speed would be that of no machine."""
    own = "dict(__import__('impls.weights').weights.initial(variant))"
    net = write(tmp_path, parameters="variant, how", weights=own, ms=0.1, more=LAZY)
    run = Inline(tmp_path)("run", *NULL, "--net", net)
    rows = [row for row in Run(run.folder).rows() if row["net"]]
    assert (run.code, [row["invalid_reason"] for row in rows]) == (0, ["", ""])
    for row in rows:
        assert {name: row[name] for name in COUNTED} == dict.fromkeys(COUNTED)


def test_a_net_without_a_training_step_is_simply_not_in_that_pass(tmp_path):
    net = write(tmp_path, more="net.train_step = None")
    run = Inline(tmp_path)("run", *NULL, "--net", net, "--pass", "forward,train_step")
    made = Run(run.folder)
    assert run.code == 0, run.err
    assert {(row["net"], row["pass"]) for row in made.rows()} == {
        *((None, "forward"), (None, "train_step"), ("mine", "forward")),
    }
    assert "train_step-mine-s67: not timed: it has no train_step (docs/adding.md)" in run.err
    assert "train_step" not in [line.split()[0] for line in run.out.splitlines() if "mine" in line]
    alone = Inline(tmp_path / "alone")("run", *NULL, "--net", net, "--pass", "train_step")
    assert alone.code == 1  # nothing of it was timed


def test_a_guest_that_is_no_net_costs_no_round_and_no_traceback(guest_run):
    assert guest_run.of("void") == []
    assert "Traceback" not in guest_run.err


def test_a_guest_row_has_the_time_of_the_guest(guest_run):
    rows = {(row["net"], row["pass"]): row for row in Run(guest_run.folder).rows()}
    assert 5 <= rows["right", "forward"]["median_ms"] < 10 <= rows["right", "forward_backward"]["median_ms"]


def test_the_table_has_ratios_to_guests_and_the_header_names_them(guest_run):
    assert "forward right: ours over right: 0.000" in guest_run.out
    assert "ours over off" not in guest_run.out
    heads = {net.label: net for net in Run(guest_run.folder).head.guests}
    assert set(heads) == {"right", "unproven", "off", "none"}
    assert (heads["right"].file, heads["right"].takes_weights) == ("right.py", True)
    assert str(guest_run.folder.parent) not in str(heads)


@pytest.mark.slow
def test_two_nets_of_one_name_are_two_arms_and_a_slower_one_is_found(tmp_path):
    old, new = write(tmp_path / "old", ms=5), write(tmp_path / "new", ms=8)
    finished = Inline(tmp_path)("run", *NULL, "--rounds", "5", "--pass", "forward", "--ab", f"net={old},{new}")
    assert finished.code == 1, finished.err
    run = Run(finished.folder)
    assert [row["valid"] for row in run.rows()] == [True, True]
    assert len({row["conditions_hash"] for row in run.rows()}) == 2
    assert "SLOWER" in finished.out
    assert "ours over" not in finished.out


@pytest.mark.slow
def test_a_run_goes_on_only_with_the_file_it_was_made_with(tmp_path):
    net, command = write(tmp_path), Inline(tmp_path)
    there = command("run", *NULL, "--pass", "forward", "--net", net).folder
    lines = (there / "run.jsonl").read_text().splitlines()
    later = ('"round":1', '"event":"end"', '"event":"stop"')
    kept = [line for line in lines if not any(sign in line for sign in later)]
    (there / "run.jsonl").write_text("\n".join(kept) + "\n")
    write(tmp_path, ms=6)
    for words in ((), ("--net", net)):
        refused = command.resume(there, *words)
        made = "the Run was made with --net mine.py:build, by their contents; expected the same"
        assert (refused.code, refused.err) == (2, f"alexnet-bench: --resume: {made}\n")
    write(tmp_path)
    resumed = command.resume(there, "--net", net)
    assert resumed.code == 0, resumed.err
    assert [row["rounds"] for row in Run(there).rows()] == [2, 2]


def test_a_net_that_is_not_there_is_one_line_before_anything_is_made(tmp_path):
    write(tmp_path)
    for net, says in (
        ("/nowhere/a.py:build", "cannot read '/nowhere/a.py': No such file or directory; check its path"),
        (f"{tmp_path}/mine.py:buidl", "mine.py has no 'buidl': it has build"),
    ):
        finished = Inline(tmp_path)("run", *NULL, "--net", net)
        assert (finished.code, finished.out, finished.err) == (2, "", f"alexnet-bench: --net: {says}\n")
        assert not finished.results.exists()


MODEL = "from torch import nn\ndef pool(size): return nn.AdaptiveAvgPool2d(size)\n"
SHORT = ("--variant", "half_width", "--batch", "2", "--rounds", "1", "--iterations", "4", "--no-gate", "--burn-in", "1")


@pytest.fixture(scope="module")
def model_run(tmp_path_factory):
    """A Run of a model that has an input of its own, and no parameters."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("model")
    (folder / "mine.py").write_text(MODEL)
    return Inline(folder)("run", *SHORT, "--net", f"{folder}/mine.py:pool(size=7)", "--input", "3x300x200")


def test_a_model_with_an_input_of_its_own_is_timed_alone(model_run):
    rows = Run(model_run.folder).rows()
    says = "alexnet-bench: only the models of --net are timed, not our nets, which take other inputs\n"
    assert says in model_run.err
    assert "input 3x300x200, batch 2, cpu" in model_run.out
    assert "No ratio: mine.pool_size_7 is alone. A second --net, or --ab net=A,B, gives one." in model_run.out
    assert [row["net"] for row in rows] == ["mine.pool_size_7"] * 2
    assert {(row["input"], row["size"], row["macs"], row["params"]) for row in rows} == {
        ("3x300x200", None, None, None)
    }
    assert model_run.of("parity") == []


def test_a_model_without_parameters_fails_in_the_backward_pass_only(model_run):
    reasons = {row["pass"]: row["invalid_reason"] for row in Run(model_run.folder).rows()}
    why = "it has no trainable parameters, so no backward pass: choose --pass forward"
    assert reasons == {"forward": "", "forward_backward": why}
    assert model_run.code == 1
    assert model_run.of("fault") == []


def test_a_model_is_resumed_with_its_arguments_only(model_run):
    file = model_run.results.parent / "mine.py"
    request = RunRequest(net=(f"{file}:pool(size=8)",))
    with pytest.raises(UsageError, match=r"made with --net mine.py:pool\(size=7\), by their contents"):
        resume.settings_as_before(Run(model_run.folder), request)
    same = dataclasses.replace(request, net=(f"{file}:pool( size=7 )",))
    assert resume.settings_as_before(Run(model_run.folder), same).guests.keys() == {"mine.pool_size_7"}
