"""FeedSlot: a Case that takes its batches from a loader, in one Round."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.cases.passes import FED
from bench.controller import gate
from bench.controller.slot import Slot
from bench.machine import noise
from bench.record import events
from bench.record.reasons import BurnInStop
from bench.worker.messages import MeasureLoader
from bench.worker.replies import MeasuredLoader

LEAST = 2  # samples of a burn-in


@dataclass(eq=False)
class FeedSlot(Slot):
    """Its turns start and stop the loader. Nothing of its values is compared but that the last loss is finite: the
    step is the one that the same Worker has proven, the pictures those of the loader's own proof."""

    def burn_in(self) -> None:
        """A short turn, recorded apart from samples."""
        self.session.watcher.on_burn_in(self.case, self.place)
        measured = self._measure(LEAST)
        self.iteration_ns = max(1, round(sum(measured.ns[measured.lead :]) / LEAST))
        self.aside_ns = measured.aside_ns + measured.lead * self.iteration_ns
        self.session.journal.add(
            events.BurnIn(
                *self.place,
                case_id=self.case.id,
                start_ns=measured.start_ns,
                ns=measured.ns,
                stop=BurnInStop.COUNT,
                steady_at=None,
                sync=None,
                spin_ns=0,
            )
        )

    def _measure(self, n: int) -> MeasuredLoader:
        assert self.session.settings.source
        feed = self.session.settings.source.feed(self.case)
        return self.worker.process.ask(MeasureLoader(feed, n, fed=self.case.pass_ == FED.name))

    def plan_readings(self, lengths: Sequence[int]) -> None:
        """Nothing is read."""

    def turn(self, n: int, *, lead: int, cycle: int, last: bool = False) -> float:
        """Time n batches after those of the loader's start, whatever ``lead``; return the seconds of all of them.

        They are as many as a turn of a loader has at least, in whole bursts: a batch of each of its workers.
        """
        workers = max(1, self.case.loader or 0)
        bursts = math.ceil(max(n, self.session.protocol.loader_turn or 1) / workers)
        with noise.Observation(self.case.device) as seen:
            measured = self._measure(bursts * workers)
        around = seen.noise(measured.cpu_s, measured.start_ns, measured.ns)
        self.noise.append(around)
        self.session.journal.add(
            events.Turn(
                *self.place,
                case_id=self.case.id,
                start_ns=measured.start_ns,
                ns=measured.ns,
                cycle=cycle,
                lead=measured.lead,
                cpu_s=measured.cpu_s,
                allocator_peak=measured.allocator_peak,
                process_peak=measured.process_peak,
                noise=around,
                first_batch_ns=measured.first_batch_ns,
                sample_cpu_s=measured.sample_cpu_s,
            )
        )
        gate.refuse("" if measured.finite else "the loss of a fed training step is not finite")
        self.clock.add(sum(measured.ns) / 1e9, around.wall_s - measured.aside_ns / 1e9, measured.cpu_s)
        self.session.watcher.on_turn(self.case, self.place, measured.ns[measured.lead :])
        return (sum(measured.ns) + measured.aside_ns) / 1e9

    def check_clock(self) -> None:
        """Raise Disagrees if samples cannot be right by the controller's clock."""
        gate.refuse(gate.clock_fault(self.clock.samples_s, self.clock.wall_s, self.clock.turns))
