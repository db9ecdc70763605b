"""Ratios from mirrored cycles and from two Runs, verdicts over a family, what could have been found, plans."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from bench.stats.descriptive import Interval
from bench.stats.ratio import Ratio, detectable, holm, judge, plan_rounds, power

NS = st.integers(1, 10**10)
NEAR = st.integers(990_000, 1_050_000)  # ratios about the margin, where verdicts differ
SIDE = st.lists(NS, min_size=1, max_size=4) | st.lists(NEAR, min_size=2, max_size=2)
ROUNDS = st.lists(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=3), min_size=1, max_size=8)
FLAT = st.tuples(NEAR, NEAR, st.integers(1, 8)).map(lambda it: [[([it[0]] * 2, [it[1]] * 2)] * 2] * it[2])
MIRROR = {"SLOWER": "FASTER", "FASTER": "SLOWER", "warming": "slowing", "slowing": "warming"}


def ratio_of(log, spread=0.0, rounds=10, trend="steady"):
    """A paired ratio that came out so."""
    error = spread / math.sqrt(rounds) if rounds >= 3 else None
    value = Interval.around(log, error, rounds - 1)
    return Ratio(value, log, rounds, error, rounds - 1, None if error is None else spread, trend, True)


def words(*ratios, **how):
    return [verdict.word for verdict in judge(ratios, **how)]


def swapped(rounds):
    return [[(candidate, baseline) for baseline, candidate in one] for one in rounds]


def numbers(record):
    for value in dataclasses.asdict(record).values():
        yield from (v for v in (value.values() if isinstance(value, dict) else [value]) if isinstance(v, float))


class TestPaired:
    def test_a_candidate_twice_as_slow_has_ratio_two(self):
        ratio = Ratio.of([[([100, 101], [200, 202])]] * 5)
        assert (ratio.value.center, ratio.log) == (pytest.approx(2), pytest.approx(math.log(2)))
        assert (ratio.rounds, ratio.freedom, ratio.paired) == (5, 4, True)
        assert words(ratio) == ["SLOWER"]

    def test_interval_of_a_ratio_is_students_over_rounds(self):
        ratio = Ratio.of([[([10**6], [round(10**6 * math.exp(log))])] for log in (0.0, 0.1, 0.3)])
        spread = np.std([0.0, 0.1, 0.3], ddof=1)
        assert (ratio.round_stddev, ratio.error * math.sqrt(3)) == (pytest.approx(spread, rel=1e-5),) * 2
        half = 4.302652729911275 * ratio.error  # t(.975, 2), from a table
        assert ratio.value.low == pytest.approx(math.exp(ratio.log - half))
        assert ratio.value.high == pytest.approx(math.exp(ratio.log + half))

    def test_a_round_counts_with_the_median_of_its_cycles(self):
        assert Ratio.of([[([100], [100]), ([100], [150]), ([100], [9999])]]).value.center == pytest.approx(1.5)

    @given(ROUNDS | FLAT)
    def test_swapped_sides_invert_ratio_interval_trend_and_verdict(self, rounds):
        there, back = Ratio.of(rounds), Ratio.of(swapped(rounds))
        assert back.log == -there.log
        assert (back.error, back.round_stddev, back.freedom) == (there.error, there.round_stddev, there.freedom)
        assert back.trend == MIRROR.get(there.trend, there.trend)
        assert back.value.center == pytest.approx(1 / there.value.center, rel=1e-14)
        if there.value.low is not None:
            assert back.value.low == pytest.approx(1 / there.value.high, rel=1e-14)
            assert back.value.high == pytest.approx(1 / there.value.low, rel=1e-14)
        (one,), (other,) = judge([there]), judge([back])
        assert other.word == MIRROR.get(one.word, one.word)
        assert (other.detectable, other.rounds_needed) == (one.detectable, one.rounds_needed)

    def test_swapped_sides_give_both_slower_and_faster(self):
        rounds = [[([100 + i], [130 - i])] for i in range(6)]
        assert words(Ratio.of(rounds)) == ["SLOWER"]
        assert words(Ratio.of(swapped(rounds))) == ["FASTER"]

    def test_a_drift_of_the_machine_cancels_in_a_mirrored_cycle(self):
        """A B B A on a machine that slows down by 10 % a Turn: the ratio stays what it is."""
        speed = [1.1**i for i in range(4)]
        a, b = [100 * speed[0], 100 * speed[3]], [150 * speed[1], 150 * speed[2]]
        assert Ratio.of([[(a, b)]]).value.center == pytest.approx(1.5)

    def test_the_order_of_rounds_is_irrelevant(self):
        rounds = [[([100 + i, 101], [110 + 2 * i, 99])] for i in range(5)]
        assert Ratio.of(rounds) == Ratio.of(rounds[::-1])

    @pytest.mark.parametrize("rounds", [1, 2])
    def test_fewer_than_three_rounds_have_a_ratio_and_nothing_more(self, rounds):
        ratio = Ratio.of([[([100, 100], [200, 200])]] * rounds)
        assert ratio.value == Interval(pytest.approx(2), None, None)
        assert (ratio.error, ratio.round_stddev, ratio.freedom, ratio.trend) == (None, None, rounds - 1, "unresolved")

    def test_ratio_needs_a_round_and_a_cycle(self):
        for rounds in ([], [[]]):
            with pytest.raises(ValueError, match="at least one Round, and a cycle in each"):
                Ratio.of(rounds)

    def test_importing_it_is_cheap(self):
        code = "import sys, bench.stats.ratio; print({'scipy.stats', 'scipy.optimize', 'pandas'} & sys.modules.keys())"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "set()\n"


class TestPairedTrend:
    def test_a_candidate_that_gets_faster_beside_the_baseline_is_warming(self):
        cycles = [([100], [130]), ([100], [130]), ([100], [100]), ([100], [100])]
        assert Ratio.of([cycles] * 5).trend == "warming"
        (verdict,) = judge([Ratio.of([cycles] * 5)])
        assert (verdict.word, verdict.rounds_needed) == ("INCONCLUSIVE", None)
        assert verdict.reason == "within a Round the candidate gets faster relative to the baseline: it is warming"

    def test_a_baseline_that_gets_faster_makes_the_candidate_slowing(self):
        assert Ratio.of([[([130], [100]), ([100], [100])]] * 5).trend == "slowing"

    def test_a_drift_that_both_have_is_none(self):
        assert Ratio.of([[([130], [130]), ([100], [100])]] * 5).trend == "steady"

    def test_single_samples_have_none(self):
        assert Ratio.of([[([100], [100])]] * 5).trend == "unresolved"


class TestUnpaired:
    MEDIANS = ([100.0, 101, 102, 103, 104], [111.0, 110, 112, 114, 113, 115])

    def test_error_of_an_unpaired_ratio_has_both_sides_and_run_spread_twice(self):
        ratio = Ratio.unpaired(*self.MEDIANS, run_spread=0.01, runs=20)
        a, b = (np.log(side) for side in self.MEDIANS)
        error = math.sqrt(np.var(a, ddof=1) / 5 + np.var(b, ddof=1) / 6 + 2 * 0.01**2)
        assert ratio.log == pytest.approx(b.mean() - a.mean())
        assert ratio.error == pytest.approx(error)
        assert (ratio.rounds, ratio.freedom, ratio.round_stddev, ratio.paired) == (5, 4, None, False)
        assert ratio.value.low == pytest.approx(math.exp(ratio.log - 2.7764451051977987 * error))  # t(.975, 4)

    def test_the_fewest_of_rounds_and_runs_gives_the_freedom(self):
        assert Ratio.unpaired(*self.MEDIANS, run_spread=0.01, runs=4).freedom == 3
        assert Ratio.unpaired([100.0], [100.0], run_spread=0.01, runs=0).freedom == 0

    def test_swapped_sides_are_exactly_the_opposite(self):
        there = Ratio.unpaired(*self.MEDIANS, run_spread=0.01, runs=20)
        back = Ratio.unpaired(*self.MEDIANS[::-1], run_spread=0.01, runs=20)
        assert (back.log, back.error) == (-there.log, there.error)

    @pytest.mark.parametrize(("run_spread", "runs"), [(None, 20), (0.01, 2), (0.0, 0)])
    def test_without_stored_runs_there_is_no_interval_and_no_verdict(self, run_spread, runs):
        ratio = Ratio.unpaired(*self.MEDIANS, run_spread=run_spread, runs=runs)
        assert (ratio.value.low, ratio.error) == (None, None)
        (verdict,) = judge([ratio])
        assert (verdict.word, verdict.detectable, verdict.rounds_needed) == ("INCONCLUSIVE", None, None)
        assert verdict.reason == "the variability between Runs is not known: it takes 3 A/A Runs"

    def test_unpaired_ratio_plans_no_rounds(self):
        few = Ratio.unpaired([100.0] * 4, [100.0] * 4, run_spread=0.01, runs=9)
        wide = Ratio.unpaired([100.0] * 5, [100.0] * 5, run_spread=0.1, runs=9)
        assert [verdict.rounds_needed for verdict in judge([few, wide])] == [None, None]

    def test_a_spread_that_is_none_is_an_error(self):
        for run_spread in (-0.1, math.nan, math.inf):
            with pytest.raises(ValueError, match="run_spread: expected a standard deviation"):
                Ratio.unpaired(*self.MEDIANS, run_spread=run_spread, runs=20)


class TestJudge:
    @pytest.mark.parametrize(
        ("log", "half", "rounds", "word", "reason"),
        [
            (0.06, 0.03, 10, "SLOWER", ""),
            (-0.06, 0.03, 10, "FASTER", ""),
            (0.0, 0.015, 10, "SAME", ""),
            (0.0, 0.03, 10, "INCONCLUSIVE", "the interval is too wide"),
            (0.019, 0.005, 10, "INCONCLUSIVE", "the ratio is too near to the margin"),
            (-0.03, 0.015, 10, "INCONCLUSIVE", "the ratio is too near to the margin"),
            (0.06, 0.03, 4, "INCONCLUSIVE", "4 Rounds, it takes 5"),
            (0.06, 0.0, 1, "INCONCLUSIVE", "1 Round, it takes 5"),
            (0.5, 0.0, 10, "SLOWER", ""),
            (0.0, 0.0, 10, "SAME", ""),
        ],
    )
    def test_the_whole_interval_is_on_one_side_of_the_margin_or_nothing_is_said(self, log, half, rounds, word, reason):
        spread = half * math.sqrt(rounds) / {10: 2.262157162740992, 4: 3.182446305284263, 1: 1}[rounds]  # t(.975)
        (verdict,) = judge([ratio_of(log, spread, rounds)])
        assert (verdict.word, verdict.reason, verdict.margin) == (word, reason, 0.02)

    def test_one_of_many_has_to_be_confirmed(self):
        """An interval beyond the margin with p = 0.0005: enough among 40 ratios, not among 60."""
        slow = ratio_of(0.05, 0.05 * math.sqrt(10) / 4.78)  # t(9) above 4.78 has a chance of 0.0005
        assert words(slow, *[ratio_of(0.0, 0.01)] * 39)[0] == "SLOWER"
        verdict, *_ = judge([slow, *[ratio_of(0.5, 0.01, 4)] * 59])  # those that are not judged count too
        assert (verdict.word, verdict.reason) == (
            "INCONCLUSIVE",
            "beyond the margin, but not confirmed among 60 ratios",
        )
        assert verdict.rounds_needed == 11

    @given(st.permutations(range(12)))
    def test_the_order_of_the_family_is_irrelevant(self, order):
        family = [ratio_of(0.02 * i - 0.1, 0.02, 5 + i % 3) for i in range(12)]
        margins = [0.01 + 0.002 * i for i in range(12)]
        expected = judge(family, margins=margins)
        assert {verdict.word for verdict in expected} == {"SLOWER", "FASTER", "SAME", "INCONCLUSIVE"}
        found = judge([family[i] for i in order], margins=[margins[i] for i in order])
        assert found == [expected[i] for i in order]

    def test_each_ratio_has_its_own_margin(self):
        assert words(ratio_of(0.05), ratio_of(0.05), margins=[0.02, 0.10]) == ["SLOWER", "SAME"]

    def test_a_margin_too_many_or_none_at_all_is_an_error(self):
        for margins in ([], [0.02, 0.02], [0.0], [math.nan]):
            with pytest.raises(ValueError, match="margins: expected 1 fractions above 0"):
                judge([ratio_of(0.0)], margins=margins)

    def test_a_trend_overrules_even_a_clear_ratio(self):
        for trend in ("warming", "slowing"):
            assert words(ratio_of(0.5, 0.01, trend=trend)) == ["INCONCLUSIVE"]

    @given(st.lists(ROUNDS | FLAT, max_size=4))
    def test_no_figure_is_ever_nan_or_infinite(self, family):
        ratios = [Ratio.of(rounds) for rounds in family]
        assert all(math.isfinite(number) for record in (*ratios, *judge(ratios)) for number in numbers(record))

    def test_verdict_has_the_detectable_slowdown_of_its_ratio(self):
        assert judge([]) == []
        verdict, *_ = judge([ratio_of(0.0, 0.019)] * 60)
        assert verdict.detectable == pytest.approx(0.045, abs=5e-4)

    @pytest.mark.parametrize(
        ("ratio", "needed"),
        [
            (ratio_of(0.0, 0.03, 5), 12),
            (ratio_of(0.0, 0.0, 2), 5),
            (ratio_of(0.0, 0.03, 4), 12),
            (ratio_of(0.0, 0.01, 10), None),  # SAME
            (ratio_of(0.0, 9.0, 10), None),  # more than anybody would do
            (ratio_of(math.log1p(0.02), 0.01, 10), None),  # at the margin itself no number helps
        ],
    )
    def test_verdict_has_the_number_of_rounds_that_would_help(self, ratio, needed):
        assert judge([ratio])[0].rounds_needed == needed


class TestHolm:
    @pytest.mark.parametrize(
        ("p_values", "fallen"),
        [
            ([], []),
            ([0.025], [True]),
            ([0.02, 0.01], [True, True]),
            ([0.02, 0.013], [False, False]),  # the smallest fails at 0.0125, so the other is not asked
            ([0.026, 0.001, 0.012], [False, True, True]),
            ([0.012, 0.012], [True, True]),
        ],
    )
    def test_holm_steps_down_to_the_first_hypothesis_not_rejected(self, p_values, fallen):
        assert holm(p_values, 0.025) == fallen


class TestPlans:
    @pytest.mark.parametrize(
        ("spread", "rounds"), [(0.01, (7, 5, 5)), (0.019, (17, 9, 6)), (0.03, (38, 18, 12)), (0.0, (5, 5, 5))]
    )
    def test_rounds_for_a_half_width_are_as_tabled(self, spread, rounds):
        assert tuple(plan_rounds(spread, half) for half in (0.01, 0.015, 0.02)) == rounds

    def test_planned_rounds_are_the_fewest_that_suffice(self):
        for spread in (0.004, 0.019, 0.3, 50.0):
            rounds = plan_rounds(spread, 0.02)
            halves = [Interval.around(0, spread / math.sqrt(r), r - 1).high for r in (rounds - 1, rounds)]
            assert halves[1] <= math.exp(0.02)
            assert halves[0] > math.exp(0.02) or rounds == 5

    def test_plan_rounds_needs_a_width_and_a_stddev(self):
        for spread, half in ((0.01, 0), (math.nan, 0.01), (0.01, math.nan), (-1, 0.01)):
            with pytest.raises(ValueError, match="expected a half-width above 0 and a standard deviation"):
                plan_rounds(spread, half)

    @pytest.mark.parametrize(
        ("spread", "rounds", "effect"),
        [(0.019, 5, 0.128), (0.019, 10, 0.045), (0.019, 20, 0.037), (0.01, 5, 0.065), (0.01, 20, 0.029)],
    )
    def test_the_detectable_effect_is_as_tabled(self, spread, rounds, effect):
        assert detectable(spread / math.sqrt(rounds), rounds - 1, family=60) == pytest.approx(effect, abs=6e-4)

    def test_power_without_variability_finds_all_beyond_the_margin(self):
        assert detectable(0.0, 9, family=60, margin=0.03) == pytest.approx(0.03)

    def test_power_is_0_or_1_without_variability_and_0_below_five_rounds(self):
        with np.errstate(all="raise"):
            assert [power(effect, 0.0, 10, 60) for effect in (0.01, 0.03)] == [0, 1]
        assert power(0.5, 0.01, 4, 60) == 0

    def test_power_at_the_detectable_effect_is_what_was_asked_for(self):
        """A little less, as it asks for both conditions at once."""
        for rounds in (5, 10, 20):
            effect = detectable(0.019 / math.sqrt(rounds), rounds - 1, family=60)
            assert 0.93 <= power(effect, 0.019, rounds, 60) <= 0.9501
