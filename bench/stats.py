"""Summary of samples, and ratios with intervals. The process is the replicate: every interval is over Rounds.

Durations are integer nanoseconds; nothing is trimmed, nothing is rounded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from scipy.special import stdtrit  # quantile of Student's t; scipy.stats takes a second to import

MARGIN = 0.02  # a ratio nearer to 1 than this is called the same


@dataclass(frozen=True, slots=True)
class Interval:
    """A centre and its 95 % interval; the ends are None below 3 Rounds, where they would say nothing."""

    center: float
    low: float | None
    high: float | None

    @classmethod
    def of_logs(cls, logs: Sequence[float]) -> "Interval":
        """From one logarithm a Round: exp(mean -+ t(.975, R - 1) * sd / sqrt(R))."""
        mean = fmean(logs)
        if len(logs) < 3:
            return cls(math.exp(mean), None, None)
        half = t_quantile(0.975, len(logs) - 1) * stddev(logs) / math.sqrt(len(logs))
        return cls(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one Case: its valid samples, Round by Round. ``stddev`` has ddof 1 and is None for one sample."""

    n: int
    mean_ns: float
    stddev_ns: float | None
    median_ns: float
    min_ns: int
    p95_ns: float
    max_ns: int
    q1_ns: float
    q3_ns: float
    outliers_mild: int
    outliers_severe: int
    round_medians_ns: tuple[float, ...]
    center: Interval
    cv_within: float | None
    cv_between: float | None
    trend: str

    @classmethod
    def of(cls, *rounds: Sequence[int]) -> "Summary":
        """Parameters: the samples of each Round, ns, in the order they were taken; at least one in each."""
        samples = [sample for one in rounds for sample in one]
        q1, middle, q3, p95 = (float(q) for q in np.percentile(samples, (25, 50, 75, 95)))
        beyond = [max(q1 - sample, sample - q3) for sample in samples]
        logs = [math.log(median(one)) for one in rounds]
        within = [((len(one) - 1), stddev(one)) for one in rounds if len(one) > 1]
        freedom = sum(df for df, _ in within)
        mean = math.fsum(samples) / len(samples)
        pooled = math.sqrt(math.fsum(df * sd**2 for df, sd in within) / freedom) if freedom else None
        return cls(
            n=len(samples),
            mean_ns=mean,
            stddev_ns=stddev(samples) if len(samples) > 1 else None,
            median_ns=middle,
            min_ns=min(samples),
            p95_ns=p95,
            max_ns=max(samples),
            q1_ns=q1,
            q3_ns=q3,
            outliers_mild=sum(distance > 1.5 * (q3 - q1) for distance in beyond),
            outliers_severe=sum(distance > 3 * (q3 - q1) for distance in beyond),
            round_medians_ns=tuple(float(median(one)) for one in rounds),
            center=Interval.of_logs(logs),
            cv_within=None if pooled is None else pooled / mean,
            cv_between=stddev(logs) if len(logs) > 1 else None,
            trend=trend(rounds),
        )


@dataclass(frozen=True, slots=True)
class Ratio:
    """Candidate over baseline, from Rounds that both were in; above 1 the candidate is slower."""

    value: Interval
    rounds: int
    verdict: str

    @classmethod
    def of(cls, rounds: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]]) -> "Ratio":
        """Parameters: for each Round its cycles, each the samples (baseline, candidate), ns.

        A cycle is mirrored (A B B A), so that a drift of the machine's speed cancels in its difference of mean
        logarithms; a Round counts with the median of its cycles.
        """
        differences = [
            median(mean_log(candidate) - mean_log(baseline) for baseline, candidate in one) for one in rounds
        ]
        value = Interval.of_logs(differences)
        return cls(value, len(differences), verdict(value, len(differences)))


def verdict(value: Interval, rounds: int) -> str:
    """SLOWER, FASTER or SAME as far as the interval allows, else INCONCLUSIVE."""
    if value.low is None or value.high is None or rounds < 5:
        return "INCONCLUSIVE"
    if value.low > 1 + MARGIN:
        return "SLOWER"
    if value.high < 1 / (1 + MARGIN):
        return "FASTER"
    if value.low >= 1 / (1 + MARGIN) and value.high <= 1 + MARGIN:
        return "SAME"
    return "INCONCLUSIVE"


def trend(rounds: Sequence[Sequence[int]]) -> str:
    """Whether the first half of a Round's samples is slower than the second: warming, slowing, steady or unresolved.

    From a 99 % t interval over Rounds, since drift inside one Round would fake it.
    """
    halves = [
        math.log(median(one[: len(one) // 2])) - math.log(median(one[len(one) // 2 :]))
        for one in rounds
        if len(one) > 1
    ]
    if len(halves) < 3:
        return "unresolved"
    half = t_quantile(0.995, len(halves) - 1) * stddev(halves) / math.sqrt(len(halves))
    low, high, edge = fmean(halves) - half, fmean(halves) + half, math.log(1.02)
    if low > edge:
        return "warming"
    if high < -edge:
        return "slowing"
    return "steady" if -edge <= low and high <= edge else "unresolved"


def stddev(values: Sequence[float]) -> float:
    """Two passes, ddof 1: one pass of squares loses all digits, and ddof 0 is low for few values."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def mean_log(samples: Sequence[int]) -> float:
    return fmean(math.log(sample) for sample in samples)


def t_quantile(probability: float, freedom: int) -> float:
    return float(stdtrit(freedom, probability))
