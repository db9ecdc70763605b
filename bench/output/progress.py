"""Progress: what a person sees of a Run on stderr while it works."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bench.cases.case import Case
from bench.cases.protocol import Protocol


class Progress:
    """Lines on stderr, written between Turns only: no thread draws while a sample is taken.

    On a terminal the current step is rewritten in place; elsewhere each Round is a line.
    """

    def __init__(self, protocol: Protocol):
        self.rounds, self.classic = protocol.rounds, not protocol.paired
        self.live = sys.stderr.isatty()
        self.steps: dict[str, int] = {}
        self.turning: tuple[object, ...] = ()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.done()

    def __call__(self, what: str, **fields: Any) -> None:
        getattr(self, f"_{what}")(**fields)

    def _reference(self, case: Case) -> None:
        size = f" at {case.size} px" if case.size else ""
        self._line(f"{case.variant}{size}: float64 reference for the proof")

    def _start(self, case: Case, round: int, attempt: int, **rest: Any) -> None:
        again = ", once more" if attempt else ""
        self._step(f"round {round + 1}/{self.rounds}{again}: {case.worker}: start, proof", round == 0 or bool(attempt))

    def _burn_in(self, case: Case, round: int, **rest: Any) -> None:
        self._step(f"round {round + 1}/{self.rounds}: {case.worker} {case.pass_}: burn-in", False)

    def _turn(self, case: Case, ns: Sequence[int], round: int, **rest: Any) -> None:
        if self.classic:
            done = self.steps.get(case.id, 0)
            self.steps[case.id] = done + len(ns)
            self._line(f"{datetime.now()}: {case.framework} {case.pass_} step {done}, duration = {ns[0] / 1e9:.3f}")
        else:
            milliseconds = sum(ns) / len(ns) / 1e6
            self._step(f"round {round + 1}/{self.rounds}: {case.worker} {case.pass_}: {milliseconds:.1f} ms", False)
            if not self.live and self.turning != (round, case.group):
                self.turning = (round, case.group)
                self._line(f"round {round + 1}/{self.rounds}: taking turns")

    def _fault(self, worker: str, reason: str, tail: str, spare: bool, round: int, **rest: Any) -> None:
        then = "the Round is repeated" if spare else "its cases fail"
        self._line(f"round {round + 1}/{self.rounds}: {worker} {reason}; {then}")
        for line in tail.splitlines()[-3:]:
            self._line(f"    {line}")

    def _disturbed(self, reason: str, round: int, **rest: Any) -> None:
        self._line(f"round {round + 1}/{self.rounds}: {reason}; the Round is repeated")

    def _failed(self, case: Case, reason: str) -> None:
        self._line(f"{case.id}: not timed: {reason}")

    def _line(self, text: str) -> None:
        print(("\r\x1b[2K" if self.live else "") + text, file=sys.stderr, flush=True)

    def _step(self, text: str, also_in_a_log: bool) -> None:
        if self.live:
            print(f"\r\x1b[2K{text[:100]}", end="", file=sys.stderr, flush=True)
        elif also_in_a_log:
            print(text, file=sys.stderr, flush=True)

    def done(self) -> None:
        if self.live:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
