"""Whole Runs with the null Net: schedule, noise and stop rules."""

import dataclasses
import itertools
import time
from collections import Counter

import psutil
import pytest
from command import NULL, SMALL, Inline
from msgspec.structs import replace

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller.rounds import Rounds
from bench.controller.settings import WorkerSettings
from bench.controller.watcher import Watcher
from bench.machine import noise
from bench.record.events import Block, End, RoundEnd, Stop, Turn, Void
from bench.record.run import Run
from impls.variants import VARIANTS

pytestmark = pytest.mark.process

TWO = (*NULL, "--mode", "noop,part")  # two Workers that take turns; the second plays the part in NULL_NET
CASE = Case("half_width", "null", "part", "cpu", "fp32", "nhwc", 2, "forward", size=67)


def measured(folder, part, watcher=None, earlier=None, **rules):
    """A Run of one Case in this very process: why it ended, and itself."""
    protocol = Protocol(**{"rounds": 1, "burn_in": 2, "gate": False, "iterations": 2} | rules)
    rounds = Rounds([CASE], protocol, WorkerSettings(1, 60, env={"NULL_NET": part}), folder, watcher, earlier)
    rounds.resume() if earlier else rounds.write_header("r", "", {})
    return rounds.run(), Run(folder)


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory):
    run = Inline(tmp_path_factory.mktemp("run"))("run", *TWO, "--rounds", "3", "--env", "NULL_NET=spin=2")
    assert run.code == 0, run.err
    return run


@pytest.fixture(scope="module")
def classic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classic")
    return Inline(folder)("run", *SMALL, "--protocol", "classic", "--iterations", "25")


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

    def test_cases_that_are_compared_have_adjacent_turns(self, scheduled):
        for _, turns in itertools.groupby(scheduled.of("turn"), key=lambda turn: (turn["round"], turn["cycle"])):
            passes = ["backward" in turn["case_id"] for turn in turns]
            assert passes[0] == passes[1] != passes[2] == passes[3]

    def test_the_order_of_builds_is_reversed_in_every_other_round(self, scheduled):
        built = [[one["worker"] for one in scheduled.of("worker") if one["round"] == round_] for round_ in range(2)]
        assert built[0] == built[1][::-1]

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

    def test_the_proof_comes_before_the_clock_in_the_first_round(self, scheduled):
        for worker in scheduled.of("worker"):
            if worker["round"] == 0:
                assert worker["parity"]["logits"] <= 1e-5
                assert worker["parity"]["gradient"] <= 1e-4
            else:
                assert worker["parity"] == {}
        (parity,) = scheduled.of("parity")
        assert parity["tie_free"]
        assert parity["draws"]  # so that anybody can draw the same images
        names = [event["event"] for event in scheduled.events]
        assert names.index("worker") < names.index("burn_in") < names.index("turn")

    def test_each_round_reads_two_iterations_per_case_and_the_first_loads_new_images(self, scheduled):
        read, new = Counter(), Counter()
        for turn in scheduled.of("turn"):
            read[turn["round"], turn["case_id"]] += len(turn["readings"])
            new[turn["round"]] += turn["reload_ns"] is not None
        assert len(read) == 3 * 4
        assert set(read.values()) <= {1, 2}  # the drawn one may be the last
        assert new == {0: 4, 1: 0, 2: 0}

    def test_every_worker_records_what_it_computed_with_and_which_net(self, scheduled):
        net = VARIANTS["half_width"].resized(67)
        for worker in scheduled.of("worker"):
            assert worker["identity"] == {"hash": net.hash, "params": net.params, "macs": net.macs}
            assert {what: one["precision"] for what, one in worker["precision"].items()} == dict.fromkeys(
                ("matmul", "conv"), "fp32"
            )
            if worker["round"] == 0:
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
            assert worker["numpy_gflop_per_s"] is None  # the null Net does nothing: there is nothing to judge
            assert worker["proven"] is True
            assert worker["compile_cache"] is None
            assert worker["first_call_ns"].keys() == {"forward", "forward_backward"}
        assert scheduled.of("ceiling") == []
        assert all(turn["allocator_peak"] is None and turn["process_peak"] > 0 for turn in scheduled.of("turn"))
        assert all(block["changed"] == {} for block in scheduled.of("block"))

    def test_no_worker_and_no_scratch_file_is_left_behind(self, scheduled):
        for process in psutil.process_iter(["cwd"]):
            assert str(scheduled.folder) not in (process.info["cwd"] or "")
        left = [path.name for path in (scheduled.results.parent / "scratch").iterdir()]
        assert left in ([], ["alexnet-bench-cpu.lock"])


