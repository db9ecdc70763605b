"""Ratio of two Cases: interval, verdict, and the smallest difference that could have been detected.

All arithmetic is in logarithms, so swapping the sides gives exactly the inverse. Above 1 the candidate is slower.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from scipy.special import gammaincinv, nctdtrinc, ndtr, ndtri, stdtr  # scipy.stats takes a second to import

from bench.stats.descriptive import Interval, half_difference, mean_log, standard_error, stddev, t_quantile, trend_of
from bench.stats.verdict import Word

MARGIN = 0.02  # ratios closer to 1 are the same
TAIL = 0.025  # false alarms per direction, of an interval and of a family
MIN_ROUNDS = 5  # fewer give intervals with too low coverage for a verdict
LEAST_RUNS = 3  # fewer A/A Runs give no estimate of run-to-run variability
MANY_ROUNDS = 1000  # more are not proposed
POWER = 0.95  # with which a detectable slowdown is detected
TRENDS = {
    "warming": "within a Round the candidate gets faster relative to the baseline: it is warming",
    "slowing": "within a Round the candidate gets slower relative to the baseline: it is slowing",
}

Cycle = tuple[Sequence[float], Sequence[float]]
"""Samples of baseline and candidate in one mirrored cycle, ns, in the order they were taken."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Candidate over baseline. ``paired``: from Rounds of one Run; else from two Runs."""

    value: Interval
    log: float
    """ln of the ratio, exactly negated when the sides are swapped."""
    rounds: int
    """The lower number of Rounds of the two sides."""
    error: float | None
    """Standard error of ``log``; None below 3 Rounds, or 3 stored Runs."""
    freedom: int
    """Degrees of freedom of Student's t."""
    round_stddev: float | None
    """Standard deviation of a paired ``log`` over Rounds; None below 3 Rounds or unpaired."""
    trend: str
    """Trend of the candidate relative to the baseline, so that drift of the machine cancels; as of ``trend_of``."""
    paired: bool

    @classmethod
    def of(cls, rounds: Sequence[Sequence[Cycle]]) -> "Ratio":
        """Paired ratio from the cycles of each Round. Raises ValueError without Rounds or for a Round without cycles.

        A cycle is mirrored (A B B A), so drift of the machine cancels in its difference of mean logarithms; the value
        of a Round is the median of its cycles.
        """
        if not rounds or not all(rounds):
            raise ValueError("a ratio needs at least one Round, and a cycle in each")
        logs = [median(mean_log(candidate) - mean_log(baseline) for baseline, candidate in cycles) for cycles in rounds]
        error = standard_error(logs)
        return cls(
            value=Interval.of_logs(logs),
            log=fmean(logs),
            rounds=len(logs),
            error=error,
            freedom=len(logs) - 1,
            round_stddev=None if error is None else stddev(logs),
            trend=trend_of([half for cycles in rounds if (half := _half_difference(cycles)) is not None]),
            paired=True,
        )

    @classmethod
    def unpaired(
        cls,
        baseline_medians_ns: Sequence[float],
        candidate_medians_ns: Sequence[float],
        *,
        run_spread: float | None,
        runs: int,
    ) -> "Ratio":
        """Ratio of two Runs, by Welch: variance of each side over its Rounds, plus run-to-run variance twice.

        Parameters
        ----------
        baseline_medians_ns, candidate_medians_ns : sequence of float, ns, one per Round
        run_spread : float or None
            Standard deviation of the log centers of ``runs`` stored Runs of one Case on this machine; without it,
            or with fewer than 3 Runs, there is no interval.
        """
        sides = [[math.log(ns) for ns in medians] for medians in (baseline_medians_ns, candidate_medians_ns)]
        if not all(sides):
            raise ValueError("a ratio needs at least one Round on each side")
        if run_spread is not None and not 0 <= run_spread < math.inf:
            raise ValueError(f"run_spread: expected a standard deviation, found {run_spread}")
        baseline, candidate = (standard_error(side) for side in sides)
        error = None
        if baseline is not None and candidate is not None and run_spread is not None and runs >= LEAST_RUNS:
            error = math.sqrt(baseline**2 + candidate**2 + 2 * run_spread**2)
        rounds = min(len(side) for side in sides)
        log, freedom = fmean(sides[1]) - fmean(sides[0]), max(0, min(rounds, runs) - 1)
        return cls(
            Interval.around(log, error, freedom), log, rounds, error, freedom, None, trend="unresolved", paired=False
        )


