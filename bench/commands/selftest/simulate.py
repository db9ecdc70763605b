"""The statistics on simulated data with known truth: coverage, false alarms, power, the burn-in gate.

Only the data is simulated; the functions that evaluate a Run evaluate it. Seeds are fixed, so results repeat. Limits
follow from what the documents promise, not from what was measured.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from bench.cases.protocol import Protocol
from bench.commands.selftest.row import Row, within
from bench.controller.budget import ASIDE, Budget
from bench.output.console import say
from bench.stats.descriptive import Interval, Summary
from bench.stats.ratio import Cycle, Ratio, judge
from bench.stats.ratio import power as predicted_power
from bench.stats.verdict import Word
from bench.worker.timing import steady

PROTOCOL = Protocol()
BASE_NS = 1e8
GRID = [(rho, between) for rho in (0.0, 0.3, 0.5, 0.7) for between in (0.0, 0.01, 0.02)]
CORNERS = [GRID[0], GRID[2], GRID[-3], GRID[-1]]
CYCLE_LENGTHS = (PROTOCOL.turn_lengths[0], PROTOCOL.turn_lengths[-1])


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of simulated comparisons."""

    ratio: float
    """Of intervals of an A/A ratio that contain 1."""
    center: float
    """Of intervals of a Summary's center that contain the truth: the mean of ln(Round median) of the same model, from
    100,000 Rounds. That is what the center estimates; a spike or a drift is part of it, not an error."""
    trends: float
    """Of comparisons with a false trend, warming or slowing, of a side or of the ratio."""


def coverage(
    repeats: int,
    *,
    rounds: int = 10,
    rho: float,
    between: float,
    cv: float = 0.03,
    spikes: float = 0.02,
    drift: float = 0.1,
    level: float = 0.95,
    turn: int = 1,
    seed: int = 1,
) -> Coverage:
    """Coverage of ``repeats`` A/A comparisons; other parameters as in ``sample``."""
    rng = np.random.default_rng(seed)
    model = partial(sample, rng, rho=rho, between=between, cv=cv, spikes=spikes, drift=drift, turn=turn)
    truth = float(np.log(np.median(model(50_000), axis=2)).mean())
    everything = model(repeats * rounds).tolist()
    ratio_covers = center_covers = trends = 0
    for start in range(0, len(everything), rounds):
        data = everything[start : start + rounds]
        ratio = Ratio.of([_cycles(baseline, candidate, turn) for baseline, candidate in data])
        summary = Summary.of(*(baseline for baseline, _ in data))
        value, center = ratio.value, summary.center
        if level != 0.95:
            value = Interval.around(ratio.log, ratio.error, ratio.freedom, level)
            center = Interval.of_logs([math.log(ns) for ns in summary.round_medians_ns], level)
        ratio_covers += _covers(value, 0.0)
        center_covers += _covers(center, truth)
        trends += bool({ratio.trend, summary.trend} & {"warming", "slowing"})
    return Coverage(ratio_covers / repeats, center_covers / repeats, trends / repeats)


