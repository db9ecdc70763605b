"""Whole Runs with the null Net: schedule, faults, interruption. Real processes, real signals."""

import itertools
import json
import os
import signal
import time

import psutil
import pytest
from conftest import NULL, SMALL, Command

from bench.case import Case
from bench.crew import Conditions
from bench.protocol import Protocol
from bench.results import SCHEMA, Run
from bench.rounds import Rounds
from impls.variants import VARIANTS

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


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory):
    run = Command(tmp_path_factory.mktemp("run"))("run", *TWO, "--rounds", "3", "--env", "NULL_NET=spin=2")
    assert run.code == 0, run.err
    return run


@pytest.fixture(scope="module")
def classic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classic")
    return Command(folder)("run", *SMALL, "--protocol", "classic", "--iterations", "25")


class TestSchedule:
    def test_every_case_has_its_iterations_in_every_round(self, scheduled):
        for case in scheduled.of("run")[0]["cases"]:
            turns = [turn for turn in scheduled.of("turn") if f"-{case['mode']}-" in turn["case_id"]]
            turns = [turn for turn in turns if turn["case_id"].endswith(f"-{case['pass_']}-s67")]
            assert [turn["round"] for turn in turns] == [0, 0, 1, 1, 2, 2]
            assert all(len(turn["ns"]) - turn["lead"] == 5 for turn in turns)

    def test_a_cycle_is_an_order_and_its_mirror(self, scheduled):
        for _, turns in itertools.groupby(scheduled.of("turn"), key=lambda turn: (turn["round"], turn["cycle"])):
            order = [turn["case_id"] for turn in turns]
            assert len(order) == 8
            assert order == order[::-1]

    def test_orders_differ_from_round_to_round(self, scheduled):
        orders = {
            tuple(turn["case_id"] for turn in turns)
            for _, turns in itertools.groupby(scheduled.of("turn"), key=lambda turn: turn["round"])
        }
        assert len(orders) > 1

    def test_one_worker_computes_at_a_time(self, scheduled):
        spans = sorted(
            (start, start + ns)
            for turn in scheduled.of("turn")
            for start, ns in zip(turn["start_ns"], turn["ns"], strict=True)
        )
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))

    def test_workers_are_fresh_in_every_round(self, scheduled):
        assert len(scheduled.of("worker")) == 6
        assert {worker["round"] for worker in scheduled.of("worker")} == {0, 1, 2}

    def test_burn_in_comes_first_and_is_never_a_sample(self, scheduled):
        for burn_in in scheduled.of("burn_in"):
            assert len(burn_in["ns"]) == 2
            turns = [
                t for t in scheduled.of("turn") if (t["case_id"], t["round"]) == (burn_in["case_id"], burn_in["round"])
            ]
            assert max(burn_in["start_ns"]) < min(turns[0]["start_ns"])

    def test_the_proof_comes_before_the_clock_in_every_worker(self, scheduled):
        for worker in scheduled.of("worker"):
            assert worker["parity"]["logits"] <= 1e-5
            assert worker["parity"]["gradient"] <= 1e-4
        names = [event["event"] for event in scheduled.events]
        assert names.index("worker") < names.index("burn_in") < names.index("turn")

    def test_every_worker_records_what_it_computed_with_and_which_net(self, scheduled):
        net = VARIANTS["half_width"].resized(67)
        for worker in scheduled.of("worker"):
            assert worker["identity"] == {"hash": net.hash, "params": net.params, "macs": net.macs}
            assert {what: one["precision"] for what, one in worker["precision"].items()} == dict.fromkeys(
                ("matmul", "conv"), "fp32"
            )
            assert worker["gradients"] == {"parameters": 18, "others": 0, "finite": True}
            assert worker["conditions"].keys() >= {
                "threads",
                "onednn",
                "tf32",
                "device",
                "layout",
                "traces",
                "libraries",
            }
            assert worker["conditions"]["other_frameworks"] == []
            assert worker["gemm_gflop_per_s"] is None  # the null Net does nothing: there is nothing to judge
        assert all((block["changed"], block["fault"]) == ({}, "") for block in scheduled.of("block"))

    def test_no_worker_and_no_scratch_file_is_left_behind(self, scheduled):
        for process in psutil.process_iter(["cwd"]):
            assert str(scheduled.folder) not in (process.info["cwd"] or "")
        left = [path.name for path in (scheduled.results.parent / "scratch").iterdir()]
        assert left in ([], ["alexnet-bench-cpu.lock"])


