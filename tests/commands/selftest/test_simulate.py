"""The simulation: its data has the properties it is asked for, and the statistics stand up to it."""

from unittest import mock

import numpy as np
import pytest

from bench.commands.selftest import simulate
from bench.commands.selftest.row import Row, within
from bench.stats import descriptive, ratio


def flat(**how):
    quiet = {"rho": 0.0, "between": 0.0, "cv": 0.0, "spikes": 0.0, "drift": 0.0, "turn": 1}
    return simulate.sample(np.random.default_rng(1), 2000, **quiet | how)


class TestSample:
    def test_sample_is_rounds_by_sides_by_iterations_of_whole_nanoseconds(self):
        data = flat()
        assert data.shape == (2000, 2, 10)
        assert data.dtype == np.int64
        assert (data == 10**8).all()

    def test_noise_has_the_asked_spread_and_correlation(self):
        logs = np.log(flat(cv=0.03, rho=0.7) / 1e8)
        assert logs.std() == pytest.approx(0.03, rel=0.05)
        assert logs[:, :, 0].std() == pytest.approx(0.03, rel=0.05)
        pairs = np.corrcoef(logs[:, :, :-1].ravel(), logs[:, :, 1:].ravel())
        assert pairs[0, 1] == pytest.approx(0.7, abs=0.03)

    def test_processes_differ_as_asked_and_not_within(self):
        logs = np.log(flat(between=0.02) / 1e8)
        assert logs.std(axis=2).max() < 1e-7
        assert logs[:, :, 0].std() == pytest.approx(0.02, rel=0.05)
        assert abs(np.corrcoef(logs[:, 0, 0], logs[:, 1, 0])[0, 1]) < 0.1

    def test_spikes_are_as_many_as_asked_and_longer(self):
        data = flat(spikes=0.02)
        assert (data > 1e8).mean() == pytest.approx(0.02, abs=0.003)
        assert data.min() == 10**8

    @pytest.mark.parametrize("turn", [1, 2, 5])
    def test_drift_cancels_in_each_mirrored_cycle_and_not_in_a_sample(self, turn):
        data = flat(drift=0.3, turn=turn)
        assert abs(np.log(data[:, 0, 0] / data[:, 1, 0])).max() > 0.01
        for baseline, candidate in data[:100].tolist():
            for cycle in simulate._cycles(baseline, candidate, turn):
                assert ratio.Ratio.of([[cycle]]).log == pytest.approx(0, abs=1e-7)

    def test_who_comes_first_is_drawn_anew_in_each_cycle(self):
        data = flat(drift=0.3)
        rising = data[data[:, 0, 0] < data[:, 0, -1]]
        first = rising[:, 0, ::2] < rising[:, 1, ::2]
        assert first.mean() == pytest.approx(0.5, abs=0.05)
        assert 0.4 < (first[:, 0] == first[:, 1]).mean() < 0.6


class TestCoverage:
    def test_the_worst_cell_covers_as_promised(self):
        found = simulate.coverage(500, rho=0.7, between=0.02, turn=5)
        assert 0.92 <= found.ratio <= 0.98
        assert 0.92 <= found.center <= 0.98
        assert found.trends <= 0.05

    def test_a_higher_level_covers_more(self):
        found = simulate.coverage(500, rho=0.3, between=0.01, level=0.99)
        assert found.ratio > 0.97
        assert found.center > 0.97

    def test_an_interval_that_is_too_narrow_is_noticed(self):
        """The normal quantile of a beginner, and the divisor of a population, at 5 Rounds."""
        narrow = lambda probability, freedom: 1.96 * (freedom / (freedom + 1)) ** 0.5  # noqa: E731
        with mock.patch.object(descriptive, "t_quantile", narrow):
            found = simulate.coverage(500, rounds=5, rho=0.0, between=0.01)
        assert found.ratio < 0.92
        assert found.center < 0.92

    def test_samples_taken_one_process_after_the_other_are_noticed(self):
        """Without mirrored Turns a drift of the machine is a ratio."""
        with mock.patch.object(simulate, "sample", one_after_the_other):
            assert simulate.coverage(200, rho=0.0, between=0.0).ratio < 0.5


def one_after_the_other(rng, rounds, **how):
    data = sample(rng, rounds, **how | {"drift": 0.0})
    return np.rint(data * np.array([[[0.97], [1.03]]])).astype(np.int64)


sample = simulate.sample


class TestFamily:
    @pytest.mark.parametrize("spread", [0.019, 0.1])
    def test_equal_cases_are_called_slower_in_five_runs_of_a_hundred_at_most(self, spread):
        assert simulate.family(150, spread=spread) <= 0.05

    def test_without_holm_a_wide_spread_would_alarm_too_often(self):
        with mock.patch.object(ratio, "holm", lambda p_values, alpha: [p <= alpha for p in p_values]):
            assert simulate.family(60, spread=0.1) > 0.2


class TestPower:
    @pytest.mark.parametrize(("effect", "least"), [(0.03, 0), (0.05, 0.95)])
    def test_power_is_as_predicted_and_5_percent_is_detected_19_times_in_20(self, effect, least):
        found, predicted = simulate.power(200, effect)
        assert found >= least
        assert abs(found - predicted) <= 3 * (predicted * (1 - predicted) / 200) ** 0.5


class TestGate:
    def test_a_flat_series_opens_the_gate_at_the_minimum_and_nearly_always_by_twenty(self):
        opened = simulate.gate(500, cv=0.02, rho=0.0)
        assert min(opened) == 10 < max(opened)  # noise holds it shut now and then
        assert sum(n <= 20 for n in opened) >= 0.99 * 500

    def test_a_ramp_keeps_the_gate_shut(self):
        assert np.mean(simulate.gate(200, cv=0.0, rho=0.0, ramp=0.3)) > np.mean(simulate.gate(200, cv=0.0, rho=0.0))

    def test_a_gate_that_never_opens_ends_at_the_cap(self):
        with mock.patch.object(simulate, "steady", return_value=False):
            assert simulate.gate(1, cv=0.02, rho=0.0) == [simulate.PROTOCOL.burn_in_cap]


class TestReport:
    def test_a_row_says_what_was_expected_and_found(self):
        row = next(simulate.report())
        what = "95 % interval of an A/A ratio covers 1: rho 0.0, 0% between processes, Turns of 1"
        assert row == Row(what, "92.0% - 98.0%", row.found, True)

    @pytest.mark.parametrize(
        ("found", "low", "high", "expected", "ok"),
        [(0.95, 0.92, 0.98, "92.0% - 98.0%", True), (0.06, 0, 0.05, "<= 5.0%", False), (1, 0.99, 1, ">= 99.0%", True)],
    )
    def test_a_share_outside_its_bounds_is_not_ok(self, found, low, high, expected, ok):
        assert within("it", found, low, high) == Row("it", expected, f"{found:.1%}", ok)

    @pytest.mark.slow
    @pytest.mark.parametrize("thorough", [False, True])
    def test_all_rows_are_ok(self, thorough):
        rows = list(simulate.report(thorough))
        assert [row for row in rows if not row.ok] == []
        assert len(rows) > (50 if thorough else 10)

    def test_the_same_seed_gives_the_same_coverage(self):
        once, again = (simulate.coverage(20, rho=0.3, between=0.01) for _ in range(2))
        assert once == again
        assert simulate.coverage(20, rho=0.3, between=0.01, seed=99) != once
