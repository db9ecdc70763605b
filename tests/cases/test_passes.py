"""Passes: each record is whole, and one more record is all that the harness needs of a fourth pass."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import fourth_pass
import pytest
from command import NULL
from fourth_pass import FOURTH
from runs import make

from bench import UsageError
from bench.cases import passes
from bench.cases.case import Case, check_cases
from bench.cases.passes import MACS, PASSES, offered_passes, outside_the_clock, pass_title, proven_with, resident_passes
from bench.commands import profile_plan
from bench.controller import parity
from bench.controller.settings import build_request
from bench.output.page import table_layers
from bench.record import layer_times, net_parts
from bench.stats import roofline
from bench.worker.main import Worker
from bench.worker.messages import BuildNet, Verify
from bench.worker.replies import Output
from impls import null_alexnet
from impls.net import Build, Net, TeamNet
from impls.variants import variant_named

DRAWN = ("times", "distribution", "series", "history")
SMALL = variant_named("half_width", 67)


class TestARecord:
    @pytest.mark.parametrize("each", resident_passes().values(), ids=list(resident_passes()))
    def test_pass_record_names_existing_methods_and_stages(self, each):
        assert each.name in PASSES
        assert callable(getattr(TeamNet, each.method))
        assert callable(getattr(TeamNet, each.proof))
        assert hasattr(Net, each.method) != each.witness
        assert set(each.stages) <= MACS.keys()
        assert roofline.net_work(SMALL, 2, each.name).flop > 0 or not each.stages
        if each.difference:
            assert PASSES[each.difference.less]
            assert {*each.difference.stages} == {*each.stages} - {*PASSES[each.difference.less].stages}

    def test_macs_are_those_of_its_stages(self):
        forward, both, step = (each.macs(SMALL) for each in offered_passes().values())
        assert (forward, both) == (SMALL.macs, SMALL.macs + SMALL.backward_macs)
        assert step == both  # an update multiplies parameters, not activations
        assert (passes.BACKWARD.macs(SMALL), passes.UPDATE.macs(SMALL)) == (SMALL.backward_macs, 0)

    def test_titles_are_those_of_passes_and_differences_and_a_foreign_name_is_its_own(self):
        assert [pass_title(name) for name in ("forward_backward", "backward", "my_pass")] == [
            "forward + backward",
            "backward",
            "my_pass",
        ]


class TestProof:
    @pytest.mark.parametrize(
        ("timed", "expected"),
        [
            (["forward"], ["forward"]),
            (["forward_backward"], ["forward", "forward_backward"]),
            (["forward_backward", "forward"], ["forward", "forward_backward"]),
            (["train_step"], ["forward", "train_step"]),
        ],
    )
    def test_inference_is_always_proven_and_before_a_pass_that_moves_statistics(self, timed, expected):
        assert [each.name for each in proven_with(timed)] == expected

    @pytest.mark.parametrize("each", offered_passes().values(), ids=list(offered_passes()))
    def test_proven_method_is_the_one_that_is_timed(self, each, tmp_path, monkeypatch):
        parity.prepare(SMALL, tmp_path, batch=2, labeled=True)
        worker, called = Worker("null"), []
        worker.adapter = null_alexnet
        called_of_it = passes.methods_called(offered_passes(), proven=True)
        how = Build(2, "cpu", "fp32", "noop", "nhwc")
        worker.build(BuildNet("half_width", 67, str(tmp_path), how, wanted=called_of_it))
        for name in called_of_it:
            run = getattr(worker.net, name)
            monkeypatch.setattr(worker.net, name, lambda *args, name=name, run=run: called.append(name) or run(*args))
        worker.verify(Verify([Output(each.proof)], thorough=False, target="reference"))
        if each.updates:
            step = ["train_step", "wait"]
            proof = ["restart", *step, "trained", "restart", *step * 3, "trained"]
            assert called == ["load", "label", "restart", *proof, "restart"]
        else:
            assert called == ["load", "label", *[each.method, "wait", each.proof] * 2]

    def test_a_net_needs_what_is_called_of_it(self):
        assert passes.methods_called(["forward"], proven=True) == ["load", "forward", "wait", "logits"]
        assert passes.methods_called(["forward_backward"], proven=False) == ["load", "forward_backward", "wait"]
        assert passes.methods_called(passes.DEFAULT_PASSES, proven=True) == [
            *("load", "forward", "forward_backward", "wait", "logits", "gradients")
        ]
        assert passes.methods_called(["train_step"], proven=False) == ["load", "label", "restart", "train_step", "wait"]
        assert {"label", "restart", "train_step", "trained"} < set(
            passes.methods_called(resident_passes(), proven=True)
        )
        assert passes.methods_called([], proven=True) == []

    def test_a_users_net_may_lack_what_only_an_update_calls(self):
        case = Case("owt", "torch", "eager", "cpu", "fp32", "nchw", 8, "forward")
        asked = build_request(case, Path("/"), passes=["forward", "train_step"])
        assert asked.needed == ["load", "forward", "wait", "logits"]
        assert asked.wanted == ["label", "restart", "train_step", "trained"]

    def test_fourth_pass_in_training_mode_is_proven_last(self, monkeypatch):
        known = {"fourth_pass": FOURTH} | PASSES
        monkeypatch.setattr(passes, "PASSES", known)
        assert [each.name for each in proven_with(offered_passes())] == [
            "forward",
            "fourth_pass",
            "forward_backward",
            "train_step",
        ]


def test_work_outside_the_clock_is_named_once_or_per_pass(monkeypatch):
    assert outside_the_clock(passes.DEFAULT_PASSES) == passes.OUTSIDE
    monkeypatch.setitem(PASSES, "fourth_pass", FOURTH)
    assert outside_the_clock(["fourth_pass"]) == "input copies"
    assert outside_the_clock(offered_passes()) == (
        f"forward, forward + backward: {passes.OUTSIDE}; training step: {passes.OUTSIDE_A_STEP}; "
        "fourth pass: input copies"
    )


def test_a_pass_with_a_loader_is_proven_as_the_step_that_it_contains():
    assert passes.resident_in(["load"]) == []
    assert passes.resident_in(["load", "fed"]) == ["train_step"]
    assert [each.name for each in proven_with(["fed"])] == ["forward", "train_step"]
    assert passes.methods_called(["fed"], proven=True) == passes.methods_called(["train_step"], proven=True)
    assert outside_the_clock(["load", "fed"]) == passes.OUTSIDE_A_LOADER
    assert [PASSES[name].macs(SMALL) for name in ("load", "fed")] == [0, PASSES["train_step"].macs(SMALL)]


class TestAnUnknownPass:
    CASE = Case("owt", "torch", "eager", "cpu", "fp32", "nchw", 8, "fourth_pass")

    def test_an_unknown_pass_in_a_header_is_one_line_with_the_choices(self):
        with pytest.raises(UsageError) as error:
            check_cases([self.CASE])
        assert (
            str(error.value) == "unknown pass 'fourth_pass': choose forward, forward_backward, train_step, load, fed, "
            "apart or all_reduce"
        )

    def test_an_unknown_pass_on_the_command_line_is_one_line_with_the_choices(self, inline):
        run = inline("run", *NULL, "--pass", "fourth_pass")
        assert (run.code, run.err) == (
            2,
            "alexnet-bench: unknown pass 'fourth_pass': choose forward, forward_backward or train_step\n",
        )


class TestAFourthPassInAProfile:
    @pytest.fixture
    def cases(self):
        return [
            Case(variant, "null", "noop", "cpu", "fp32", "nhwc", 2, pass_, size=67)
            for variant in ("half_width", *(part.name for part in SMALL.parts() if not net_parts.idle(part)))
            for pass_ in ("forward", "forward_backward", "fourth_pass")
        ]

    @pytest.fixture
    def run(self, tmp_path, cases, monkeypatch):
        monkeypatch.setitem(PASSES, "fourth_pass", FOURTH)
        times = {"forward": 1, "forward_backward": 3, "fourth_pass": 4}
        factors = {case.id: times[case.pass_] * (1 if "." in case.variant else 20) for case in cases}
        return make(tmp_path, cases, slower=factors, rounds=1, protocol=profile_plan.RULES)

    def test_each_layer_has_its_difference_and_the_net_both(self, run):
        rows = list(layer_times.layer_rows(run))
        conv1 = [row["pass"] for row in rows if row["layer"] == "conv1"]
        whole = {row["pass"]: row["center_ms"] for row in rows if row["layer"] == layer_times.WHOLE}
        assert conv1 == ["forward", "backward", "fourth_part"]
        assert list(whole) == ["forward", "backward", "forward_backward", "fourth_part", "fourth_pass"]
        assert whole["fourth_part"] == pytest.approx(whole["forward"])

    def test_difference_of_a_fourth_pass_has_columns_in_the_report(self, run):
        times, *_ = table_layers.tables(run)
        names = [column.name.partition(" ms")[0] for column in times.columns if " ms" in column.name]
        assert names == ["forward", "backward", "fourth_part"]

    def test_profile_older_than_the_fourth_pass_is_shown_unchanged(self, tmp_path, cases, monkeypatch):
        before = make(tmp_path, [case for case in cases if case.pass_ in PASSES], rounds=1, protocol=profile_plan.RULES)
        rows = list(layer_times.layer_rows(before))
        monkeypatch.setitem(PASSES, "fourth_pass", FOURTH)
        assert list(layer_times.layer_rows(before)) == rows != []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of the null Net and what other commands make of them, in one process."""
    folder = tmp_path_factory.mktemp("fourth")
    small = "--framework null --variant half_width --size 67 --batch 2 --rounds 1 --iterations 2 --burn-in 1"
    lines = {
        "run": f"run {small} --no-gate --dropout --name fourth --out runs",
        "profile": f"profile {small} --out profiles",
        "profile again": "profile profiles/*",
        **{f"{kind}.svg": f"plot runs/* --kind {kind} --output {kind}.svg" for kind in DRAWN},
        "layers.svg": "plot profiles/* --kind layers --output layers.svg",
        "page.html": "report runs/* --output page.html",
        "compare": "compare runs/* runs/*",
        "markdown": "export runs/* --format markdown",
        "trace": "export runs/* --format trace",
        "help": "run --help",
        "layers": "layers --variant half_width --size 67",
    }
    (folder / "lines.json").write_text(json.dumps(lines))
    words = [sys.executable, "-P", fourth_pass.__file__]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.process
