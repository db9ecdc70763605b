"""Slot: one Pass of one running Worker, burned in and then timed in turns, each recorded before the next."""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.cases.protocol import Protocol
from bench.controller import gate
from bench.controller.settings import WorkerSettings
from bench.controller.watcher import Watcher
from bench.controller.worker_process import RunningWorker
from bench.machine import noise
from bench.machine.noise import Noise
from bench.record import events
from bench.record.events import BlockStop, BurnInStop, Place
from bench.record.journal import Journal
from bench.worker.messages import CheckSync, Measure
from bench.worker.timing import steady


@dataclass(frozen=True)
class Session:
    """Objects shared by all Rounds of a Run."""

    protocol: Protocol
    settings: WorkerSettings
    folder: Path
    journal: Journal
    watcher: Watcher


@dataclass(eq=False)
class Slot:
    """One Case in one Round. ``spin_ns`` is added to every iteration (the slowdown of an --ab); ``stop`` is why its
    Block ended."""

    session: Session
    place: Place
    case: Case
    worker: RunningWorker
    iteration_ns: int = 0
    spin_ns: int = 0
    noise: list[Noise] = field(default_factory=list)
    stop: BlockStop = BlockStop.COUNT

    @property
    def method(self) -> str:
        return PASSES[self.case.pass_].method

    def burn_in(self) -> None:
        """Run at least ``burn_in`` iterations, then more until their times are steady; recorded apart from samples.

        Then check that the device is done when ``wait`` returns.
        """
        rules, ask, began = self.session.protocol, self.worker.process.ask, time.monotonic()
        self.session.watcher.on_burn_in(self.case, self.place)
        start_ns: list[int] = []
        ns: list[int] = []

        def burn(n: int) -> None:
            measured = ask(Measure(self.method, n))
            start_ns.extend(measured.start_ns)
            ns.extend(measured.ns)

        stop = BurnInStop.COUNT
        least_s = rules.burn_in_gpu_s if rules.gate and self.case.device != "cpu" else 0.0
        while (left := rules.burn_in - len(ns)) > 0 or time.monotonic() - began < least_s:
            burn(min(10, left) if left > 0 else 10)  # a few at a time: a reply must come within --worker-limit
        while rules.gate:
            if steady(ns, window=rules.gate_window, ratio=rules.gate_ratio):
                stop = BurnInStop.GATE
                break
            if len(ns) >= rules.burn_in_cap or time.monotonic() - began > rules.burn_in_cap_s:
                stop = BurnInStop.CAP
                break
            burn(1)
        self.iteration_ns = round(statistics.median(ns))
        lag = ask(CheckSync(self.method, self.iteration_ns, rules.sync_attempts))
        ab = self.session.settings.ab
        self.spin_ns = round(ab.slowdown(self.case.arm) * self.iteration_ns) if ab else 0
        self.session.journal.add(
            events.BurnIn(
                *self.place,
                case_id=self.case.id,
                start_ns=start_ns,
                ns=ns,
                stop=stop,
                steady_at=len(ns) if stop == BurnInStop.GATE else None,
                sync=lag,
                spin_ns=self.spin_ns,
            )
        )
        gate.refuse(gate.sync_fault(lag))

    def turn(self, n: int, *, lead: int, cycle: int) -> float:
        """Time n iterations after ``lead`` ones that do not count; return the seconds of all of them."""
        before = noise.snapshot(self.case.device)
        measured = self.worker.process.ask(Measure(self.method, n + lead, self.spin_ns))
        around = noise.between(before, noise.snapshot(self.case.device), measured.cpu_s)
        self.noise.append(around)
        self.session.journal.add(
            events.Turn(
                *self.place,
                case_id=self.case.id,
                start_ns=measured.start_ns,
                ns=measured.ns,
                cycle=cycle,
                lead=lead,
                cpu_s=measured.cpu_s,
                allocator_peak=measured.allocator_peak,
                process_peak=measured.process_peak,
                noise=around,
            )
        )
        self.session.watcher.on_turn(self.case, self.place, measured.ns[lead:])
        return sum(measured.ns) / 1e9


def shuffle(slots: Sequence[Slot], dice: random.Random) -> list[Slot]:
    """Random order in which slots that are compared are adjacent, since the speed of a machine changes within tenths of
    a second."""
    rivals: dict[tuple[object, ...], list[Slot]] = {}
    for slot in slots:
        rivals.setdefault(slot.case.rivals, []).append(slot)
    shuffled = [dice.sample(group, len(group)) for group in rivals.values()]
    dice.shuffle(shuffled)
    return [slot for group in shuffled for slot in group]
