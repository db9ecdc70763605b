"""Ratio of two Cases and what it allows to be said: the interval, the verdict, and how much could have been found.

All arithmetic is in logarithms, so that swapped sides give exactly the opposite. Above 1 the candidate is slower.
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

MARGIN = 0.02  # a ratio nearer to 1 than this is called the same
TAIL = 0.025  # of wrong alarms per direction, for an interval and for a family
MIN_ROUNDS = 5  # below this an interval covers too seldom to be judged by
LEAST_RUNS = 3  # fewer A/A Runs than this say nothing of how Runs differ
MANY_ROUNDS = 1000  # more than this is no plan
TRENDS = {
    "warming": "within a Round the candidate gets faster beside the baseline: it is warming",
    "slowing": "within a Round the candidate gets slower beside the baseline: it is slowing",
}

Cycle = tuple[Sequence[int], Sequence[int]]
"""Samples of the baseline and of the candidate in one mirrored cycle, ns, in the order they were taken."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Candidate over baseline. ``paired``: from Rounds of one Run that both were in; else from two Runs."""

    value: Interval
    log: float
    """ln of the ratio, exactly negated when the sides are swapped."""
    rounds: int
    """The fewer Rounds of the two sides where these differ."""
    error: float | None
    """Standard error of ``log``; None where there are too few Rounds (or stored Runs) to tell: below 3."""
    freedom: int
    """Degrees of freedom of Student's t."""
    spread: float | None
    """Standard deviation per Round of a paired ``log``; None below 3 Rounds, and for an unpaired one."""
    trend: str
    """Of the candidate beside the baseline, so that a drift of the machine cancels; as ``stats.trend_of``."""
    paired: bool

    @classmethod
    def of(cls, rounds: Sequence[Sequence[Cycle]]) -> "Ratio":
        """Parameters: for each Round its cycles; at least one of each, else ValueError.

        A cycle is mirrored (A B B A), so that a drift of the machine's speed cancels in its difference of mean
        logarithms; a Round counts with the median of its cycles.
        """
        if not rounds or not all(rounds):
            raise ValueError("a ratio needs at least one Round, and a cycle in each")
        logs = [median(mean_log(candidate) - mean_log(baseline) for baseline, candidate in one) for one in rounds]
        error = standard_error(logs)
        return cls(
            value=Interval.of_logs(logs),
            log=fmean(logs),
            rounds=len(logs),
            error=error,
            freedom=len(logs) - 1,
            spread=None if error is None else stddev(logs),
            trend=trend_of([half for one in rounds if (half := _half_difference(one)) is not None]),
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
        """Of two Runs, by Welch: each side's spread over its Rounds, and that of whole Runs twice.

        Parameters
        ----------
        baseline_medians_ns, candidate_medians_ns : sequence of float, ns, one a Round
        run_spread : float or None
            Standard deviation of the log centres of ``runs`` stored Runs of one Case on this machine; without it,
            or below 3 of them, there is no interval.
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
    """What a ratio allows to be said."""

    word: Word
    reason: str
    """Why INCONCLUSIVE; else empty."""
    margin: float
    """A ratio nearer to 1 than this fraction counts as the same."""
    detectable: float | None
    """The slowdown that would be found 19 times in 20, a fraction; None where no verdict was possible."""
    rounds_needed: int | None
    """In all, where INCONCLUSIVE and more Rounds can help; None elsewhere."""


def judge(ratios: Sequence[Ratio], *, margins: Sequence[float] | None = None) -> list[Verdict]:
    """A verdict for each ratio, with 2.5 % wrong alarms per direction over all of them together.

    SLOWER asks for two things: the 95 % interval lies beyond the margin, and the ratio is above 1 by Holm's test over
    the family. ``margins`` are fractions, one a ratio; ValueError where one is not above 0.
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
        planned = MIN_ROUNDS if ratio.spread is None else plan_rounds(ratio.spread, math.log1p(margin))
        reason = f"{ratio.rounds} {'Round' if ratio.rounds == 1 else 'Rounds'}, it takes {MIN_ROUNDS}"
        return Verdict(Word.INCONCLUSIVE, reason, margin, None, _planned(planned) if ratio.paired else None)
    if ratio.error is None:
        return Verdict(
            Word.INCONCLUSIVE,
            f"how far whole Runs lie apart is not known, it takes {LEAST_RUNS} A/A Runs",
            margin,
            None,
            None,
        )
    edge, half = math.log1p(margin), t_quantile(1 - TAIL, ratio.freedom) * ratio.error
    found = detectable(ratio.error, ratio.freedom, family=family, margin=margin)
    if ratio.trend in TRENDS:
        return Verdict(Word.INCONCLUSIVE, TRENDS[ratio.trend], margin, found, None)
    if -edge <= ratio.log - half and ratio.log + half <= edge:
        return Verdict(Word.SAME, "", margin, found, None)
    beyond = abs(ratio.log) - half > edge
    if beyond and (slower if ratio.log > 0 else faster):
        return Verdict(Word.SLOWER if ratio.log > 0 else Word.FASTER, "", margin, found, None)
    if beyond:
        reason = f"beyond the margin, but not confirmed among {family} ratios"
        width, tail = abs(ratio.log), TAIL / family
    else:
        reason = "the interval is too wide" if half > edge else "the ratio is too near to the margin"
        width, tail = abs(edge - abs(ratio.log)), TAIL
    needed = None if ratio.spread is None or not width else plan_rounds(ratio.spread, width, tail)
    return Verdict(Word.INCONCLUSIVE, reason, margin, found, _planned(needed))


def _planned(rounds: int | None) -> int | None:
    return rounds if rounds is not None and rounds <= MANY_ROUNDS else None


def _p_value(ratio: Ratio, log: float) -> float:
    """One-sided, of "the true log is not above 0"; 1 for a ratio that is not judged, which costs the others nothing
    that they could rightly have."""
    if ratio.error is None or ratio.rounds < MIN_ROUNDS:
        return 1.0
    if not ratio.error:
        return 0.0 if log > 0 else 1.0
    return float(stdtr(ratio.freedom, -log / ratio.error))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses fall, with a chance of at most ``alpha`` that a true one is among them.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    fallen = [False] * len(p_values)
    for passed, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - passed):
            break
        fallen[index] = True
    return fallen


