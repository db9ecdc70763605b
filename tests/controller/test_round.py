"""One Round with the null Net: faults of its Workers and their consequences. Real processes, real signals."""

import dataclasses
import functools
import json
import os
import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from command import NULL

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller import parity
from bench.controller.budget import Budget
from bench.controller.round import Round, RoundResult
from bench.controller.rounds import Rounds
from bench.controller.settings import WorkerSettings
from bench.controller.slot import Session
from bench.controller.watcher import Watcher
from bench.record.events import Place, Worker
from bench.record.journal import Journal
from bench.record.run import Run

pytestmark = pytest.mark.process

TWO = (*NULL, "--mode", "noop,part")  # two Workers that take turns; the second plays the part in NULL_NET


def wait_for_worker(process, code, seconds=60):
    """The Worker process of a running command whose bootstrap was given this framework."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            if code in " ".join(child.cmdline()):
                return child
        time.sleep(0.02)
    raise AssertionError("no Worker came up")


def wait_for_event(command, event, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in command.results.glob("*/run.jsonl"):
            if f'"event":"{event}"' in path.read_text():
                return
        time.sleep(0.02)
    raise AssertionError(f"no {event} event came")


class TestFaults:
    def test_a_worker_killed_once_costs_a_repeat_and_no_case(self, command):
        process = command.start("run", *TWO, "--env", "NULL_NET=spin=20")
        wait_for_event(command, "turn")
        os.kill(wait_for_worker(process, "null").pid, signal.SIGKILL)
        run = command.finish(process)
        assert run.code == 0, run.err
        assert "killed by SIGKILL; the kernel does that when memory runs out; the Round is repeated" in run.err
        (fault,) = run.of("fault")
        assert (fault["round"], fault["kind"]) == (0, "died")
        assert len(run.of("void")) == 1
        assert [end["reason"] for end in run.of("end")] == ["planned"]

        # samples of the void Round are kept and not counted
        assert [turn for turn in run.of("turn") if turn["round"] == 0 and turn["attempt"] == 0]
        rows = (run.folder / "samples.csv").read_text().splitlines()
        assert any(row.endswith("False") and ",sample," in row for row in rows)
        assert all(",20," in row for row in (run.folder / "summary.csv").read_text().splitlines()[1:])

    @pytest.mark.parametrize(
        ("part", "reason", "deaths"),
        [
            ("die=3", "ended by itself with exit code 9", 2),
            pytest.param("die=11", "ended by itself with exit code 9", 2, marks=pytest.mark.slow),
            # what did not fit will not fit again
            pytest.param(
                *("memory=9", "ran out of memory: MemoryError: the null Net was told to run out of memory", 1),
                marks=pytest.mark.slow,
            ),
            ("hang=9", "hung: no answer to measure within 3 s (--worker-limit)", 2),
        ],
    )
    def test_the_last_death_of_a_worker_fails_its_cases_and_the_others_finish(self, inline, part, reason, deaths):
        run = inline("run", *TWO, "--worker-limit", "3", "--env", f"NULL_NET={part}")
        assert run.code == 1, run.err
        assert run.err.count(f"null-part {reason}; the Round is repeated") == deaths - 1
        assert run.err.count(f"null-part {reason}; its cases fail") == 1
        assert (len(run.of("fault")), len(run.of("void"))) == (deaths, deaths - 1)
        assert {event["reason"] for event in run.of("failed")} == {reason}
        lines = (run.folder / "summary.csv").read_text().splitlines()[1:]
        assert [",True," in line for line in lines] == [True, False, True, False]
        assert sum(",20," in line for line in lines) == 2  # both Rounds of both passes of the survivor

    @pytest.mark.parametrize(
        ("part", "words"),
        [("wrong", "worst gradient conv1/bias: off by"), ("nan", "worst gradient conv1/bias is not finite")],
    )
    def test_a_net_that_disagrees_or_is_not_finite_is_never_timed(self, inline, part, words):
        run = inline("run", *TWO, "--rounds", "1", "--env", f"NULL_NET={part}")
        assert run.code == 1
        assert words in run.err
        assert not [turn for turn in run.of("turn") if "-part-" in turn["case_id"]]
        assert [turn for turn in run.of("turn") if "-noop-" in turn["case_id"]]

    def test_another_precision_than_was_asked_for_is_never_timed(self, inline):
        run = inline("run", *TWO, "--rounds", "1", "--env", "NULL_NET=low")
        assert run.code == 1
        assert "asked for fp32, but a matmul ran in bf16 precision" in run.err
        assert not [turn for turn in run.of("turn") if "-part-" in turn["case_id"]]

    def test_a_case_that_retraced_has_no_valid_row_and_no_ratio(self, inline):
        run = inline("run", *TWO, "--env", "NULL_NET=retrace", "--json")
        assert run.code == 1, run.err
        got = json.loads(run.out)
        bad = [case for case in got["cases"] if not case["valid"]]
        assert [case["mode"] for case in bad] == ["part", "part"]
        reason = "conditions changed while it was timed: traces {'forward': "
        assert all(reason in case["invalid_reason"] for case in bad)
        assert got["ratios"] == []

    def test_a_run_whose_every_worker_dies_ends_and_says_so(self, inline):
        run = inline("run", *NULL, "--mode", "part", "--env", "NULL_NET=die=3")
        assert run.code == 1, run.err
        assert "its cases fail" in run.err
        assert "Traceback" not in run.err
        assert (run.folder / "summary.csv").read_text().count(",False,ended by itself with exit code 9") == 2

    def test_a_wait_that_does_not_wait_is_never_timed(self, inline):
        run = inline("run", *TWO, "--rounds", "1", "--env", "NULL_NET=unsynced=50")
        assert run.code == 1, run.err
        assert "its wait returns before the device is done (sync_check)" in run.err
        assert not [turn for turn in run.of("turn") if "-part-" in turn["case_id"]]
        assert [turn for turn in run.of("turn") if "-noop-" in turn["case_id"]]

    def test_a_wait_that_waits_passes_and_its_time_is_in_the_sample(self, inline):
        run = inline("run", *TWO, "--rounds", "1", "--pass", "forward", "--env", "NULL_NET=async=50")
        assert run.code == 0, run.err
        samples = [ns for turn in run.of("turn") if "-part-" in turn["case_id"] for ns in turn["ns"]]
        assert len(samples) >= 10
        assert min(samples) >= 50e6


class TestPrecision:
    def test_tf32_is_proven_in_fp32_by_a_worker_of_its_own(self, tmp_path):
        """tf32 is a switch of a whole process. The null Net rounds on a CPU what only a GPU would."""
        case = Case("half_width", "null", "noop", "cpu", "tf32", "nhwc", 4, "forward_backward", size=67)
        rules = Protocol(rounds=1, burn_in=2, gate=False, iterations=2)
        rounds = Rounds([case], rules, WorkerSettings(threads=1, limit_s=60), tmp_path)
        rounds.write_header("r", "", {})
        assert rounds.run() == "planned"
        run = Run(tmp_path)
        (worker,) = run.events_of(Worker)
        assert set(worker.precision.shown.values()) == {"tf32"}
        assert worker.parity_fp32["logits"] < 1e-6 < 1e-4 < worker.parity["logits"] < 6e-3
        assert {path.name for path in (tmp_path / "workers").glob("*.stderr")} == {
            "g0-r0-a0-null-noop.stderr",
            "g0-r0-a0-null-noop-fp32.stderr",
        }
        assert run.row(case)["valid"]


class TestAlone:
    """A Round by itself: what it is given, and what comes back."""

    CASE = Case("half_width", "null", "part", "cpu", "fp32", "nhwc", 2, "forward", size=67)
    PLACE = Place(group=0, round=0, attempt=0)

    @pytest.fixture
    def round_of(self, tmp_path):
        """Run a Round whose null Net plays a part; its result and events."""

        def run(part="spin=1", watcher=None, kept=(), spare=True, proven=frozenset(), case=self.CASE, **rules):
            protocol = Protocol(**{"rounds": 1, "burn_in": 2, "gate": False, "iterations": 2} | rules)
            settings = WorkerSettings(1, 60, env={"NULL_NET": part})
            session = Session(protocol, settings, tmp_path, Journal(tmp_path), watcher or Watcher())
            proof = functools.cache(
                lambda: parity.prepare(self.CASE.net, Path(tempfile.mkdtemp(dir=tmp_path)), batch=2)
            )
            budget = Budget(protocol, None)
            made = Round(
                session, self.PLACE, proof, dict(kept), budget=budget, proven=proven, spare=spare, left=protocol.rounds
            )
            result = made.run([case])
            events = [json.loads(line)["event"] for line in (tmp_path / "run.jsonl").read_text().splitlines()]
            return result, events

        yield run
        left = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
        assert not [child for child in left if str(tmp_path) in " ".join(child.environ().values())]

    def test_a_completed_round_has_its_events_and_no_failures(self, round_of):
        result, events = round_of()
        proven = {self.CASE.worker}
        assert result == RoundResult(void="", disturbed=result.disturbed, failed={}, kept={}, proven=proven)
        assert events == ["worker", "layers", "burn_in", "plan", "control", "turn", "turn", "control", "block"]

    @pytest.mark.parametrize("spare", [True, False])
    def test_a_death_voids_the_round_if_one_is_spare_and_else_fails_the_case(self, round_of, spare):
        result, events = round_of("die=3", spare=spare)
        reason = "ended by itself with exit code 9"
        assert result.void == (f"null-part {reason}" if spare else "")
        assert result.failed == ({} if spare else {self.CASE.id: reason})
        assert events[-1] == ("fault" if spare else "failed")

    def test_a_net_that_disagrees_fails_its_case_in_any_round(self, round_of):
        result, events = round_of("low")
        assert result.void == ""
        assert "asked for fp32, but a matmul ran in bf16 precision" in result.failed[self.CASE.id]
        assert "turn" not in events

    def test_what_was_proven_is_compared_in_timed_iterations_only(self, round_of):
        case = dataclasses.replace(self.CASE, pass_="forward_backward")
        result, events = round_of("wrong", proven={self.CASE.worker}, case=case)
        assert "in a timed iteration disagrees with the float64 reference" in result.failed[case.id]
        assert "turn" in events
        assert self.CASE.worker in result.proven

    def test_shared_workers_go_on_to_the_next_group(self, round_of):
        first, _ = round_of(shared_workers=True)
        (worker,) = first.kept.values()
        assert worker.process.process.poll() is None
        second, events = round_of(shared_workers=True, kept=first.kept)
        assert second.kept == first.kept
        assert events.count("turn") == 4
        worker.process.kill()

    def test_an_interrupt_passes_on_and_leaves_no_worker_behind(self, round_of):
        class Interrupting(Watcher):
            def on_turn(self, case, place, ns):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            round_of(watcher=Interrupting(), shared_workers=True)
