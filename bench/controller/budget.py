"""Budget: how many iterations a Round takes, so that all planned Rounds end within --max-time."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.cases.protocol import Protocol

LATER_START = 0.6  # of the first start: later ones have no proof; measured 7 of 12 s on a 2-core VM
ASIDE = 2  # passes per slot and Round that are no samples, after readings; measured 1.7 to 1.9
NEW_IMAGES = 1  # the same for new images, in the first Round; measured 0.5 to 1
CEILING_S = 1.5  # per Worker, in the first Round; measured 1.1 to 1.4
RESERVE = 0.03  # of the time left, for a machine that gets slower


class RoundPlan(NamedTuple):
    """Iterations of a Round per Case, how many Rounds are planned, itself included, and seconds until they end."""

    iterations: int
    rounds: int
    seconds: float


class Budget:
    """The time that a group of Cases has, and what its Rounds have taken so far.

    ``seconds`` is None without a limit. ``clock`` returns seconds.
    """

    def __init__(self, protocol: Protocol, seconds: float | None, clock: Callable[[], float] = time.monotonic):
        self.protocol, self.clock = protocol, clock
        self.ends = None if seconds is None else clock() + seconds
        self.began = self.started = clock()
        self.passes_s: list[float] = []
        self.fixed_s: list[float] = []
        self.lengths_s: list[float] = []
        self.later_s, self.length, self.planned, self.turns_aside_s = 0.0, 1, 0, 0.0

    def begin_round(self) -> None:
        self.began = self.clock()

    def end_start(self) -> None:
        """The Round's Workers are ready for burn-in."""
        self.started = self.clock()

    def plan(
        self, passes_s: Sequence[float], turn_length: int, rounds: int, proven: int, *, turns_aside_s: float = 0.0
    ) -> RoundPlan:
        """Plan the Round whose burn-in is over.

        Parameters
        ----------
        passes_s : sequence of float
            Seconds per iteration of each slot.
        turn_length : int
            Iterations per turn.
        rounds : int
            Rounds still to be measured, this one included, >= 1.
        proven : int
            Workers that this Round has proven, as the first does; they measure a ceiling after the samples.
        turns_aside_s : float
            Seconds that a turn of every slot takes beside its passes.
        """
        now = self.clock()
        rules, self.passes_s, self.length = self.protocol, list(passes_s), turn_length
        self.turns_aside_s = turns_aside_s
        if proven:
            burn_in_s = (rules.burn_in_later or rules.burn_in) * sum(passes_s)
            later_s = LATER_START * (self.started - self.began) + burn_in_s
        else:
            self.fixed_s.append(now - self.began)
            later_s = statistics.fmean(self.fixed_s)
        self.later_s = later_s
        first_s = CEILING_S * proven + NEW_IMAGES * sum(passes_s) * (proven > 0)

        def round_plan(iterations: int, rounds: int) -> RoundPlan:
            samples_s = rounds * (iterations * self._iteration_s + self._aside_s)
            return RoundPlan(iterations, rounds, samples_s + (rounds - 1) * later_s + first_s)

        if self.ends is None or rules.least_iterations is None:
            return round_plan(rules.iterations, rounds)
        least = min(rules.least_iterations, rules.iterations)
        left_s = (1 - RESERVE) * (self.ends - now) - first_s
        for planned in range(rounds, 0, -1):
            samples_s = left_s - (planned - 1) * later_s - planned * self._aside_s
            iterations = 2 * math.floor(samples_s / planned / self._iteration_s / 2)
            if iterations >= least:
                break
        self.planned = max(min(iterations, rules.iterations), least)
        return round_plan(self.planned, planned)

    def end_round(self) -> None:
        self.lengths_s.append(self.clock() - self.began)

    def fits(self, rounds: int = 1, share: float = 0.0) -> bool:
        """Whether so many more Rounds would end in time, with at least this share of the iterations that were planned
        last, and the fewest that can be planned."""
        return self.ends is None or self.clock() + rounds * self._shortest_s(share) <= self.ends

    def _shortest_s(self, share: float) -> float:
        least = self.protocol.least_iterations
        if least is None or not self.passes_s:
            return statistics.fmean(self.lengths_s[1:] or self.lengths_s or [0.0])
        iterations = max(min(least, self.protocol.iterations), share * self.planned)
        return self.later_s + self._aside_s + iterations * self._iteration_s

    @property
    def _iteration_s(self) -> float:
        """Seconds per iteration of every slot, with its part of the lead iterations and of what a turn takes beside."""
        lead, length = self.protocol.lead, self.length
        passes_s = sum((1 + lead(length, 1e9 * seconds) / length) * seconds for seconds in self.passes_s)
        return passes_s + self.turns_aside_s / length

    @property
    def _aside_s(self) -> float:
        return ASIDE * sum(self.passes_s)