def detectable(error: float, freedom: int, *, family: int, margin: float = MARGIN, chance: float = 0.95) -> float:
    """The smallest true slowdown, a fraction, that either condition of SLOWER alone lets pass with this chance; for
    the only slow one of a family, which has to pass Holm's first and hardest step."""
    edge = math.log1p(margin)
    beyond = edge + error * _noncentrality(freedom, TAIL, chance)
    return math.expm1(max(beyond, error * _noncentrality(freedom, TAIL / family, chance)))


@functools.lru_cache(maxsize=1024)
def _noncentrality(freedom: int, tail: float, chance: float) -> float:
    """True value over standard error, at which a one-sided t test at ``tail`` has this chance."""
    return float(nctdtrinc(freedom, 1 - chance, t_quantile(1 - tail, freedom)))


def power(effect: float, spread: float, rounds: int, family: int, margin: float = MARGIN) -> float:
    """The chance that a true slowdown, a fraction, is called SLOWER in a family where nothing else is slow.

    Both conditions at once: the mean of the Rounds is normal, given their standard deviation it has to lie above the
    higher of two lines; averaged over 2,000 equally likely standard deviations.
    """
    if rounds < MIN_ROUNDS:
        return 0.0
    edge, true, freedom = math.log1p(margin), math.log1p(effect), rounds - 1
    if not spread:
        return float(true > edge)
    error = spread / math.sqrt(rounds)
    variances = gammaincinv(freedom / 2, (np.arange(2000) + 0.5) / 2000) * 2 / freedom
    found = error * np.sqrt(variances)
    line = np.maximum(edge + t_quantile(1 - TAIL, freedom) * found, t_quantile(1 - TAIL / family, freedom) * found)
    return float(ndtr((true - line) / error).mean())


def plan_rounds(spread: float, half_width: float, tail: float = TAIL) -> int:
    """The fewest Rounds, at least 5, whose t interval is no wider than -+ ``half_width``; both in logarithms."""
    if not half_width > 0 or not 0 <= spread < math.inf:
        raise ValueError(f"expected a half-width above 0 and a spread, found {half_width} and {spread}")
    normal = float(ndtri(1 - tail))
    rounds = max(MIN_ROUNDS, math.floor((normal * spread / half_width) ** 2))  # t is wider than the normal
    while t_quantile(1 - tail, rounds - 1) * spread / math.sqrt(rounds) > half_width:
        rounds += 1
    return rounds
