"""Summary, intervals over Rounds, ratios from mirrored cycles, and verdicts."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import Interval, Ratio, Summary, mean_log, trend, verdict

ROUND = st.lists(st.integers(1, 10**10), min_size=2, max_size=20)


class TestSummary:
    def test_the_order_statistics_are_numpys(self):
        samples = [5, 1, 4, 2, 100]
        summary = Summary.of(samples)
        assert (summary.n, summary.min_ns, summary.max_ns, summary.median_ns) == (5, 1, 100, 4)
        assert summary.p95_ns == pytest.approx(np.percentile(samples, 95))
        assert summary.stddev_ns == pytest.approx(np.std(samples, ddof=1))

    def test_an_outlier_is_counted_and_kept(self):
        summary = Summary.of([10, 11, 12, 13, 100])
        assert (summary.outliers_mild, summary.outliers_severe, summary.max_ns) == (1, 1, 100)

    def test_one_sample_has_no_stddev_and_no_interval(self):
        summary = Summary.of([5])
        assert summary.stddev_ns is None
        assert summary.center.low is None
        assert summary.cv_between is None

    def test_two_rounds_have_a_center_and_no_interval(self):
        center = Summary.of([100, 100], [400, 400]).center
        assert center.center == pytest.approx(200)
        assert (center.low, center.high) == (None, None)

    def test_equal_rounds_have_an_interval_of_no_width(self):
        center = Summary.of([100] * 3, [100] * 3, [100] * 3).center
        assert center.low == pytest.approx(100)
        assert center.high == pytest.approx(100)

    def test_the_interval_is_over_rounds_not_over_samples(self):
        """Ten times the samples of the same Rounds say nothing more about the process to process spread."""
        few = Summary.of([90, 90], [100, 100], [110, 110])
        many = Summary.of([90] * 20, [100] * 20, [110] * 20)
        assert (few.center.low, few.center.high) == (many.center.low, many.center.high)

    def test_the_interval_is_students(self):
        logs = [0.0, 0.1, 0.3]
        half = 4.302652729911275 * np.std(logs, ddof=1) / math.sqrt(3)  # t(.975, 2), from a table
        assert Interval.of_logs(logs).high == pytest.approx(math.exp(np.mean(logs) + half))

    @given(st.lists(ROUND, min_size=1, max_size=5))
    def test_variance_splits_into_within_and_between(self, rounds):
        summary = Summary.of(*rounds)
        everything = [sample for one in rounds for sample in one]
        within = sum((len(one) - 1) * np.var(one, ddof=1) for one in rounds)
        between = sum(len(one) * (np.mean(one) - summary.mean_ns) ** 2 for one in rounds)
        assert (len(everything) - 1) * summary.stddev_ns**2 == pytest.approx(within + between, rel=1e-9, abs=1e-3)
        pooled = sum(len(one) - 1 for one in rounds) * (summary.cv_within * summary.mean_ns) ** 2
        assert pooled == pytest.approx(within, rel=1e-9, abs=1e-3)


class TestRatio:
    def test_a_candidate_twice_as_slow_has_ratio_two(self):
        ratio = Ratio.of([[([100, 101], [200, 202])]] * 5)
        assert ratio.value.center == pytest.approx(2)
        assert ratio.verdict == "SLOWER"

    def test_swapped_sides_invert_ratio_interval_and_verdict(self):
        rng = random.Random(1)
        rounds = [[([rng.randint(90, 110)], [rng.randint(120, 140)]) for _ in range(3)] for _ in range(6)]
        there = Ratio.of(rounds)
        back = Ratio.of([[(b, a) for a, b in one] for one in rounds])
        assert back.value.center == pytest.approx(1 / there.value.center)
        assert back.value.low == pytest.approx(1 / there.value.high)
        assert (there.verdict, back.verdict) == ("SLOWER", "FASTER")

    def test_a_drift_of_the_machine_cancels_in_a_mirrored_cycle(self):
        """A B B A on a machine that slows down by 10 % a turn: the ratio stays what it is."""
        speed = [1.1**i for i in range(4)]
        a, b = [100 * speed[0], 100 * speed[3]], [150 * speed[1], 150 * speed[2]]
        assert math.exp(mean_log(b) - mean_log(a)) == pytest.approx(1.5)

    def test_the_order_of_rounds_is_irrelevant(self):
        rounds = [[([100 + i], [110 + 2 * i])] for i in range(5)]
        assert Ratio.of(rounds) == Ratio.of(rounds[::-1])

    def test_the_interval_covers_the_truth_nineteen_times_in_twenty(self):
        rng = np.random.default_rng(3)
        covered = 0
        for _ in range(1000):
            rounds = [
                [([1e6], [1e6 * math.exp(0.05 + shift + noise)]) for noise in rng.normal(0, 0.01, 2)]
                for shift in rng.normal(0, 0.02, 5)
            ]
            value = Ratio.of(rounds).value
            covered += value.low <= math.exp(0.05) <= value.high
        assert 920 <= covered <= 980


@pytest.mark.parametrize(
    ("low", "high", "rounds", "expected"),
    [
        (1.03, 1.10, 5, "SLOWER"),
        (0.80, 0.97, 5, "FASTER"),
        (0.99, 1.01, 5, "SAME"),
        (0.99, 1.10, 5, "INCONCLUSIVE"),
        (1.01, 1.10, 5, "INCONCLUSIVE"),
        (1.03, 1.10, 4, "INCONCLUSIVE"),
        (None, None, 2, "INCONCLUSIVE"),
    ],
)
def test_a_verdict_needs_the_whole_interval_beyond_the_margin(low, high, rounds, expected):
    assert verdict(Interval(1.0, low, high), rounds) == expected


class TestTrend:
    def test_rounds_that_get_faster_are_warming(self):
        assert trend([[120, 120, 100, 100]] * 5) == "warming"

    def test_rounds_that_get_slower_are_slowing(self):
        assert trend([[100, 100, 120, 120]] * 5) == "slowing"

    def test_flat_rounds_are_steady(self):
        assert trend([[100, 101, 100, 101]] * 5) == "steady"

    def test_two_rounds_resolve_nothing(self):
        assert trend([[120, 120, 100, 100]] * 2) == "unresolved"
