"""Slot: one Pass of one running Worker, burned in and then timed in turns, each recorded before the next."""

import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.cases.protocol import Protocol
from bench.controller import gate, parity
from bench.controller.running_worker import RunningWorker
from bench.controller.settings import WorkerSettings
from bench.controller.watcher import Watcher
from bench.machine import gpu, noise
from bench.machine.noise import Noise
from bench.record import events
from bench.record.events import Place
from bench.record.journal import Journal
from bench.record.reasons import BlockStop, BurnInStop
from bench.worker.messages import CheckSync, Measure, MeasureDeviceTime, Reload, slowest_first
from bench.worker.replies import Conditions, Output
from bench.worker.timing import steady

WEIGHED_NS = 1_000_000_000  # ten times what a card's counter of energy needs to be updated
READS = 4  # copies of each value that a reading may take; of torch's layout of dense weights 3 were seen


@dataclass(frozen=True)
class Session:
    """Objects shared by all Rounds of a Run."""

    protocol: Protocol
    settings: WorkerSettings
    folder: Path
    journal: Journal
    watcher: Watcher
    reached: set[tuple[str, str]] = field(default_factory=set)
    """Framework and device of each Worker that has been configured: what is missing later was lost."""


@dataclass(eq=False)
class Slot:
    """One Case in one Round.

    ``limits`` are those of its values, None if nothing is known of them; ``conditions`` were in force before timing.
    ``new`` is whether its Worker has not been proven in an earlier Round, so that it is given new images too.
    ``aside_ns`` is what setting the weights back takes in a Turn of a pass that updates them.
    ``spin_ns`` is added to every iteration (the slowdown of an --ab); ``stop`` is why its Block ended; ``late_ns`` are
    the times of readings beyond those of copying what is read.
    """

    session: Session
    place: Place
    case: Case
    worker: RunningWorker
    conditions: Conditions
    limits: Mapping[str, float] | None
    new: bool
    iteration_ns: int = 0
    aside_ns: int = 0
    spin_ns: int = 0
    noise: list[Noise] = field(default_factory=list)
    stop: BlockStop = BlockStop.COUNT
    plan: "ReadingPlan | None" = None
    turns: int = 0
    late_ns: list[int] = field(default_factory=list)
    clock: "Clock" = field(default_factory=lambda: Clock())

    @property
    def method(self) -> str:
        return PASSES[self.case.pass_].method

    def burn_in(self) -> None:
        """Run at least ``burn_in`` iterations, then more until their times are steady; recorded apart from samples.

        Then check that the device is done when ``wait`` returns, and on a GPU time passes by the device's own timer.
        """
        rules, ask, began = self.session.protocol, self.worker.process.ask, time.monotonic()
        self.session.watcher.on_burn_in(self.case, self.place)
        start_ns: list[int] = []
        ns: list[int] = []

        def burn(n: int) -> None:
            measured = ask(Measure(self.method, n))
            start_ns.extend(measured.start_ns)
            ns.extend(measured.ns)
            self.aside_ns = measured.aside_ns

        stop = BurnInStop.COUNT
        least_s = rules.burn_in_gpu_s if rules.gate and self.case.device != "cpu" else 0.0
        least = rules.least_burn_in(self.place.round)
        window = rules.window(self.place.round)
        while (left := least - len(ns)) > 0 or time.monotonic() - began < least_s:
            burn(min(10, left) if left > 0 else 10)  # a few at a time: a reply must come within --worker-limit
        while rules.gate:
            if steady(ns, window=window, ratio=rules.gate_ratio):
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
        if self.case.device != "cpu" and self.case.world == 1:  # a Team would need as many passes on every rank
            self._time_device()
            if self.new:
                self._weigh()

    def _time_device(self) -> None:
        """Record what the device takes for the pass by its own timer, where it has one."""
        if measured := self.worker.process.ask(MeasureDeviceTime(self.method, self.iteration_ns)):
            self.session.journal.add(
                events.DeviceTime(
                    *self.place,
                    case_id=self.case.id,
                    device_ns=measured.device_ns,
                    launch_ns=measured.launch_ns,
                    timer=measured.timer,
                    enqueued=measured.enqueued,
                )
            )

    def _weigh(self) -> None:
        """Record what the device uses while it computes for a second and nothing else is done, where it counts that."""
        began, before = time.monotonic(), gpu.joules(self.case.device)
        if before is None:
            return
        iterations = max(2, math.ceil(WEIGHED_NS / max(1, self.iteration_ns)))
        self.worker.process.ask(Measure(self.method, iterations))
        after, wall_s = gpu.joules(self.case.device), time.monotonic() - began
        if after is not None:
            self.session.journal.add(
                events.Energy(
                    *self.place, case_id=self.case.id, joules=after - before, iterations=iterations, wall_s=wall_s
                )
            )

    def plan_readings(self, lengths: Sequence[int]) -> None:
        """Draw the iteration of these turns that is read, besides the last."""
        place, case = self.place, self.case
        rng = random.Random(f"{self.session.protocol.seed} {place.group} {place.round} {place.attempt} {case.id}")
        turn = rng.choices(range(len(lengths)), lengths)[0]
        self.plan = ReadingPlan(turn, rng.randrange(lengths[turn]), len(lengths) - 1, rng.randrange(2**31))

    def turn(self, n: int, *, lead: int, cycle: int, last: bool = False) -> float:
        """Time n iterations after ``lead`` ones that do not count; return the seconds of all of them.

        The values of an iteration drawn at random, and of the last one of the Round, are read and compared. Raises
        Disagrees if they are not the reference's.
        """
        pass_, plan = PASSES[self.case.pass_], self.plan
        drawn = lead + plan.iteration if plan and self.turns == plan.turn else None
        final = lead + n - 1 if last or (plan and self.turns == plan.last) else None
        missed = last and plan is not None and self.turns <= plan.turn  # the Round ends before the drawn one
        unseen = self.new and bool(pass_.stages) and (drawn is not None or missed)  # a sum has no images
        self.turns += 1
        reads = sorted({iteration for iteration in (drawn, final) if iteration is not None})
        random_values = pass_.training and self.case.dropout
        request = Measure(
            self.method,
            n + lead,
            self.spin_ns,
            reads,
            drawn,
            None if self.limits is None or random_values else Output(pass_.proof),
            Reload(plan.seed, slowest_first(self.iteration_ns)) if plan and unseen else None,
        )
        with noise.Observation(self.case.device) as seen:
            measured = self.worker.process.ask(request)
        around = seen.noise(measured.cpu_s + measured.aside_cpu_s, measured.start_ns, measured.ns)
        self.noise.append(around)
        judged = [parity.judge(reading.checks, self.limits or {}) for reading in measured.readings]
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
                readings=[
                    events.Reading(
                        reading.iteration, reading.batch, gate.worst_errors(checks), reading.read_ns, reading.copy_ns
                    )
                    for reading, checks in zip(measured.readings, judged, strict=True)
                ],
                reload_ns=measured.reload_ns,
                again_ns=measured.again_ns,
                rank_ns=measured.rank_ns,
            )
        )
        compared = (reading for reading in measured.readings if reading.batch is not None)
        self.late_ns += [reading.read_ns - READS * reading.copy_ns for reading in compared]
        for reading, checks in zip(measured.readings, judged, strict=True):
            gate.refuse(gate.reading_fault(reading, checks, self.conditions))
        if measured.reload_ns is not None and measured.again_ns is not None:
            gate.refuse(gate.reload_fault(measured.reload_ns, measured.again_ns))
        self.clock.add(sum(measured.ns) / 1e9, around.wall_s - measured.aside_ns / 1e9, measured.cpu_s)
        self.session.watcher.on_turn(self.case, self.place, measured.ns[lead:])
        return sum(measured.ns) / 1e9

    def check_clock(self) -> None:
        """Raise Disagrees if samples cannot be right by the controller's clock, or too many cores were busy."""
        clock, threads = self.clock, self.session.settings.pinned_threads(self.case)
        threads = threads and threads * self.case.world
        gate.refuse(gate.clock_fault(clock.samples_s, clock.wall_s, clock.turns, self.case.world))
        if self.late_ns and "fetch" in self.conditions.filled:  # else its fetch has shown that the pass was over
            gate.refuse(gate.late_fault(min(self.late_ns), self.iteration_ns))
        gate.refuse(gate.cores_fault(clock.cpu_s, clock.samples_s, threads))


@dataclass(frozen=True)
class ReadingPlan:
    """Which iterations of a Round are read: one in turn ``turn``, and the last one of turn ``last``."""

    turn: int
    iteration: int
    last: int
    seed: int


@dataclass
class Clock:
    """Sums over the turns of a Round, in seconds: samples, the controller's wait for them, and CPU time."""

    samples_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    turns: int = 0

    def add(self, samples_s: float, wall_s: float, cpu_s: float) -> None:
        self.samples_s += samples_s
        self.wall_s += wall_s
        self.cpu_s += cpu_s
        self.turns += 1


def shuffle(slots: Sequence[Slot], dice: random.Random) -> list[Slot]:
    """Random order in which slots that are compared are adjacent, since the speed of a machine changes within tenths of
    a second."""
    rivals: dict[tuple[object, ...], list[Slot]] = {}
    for slot in slots:
        rivals.setdefault(slot.case.rivals, []).append(slot)
    shuffled = [dice.sample(group, len(group)) for group in rivals.values()]
    dice.shuffle(shuffled)
    return [slot for group in shuffled for slot in group]
