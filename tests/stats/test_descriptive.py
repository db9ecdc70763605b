"""Summary, intervals over Rounds, ratios from mirrored cycles, and verdicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats.descriptive import Interval, Summary, half_difference, less, trend

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

    def test_a_wider_interval_for_a_higher_level(self):
        logs = [0.0, 0.1, 0.3]
        half = 9.92484320091807 * np.std(logs, ddof=1) / math.sqrt(3)  # t(.995, 2), from a table
        assert Interval.of_logs(logs, 0.99).low == pytest.approx(math.exp(np.mean(logs) - half))

    def test_the_spread_within_is_that_about_each_rounds_own_mean(self):
        summary = Summary.of([99, 101], [998, 1000, 1002])  # variances of 2 and 4, from 1 and 2 degrees of freedom
        assert summary.stddev_within_ns == pytest.approx(math.sqrt((1 * 2 + 2 * 4) / 3))
        assert summary.cv_within == pytest.approx(summary.stddev_within_ns / 640)

    def test_one_sample_a_round_has_no_spread_within(self):
        assert Summary.of([5], [7]).stddev_within_ns is None

    @given(st.lists(ROUND, min_size=1, max_size=5))
    def test_variance_splits_into_within_and_between(self, rounds):
        summary = Summary.of(*rounds)
        everything = [sample for one in rounds for sample in one]
        within = sum((len(one) - 1) * np.var(one, ddof=1) for one in rounds)
        between = sum(len(one) * (np.mean(one) - summary.mean_ns) ** 2 for one in rounds)
        assert (len(everything) - 1) * summary.stddev_ns**2 == pytest.approx(within + between, rel=1e-9, abs=1e-3)
        pooled = sum(len(one) - 1 for one in rounds) * summary.stddev_within_ns**2
        assert pooled == pytest.approx(within, rel=1e-9, abs=1e-3)


class TestDifferenceOfPasses:
    def test_difference_is_that_of_two_passes_with_students_interval(self):
        found = less([300, 330, 330], [100, 110, 120])  # differences of 200, 220, 210; t(.975, 2) from a table
        half = 4.302652729911275 * 10 / math.sqrt(3)
        assert found.mean_ns == pytest.approx(210)
        assert (found.low_ns, found.high_ns) == (pytest.approx(210 - half), pytest.approx(210 + half))
        assert found.resolved

    def test_an_interval_that_reaches_zero_is_not_resolved(self):
        found = less([250, 210, 240], [100, 200, 150])
        assert found.low_ns < 0 < found.mean_ns
        assert not found.resolved

    def test_an_interval_that_touches_zero_is_not_resolved(self):
        assert not less([100] * 3, [100] * 3).resolved

    def test_a_pass_that_is_faster_than_what_it_contains_is_not_resolved(self):
        assert not less([90] * 3, [100] * 3).resolved

    def test_two_rounds_have_a_mean_and_no_interval(self):
        found = less([300, 320], [100, 100])
        assert (found.mean_ns, found.low_ns, found.high_ns, found.resolved) == (210, None, None, False)

    def test_noise_of_both_passes_is_in_its_interval(self):
        """Ancestors took the spread from one of them: forward alone moves here, forward and backward together do."""
        rng = np.random.default_rng(5)
        covered = 0
        for _ in range(1000):
            forward, both = rng.normal(1e8, 1e7, 5), rng.normal(3e8, 5e6, 5)
            found = less(both, forward)
            covered += found.low_ns <= 2e8 <= found.high_ns
        assert 930 <= covered <= 970

    @pytest.mark.parametrize(("forward", "both"), [([1, 2], [3]), ([], [])])
    def test_rounds_that_do_not_match_are_an_error(self, forward, both):
        with pytest.raises(ValueError, match=f"same Rounds, found {len(both)} and {len(forward)}"):
            less(both, forward)


class TestTrend:
    def test_rounds_that_get_faster_are_warming(self):
        assert trend([[120, 120, 100, 100]] * 5) == "warming"

    def test_rounds_that_get_slower_are_slowing(self):
        assert trend([[100, 100, 120, 120]] * 5) == "slowing"

    def test_flat_rounds_are_steady(self):
        assert trend([[100, 101, 100, 101]] * 5) == "steady"

    def test_two_rounds_resolve_nothing(self):
        assert trend([[120, 120, 100, 100]] * 2) == "unresolved"

    def test_a_rise_within_the_margin_is_steady_and_one_around_it_unresolved(self):
        assert trend([[1010, 1010, 1000, 1000]] * 5) == "steady"
        assert trend([[1050, 1050, 1000, 1000], [1000] * 4, [1000] * 4, [1000] * 4]) == "unresolved"

    def test_interval_of_a_trend_is_of_99_percent(self):
        """Halves that differ by about 5 %: t(.975, 2) would call this warming, t(.995, 2) reaches the edge."""
        rounds = [[round(1e6 * math.exp(g)), 10**6] for g in (0.044, 0.05, 0.056)]
        mean, error = 0.05, 0.006 / math.sqrt(3)
        assert mean - 4.303 * error > math.log(1.02) > mean - 9.925 * error
        assert trend(rounds) == "unresolved"

    def test_a_half_difference_is_of_medians_and_none_for_a_single_sample(self):
        assert half_difference([100, 100, 9999, 50, 50, 1]) == pytest.approx(math.log(2))
        assert half_difference([7]) is None