class TestGate:
    def test_burn_in_is_never_fewer_than_asked_for(self, command):
        run = command("run", *NULL[:-3], "--burn-in", "12", "--rounds", "1")
        assert run.code == 0, run.err
        assert all(len(burn_in["ns"]) >= 12 for burn_in in run.of("burn_in"))

    def test_without_the_gate_it_is_exactly_that(self, command):
        run = command("run", *NULL, "--burn-in", "7", "--rounds", "1")
        assert [(len(one["ns"]), one["stop"]) for one in run.of("burn_in")] == [(7, "count")] * 2


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
        ("part", "reason"),
        [
            ("die=3", "ended by itself with exit code 9"),
            ("die=7", "ended by itself with exit code 9"),
            ("memory=5", "ran out of memory: MemoryError: the null Net was told to run out of memory"),
            ("hang=5", "hung: no answer to measure within 3 s (--worker-limit)"),
        ],
    )
    def test_a_second_death_fails_its_cases_and_the_others_finish(self, command, part, reason):
        run = command("run", *TWO, "--worker-limit", "3", "--env", f"NULL_NET={part}")
        assert run.code == 1, run.err
        assert f"null-part {reason}; the Round is repeated" in run.err
        assert f"null-part {reason}; its cases fail" in run.err
        assert len(run.of("fault")) == 2
        assert {event["reason"] for event in run.of("failed")} == {reason}
        lines = (run.folder / "summary.csv").read_text().splitlines()[1:]
        assert [",True," in line for line in lines] == [True, False, True, False]
        assert sum(",20," in line for line in lines) == 2  # both Rounds of both passes of the survivor

    @pytest.mark.parametrize(
        ("part", "words"),
        [("wrong", "worst gradient conv1/bias: off by"), ("nan", "worst gradient conv1/bias is not finite")],
    )
    def test_what_disagrees_or_is_not_finite_is_never_timed(self, command, part, words):
        run = command("run", *TWO, "--env", f"NULL_NET={part}")
        assert run.code == 1
        assert words in run.err
        assert not [turn for turn in run.of("turn") if "-part-" in turn["case_id"]]
        assert [turn for turn in run.of("turn") if "-noop-" in turn["case_id"]]

    def test_another_precision_than_was_asked_for_is_never_timed(self, command):
        run = command("run", *TWO, "--env", "NULL_NET=low")
        assert run.code == 1
        assert "asked for fp32, but a matmul ran in bf16 precision" in run.err
        assert not [turn for turn in run.of("turn") if "-part-" in turn["case_id"]]

    def test_what_retraced_has_no_valid_row_and_no_ratio(self, command):
        run = command("run", *TWO, "--env", "NULL_NET=retrace", "--json")
        assert run.code == 1, run.err
        got = json.loads(run.out)
        bad = [case for case in got["cases"] if not case["valid"]]
        assert [case["mode"] for case in bad] == ["part", "part"]
        reason = "conditions changed while it was timed: traces {'forward': "
        assert all(reason in case["invalid_reason"] for case in bad)
        assert got["ratios"] == []

    def test_a_run_whose_every_worker_dies_ends_and_says_so(self, command):
        run = command("run", *NULL, "--mode", "part", "--env", "NULL_NET=die=3")
        assert run.code == 1, run.err
        assert "its cases fail" in run.err
        assert "Traceback" not in run.err
        assert (run.folder / "summary.csv").read_text().count(",False,ended by itself with exit code 9") == 2


class TestPrecision:
    def test_tf32_is_proven_in_fp32_by_a_worker_of_its_own(self, tmp_path):
        """tf32 is a switch of a whole process. The null Net rounds on a CPU what only a GPU would."""
        case = Case("half_width", "null", "noop", "cpu", "tf32", "nhwc", 4, "forward_backward", size=67)
        rules = Protocol(rounds=1, burn_in=2, gate=False, iterations=2)
        rounds = Rounds([case], rules, Conditions(threads=1, limit_s=60), tmp_path)
        rounds.head(run_id="r", schema=SCHEMA)
        assert rounds.run() == "planned"
        run = Run(tmp_path)
        (worker,) = run.of("worker")
        assert {one["precision"] for one in worker["precision"].values()} == {"tf32"}
        assert worker["parity_fp32"]["logits"] < 1e-6 < 1e-4 < worker["parity"]["logits"] < 6e-3
        assert {path.name for path in (tmp_path / "workers").glob("*.stderr")} == {
            "g0-r0-a0-null-noop.stderr",
            "g0-r0-a0-null-noop-fp32.stderr",
        }
        assert run.row(case)["valid"]


class TestInterruption:
    @pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
    def test_what_was_measured_is_kept_and_summarised(self, command, sign):
        process = command.start("run", *TWO, "--rounds", "30", "--env", "NULL_NET=spin=20")
        wait_for_event(command, "turn")
        worker = wait_for_worker(process, "null")
        process.send_signal(sign)
        run = command.finish(process)
        assert run.code == 130
        assert "interrupted: what was measured so far is kept and summarised above" in run.err
        assert "Traceback" not in run.err
        assert [end["reason"] for end in run.of("end")] == ["interrupted"]
        assert ",interrupted," in (run.folder / "summary.csv").read_text()
        psutil.wait_procs([worker], timeout=5)
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE

    def test_max_time_leaves_every_group_its_first_round(self, command):
        run = command("run", *NULL, "--batch", "2,4", "--rounds", "30", "--max-time", "0.001")
        assert run.code == 0, run.err
        assert {(turn["group"], turn["round"]) for turn in run.of("turn")} == {(0, 0), (1, 0)}
        assert "another Round would not have ended in time" in run.err
        assert [end["reason"] for end in run.of("end")] == ["time_cap"]


class TestClassic:
    def test_a_line_every_ten_iterations(self, classic):
        steps = [line.split("step ")[1].split(",")[0] for line in classic.err.splitlines() if " step " in line]
        assert steps == ["0", "10", "20"] * 2

    def test_burn_in_is_exactly_ten_and_iterations_are_as_asked(self, classic):
        assert [len(one["ns"]) for one in classic.of("burn_in")] == [10, 10]
        assert sum(len(turn["ns"]) for turn in classic.of("turn")) == 50

    def test_no_ratio_is_drawn_from_what_was_not_paired(self, classic):
        assert "classic protocol" in classic.out
        assert "No ratio: timed one after the other" in classic.out
        assert classic.code == 0