class TestAFourthPassInEveryCommand:
    """One more record, in a process that has nothing else new: no command is edited for it, and none fails."""

    def test_fourth_pass_is_run_and_proven_and_has_a_row(self, folder):
        with open(next(folder.glob("runs/*/summary.csv")), newline="") as file:
            rows = {row["pass"]: row for row in csv.DictReader(file)}
        assert list(rows) == ["forward", "forward_backward", "fourth_pass"]
        assert {row["valid"] for row in rows.values()} == {"True"}
        assert rows["fourth_pass"]["backward_ci95_low_ms"] == ""
        assert float(rows["fourth_pass"]["parity_gradients"]) < 1e-4

    def test_profile_has_the_fourth_pass_layer_by_layer(self, folder):
        with open(next(folder.glob("profiles/*/profile.csv")), newline="") as file:
            assert {row["pass"] for row in csv.DictReader(file) if row["layer"] == "conv1"} == {
                "forward",
                "backward",
                "fourth_part",
            }
        text = (folder / "profile again.txt").read_text()
        assert [word for word in text.split() if word in ("forward", "backward", "fourth_part")] == [
            "forward",
            "backward",
            "fourth_part",
        ]

    @pytest.mark.parametrize("kind", DRAWN)
    def test_fourth_pass_is_drawn_without_published_figures(self, folder, kind):
        assert ("fourth pass" in (folder / f"{kind}.svg").read_text()) == (kind != "history")

    def test_layers_of_a_fourth_pass_are_drawn(self, folder):
        assert "fourth_part" in (folder / "layers.svg").read_text()

    def test_fourth_pass_is_in_the_report_with_its_clock(self, folder):
        text = (folder / "page.html").read_text()
        assert "fourth pass" in text
        assert FOURTH.inside in text
        assert f"forward, forward + backward: {passes.OUTSIDE}; fourth pass: input copies" in text

    @pytest.mark.parametrize("name", ["run", "compare", "markdown", "trace"])
    def test_fourth_pass_is_named(self, folder, name):
        assert "fourth_pass" in (folder / f"{name}.txt").read_text()

    def test_help_of_run_names_the_fourth_pass(self, folder):
        text = " ".join((folder / "help.txt").read_text().split())
        assert "forward, forward_backward, train_step, fourth_pass, or all" in text
        assert "dropout on in forward_backward and train_step and fourth_pass" in text
