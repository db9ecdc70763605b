"""Pairs and their verdicts, within one Run and between two; the durations are made up."""

import dataclasses

import pytest
from runs import AA, A, B, aa_runs, arms, event, make, turn

from bench.cases.arm import Ab
from bench.cases.protocol import Protocol
from bench.output import run_table
from bench.record import pairs
from bench.record.aa_runs import spread_of
from bench.record.events import Turn
from bench.record.journal import Journal
from bench.record.pairs import between, within
from bench.record.run import Run

BIG = {"base_ns": 1_000_000}
TRAINING = dataclasses.replace(A, pass_="forward_backward")
NONE = spread_of([])


def pair_of(found):
    (pair,) = found
    return pair


def failing(run, case, reason="killed by SIGKILL"):
    Journal(run.folder).add(event("failed", case_id=case.id, reason=reason))
    return Run(run.folder)


class TestWithin:
    @pytest.mark.parametrize(
        ("settings", "word", "reason"),
        [
            ({"slower": 1.2}, "SLOWER", ""),
            ({"slower": 1 / 1.2}, "FASTER", ""),
            ({"slower": 1.0}, "SAME", ""),
            ({"slower": 1.015}, "SAME", ""),
            ({"slower": 1.0, "noise_sd": 0.05}, "INCONCLUSIVE", "the interval is too wide"),
            ({"slower": 1.02, "noise_sd": 0.001}, "INCONCLUSIVE", "the ratio is too near to the margin"),
            ({"slower": 1.2, "rounds": 4}, "INCONCLUSIVE", "4 Rounds, it takes 5"),
            ({"slower": 1.2, "unlike": {"threads": 1}}, "INCOMPARABLE", "threads 1, 2 in the baseline"),
        ],
    )
    def test_each_verdict_between_two_cases_of_a_run(self, tmp_path, settings, word, reason):
        pair = pair_of(within(make(tmp_path, **BIG | settings)))
        assert (pair.word, pair.reason) == (word, reason)

    @pytest.mark.parametrize("bad", [A, B])
    def test_a_case_that_is_not_valid_leaves_its_pair_missing(self, tmp_path, bad):
        pair = pair_of(within(failing(make(tmp_path), bad)))
        assert (pair.word, pair.reason) == ("MISSING", f"{bad.id} is not valid: killed by SIGKILL")
        assert {pair.baseline, pair.candidate} == {A.id, B.id}

    def test_the_first_framework_that_is_valid_is_the_baseline_of_all_others(self, tmp_path):
        third = dataclasses.replace(B, framework="jax", mode="jit")
        run = failing(make(tmp_path, [A, B, third], slower={B.id: 1.0, third.id: 1.5}), A)
        assert [(pair.baseline, pair.candidate, pair.word) for pair in within(run)] == [
            (B.id, A.id, "MISSING"),
            (B.id, third.id, "SLOWER"),
        ]

    def test_cases_that_were_never_in_one_round_are_missing(self, tmp_path):
        run = make(tmp_path)
        events = [event for event in run.events if not (isinstance(event, Turn) and event.case_id == B.id)]
        run.folder.joinpath("run.jsonl").unlink()
        whole = Journal(tmp_path)
        for each in events:
            whole.add(each)
        whole.add(event("turn", **turn(B, [10, 10], 10**13, round=9)))
        pair = pair_of(within(Run(tmp_path)))
        assert (pair.word, pair.reason) == ("MISSING", "no Round has a whole cycle of both")

    def test_swapped_sides_mirror_the_word_and_invert_the_ratio_exactly(self, tmp_path):
        speeds = {A.id: 1.0, B.id: 1.3}
        there = pair_of(within(make(tmp_path / "ab", [A, B], slower=speeds, noise_sd=0.01, **BIG)))
        lines = (tmp_path / "ab" / "run.jsonl").read_text().replace(A.id, "A's").replace(B.id, A.id)
        (tmp_path / "ba").mkdir()
        (tmp_path / "ba" / "run.jsonl").write_text(lines.replace("A's", B.id))
        back = pair_of(within(Run(tmp_path / "ba")))
        assert (there.word, back.word) == ("SLOWER", "FASTER")
        assert there.ratio.log == -back.ratio.log
        assert there.ratio.value.low == pytest.approx(1 / back.ratio.value.high, rel=1e-12)
        assert there.verdict.detectable == back.verdict.detectable

    def test_a_drift_of_the_machine_within_a_round_cancels(self, tmp_path):
        pair = pair_of(within(make(tmp_path, slower=1.0, drift=0.01, cycles=5, base_ns=10**8)))
        assert pair.word == "SAME"
        assert pair.ratio.value.center == pytest.approx(1, abs=1e-4)

    def test_a_candidate_that_is_still_warming_is_not_judged(self, tmp_path):
        pair = pair_of(within(make(tmp_path, slower=1.5, warming={B.id: 0.3}, cycles=5, **BIG)))
        assert (pair.word, pair.verdict.rounds_needed) == ("INCONCLUSIVE", None)
        assert pair.reason.endswith("it is warming")

    def test_a_family_of_sixty_asks_for_more_than_a_case_alone(self, tmp_path):
        """The same Rounds: SLOWER alone, not confirmed where it is the only slow one of sixty."""
        cases = [dataclasses.replace(case, batch=n) for n in range(1, 61) for case in (A, B)]
        slow = {cases[1].id: 1.065}
        many = within(make(tmp_path / "60", cases, slower=slow, noise_sd=0.0102, **BIG))
        alone = pair_of(within(make(tmp_path / "1", cases[:2], slower=slow, noise_sd=0.0102, **BIG)))
        assert many[0].ratio == alone.ratio
        assert len(many) == 60
        assert (alone.word, many[0].word) == ("SLOWER", "INCONCLUSIVE")
        assert many[0].reason == "beyond the margin, but not confirmed among 60 ratios"

    def test_the_classic_protocol_has_no_pairs(self, tmp_path):
        assert within(make(tmp_path, protocol=Protocol(paired=False))) == []

    def test_one_framework_alone_has_no_pairs(self, tmp_path):
        assert within(make(tmp_path, [A, TRAINING])) == []

    def test_each_pass_has_its_own_pair(self, tmp_path):
        cases = [A, TRAINING, B, dataclasses.replace(B, pass_="forward_backward")]
        run = make(tmp_path, cases, slower={B.id: 1.5})
        assert [(pair.pass_, pair.word) for pair in within(run)] == [
            ("forward", "SLOWER"),
            ("forward_backward", "SAME"),
        ]

    def test_widest_is_infinite_without_an_interval(self, tmp_path):
        run = make(tmp_path, rounds=2)
        assert pairs.widest(run, run.cases) == float("inf")
        assert pairs.widest(make(tmp_path / "more", slower=1.0, **BIG), [A, B]) < 0.001


