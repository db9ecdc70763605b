"""Bars: the progress of a Run on a terminal."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Sequence

from bench.cases.case import Case, groups
from bench.cases.protocol import Protocol
from bench.controller.budget import RoundPlan
from bench.output.live_line import LiveLine
from bench.output.progress import Progress
from bench.record.events import Place
from impls.text import one_line

DRAWN_S = 0.3  # between two drawings during turns: a terminal needs CPU time to show them
NARROWEST, WIDEST = 10, 30  # characters of a bar
NARROW = 60  # a terminal without room for one
TIME = len("~10 min left  ")


def progress_of(cases: Sequence[Case], protocol: Protocol) -> Progress:
    """Bars if stderr is a terminal that can draw a line again, else lines."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Bars(cases, protocol, LiveLine(sys.stderr))
    return Progress(protocol, parts_of(cases, protocol))


def parts_of(cases: Sequence[Case], protocol: Protocol) -> int:
    return 1 if protocol.shared_workers else len(groups(cases))


class Bars(Progress):
    """A line per Round, drawn again in its place: the share of its samples, the time left of the Run, what happens now.

    It is drawn between turns only, never while a sample is taken. ``clock`` returns seconds.
    """

    def __init__(
        self, cases: Sequence[Case], protocol: Protocol, line: LiveLine, clock: Callable[[], float] = time.monotonic
    ):
        super().__init__(protocol, parts_of(cases, protocol))
        self.protocol, self.line, self.clock = protocol, line, clock
        self.groups = groups(cases)
        self.weights = [sum(case.macs * case.batch for case in group) or 1 for group in self.groups]
        self.widest = max(len(f"{case.worker} {case.pass_}") for case in cases)
        self.place: Place | None = None
        self.planned = protocol.rounds
        self.what = ""
        self.samples = self.expected = self.slots = 0
        self.started = self.began = self.drawn = 0.0
        self.ends: float | None = None  # of the Run, by the plan
        self.earlier = 0.0  # part of the Run that was measured before it was resumed

    def __enter__(self) -> "Bars":
        self.redirected = contextlib.redirect_stderr(self.line)
        self.redirected.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._finish()
        self.redirected.__exit__(None, None, None)

    def on_reference(self, case: Case) -> None:
        """Part of the start."""

    def on_start(self, case: Case, place: Place) -> None:
        self._stage(place, "start, proof")

    def on_burn_in(self, case: Case, place: Place) -> None:
        self._stage(place, f"burn-in of {case.worker} {case.pass_}")
        self.slots += 1
        if self.classic:
            self.expected = len(self.groups[place.group]) * self.protocol.iterations

    def on_plan(self, place: Place, plan: RoundPlan, left: int) -> None:
        planned = self.planned if plan.rounds == left else place.round + plan.rounds
        if planned != self.planned:
            self._line(f"{self._round(place)}: time for {planned} Rounds only")
            self.planned = planned
        self.expected = self.slots * 2 * math.ceil(plan.iterations / 2)
        if len(self.groups) == 1:
            self.ends = self.clock() + plan.seconds
        self._stage(place, "turns")

    def on_turn(self, case: Case, place: Place, ns: Sequence[int]) -> None:
        self.samples += len(ns)
        if self.classic:
            super().on_turn(case, place, ns)
        rare = self.clock() - self.drawn >= DRAWN_S
        if ns and (rare or self.samples >= self.expected or not self.line.shown):
            self.what = f"{sum(ns) / len(ns) / 1e6:.1f} ms {case.worker} {case.pass_}"
            self._draw(self._left())

    def _stage(self, place: Place, what: str) -> None:
        """Draw what happens next, on a new line if that is another Round or a repeated one."""
        before, self.what = self.place, what
        if before is None or before[self._line_of :] != place[self._line_of :]:
            self._finish()
            self.began = self.clock()
        if before is None or before.group != place.group:
            self.planned = self.protocol.rounds
        self.place = place
        if before != place:
            self.samples = self.expected = self.slots = 0
        if before is None:
            self.started, self.earlier = self.clock(), self._measured()
        self._draw(self._left())

    @property
    def _line_of(self) -> int:
        """From which part of a Place a line is of its own: with shared Workers each Round times all groups."""
        return 1 if self.protocol.shared_workers else 0

    def _finish(self) -> None:
        if self.line.shown:
            self.what = ""
            self._draw(f"{self.clock() - self.began:.0f} s")
            self.line.keep()

    def _draw(self, time: str) -> None:
        self.line.draw(self._text(time))
        self.drawn = self.clock()

    def _text(self, time: str) -> str:
        assert self.place is not None
        share = self._share
        head = f"{self._round(self.place)}{' again' if self.place.attempt else ''}"
        rest = f"{time:<{TIME}}" if time else ""
        columns = self.line.columns
        width = min(WIDEST, max(NARROWEST, columns - len(f"{head} [] 100%  1234.5 ms ") - TIME - self.widest))
        full = math.floor(share * width)
        bar = f"[{'#' * full}{'-' * (width - full)}] " if columns >= NARROW else ""
        return one_line(f"{head} {bar}{share:4.0%}  {rest}{self.what}".rstrip())

    def _round(self, place: Place) -> str:
        return f"{self._group(place)}round {place.round + 1}/{self.planned}"

    @property
    def _share(self) -> float:
        """Share of the samples of a Round that were taken; with shared Workers, of all groups."""
        own = min(1.0, self.samples / self.expected) if self.expected else 0.0
        if self.place and self.protocol.shared_workers:
            return (sum(self.weights[: self.place.group]) + own * self.weights[self.place.group]) / sum(self.weights)
        return own

    def _measured(self) -> float:
        """Part of the Run that was measured; groups count by their multiply-adds."""
        assert self.place is not None
        group, round_, _ = self.place
        rounds = (round_ + self._share) / self.protocol.rounds
        if self.protocol.shared_workers:
            return rounds
        return (sum(self.weights[:group]) + rounds * self.weights[group]) / sum(self.weights)

    def _left(self) -> str:
        """The time left of the Run: by the plan, or, of several groups, as long as the measured part tells."""
        now, measured = self.clock(), self._measured()
        if self.ends is not None:
            seconds = self.ends - now
        elif measured > self.earlier:
            seconds = (now - self.started) * (1 - measured) / (measured - self.earlier)
        else:
            return ""
        if self.protocol.max_time_s is not None:
            seconds = min(seconds, self.started + self.protocol.max_time_s - now)
        more = ">" if self.protocol.target_ci is not None else "~"
        return f"{more}{_rounded(seconds)} left"


def _rounded(seconds: float) -> str:
    """A duration as exact as it is known."""
    if seconds < 90:
        return f"{10 * max(1, math.ceil(seconds / 10))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
