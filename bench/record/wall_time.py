"""WallTime: where the time of a Run went, from the times of the events in its journal."""

import itertools
from dataclasses import dataclass

from bench.record import events
from bench.record.events import Event
from bench.record.run import Run


@dataclass(frozen=True)
class WallTime:
    """Seconds per kind of work. ``other`` are lead iterations, readings, ceilings, and Rounds that were repeated."""

    start: float
    proof: float
    burn_in: float
    samples: float
    other: float

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by the name of the work."""
        return {
            "start": self.start,
            "proof": self.proof,
            "burn-in": self.burn_in,
            "samples": self.samples,
            "other": self.other,
        }

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @classmethod
    def of(cls, run: Run) -> "WallTime | None":
        """Divide the time between a Run's first and last event; None where those times are unknown: in an ingested Run,
        and in one of an older version.

        Time between an interruption and --resume is left out.
        """
        timed = [event for event in run.events if event.time is not None]
        workers = [event for event in run.events if isinstance(event, events.Worker)]
        if len(timed) < 2 or run.head.ingested or any(worker.proof_s is None for worker in workers):
            return None
        start = proof = burn_in = total = 0.0
        for before, event in itertools.pairwise(timed):
            seconds = _between(before, event)
            if isinstance(event, events.Resume):
                continue
            total += seconds
            if isinstance(event, events.OfRound) and event.place in run.voided:
                continue
            if isinstance(event, events.Worker):
                proof += min(seconds, event.proof_s or 0.0)
                start += max(0.0, seconds - (event.proof_s or 0.0))
            elif isinstance(event, events.Parity):
                start += seconds
            elif isinstance(event, events.BurnIn):
                burn_in += seconds
        samples = sum(sum(ns) for case in run.cases for ns in run.samples(case)) / 1e9
        return cls(start, proof, burn_in, samples, max(0.0, total - start - proof - burn_in - samples))


def _between(before: Event, event: Event) -> float:
    assert before.time is not None
    assert event.time is not None
    return max(0.0, (event.time - before.time).total_seconds())
