"""Progress: lines on stderr while a Run is measured."""

import contextlib
import sys
from collections.abc import Sequence
from datetime import datetime

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller.budget import RoundPlan
from bench.controller.watcher import Watcher
from bench.output.labels import counted
from bench.record.events import Place
from impls.text import one_line


class Progress(Watcher):
    """Writes progress between Turns only: nothing is drawn while a sample is taken.

    On a terminal the current step is rewritten in place; elsewhere there is one line per Round.
    """

    def __init__(self, protocol: Protocol):
        self.rounds, self.classic = protocol.rounds, not protocol.paired
        self.live = sys.stderr.isatty()
        self.steps: dict[str, int] = {}
        self.left = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    def on_reference(self, case: Case) -> None:
        size = f" at {case.size} px" if case.size else ""
        self._line(f"{case.variant}{size}: float64 reference for the proof")

    def on_start(self, case: Case, place: Place) -> None:
        again = ", repeated" if place.attempt else ""
        self._step(f"{self._round(place)}{again}: {case.worker}: start, proof", place.round == 0 or bool(place.attempt))

    def on_burn_in(self, case: Case, place: Place) -> None:
        self._step(f"{self._round(place)}: {case.worker} {case.pass_}: burn-in", False)

    def on_plan(self, place: Place, plan: RoundPlan, left: int) -> None:
        self.left = f"about {counted(max(1, round(plan.seconds / 60)), 'minute')} to its last Round's end"
        fewer = "" if plan.rounds == left else f" (time for {counted(plan.rounds, 'Round')} only)"
        taken = f"taking turns, {counted(plan.iterations, 'iteration')} per case"
        self._step(f"{self._round(place)}: {taken}; {self.left}{fewer}", logged=True)

    def on_turn(self, case: Case, place: Place, ns: Sequence[int]) -> None:
        if self.classic:
            done = self.steps.get(case.id, 0)
            self.steps[case.id] = done + len(ns)
            self._line(f"{datetime.now()}: {case.framework} {case.pass_} step {done}, duration = {ns[0] / 1e9:.3f}")
        else:
            milliseconds = sum(ns) / len(ns) / 1e6
            self._step(f"{self._round(place)}: {case.worker} {case.pass_}: {milliseconds:.1f} ms; {self.left}", False)

    def on_fault(self, worker: str, place: Place, reason: str, tail: str, repeated: bool) -> None:
        then = "the Round is repeated" if repeated else "its cases fail"
        self._line(f"{self._round(place)}: {worker} {reason}; {then}")
        for line in tail.splitlines()[-3:]:
            self._line(f"    {line}")

    def on_disturbed(self, place: Place, reason: str) -> None:
        self._line(f"{self._round(place)}: {reason}; the Round is repeated")

    def on_failed(self, case: Case, reason: str) -> None:
        self._line(f"{case.id}: not timed: {reason}")

    def _round(self, place: Place) -> str:
        return f"round {place.round + 1}/{self.rounds}"

    def _line(self, text: str) -> None:
        self._print(("\r\x1b[2K" if self.live else "") + one_line(text))

    def _step(self, text: str, logged: bool) -> None:
        if self.live:
            self._print(f"\r\x1b[2K{one_line(text)[:100]}", end="")
        elif logged:
            self._print(one_line(text))

    def _print(self, text: str, end: str = "\n") -> None:
        with contextlib.suppress(OSError):  # a full or closed stderr ends no Run
            print(text, end=end, file=sys.stderr, flush=True)
