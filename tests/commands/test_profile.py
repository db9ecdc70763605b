"""`profile`: what it says of each row from known times, and small ones of the null Net end to end."""

import csv
import dataclasses
import json
import tempfile

import pytest
from click.testing import CliRunner
from command import Command
from null_runs import NULL_CASE, run_cases
from runs import event, make

from bench.cases.axes import Axes
from bench.commands import profile_plan
from bench.commands.cli import main
from bench.record import layer_times
from bench.record.events import Ceiling, Fault, Void, Worker
from bench.record.journal import Journal
from bench.record.layer_times import SUM, WHOLE
from bench.record.run import Run
from bench.stats import roofline
from impls.variants import Variant, variant_named

ROWS = 4  # of half_width, in most tests: conv1, relu1, conv2, relu2
FEW = ("--framework", "null", "--variant", "half_width", "--size", "67", "--batch", "2", "--iterations", "2")


@pytest.fixture(scope="module", autouse=True)
def few_rows():
    """A net of fewer rows than it has, in this process: Workers know them all."""
    parts = Variant.parts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Variant, "parts", lambda self: parts(self)[:ROWS])
        yield


def command(folder, *args: str):
    """The command in this very process, with a lock of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        return CliRunner().invoke(main, args)


def table(folder) -> list[dict]:
    return list(csv.DictReader((folder / "profile.csv").read_text().splitlines()))


def fields(rows, *names):
    return [tuple(row.get(name) for name in names) for row in rows]


@pytest.fixture(scope="module")
def cases(few_rows):
    names = ["half_width", *(part.name for part in variant_named("half_width").parts())]
    axes = {"modes": {"torch": ["eager"]}, "layouts": {"torch": ["nchw"]}, "device": ["cpu"]}
    axes |= {"precisions": ["fp32"], "batch": [8], "pass_": ["forward", "forward_backward"]}
    return Axes(variant=names, **axes).cases()


def known(folder, cases, ceilings=True, rounds=3):
    layers = [part.name for part in variant_named("half_width").parts()]
    forward = {"half_width": 10.0} | {name: 1.0 + n for n, name in enumerate(layers)}
    both = {"half_width": 36.0} | {name: 3 * forward[name] for name in layers}
    slower = {case.id: (both if "backward" in case.pass_ else forward)[case.variant] for case in cases}
    run = make(folder, cases, slower=slower, base_ns=10**8, rounds=rounds, protocol=profile_plan.RULES)
    if ceilings:
        rates = {"matmul_gflop_per_s": 100.0, "conv_gflop_per_s": 400.0, "copy_gb_per_s": 40.0}
        place = {"group": 0, "round": 0, "attempt": 0, "worker": cases[0].worker}
        Journal(run.folder).add(event("ceiling", **place, precision="fp32", device="cpu", **rates))
    return Run(run.folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory, cases):
    return known(tmp_path_factory.mktemp("times"), cases)


@pytest.fixture(scope="module")
def rows(made):
    return list(layer_times.layer_rows(made))


class TestTimes:
    """Forward 1, 2, 3 and 4 tenths of a second, both passes 3 times as long; the whole 1 s and 3.6 s."""

    def test_a_row_has_its_forward_time_and_what_both_passes_take_longer(self, rows):
        found = [row for row in rows if "height" in row]
        assert fields(found, "layer", "pass") == [
            (layer, pass_) for layer in ("conv1", "relu1", "conv2", "relu2") for pass_ in ("forward", "backward")
        ]
        assert [row["center_ms"] for row in found] == pytest.approx([100, 200, 200, 400, 300, 600, 400, 800], rel=1e-5)
        assert all(row["ci95_low_ms"] < row["center_ms"] < row["ci95_high_ms"] for row in found)

    def test_shares_are_of_the_sum_of_the_rows_in_that_pass(self, rows):
        for pass_ in ("forward", "backward"):
            shares = [row["share_of_sum"] for row in rows if row["pass"] == pass_ and "height" in row]
            assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=1e-5)

    def test_the_sum_of_the_rows_is_held_against_the_whole_round_by_round(self, rows):
        sums = {row["pass"]: row for row in rows if row["layer"] == SUM}
        wholes = {row["pass"]: row for row in rows if row["layer"] == WHOLE}
        for pass_, total, whole in (
            ("forward", 1000, 1000),
            ("backward", 2000, 2600),
            ("forward_backward", 3000, 3600),
        ):
            assert sums[pass_]["center_ms"] == pytest.approx(total, rel=1e-5)
            assert wholes[pass_]["center_ms"] == pytest.approx(whole, rel=1e-5)
            center, low, high = (sums[pass_][f"sum_over_whole{end}"] for end in ("", "_low", "_high"))
            assert center == pytest.approx(total / whole, rel=1e-5)
            assert low <= center <= high < low + 1e-4
            assert "sum_over_whole" not in wholes[pass_]

    def test_a_row_of_compute_and_a_row_of_memory_have_their_place_under_the_roof(self, rows):
        conv1, relu1 = (variant_named(f"half_width.{layer}").placed()[0] for layer in ("conv1", "relu1"))
        found = {(row["layer"], row["pass"]): row for row in rows}
        row, work = found["conv1", "backward"], roofline.work(conv1, 8, "backward", input_gradient=False)
        assert (row["flop"], row["bytes"], row["bound"]) == (work.flop, work.bytes, "compute")
        assert row["flop"] == 2 * conv1.macs * 8
        assert row["peak_fraction"] == pytest.approx(work.flop / 200e6 / 400, rel=1e-5)
        assert row["of_attainable"] == pytest.approx(row["attainable_ms"] / 200, rel=1e-5)
        row, work = found["relu1", "forward"], roofline.work(relu1, 8, "forward", input_gradient=True)
        assert (row["bound"], row["gb_per_s"]) == ("memory", pytest.approx(work.bytes / 200e6, rel=1e-5))
        assert row["attainable_ms"] == pytest.approx(work.bytes / 40 / 1e6)
        assert "peak_fraction" not in row  # no multiply-adds

    def test_without_a_ceiling_there_are_times_and_no_shares_of_a_roof(self, tmp_path, cases):
        for row in layer_times.layer_rows(known(tmp_path, cases, ceilings=False, rounds=1)):
            assert row["center_ms"] > 0
            assert not row.keys() & {"peak_fraction", "bound", "attainable_ms", "of_attainable"}

    def test_where_a_row_is_missing_there_is_no_sum_and_no_share(self, made, tmp_path):
        (tmp_path / "run.jsonl").write_bytes((made.folder / "run.jsonl").read_bytes())
        failed = next(case for case in made.cases if case.variant == "half_width.relu1")
        Journal(tmp_path).add(event("failed", case_id=failed.id, reason="killed by SIGKILL"))
        rows = list(layer_times.layer_rows(Run(tmp_path)))
        found = {(row["layer"], row.get("share_of_sum")) for row in rows}
        assert found == {(layer, None) for layer in ("conv1", "conv2", "relu2", WHOLE)}

    def test_a_backward_that_is_lost_in_noise_has_a_time_and_no_speed(self, tmp_path, cases):
        run = make(tmp_path, cases, slower={}, base_ns=1000, rounds=1, protocol=profile_plan.RULES)  # both take as long
        for row in (row for row in layer_times.layer_rows(run) if row["pass"] == "backward"):
            assert (row["center_ms"], row.get("share_of_sum"), row.get("gflop_per_s")) == (0, None, None)

    def test_precisions_are_tables_of_their_own(self, tmp_path, cases):
        low = [dataclasses.replace(case, precision="bf16") for case in cases]
        found = list(layer_times.layer_rows(known(tmp_path, [*cases, *low], rounds=1)))
        assert len({tuple(row[name] for name in layer_times.AXES) for row in found}) == 2
        widths = {
            row["precision"]: row["bytes"] for row in found if (row["layer"], row["pass"]) == ("relu1", "forward")
        }
        assert widths["fp32"] == 2 * widths["bf16"]

    def test_the_command_shows_it_again(self, made, rows):
        shown = command(made.folder, "profile", str(made.folder))
        assert shown.exit_code == 0, shown.output
        assert "forward: the layers together take 1.000 [1.000, 1.000] of the whole net's time" in shown.stdout
        assert "400 GFLOP/s in a convolution" in shown.stdout
        assert {"profile.csv", "layers.png", "roofline.png"} <= {path.name for path in made.folder.iterdir()}
        assert [float(row["center_ms"]) for row in table(made.folder)] == [row["center_ms"] for row in rows]


@pytest.fixture(scope="module")
def profiled(few_rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    done = command(folder, "profile", *FEW, "--rounds", "2", "--burn-in", "1", "--out", str(folder / "results"))
    assert done.exit_code == 0, done.output
    return next((folder / "results").iterdir())


@pytest.mark.process
class TestCommand:
    def test_workers_are_started_once_a_round_and_go_from_row_to_row(self, profiled):
        logs = sorted(path.name for path in (profiled / "workers").glob("*.stderr"))
        assert logs == ["g0-r0-a0-null-noop.stderr", "g0-r1-a0-null-noop.stderr"]
        events = Run(profiled).counted(Worker)
        assert len(events) == 2 * (1 + ROWS)
        proven = [one.parity for one in events if one.round == 0]
        assert all(parity["logits"] <= 1e-5 and parity["gradient"] <= 1e-4 for parity in proven)

    def test_its_table_has_every_row_the_sum_and_the_whole(self, profiled):
        forward = [row for row in table(profiled) if row["pass"] == "forward"]
        assert fields(forward, "layer", "rounds", "framework", "batch") == [
            (layer, "2", "null", "2") for layer in ("conv1", "relu1", "conv2", "relu2", SUM, WHOLE)
        ]

    def test_its_folder_alone_gives_the_same_table(self, profiled):
        before = (profiled / "profile.csv").read_bytes()
        again = command(profiled.parent, "profile", str(profiled), "--json")
        assert (profiled / "profile.csv").read_bytes() == before
        assert len(json.loads(again.stdout)["layers"]) == before.count(b"\n") - 1

    def test_one_that_was_cut_off_goes_on_where_it_was(self, profiled, tmp_path):
        lines = (profiled / "run.jsonl").read_bytes().splitlines(keepends=True)
        places = [tuple(json.loads(line).get(what) for what in ("event", "group", "round")) for line in lines]
        last = places.index(("round", 2, 1)) + 1
        (tmp_path / "run.jsonl").write_bytes(b"".join(lines[:last]) + lines[last][:20])
        assert command(tmp_path, "run", "--resume", str(tmp_path)).exit_code == 0
        run = Run(tmp_path)
        assert all(run.finished(group) == {0, 1} for group in range(1 + ROWS))
        assert [path.name for path in (tmp_path / "workers").glob("*.stderr")] == ["g3-r1-a0-null-noop.stderr"]
        assert command(tmp_path, "profile", str(tmp_path)).exit_code == 0
        assert fields(table(tmp_path), "layer", "pass", "rounds") == fields(table(profiled), "layer", "pass", "rounds")

    def test_a_training_step_adds_the_update_of_each_layer_that_has_parameters(self, tmp_path):
        words = (*FEW, "--pass", "all", "--rounds", "1", "--burn-in", "1", "--out", str(tmp_path / "results"))
        done = command(tmp_path, "profile", *words)
        assert done.exit_code == 0, done.output
        (folder,) = (tmp_path / "results").iterdir()
        updates = [row for row in table(folder) if row["pass"] == "update"]
        assert fields(updates, "layer") == [("conv1",), ("conv2",), (SUM,), (WHOLE,)]
        assert int(updates[0]["bytes"]) == 20 * int(updates[0]["params"])
        sums = {row["pass"]: float(row["center_ms"]) for row in table(folder) if row["layer"] == SUM}
        assert list(sums) == ["forward", "backward", "forward_backward", "update", "train_step"]
        parts = float(updates[0]["center_ms"]) + float(updates[1]["center_ms"])
        assert sums["update"] == pytest.approx(parts)

    def test_options_next_to_an_existing_profile_are_refused(self, tmp_path):
        make(tmp_path, protocol=profile_plan.RULES)
        done = command(tmp_path, "profile", str(tmp_path), "--batch", "4")
        message = "alexnet-bench: RUN: a profile has its own settings; leave out --batch\n"
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", message)

    def test_a_profile_out_of_time_says_so(self, tmp_path):
        words = (*FEW, "--rounds", "3", "--burn-in", "1", "--max-time", "0.001", "--out", str(tmp_path / "results"))
        done = command(tmp_path, "profile", *words)
        assert done.exit_code == 0, done.output
        assert "--max-time: stopped early, since another Round would have exceeded it\n" in done.stderr

    def test_what_is_no_profile_is_a_mistake(self, tmp_path):
        make(tmp_path)
        for folder, message in (
            (tmp_path, f"{tmp_path}: expected a Run of `profile`; for other Runs use `plot --kind roofline`"),
            (tmp_path / "none", f"{tmp_path / 'none'}: cannot read run.jsonl: No such file or directory"),
        ):
            done = command(tmp_path, "profile", str(folder))
            assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"alexnet-bench: {message}\n")

    @pytest.mark.slow
    def test_a_whole_net_by_the_program_itself(self, tmp_path):
        done = (run := Command(tmp_path))("profile", *FEW, "--rounds", "1", "--out", str(run.results))
        assert done.code == 0, done.err
        rows = [row for row in variant_named("half_width").layers if row.kind != "dropout"]
        assert len(table(done.folder)) == 2 * len(rows) + 3 * 2


@pytest.mark.process
def test_precisions_have_workers_of_their_own_each_proven_to_have_it(tmp_path):
    rows = [dataclasses.replace(NULL_CASE, variant=f"half_width.{row}") for row in ("relu1", "relu2")]
    cases = [dataclasses.replace(row, precision=precision) for row in rows for precision in ("fp32", "bf16")]
    run = run_cases(tmp_path, cases, shared_workers=True)
    assert run.failed == {}
    shown = [(one.group, one.precision.conv.precision) for one in run.events_of(Worker) if one.round == 0]
    assert shown == [(0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "bf16")]
    logs = sorted(path.name[:5] for path in (run.folder / "workers").glob("*.stderr"))
    assert logs == ["g0-r0", "g0-r1", "g1-r0", "g1-r1"]


@pytest.mark.process
class TestFaults:
    def test_a_worker_that_dies_in_one_row_takes_no_other_row_with_it(self, tmp_path):
        rows = [dataclasses.replace(NULL_CASE, variant=f"half_width.{row}") for row in ("conv1", "relu1", "relu2")]
        run = run_cases(tmp_path, rows, "if variant.name.endswith('relu1'): os._exit(9)", shared_workers=True)
        finished = {case.variant: sorted(run.finished(run.group_of[case.id])) for case in run.cases}
        assert finished["half_width.conv1"] == finished["half_width.relu2"] == [0, 1]
        assert run.failed == {run.cases[1].id: "ended by itself with exit code 9"}
        assert [fault.place for fault in run.events_of(Fault)] == [(1, 0, 0), (1, 0, 1)]
        assert {one.round for one in run.events_of(Ceiling)} == {0}

    def test_out_of_memory_at_one_batch_is_recorded_at_once_and_the_others_go_on(self, tmp_path):
        cases = [dataclasses.replace(NULL_CASE, variant="half_width.relu1", batch=batch) for batch in (4, 2)]
        run = run_cases(tmp_path, cases, "net.forward = net.forward if how.batch == 2 else spent", rounds=1)
        rows = {row["batch"]: row for row in run.rows()}
        assert (rows[4]["rounds"], rows[4]["invalid_reason"]) == (0, "ran out of memory: MemoryError: it is spent")
        assert (rows[2]["rounds"], rows[2]["invalid_reason"]) == (1, "")
        assert [fault.kind for fault in run.events_of(Fault)] == ["memory"]
        assert run.events_of(Void) == []


MODEL = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)
        self.gate = Gate()
    def forward(self, x):
        x = self.act(self.act(self.stem(x)))
        return self.head(x.mean((2, 3))) * self.gate(2)
class Gate(nn.Module):
    def forward(self, number):
        return number
"""
KERAS = "import keras\ndef build():\n    return keras.Sequential([keras.layers.Dense(2), keras.layers.ReLU()])\n"
JAX = "import jax\ndef build():\n    return (lambda params, x: x * params), jax.numpy.ones(())\n"
ONE_ROUND = ("--batch", "2", "--rounds", "1", "--iterations", "2", "--burn-in", "1")


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A profile of two models, one in torch and one in Keras."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "mine.py").write_text(MODEL)
    (folder / "theirs.py").write_text(KERAS)
    nets = ("--net", f"{folder}/mine.py:Model", "--net", f"{folder}/theirs.py:build")
    done = command(folder, "profile", *nets, "--size", "16", *ONE_ROUND, "--out", str(folder / "results"))
    assert done.exit_code == 0, done.output
    return done, next((folder / "results").iterdir())


