"""Shares with an interval."""

import pytest

from bench.stats.binomial import share


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_interval_is_wilsons(count, total, low, high):
    found = share(count, total)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert found.value == count / total