class TestArms:
    def test_b_is_held_against_a_and_the_case_of_each_pass_against_its_own(self, tmp_path):
        both = arms(A, TRAINING)
        found = within(make(tmp_path, both, ab=AA, slower={case.id: 1.2 for case in both if case.arm == "B"}))
        assert [(pair.baseline, pair.candidate) for pair in found] == [
            (f"{case.id}-A", f"{case.id}-B") for case in (A, TRAINING)
        ]
        assert {pair.word for pair in found} == {"SLOWER"}

    def test_arms_of_two_frameworks_are_never_held_against_each_other(self, tmp_path):
        both = (B, dataclasses.replace(B, framework="jax"))  # of one mode and layout
        found = within(make(tmp_path, arms(*both), ab=AA, slower=1.0))
        assert [(pair.baseline, pair.candidate) for pair in found] == [
            (f"{case.id}-A", f"{case.id}-B") for case in both
        ]

    def test_arms_of_two_modes_are_each_held_against_their_own(self, tmp_path):
        null = [dataclasses.replace(B, framework="null", mode=mode) for mode in ("noop", "part")]
        found = within(make(tmp_path, arms(*null), ab=AA, slower=1.0))
        assert [(pair.baseline, pair.candidate) for pair in found] == [
            (f"{case.id}-A", f"{case.id}-B") for case in null
        ]

    @pytest.mark.parametrize(
        ("ab", "changes", "word"),
        [
            (Ab("threads", ("2", "1")), {"threads": 1}, "SLOWER"),
            (Ab("threads", ("2", "1")), {"threads": 1, "onednn": False}, "INCOMPARABLE"),
            (Ab("env:X", ("", "1")), {"onednn": False, "threads": 1}, "SLOWER"),
            (Ab("python", ("a", "b")), {"onednn": False, "matmul": "bf16"}, "SLOWER"),
            (Ab("mode", ("eager", "eager")), {"onednn": False}, "INCOMPARABLE"),
        ],
    )
    def test_the_setting_that_two_arms_compare_is_no_difference(self, tmp_path, ab, changes, word):
        assert pair_of(within(make(tmp_path, arms(A, ab=ab), ab=ab, unlike=changes))).word == word

    def test_swapped_arms_mirror_the_word(self, tmp_path):
        ab, a, b = Ab("slowdown", ("0", "0")), *arms(A)
        slow_b = pair_of(within(make(tmp_path / "1", [a, b], ab=ab, slower={b.id: 1.25}, base_ns=10**8)))
        slow_a = pair_of(within(make(tmp_path / "2", [a, b], ab=ab, slower={a.id: 1.25}, base_ns=10**8)))
        assert (slow_b.word, slow_a.word) == ("SLOWER", "FASTER")
        assert slow_b.ratio.log == pytest.approx(-slow_a.ratio.log, rel=1e-9)

    def test_arms_are_described_in_words(self, tmp_path):
        ab = Ab("env:X", ("", "1"))
        run = make(tmp_path, arms(A, ab=ab), ab=ab)
        assert [pairs.describe_arm_of_run(run, label) for label in "AB"] == ["without X", "X=1"]

    def test_arms_of_two_interpreters_are_described_by_versions(self, tmp_path):
        ab = Ab("python", ("old/python", "new/python"))
        unlike = {"versions": {"torch": "2.12", "device_name": None}, "python": "3.12.1"}
        run = make(tmp_path, arms(A, ab=ab), ab=ab, unlike=unlike)
        assert pairs.describe_arm_of_run(run, "B") == "Python 3.12.1, torch 2.12"
        assert pairs.describe_arm_of_run(run, "A") != pairs.describe_arm_of_run(run, "B")

    def test_the_table_of_an_ab_names_both_arms(self, tmp_path, capsys):
        ab = Ab("threads", ("2", "1"))
        run = make(tmp_path, arms(A, ab=ab), ab=ab, unlike={"threads": 1})
        run_table.run_table(run, within(run))
        assert "A: threads 2; B: threads 1" in capsys.readouterr().out