@pytest.mark.process
class TestModules:
    def test_each_module_has_its_times_those_of_all_its_calls(self, modules):
        _, folder = modules
        rows = [row for row in table(folder) if row["pass"] == "forward"]
        names = ("net", "layer", "kind", "calls", "height", "channels", "params", "macs")
        assert fields(rows, *names) == [
            ("mine.Model", "stem", "Conv2d", "1", "14", "4", "112", ""),
            ("mine.Model", "act", "ReLU", "2", "14", "4", "0", ""),
            ("mine.Model", "head", "Linear", "1", "1", "2", "10", ""),
            ("mine.Model", SUM, "", "", "", "", "122", ""),
            ("mine.Model", WHOLE, "", "", "", "", "122", ""),
            ("theirs", "dense", "Dense", "1", "16", "2", "8", ""),
            ("theirs", "re_lu", "ReLU", "1", "16", "2", "0", ""),
            ("theirs", SUM, "", "", "", "", "8", ""),
            ("theirs", WHOLE, "", "", "", "", "8", ""),
        ]
        assert {row["input"] for row in rows} == {"3x16x16", "16x16x3"}
        times = {(row["net"], row["layer"]): float(row["center_ms"]) for row in rows}
        run = Run(folder)
        act = next(case for case in run.cases if (case.part, case.pass_) == ("act", "forward"))
        (once,) = run.round_medians_ns(act).values()
        assert times["mine.Model", "act"] == pytest.approx(2 * once / 1e6)
        mine = sum(times["mine.Model", layer] for layer in ("stem", "act", "head"))
        assert times["mine.Model", SUM] == pytest.approx(mine)

    def test_it_says_what_is_left_out_and_what_is_called_often(self, modules):
        done, folder = modules
        says = "mine.Model: 3 modules timed alone; called act 2 times, of which the first is timed and all are counted"
        left = "; left out: gate: it is given no tensor"
        assert says + left in done.stdout
        assert says + left in command(folder, "profile", str(folder)).stdout

    def test_its_folder_is_drawn_and_reported(self, modules):
        _, folder = modules
        assert {path.name for path in folder.glob("*.png")} == {"layers.png"}
        done = command(folder, "report", str(folder), "--output", str(folder / "page.html"))
        assert done.exit_code == 0, done.output
        page = (folder / "page.html").read_text()
        assert "mine.Model, input 3x16x16, batch 2, cpu, fp32: torch eager, nchw, layer by layer" in page
        assert "act (2 calls)" in page

    def test_one_that_was_cut_off_goes_on_with_its_file(self, modules, tmp_path):
        _, folder = modules
        nets = [
            word for name in ("mine.py:Model", "theirs.py:build") for word in ("--net", f"{folder.parents[1]}/{name}")
        ]
        lines = (folder / "run.jsonl").read_bytes().splitlines(keepends=True)
        events = [json.loads(line)["event"] for line in lines]
        (tmp_path / "run.jsonl").write_bytes(b"".join(lines[: events.index("round") + 1]))
        done = command(tmp_path, "run", "--resume", str(tmp_path), *nets)
        assert done.exit_code == 0, done.output
        assert fields(table(tmp_path), "net", "layer", "pass") == fields(table(folder), "net", "layer", "pass")

    def test_a_model_without_modules_is_one_line(self, tmp_path):
        pytest.importorskip("jax")
        (tmp_path / "mine.py").write_text(JAX)
        done = command(tmp_path, "profile", "--net", f"{tmp_path}/mine.py:build", "--out", str(tmp_path / "results"))
        why = "the modules of torch and Keras models are timed alone; `run` times it whole"
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"alexnet-bench: --net: mine.py:build is a model in jax: {why}\n"
        assert not (tmp_path / "results").exists()