class TestGate:
    def test_burn_in_is_never_fewer_than_asked_for(self, inline):
        run = inline("run", *NULL[:-3], "--burn-in", "12", "--rounds", "1")
        assert run.code == 0, run.err
        assert all(len(burn_in["ns"]) >= 12 for burn_in in run.of("burn_in"))

    def test_without_the_gate_it_is_exactly_that(self, inline):
        run = inline("run", *NULL, "--burn-in", "7", "--rounds", "1")
        assert [(len(one["ns"]), one["stop"]) for one in run.of("burn_in")] == [(7, "count")] * 2


class TestNoise:
    @pytest.fixture
    def noisy(self, tmp_path, monkeypatch):
        """Measures with the machine suspended during each attempt, (round, attempt), that a test says."""
        real = noise.between

        class Now(Watcher):
            def on_start(self, case, place):
                self.place = place

        now = Now()

        def run(when, **rules):
            quiet = {"steal_s": 0.0, "throttled": None}
            monkeypatch.setattr(
                noise, "between", lambda *ends: replace(real(*ends), **quiet, suspended_s=2.0 * when(*now.place[1:]))
            )
            return measured(tmp_path, "spin=2", now, **rules)[1]

        return run

    def test_readings_are_not_the_cpu_time_of_others(self, tmp_path, monkeypatch):
        real, own_s = noise.between, []

        def between(before, after, own, samples):
            own_s.append(own)
            return real(before, after, own, samples)

        monkeypatch.setattr(noise, "between", between)
        _, run = measured(tmp_path, "spin=2")
        assert len(own_s) == len(run.events_of(Turn))
        assert all(own > turn.cpu_s for own, turn in zip(own_s, run.events_of(Turn), strict=True))

    def attempts(self, run, kind):
        return [(event.round, event.attempt) for event in run.events_of(kind)]

    def test_a_disturbed_round_is_repeated_and_its_samples_stay_and_do_not_count(self, noisy):
        run = noisy(lambda round_, attempt: attempt == 0, rounds=2)
        assert self.attempts(run, Void) == [(0, 0), (1, 0)]
        why = f"the machine was suspended for 2 s ({CASE.id})"
        assert {void.reason for void in run.events_of(Void)} == {why}
        assert self.attempts(run, RoundEnd) == [(0, 1), (1, 1)]
        assert self.attempts(run, Turn) == [(0, 0)] * 2 + [(0, 1)] * 2 + [(1, 0)] * 2 + [(1, 1)] * 2
        assert [len(ns) for ns in run.samples(CASE)] == [2, 2]
        run.write()
        samples = [row.split(",") for row in (run.folder / "samples.csv").read_text().splitlines()[1:]]
        counted = {(row[1], row[2]) for row in samples if row[-1] == "True"}
        assert counted == {("0", "1"), ("1", "1")}
        assert {(row[1], row[2]) for row in samples if row[3] == "sample"} - counted == {("0", "0"), ("1", "0")}

    def test_a_disturbed_round_is_repeated_twice_at_most_and_later_rounds_are_not(self, noisy):
        run = noisy(lambda round_, attempt: round_ < 2, rounds=3)
        assert self.attempts(run, Void) == [(0, 0), (0, 1)]
        assert self.attempts(run, RoundEnd) == [(0, 2), (1, 0), (2, 0)]
        assert [bool(end.disturbed) for end in run.events_of(RoundEnd)] == [True, True, False]
        assert list(run.samples_by_round(CASE)) == [2]
        row = run.row(CASE)
        assert (row["rounds"], row["rounds_disturbed"]) == (1, 2)
        assert "rounds_disturbed" in row["flags"].split()

    def test_if_every_round_is_disturbed_all_count_and_the_row_is_flagged(self, noisy):
        run = noisy(lambda round_, attempt: True, rounds=2)
        assert self.attempts(run, RoundEnd) == [(0, 2), (1, 0)]
        row = run.row(CASE)
        assert (row["rounds"], row["rounds_disturbed"], row["valid"]) == (2, 2, True)
        assert "every_round_disturbed" in row["flags"].split()

    def test_a_run_that_goes_on_knows_that_its_machine_is_noisy(self, noisy):
        first = noisy(lambda round_, attempt: True, rounds=1)
        run = noisy(lambda round_, attempt: True, rounds=2, earlier=first)
        assert self.attempts(run, Void) == [(0, 0), (0, 1)]
        assert self.attempts(run, RoundEnd) == [(0, 2), (1, 0)]


