"""Shares of counted outcomes, such as an accuracy, with an interval."""

from typing import NamedTuple

from scipy.stats import binomtest


class Share(NamedTuple):
    """A share of ``total`` outcomes with its 95 % interval."""

    value: float
    low: float
    high: float
    total: int


def share(count: int, total: int) -> Share:
    """The share of ``count`` in ``total`` outcomes that are independent, with Wilson's interval.

    Source: Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion"
    """
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return Share(count / total, float(interval.low), float(interval.high), total)