class TestBetween:
    """Two Runs, and three A/A Runs from which run-to-run variability is known."""

    def judged(self, folder, factor=1.0, cases=(A,), spread=None, base=None, **settings):
        stored = spread_of(aa_runs(folder, 3, *cases, sd=0.002)) if spread is None else spread
        speeds = {case.id: factor for case in cases}
        first = make(folder / "base", cases, **BIG | (base or {}))
        second = make(folder / "candidate", settings.pop("theirs", cases), slower=speeds, **BIG | settings)
        return between(first, second, stored)

    @pytest.mark.parametrize(
        ("factor", "word"), [(1.1, "SLOWER"), (1 / 1.1, "FASTER"), (1.0, "SAME"), (1.018, "INCONCLUSIVE")]
    )
    def test_each_verdict_between_two_runs(self, tmp_path, factor, word):
        pair = pair_of(self.judged(tmp_path, factor))
        assert (pair.word, pair.ratio.paired) == (word, False)
        assert pair.ratio.value.center == pytest.approx(factor, rel=1e-4)

    def test_without_stored_runs_nothing_is_decided(self, tmp_path):
        pair = pair_of(self.judged(tmp_path, 2.0, spread=NONE))
        assert pair.word == "INCONCLUSIVE"
        assert pair.reason == "the variability between Runs is not known: it takes 3 A/A Runs"
        assert (pair.ratio.value.center, pair.ratio.value.low) == (pytest.approx(2, rel=1e-4), None)

    def test_two_stored_runs_are_too_few(self, tmp_path):
        assert pair_of(self.judged(tmp_path, 2.0, spread=spread_of(aa_runs(tmp_path, 2)))).word == "INCONCLUSIVE"

    def test_runs_that_lie_far_apart_decide_less(self, tmp_path):
        assert (
            pair_of(self.judged(tmp_path, 1.1, spread=spread_of(aa_runs(tmp_path, 3, sd=0.05)))).word == "INCONCLUSIVE"
        )

    def test_swapped_runs_mirror_the_word_and_invert_the_ratio(self, tmp_path):
        stored = spread_of(aa_runs(tmp_path, sd=0.002))
        first, second = make(tmp_path / "1", [A], **BIG), make(tmp_path / "2", [A], base_ns=1_200_000)
        there, back = pair_of(between(first, second, stored)), pair_of(between(second, first, stored))
        assert (there.word, back.word) == ("SLOWER", "FASTER")
        assert there.ratio.log == -back.ratio.log
        assert there.ratio.error == back.ratio.error

    def test_the_order_of_cases_changes_nothing(self, tmp_path):
        cases = [A, TRAINING]
        stored = spread_of(aa_runs(tmp_path, 3, *cases, sd=0.002))
        base = make(tmp_path / "base", cases, slower=1.0, **BIG)
        candidate = make(tmp_path / "1", cases, slower={TRAINING.id: 1.2}, **BIG)
        turned = make(tmp_path / "2", cases[::-1], slower={TRAINING.id: 1.2}, **BIG)
        found = [{pair.case_id: pair.as_json() for pair in between(base, one, stored)} for one in (candidate, turned)]
        assert found[0] == found[1]

    def test_a_case_that_either_lacks_is_missing_and_says_where(self, tmp_path):
        new, old = between(make(tmp_path / "1", [TRAINING]), make(tmp_path / "2", [A]), NONE)
        assert (new.word, new.reason) == ("MISSING", f"the candidate {tmp_path / '2'} lacks this case")
        assert (old.word, old.reason) == ("MISSING", f"the baseline {tmp_path / '1'} lacks this case")

    @pytest.mark.parametrize("side", ["baseline", "candidate"])
    def test_a_case_that_is_not_valid_is_missing(self, tmp_path, side):
        runs = {name: make(tmp_path / name, [A], **BIG) for name in ("baseline", "candidate")}
        runs[side] = failing(runs[side], A)
        pair = pair_of(between(runs["baseline"], runs["candidate"], NONE))
        assert (pair.word, pair.reason) == ("MISSING", f"not valid in the {side}: killed by SIGKILL")

    def test_a_run_that_noise_disturbed_decides_nothing(self, tmp_path):
        pair = pair_of(self.judged(tmp_path, 2.0, base={"rounds": 10, "disturbed": [0, 1, 2]}))
        assert (pair.word, pair.reason) == ("INCONCLUSIVE", "noise disturbed 30% of its Rounds")

    def test_every_reason_of_a_pair_is_told(self, tmp_path):
        runs = {name: failing(make(tmp_path / name, [A], **BIG), A) for name in ("baseline", "candidate")}
        pair = pair_of(between(*runs.values(), NONE))
        assert pair.reason == "; ".join(f"not valid in the {name}: killed by SIGKILL" for name in runs)
        warming = {"rounds": 10, "cycles": 5, "warming": {A.id: 0.3}}
        pair = pair_of(self.judged(tmp_path / "more", base=warming | {"disturbed": [0, 1, 2]}, **warming))
        assert pair.reason == (
            "noise disturbed 30% of its Rounds; the baseline was warming within its Rounds; "
            "the candidate was warming within its Rounds"
        )

    def test_sides_of_an_ab_that_were_not_the_same_are_not_compared(self, tmp_path):
        runs = []
        for value in ("1", "2"):
            ab = Ab("env:X", ("", value))
            runs.append(make(tmp_path / value, arms(A, ab=ab), ab=ab, **BIG))
        a, b = between(*runs, NONE)
        assert (a.word, b.word) == ("INCONCLUSIVE", "INCOMPARABLE")
        assert b.differs == ["env: X 2, X 1 in the baseline"]