class TestStops:
    @pytest.mark.slow
    def test_a_target_is_looked_at_from_eight_rounds_on(self, tmp_path):
        reason, run = measured(tmp_path, "spin=4", rounds=10, target_ci=0.9)
        assert reason == run.row(CASE)["stop_reason"] == "target"
        assert len(run.events_of(RoundEnd)) == 8

    def test_a_target_that_is_never_reached_ends_at_the_most_rounds(self, tmp_path):
        reason, run = measured(tmp_path, "spin=2", rounds=3, target_ci=1e-9, target_from=2)
        assert reason == run.row(CASE)["stop_reason"] == "max_rounds"
        assert len(run.events_of(RoundEnd)) == 3

    def test_a_block_ends_when_its_time_is_up(self, tmp_path):
        _, run = measured(tmp_path, "spin=20", iterations=100, turn_lengths=(1,), block_cap_s=0.1)
        assert [block.stop for block in run.events_of(Block)] == ["time_cap"]
        *cycles, last = run.turns
        assert 4 <= len(cycles) <= 6  # whole cycles of two, until 100 ms are over
        assert (len(last.ns), last.lead, len(last.readings)) == (1, 1, 1)  # no sample, but read
        assert (
            sum(turn.reload_ns is not None for turn in run.turns) == 1
        )  # new images, though the drawn one may be left out

    def test_all_planned_rounds_are_said_to_be_planned(self, scheduled):
        assert {row["stop_reason"] for row in Run(scheduled.folder).rows()} == {"planned"}

    def test_max_time_leaves_every_group_its_first_round(self, inline):
        run = inline("run", *NULL, "--batch", "2,4", "--rounds", "30", "--max-time", "0.001")
        assert run.code == 0, run.err
        assert {(turn["group"], turn["round"]) for turn in run.of("turn")} == {(0, 0), (1, 0)}
        assert "stopped early, since another Round would have exceeded it" in run.err
        assert [end["reason"] for end in run.of("end")] == ["time_cap"]
        assert {row["stop_reason"] for row in Run(run.folder).rows()} == {"time_cap"}


@pytest.fixture(scope="module")
def hurried(tmp_path_factory):
    inline = Inline(tmp_path_factory.mktemp("hurried"))
    rules = ("--rounds", "3", "--no-gate", "--burn-in", "2", "--max-time", "0.001")
    return inline("run", *SMALL, "--mode", "noop,part", "--pass", "forward", *rules)


class TestPlan:
    """Iterations per Round with --max-time; the plan itself is in test_budget.py."""

    def test_without_time_the_only_round_has_the_fewest_iterations(self, hurried):
        assert [plan["iterations"] for plan in hurried.of("plan")] == [4]
        for case in hurried.of("run")[0]["cases"]:
            turns = [turn for turn in hurried.of("turn") if f"-{case['mode']}-" in turn["case_id"]]
            assert sum(len(turn["ns"]) - turn["lead"] for turn in turns) == 4

    def test_the_plan_is_told(self, hurried):
        assert (
            "round 1/3: taking turns, 4 iterations per case; about 1 minute to its last Round's end "
            "(time for 1 Round only)" in hurried.err
        )
        assert "1 of 3 Rounds x 4 after 2 burn-in" in hurried.out
        assert "Time: " in hurried.out

    def test_iterations_that_are_asked_for_are_taken(self, inline):
        run = inline("run", *NULL, "--iterations", "6", "--pass", "forward", "--max-time", "0.001")
        assert [plan["iterations"] for plan in run.of("plan")] == [6]


