"""Summary statistics of one Case. The process is the replicate: every interval is over Rounds.

Durations are nanoseconds; nothing is trimmed or rounded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from scipy.special import stdtrit  # quantile of Student's t; scipy.stats takes a second to import

TREND_EDGE = math.log(1.02)  # halves of a Round that differ by less are equally fast

LEAST_ROUNDS = 3  # fewer have no interval


@dataclass(frozen=True, slots=True)
class Interval:
    """A center and its 95 % interval; the ends are None below 3 Rounds."""

    center: float
    low: float | None
    high: float | None

    @property
    def inverse(self) -> "Interval":
        """The interval of the inverse ratio."""
        low, high = (None if end is None else 1 / end for end in (self.high, self.low))
        return Interval(1 / self.center, low, high)

    @classmethod
    def of_values(cls, values: Sequence[float]) -> "Interval":
        """Interval of the mean from one value per Round, of any sign."""
        mean, error = fmean(values), standard_error(values)
        if error is None:
            return cls(mean, None, None)
        half = t_quantile(0.975, len(values) - 1) * error
        return cls(mean, mean - half, mean + half)

    @classmethod
    def of_logs(cls, logs: Sequence[float], level: float = 0.95) -> "Interval":
        """Interval from one logarithm per Round: exp(mean -+ t(.975, R - 1) * sd / sqrt(R))."""
        return cls.around(fmean(logs), standard_error(logs), len(logs) - 1, level)

    @classmethod
    def around(cls, log: float, error: float | None, freedom: int, level: float = 0.95) -> "Interval":
        """Interval from a logarithm, its standard error (None: no ends) and the degrees of freedom of t."""
        if error is None:
            return cls(math.exp(log), None, None)
        half = t_quantile((1 + level) / 2, freedom) * error
        return cls(math.exp(log), math.exp(log - half), math.exp(log + half))


@dataclass(frozen=True, slots=True)
class Summary:
    """Statistics of the valid samples of one Case. ``stddev`` has ddof 1 and is None for one sample."""

    n: int
    mean_ns: float
    stddev_ns: float | None
    median_ns: float
    min_ns: float
    p95_ns: float
    max_ns: float
    q1_ns: float
    q3_ns: float
    outliers_mild: int
    outliers_severe: int
    round_medians_ns: tuple[float, ...]
    center: Interval
    stddev_within_ns: float | None
    """Standard deviation within Rounds, pooled by degrees of freedom."""
    cv_within: float | None
    cv_between: float | None
    trend: str

    @classmethod
    def of(cls, *rounds: Sequence[float]) -> "Summary":
        """Summarize the samples of each Round, ns, in the order they were taken; at least one per Round."""
        samples = [sample for round_ in rounds for sample in round_]
        q1, middle, q3, p95 = (float(q) for q in np.percentile(samples, (25, 50, 75, 95)))
        beyond = [max(q1 - sample, sample - q3) for sample in samples]
        medians = [float(median(round_)) for round_ in rounds]
        logs = [math.log(ns) for ns in medians]
        within = [((len(round_) - 1), stddev(round_)) for round_ in rounds if len(round_) > 1]
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
            round_medians_ns=tuple(medians),
            center=Interval.of_logs(logs),
            stddev_within_ns=pooled,
            cv_within=None if pooled is None else pooled / mean,
            cv_between=stddev(logs) if len(logs) > 1 else None,
            trend=trend(rounds),
        )


@dataclass(frozen=True, slots=True)
class Less:
    """Time that a pass takes beyond another, with its 95 % interval; the ends are None below 3 Rounds.

    It includes other differences of the two: forward_backward runs the forward part in training mode.
    """

    mean_ns: float
    low_ns: float | None
    high_ns: float | None
    resolved: bool
    """False if the interval contains 0 or is unknown; then the mean is meaningless."""


def less(medians_ns: Sequence[float], less_medians_ns: Sequence[float]) -> Less:
    """A t interval of the differences of two passes' medians in the same Rounds and Workers, ns.

    Raises ValueError unless both have the same number of Rounds, at least one.
    """
    rounds = len(medians_ns)
    if rounds != len(less_medians_ns) or not rounds:
        raise ValueError(f"expected medians of the same Rounds, found {rounds} and {len(less_medians_ns)}")
    differences = [longer - shorter for longer, shorter in zip(medians_ns, less_medians_ns, strict=True)]
    found = Interval.of_values(differences)
    return Less(found.center, found.low, found.high, found.low is not None and found.low > 0)


def trend(rounds: Sequence[Sequence[float]]) -> str:
    """Trend within a Round: warming (the first half is slower), slowing, steady or unresolved."""
    return trend_of([half for round_ in rounds if (half := half_difference(round_)) is not None])


def half_difference(samples: Sequence[float]) -> float | None:
    """ln(median of the first half / median of the second) of one Round; None for a single sample."""
    middle = len(samples) // 2
    return math.log(median(samples[:middle])) - math.log(median(samples[middle:])) if middle else None


def trend_of(halves: Sequence[float]) -> str:
    """Trend from one half difference per Round, by their 99 % t interval, so that drift in one Round is no trend."""
    error = standard_error(halves)
    if error is None:
        return "unresolved"
    mean, half = fmean(halves), t_quantile(0.995, len(halves) - 1) * error
    if mean - half > TREND_EDGE:
        return "warming"
    if mean + half < -TREND_EDGE:
        return "slowing"
    return "steady" if mean - half >= -TREND_EDGE and mean + half <= TREND_EDGE else "unresolved"


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of one value per Round; None below 3 Rounds."""
    return stddev(values) / math.sqrt(len(values)) if len(values) >= LEAST_ROUNDS else None


def stddev(values: Sequence[float]) -> float:
    """Standard deviation, ddof 1, in two passes: a single pass over squares loses precision."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def mean_log(samples: Sequence[float]) -> float:
    return math.fsum(map(math.log, samples)) / len(samples)


def t_quantile(probability: float, freedom: int) -> float:
    return float(stdtrit(freedom, probability))