def _half_difference(cycles: Sequence[Cycle]) -> float | None:
    baseline, candidate = (half_difference([ns for cycle in cycles for ns in cycle[side]]) for side in (0, 1))
    return None if baseline is None or candidate is None else candidate - baseline


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a ratio."""

    word: Word
    reason: str
    """Why INCONCLUSIVE; else empty."""
    margin: float
    """Ratios closer to 1 than this fraction count as the same."""
    detectable: float | None
    """The slowdown, a fraction, detected with probability 0.95; None if no verdict was possible."""
    rounds_needed: int | None
    """Total number of Rounds, if INCONCLUSIVE and more Rounds can help; else None."""


def judge(ratios: Sequence[Ratio], *, margins: Sequence[float] | None = None) -> list[Verdict]:
    """A verdict per ratio, with 2.5 % false alarms per direction over the whole family.

    SLOWER requires a 95 % interval beyond the margin and a ratio above 1 by Holm's test over the family. ``margins``
    are fractions, one per ratio. Raises ValueError where one is not above 0.
    """
    margins = [MARGIN] * len(ratios) if margins is None else margins
    if len(margins) != len(ratios) or not all(0 < margin < math.inf for margin in margins):
        raise ValueError(f"margins: expected {len(ratios)} fractions above 0, found {list(margins)}")
    slower = holm([_p_value(ratio, ratio.log) for ratio in ratios], TAIL)
    faster = holm([_p_value(ratio, -ratio.log) for ratio in ratios], TAIL)
    return [
        _verdict(ratio, margin, len(ratios), *confirmed)
        for ratio, margin, *confirmed in zip(ratios, margins, slower, faster, strict=True)
    ]


def _verdict(ratio: Ratio, margin: float, family: int, slower: bool, faster: bool) -> Verdict:
    if ratio.rounds < MIN_ROUNDS:
        planned = MIN_ROUNDS if ratio.round_stddev is None else plan_rounds(ratio.round_stddev, math.log1p(margin))
        reason = f"{ratio.rounds} {'Round' if ratio.rounds == 1 else 'Rounds'}, it takes {MIN_ROUNDS}"
        return Verdict(Word.INCONCLUSIVE, reason, margin, None, _planned(planned) if ratio.paired else None)
    if ratio.error is None:
        return Verdict(
            Word.INCONCLUSIVE,
            f"the variability between Runs is not known: it takes {LEAST_RUNS} A/A Runs",
            margin,
            None,
            None,
        )
    edge, half = math.log1p(margin), t_quantile(1 - TAIL, ratio.freedom) * ratio.error
    slowdown = detectable(ratio.error, ratio.freedom, family=family, margin=margin)
    if ratio.trend in TRENDS:
        return Verdict(Word.INCONCLUSIVE, TRENDS[ratio.trend], margin, slowdown, None)
    if -edge <= ratio.log - half and ratio.log + half <= edge:
        return Verdict(Word.SAME, "", margin, slowdown, None)
    beyond = abs(ratio.log) - half > edge
    if beyond and (slower if ratio.log > 0 else faster):
        return Verdict(Word.SLOWER if ratio.log > 0 else Word.FASTER, "", margin, slowdown, None)
    if beyond:
        reason = f"beyond the margin, but not confirmed among {family} ratios"
        width, tail = abs(ratio.log), TAIL / family
    else:
        reason = "the interval is too wide" if half > edge else "the ratio is too near to the margin"
        width, tail = abs(edge - abs(ratio.log)), TAIL
    needed = None if ratio.round_stddev is None or not width else plan_rounds(ratio.round_stddev, width, tail)
    return Verdict(Word.INCONCLUSIVE, reason, margin, slowdown, _planned(needed))


def _planned(rounds: int | None) -> int | None:
    return rounds if rounds is not None and rounds <= MANY_ROUNDS else None


def _p_value(ratio: Ratio, log: float) -> float:
    """One-sided p value of "the true log is not above 0"; 1 for a ratio that is not judged, which keeps Holm valid."""
    if ratio.error is None or ratio.rounds < MIN_ROUNDS:
        return 1.0
    if not ratio.error:
        return 0.0 if log > 0 else 1.0
    return float(stdtr(ratio.freedom, -log / ratio.error))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which null hypotheses are rejected, with a family-wise error rate of at most ``alpha``.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    rejected = [False] * len(p_values)
    for passed, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - passed):
            break
        rejected[index] = True
    return rejected


def detectable(error: float, freedom: int, *, family: int, margin: float = MARGIN) -> float:
    """The smallest true slowdown, a fraction, that each condition of SLOWER alone accepts with probability POWER.

    Assumes the only slow Case of a family, which has to pass Holm's first and strictest step.
    """
    edge = math.log1p(margin)
    beyond = edge + error * _noncentrality(freedom, TAIL)
    return math.expm1(max(beyond, error * _noncentrality(freedom, TAIL / family)))


@functools.lru_cache(maxsize=1024)
def _noncentrality(freedom: int, tail: float) -> float:
    """Ratio of true value to standard error at which a one-sided t test at ``tail`` has the power POWER."""
    return float(nctdtrinc(freedom, 1 - POWER, t_quantile(1 - tail, freedom)))


def power(effect: float, round_stddev: float, rounds: int, family: int, margin: float = MARGIN) -> float:
    """Probability that a true slowdown ``effect``, a fraction, gets SLOWER in a family where nothing else is slow.

    Given their standard deviation, the normally distributed mean of the Rounds has to exceed the higher of two
    thresholds; averaged over 2,000 equally likely standard deviations.
    """
    if rounds < MIN_ROUNDS:
        return 0.0
    edge, true, freedom = math.log1p(margin), math.log1p(effect), rounds - 1
    if not round_stddev:
        return float(true > edge)
    error = round_stddev / math.sqrt(rounds)
    variances = gammaincinv(freedom / 2, (np.arange(2000) + 0.5) / 2000) * 2 / freedom
    errors = error * np.sqrt(variances)
    bound = np.maximum(edge + t_quantile(1 - TAIL, freedom) * errors, t_quantile(1 - TAIL / family, freedom) * errors)
    return float(ndtr((true - bound) / error).mean())


def plan_rounds(round_stddev: float, half_width: float, tail: float = TAIL) -> int:
    """The fewest Rounds, at least 5, with a t interval within -+ ``half_width``; logarithms."""
    if not half_width > 0 or not 0 <= round_stddev < math.inf:
        raise ValueError(f"expected a half-width above 0 and a standard deviation, found {half_width}, {round_stddev}")
    normal = float(ndtri(1 - tail))
    rounds = max(MIN_ROUNDS, math.floor((normal * round_stddev / half_width) ** 2))  # t is wider than the normal
    while t_quantile(1 - tail, rounds - 1) * round_stddev / math.sqrt(rounds) > half_width:
        rounds += 1
    return rounds
