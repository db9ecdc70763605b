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
    """Writes lines between turns only, never while a sample is taken: one per Round, in the first per Worker too.

    ``parts`` is how many groups are measured one after the other: 1 with shared Workers, whose Rounds time all groups.
    """

    def __init__(self, protocol: Protocol, parts: int):
        self.rounds, self.classic, self.shared = protocol.rounds, not protocol.paired, protocol.shared_workers
        self.parts = parts
        self.steps: dict[str, int] = {}

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left to write."""

    def on_reference(self, case: Case) -> None:
        size = f" at {case.size} px" if case.size else ""
        self._line(f"{case.variant}{size}: reference values for the proof")

    def on_start(self, case: Case, place: Place) -> None:
        if place.round == 0 or place.attempt:
            again = ", repeated" if place.attempt else ""
            self._line(f"{self._round(place)}{again}: {case.worker}: start, proof")

    def on_plan(self, place: Place, plan: RoundPlan, left: int) -> None:
        if self.shared:  # the plan is of one group of many
            if not place.group:
                self._line(f"{self._round(place)}: taking turns")
            return
        time = f"about {counted(max(1, round(plan.seconds / 60)), 'minute')} to its last Round's end"
        fewer = "" if plan.rounds == left else f" (time for {counted(plan.rounds, 'Round')} only)"
        taken = f"taking turns, {counted(plan.iterations, 'iteration')} per case"
        self._line(f"{self._round(place)}: {taken}; {time}{fewer}")

    def on_turn(self, case: Case, place: Place, ns: Sequence[int]) -> None:
        if self.classic:
            done = self.steps.get(case.id, 0)
            self.steps[case.id] = done + len(ns)
            self._line(f"{datetime.now()}: {case.framework} {case.pass_} step {done}, duration = {ns[0] / 1e9:.3f}")

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
        return f"{self._group(place)}round {place.round + 1}/{self.rounds}"

    def _group(self, place: Place) -> str:
        return f"group {place.group + 1}/{self.parts}, " if self.parts > 1 else ""

    def _line(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full or closed stderr ends no Run
            print(one_line(text), file=sys.stderr, flush=True)