class TestStopReason:
    """Why a Run of several groups ended, with Rounds that are not run."""

    @pytest.fixture
    def given(self):
        """When the time of a group ends, by its batch."""
        return {}

    @pytest.fixture
    def ended(self, tmp_path, monkeypatch, given):
        def run(batches, failing=(), **rules):
            cases = [dataclasses.replace(CASE, batch=batch) for batch in batches]
            rounds = Rounds(cases, Protocol(rounds=3, **rules), WorkerSettings(1, 60), tmp_path)
            rounds.write_header("r", "", {})
            rounds.matrix_flops = lambda: 1e9

            def fake(group, round_, budget):
                given[group.cases[0].batch] = budget.ends
                rounds.failed |= {case.id: "wrong" for case in group.cases if case.batch in failing}

            monkeypatch.setattr(rounds, "_round", fake)
            reason = rounds.run()
            made = Run(tmp_path)
            assert [end.reason for end in made.events_of(End)] == [reason]
            return reason, [stop.reason for stop in made.events_of(Stop)]

        return run

    @pytest.mark.parametrize("shared", [False, True])
    def test_a_run_whose_last_group_failed_is_planned_unless_all_failed(self, ended, shared):
        assert ended([2, 4], failing=[4], shared_workers=shared) == ("planned", ["planned", "failed"])

    @pytest.mark.parametrize("shared", [False, True])
    def test_a_run_in_which_every_case_failed_is_failed(self, ended, shared):
        assert ended([2, 4], failing=[2, 4], shared_workers=shared) == ("failed", ["failed", "failed"])

    def test_a_run_out_of_time_in_one_group_is_out_of_time(self, ended):
        found = ended([2, 4], failing=[4], max_time_s=1e-9)
        assert found == ("time_cap", ["time_cap", "failed"])

    def test_a_group_that_needs_little_leaves_its_time_to_others(self, ended, given):
        began = time.monotonic()
        ended([512, 2], max_time_s=1000.0)
        assert given[512] - began == pytest.approx(1000, abs=100)  # 500 if both had as much
        assert given[2] - began == pytest.approx(1000, abs=1)

    def test_a_run_that_missed_its_target_in_one_group_is_at_its_most_rounds(self, ended, monkeypatch):
        monkeypatch.setattr(Rounds, "_target_reached", lambda self, group: group.cases[0].batch == 4)
        assert ended([2, 4], target_ci=0.1) == ("max_rounds", ["max_rounds", "target"])


class TestAb:
    def test_a_variable_is_set_for_one_arm_and_taken_away_for_the_other(self, inline):
        run = inline("run", *NULL, "--mode", "part", "--pass", "forward", "--ab", "env:NULL_NET=,spin=20")
        assert run.code == 0, run.err  # two Rounds are too few for `compare` to say slower
        a, b = Run(run.folder).cases
        assert (a.arm, b.arm) == ("A", "B")
        for case, least, most in ((a, 0, 5e6), (b, 20e6, float("inf"))):
            samples = [ns for of in Run(run.folder).samples(case) for ns in of]
            assert len(samples) == 20
            assert least <= min(samples) <= most


class TestClassic:
    def test_a_line_every_ten_iterations(self, classic):
        steps = [line.split("step ")[1].split(",")[0] for line in classic.err.splitlines() if " step " in line]
        assert steps == ["0", "10", "20"] * 2

    def test_burn_in_is_exactly_ten_and_iterations_are_as_asked(self, classic):
        assert [len(one["ns"]) for one in classic.of("burn_in")] == [10, 10]
        assert sum(len(turn["ns"]) for turn in classic.of("turn")) == 50

    def test_no_ratio_is_drawn_from_what_was_not_paired(self, classic):
        assert "classic protocol" in classic.out
        assert "No ratio: under the classic protocol one framework runs after the other" in classic.out
        assert classic.code == 0