def _covers(interval: Interval, log: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= math.exp(log) <= interval.high


def _cycles(baseline: Sequence[int], candidate: Sequence[int], turn: int, iterations: int | None = None) -> list[Cycle]:
    ends = [0]
    for length in PROTOCOL.cycles(turn, iterations):
        ends.append(ends[-1] + 2 * length)
    return [(baseline[start:end], candidate[start:end]) for start, end in pairwise(ends)]


def sample(
    rng: np.random.Generator,
    rounds: int,
    *,
    rho: float,
    between: float,
    cv: float,
    spikes: float,
    drift: float,
    turn: int,
    iterations: int | None = None,
) -> np.ndarray:
    """Two equal processes that take mirrored Turns, anew in each Round.

    Parameters
    ----------
    rho, cv : float
        Noise of a process: AR(1) with this correlation from one sample to the next, and this standard deviation.
    between : float
        Standard deviation from process to process, of the logarithm.
    spikes : float
        Share of samples that take longer, by 30 % on average.
    drift : float
        The machine's speed changes evenly over a Round, by at most this, up or down.
    turn : int
        Iterations in a Turn.
    iterations : int, optional
        Samples per side and Round; by default the Protocol's.

    Returns
    -------
    ndarray of shape (rounds, 2, iterations), int64, ns; a side's samples in the order they are taken
    """
    lengths = PROTOCOL.cycles(turn, iterations)
    n = 2 * sum(lengths)
    noise = rng.standard_normal((rounds, 2, n))
    for i in range(1, n):
        noise[:, :, i] = rho * noise[:, :, i - 1] + math.sqrt(1 - rho**2) * noise[:, :, i]
    logs = cv * noise + between * rng.standard_normal((rounds, 2, 1))
    logs += np.log1p(rng.exponential(0.3, logs.shape)) * (rng.random(logs.shape) < spikes)
    first, second, began = [], [], 0  # when each iteration of a cycle is run, for who comes first and who does not
    for length in lengths:
        turns = [began + k * length + np.arange(length) for k in range(4)]
        first.append(np.concatenate([turns[0], turns[3]]))
        second.append(np.concatenate([turns[1], turns[2]]))
        began += 4 * length
    ahead = np.repeat(rng.random((rounds, 1, len(lengths))) < 0.5, [2 * length for length in lengths], axis=2)
    ahead = np.concatenate([ahead, ~ahead], axis=1)
    when = np.where(ahead, np.concatenate(first), np.concatenate(second)) / (2 * n) - 0.5
    logs += rng.uniform(-drift, drift, (rounds, 1, 1)) * when
    return np.rint(BASE_NS * np.exp(logs)).astype(np.int64)


def planned(repeats: int, *, rho: float, between: float, cv: float = 0.05, speed: float = 0.2, seed: int = 5) -> float:
    """Share of A/A ratios whose 95 % interval covers 1, of 5 Rounds planned to end in time by what each has seen.

    From Round to Round the speed of the machine has a standard deviation ``speed``, of the logarithm; the planned time
    is too short for all iterations.
    """
    rng, rules = np.random.default_rng(seed), Protocol(iterations=20, burn_in_later=4, least_iterations=4)
    clock = [0.0]
    covered = 0
    for _ in range(repeats):
        budget, cycles = Budget(rules, 70.0, clock=lambda: clock[0]), []
        for number in range(rules.rounds):
            pace = math.exp(speed * rng.standard_normal())
            budget.begin_round()
            clock[0] += 5.0
            budget.end_start()
            clock[0] += 2 * pace * rules.least_burn_in(number)
            seen = pace * np.exp(cv * rng.standard_normal(2))
            iterations = budget.plan(seen.tolist(), 1, rules.rounds - number, int(not number)).iterations
            (sides,) = sample(
                *(rng, 1), rho=rho, between=between, cv=cv, spikes=0.02, drift=0.1, turn=1, iterations=iterations
            ).tolist()
            clock[0] += pace * sum(map(sum, sides)) / BASE_NS + 2 * ASIDE * pace
            cycles.append(_cycles(sides[0], sides[1], 1, iterations))
            budget.end_round()
        covered += _covers(Ratio.of(cycles).value, 0.0)
    return covered / repeats


def half_width(repeats: int, *, rounds: int, iterations: int, cv: float, between: float, seed: int = 6) -> float:
    """Median half-width of the 95 % interval of an A/A ratio, a fraction."""
    rng = np.random.default_rng(seed)
    data = sample(
        *(rng, repeats * rounds), rho=0.3, between=between, cv=cv, spikes=0.02, drift=0.1, turn=1, iterations=iterations
    ).tolist()
    widths = []
    for start in range(0, len(data), rounds):
        ratio = Ratio.of([_cycles(one, two, 1, iterations) for one, two in data[start : start + rounds]])
        widths.append(ratio.value.high / ratio.value.center - 1 if ratio.value.high else math.inf)
    return statistics.median(widths)


def print_plans() -> None:
    """Print the half-width that plans of equal time reach; a later Round starts in 6 s, an iteration of all takes
    2 s."""
    for cv, between in ((0.05, 0.0), (0.05, 0.02), (0.15, 0.0), (0.15, 0.02)):
        for later in (10, 4):
            for rounds in (3, 4, 5, 6, 8):
                left = 270 - 45 - 20 - (rounds - 1) * (6 + 2 * later) - rounds * 2 * ASIDE
                iterations = 2 * math.floor(left / rounds / 2 / 1.2 / 2)
                if iterations >= 2:
                    wide = half_width(1000, rounds=rounds, iterations=iterations, cv=cv, between=between)
                    say(
                        f"CV {cv:.0%}, between {between:.0%}: burn-in {later:2}, {rounds} Rounds of {iterations:2}: "
                        f"{wide:.1%}"
                    )


def family(repeats: int, cases: int = 60, rounds: int = 10, spread: float = 0.019, seed: int = 2) -> float:
    """Share of Runs of equal Cases with at least one SLOWER."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(repeats):
        verdicts = judge(_ratios(rng, np.zeros(cases), rounds, spread))
        alarms += any(verdict.word == Word.SLOWER for verdict in verdicts)
    return alarms / repeats


def power(
    repeats: int, effect: float, spread: float = 0.019, rounds: int = 10, cases: int = 60, seed: int = 3
) -> tuple[float, float]:
    """Share of Runs whose one slow Case is called SLOWER, and the share that ``ratio.power`` predicts."""
    rng = np.random.default_rng(seed)
    true = np.zeros(cases)
    true[0] = math.log1p(effect)
    detected = sum(judge(_ratios(rng, true, rounds, spread))[0].word == Word.SLOWER for _ in range(repeats))
    return detected / repeats, predicted_power(effect, spread, rounds, cases)


def _ratios(rng: np.random.Generator, true: np.ndarray, rounds: int, spread: float) -> list[Ratio]:
    """One ratio per Case with normal log ratios; each Round is one cycle with one sample per side."""
    logs = true[:, None] + spread * rng.standard_normal((len(true), rounds))
    candidates = np.rint(BASE_NS * np.exp(logs)).astype(np.int64).tolist()
    return [Ratio.of([[([int(BASE_NS)], [ns])] for ns in case]) for case in candidates]


def gate(repeats: int, *, cv: float, rho: float, ramp: float = 0.0, seed: int = 4) -> list[int]:
    """Burn-in iterations until the gate opens, for series that start slower by ``ramp``, falling linearly over 10."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((repeats, PROTOCOL.burn_in_cap))
    for i in range(1, PROTOCOL.burn_in_cap):
        noise[:, i] = rho * noise[:, i - 1] + math.sqrt(1 - rho**2) * noise[:, i]
    slow = ramp * np.clip(1 - np.arange(PROTOCOL.burn_in_cap) / 10, 0, 1)
    series = np.rint(BASE_NS * (1 + slow) * np.exp(cv * noise)).astype(np.int64).tolist()
    return [_opens(times) for times in series]


def _opens(series: list[int]) -> int:
    for n in range(PROTOCOL.burn_in, len(series)):
        if steady(series[:n], window=PROTOCOL.gate_window, ratio=PROTOCOL.gate_ratio):
            return n
    return len(series)


def report(thorough: bool = False) -> Iterator[Row]:
    """Rows; ``thorough`` uses the whole grid and more repeats."""
    cells = [(*cell, turn) for cell in GRID for turn in CYCLE_LENGTHS]
    if not thorough:
        cells = [(*cell, turn) for cell, turn in zip(CORNERS, CYCLE_LENGTHS * 2, strict=True)]
    trends = []
    for number, (rho, between, turn) in enumerate(cells):
        shares = coverage(2000, rho=rho, between=between, turn=turn, seed=10 + number)
        where = f"rho {rho}, {between:.0%} between processes, Turns of {turn}"
        yield within(f"95 % interval of an A/A ratio covers 1: {where}", shares.ratio, 0.92, 0.98)
        yield within(f"95 % interval of a center covers it: {where}", shares.center, 0.92, 0.98)
        trends.append(shares.trends)
    yield within("equal Cases with a false trend, worst setting", max(trends), 0, 0.05)
    for rho, between in (CORNERS[0], CORNERS[-1]):
        where = f"iterations planned to end in time, rho {rho}, {between:.0%} between processes"
        yield within(
            f"95 % interval of an A/A ratio covers 1: {where}", planned(1000, rho=rho, between=between), 0.92, 0.98
        )
    shares = coverage(2000, rho=0.3, between=0.01, level=0.99)
    yield within("99 % interval of an A/A ratio covers 1", shares.ratio, 0.975, 0.998)
    for spread in (0.019, 0.1):
        repeats = 2000 if thorough else 300
        what = f"any SLOWER among 60 equal Cases, 10 Rounds, s = {spread:.1%}"
        yield within(what, family(repeats, spread=spread), 0, 0.05)
    for effect, least in ((0.05, 0.95), (0.03, 0.0)):
        repeats = 2000 if thorough else 300
        share, predicted = power(repeats, effect)
        off = 3 * math.sqrt(predicted * (1 - predicted) / repeats)
        what = f"one of 60 Cases slower by {effect:.0%} is found, 10 Rounds, s = 1.9% (predicted {predicted:.1%})"
        yield within(what, share, max(least, predicted - off), min(1, predicted + off))
    repeats = 8000 if thorough else 2000
    for cv, rho in ((0.02, 0.0), (0.05, 0.7)):
        early = sum(n <= 20 for n in gate(repeats, cv=cv, rho=rho)) / repeats
        yield within(f"the gate of a flat series is open after 20, CV {cv:.0%}, rho {rho}", early, 0.99, 1)
    slow = sum(0.3 * (1 - n / 10) > 0.02 for n in gate(repeats, cv=0.02, rho=0.0, ramp=0.3)) / repeats
    yield within("the gate opens while a ramp of 30 % over 10 is still above 2 %", slow, 0, 0)
