"""One Round of one group: fresh Workers, alive together, one computing at a time, in mirrored turns."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.controller import gate, parity, worker_process
from bench.controller.gate import Disagrees
from bench.controller.pool import how
from bench.controller.proof import Reference, prove
from bench.controller.worker_process import WorkerDied, WorkerProcess
from bench.machine import noise
from bench.worker.timing import steady
from impls import FRAMEWORKS

if TYPE_CHECKING:
    from bench.controller.rounds import Rounds


@dataclass
class Slot:
    """One Pass of one running Worker."""

    case: Case
    child: WorkerProcess
    burn_in_ns: list[int] = field(default_factory=list)
    spin_ns: int = 0
    """Added to every pass: the known slowdown of an --ab."""
    noise: list[dict[str, Any]] = field(default_factory=list)
    stop: str = "count"

    @property
    def method(self) -> str:
        return PASSES[self.case.pass_].method

    @property
    def iteration_ns(self) -> int:
        return round(statistics.median(self.burn_in_ns))


class Round:
    """One Round of one group: start every Worker, prove it, burn it in, then cycles, then end.

    ``spare`` says that a Worker may still die for the Round to be repeated; the order of turns depends on seed and
    place alone, so that a Run that is resumed goes on as it would have.
    """

    def __init__(self, owner: Rounds, place: dict[str, int], proof: Reference, *, spare: bool):
        self.owner, self.protocol, self.journal = owner, owner.protocol, owner.journal
        self.place, self.proof, self.spare = place, proof, spare
        self.logs = owner.folder / "workers"
        self.random = random.Random(f"{self.protocol.seed} {place['group']} {place['round']} {place['attempt']}")
        self.children: dict[str, WorkerProcess] = {}
        self.conditions: dict[str, dict[str, Any]] = {}
        self.slots: list[Slot] = []
        self.dead: set[str] = set()
        self.kind: tuple[str, ...] = ()

    def run(self, cases: list[Case]) -> bool:
        """Measure; False when a Worker died and the Round is to be repeated."""
        self.kind = (cases[0].device, cases[0].precision)
        workers: dict[str, list[Case]] = {}
        for case in cases:
            workers.setdefault(case.worker, []).append(case)
        # the classic protocol times one framework after the other, each Pass in turn; else all are alive together
        crews = [self._start_order(list(workers))] if self.protocol.paired else [[name] for name in workers]
        try:
            for crew in crews:
                slots = self._start(crew, workers)
                self.slots += slots
                if self.protocol.paired:
                    for slot in slots:
                        if slot.case.worker not in self.dead:
                            with self._faults(slot.case.worker, workers[slot.case.worker]):
                                self._burn_in(slot)
                    self._cycles(slots)
                else:
                    self._straight(slots)
                for name in crew:
                    if name in self.children and name not in self.dead:
                        with self._faults(name, workers[name]):
                            self._finish(name, [slot for slot in slots if slot.case.worker == name])
        except Repeat as repeat:
            self.journal.add("void", **self.place, reason=repeat.reason)
            return False
        finally:
            kept = set(self.owner.kept.values())
            for running in self.children.values():
                if running not in kept:
                    running.kill()
        return True

    def _shared(self, name: str) -> tuple[str, ...]:
        """Under what a Worker goes on to other groups: those of the device and precision that it was proven to have."""
        return (name, *self.kind)

    @property
    def spoilt(self) -> str:
        """What outside the Workers spoilt a Block, and with it the Round; empty where nothing did."""
        faults = [(slot.case.id, noise.invalid(slot.noise)) for slot in self.slots if slot.noise]
        return next((f"{fault} ({case_id})" for case_id, fault in faults if fault), "")

    @contextmanager
    def _faults(self, name: str, cases: list[Case]) -> Iterator[None]:
        """A dead Worker voids the Round once; in the repeat it fails its Cases and the others go on."""
        try:
            yield
        except WorkerDied as died:
            fault = {"worker": name, "reason": died.reason}
            self.journal.add("fault", **self.place, **fault, kind=died.kind, stderr_tail=died.tail)
            again = self.spare and died.kind not in ("memory", "net")  # what did not fit will not fit again
            tail = died.tail if died.kind != "net" else ""
            self.owner.tell("fault", **fault, tail=tail, spare=again, **self.place)
            self.dead.add(name)
            self.owner.kept.pop(self._shared(name), None)
            if again:
                raise Repeat(f"{name} {died.reason}") from died
            for case in cases:
                self.owner.fail(case, died.reason)
        except Disagrees as disagrees:
            self.dead.add(name)
            for case in cases:
                self.owner.fail(case, str(disagrees))
            if self._shared(name) not in self.owner.kept:  # one that goes on to other nets is not to blame for them
                self.children[name].kill()

    def _start_order(self, names: list[str]) -> list[str]:
        """Who is started and built first is drawn, and turned round in every other Round: it decides who gets which
        memory, which can make one of two equal processes faster every time."""
        both = random.Random(f"{self.protocol.seed} {self.place['group']} {self.place['round'] // 2}")
        order = both.sample(names, len(names))
        return order[::-1] if self.place["round"] % 2 else order

    def _start(self, crew: list[str], workers: dict[str, list[Case]]) -> list[Slot]:
        """Fresh Workers, imported all at once and proven one by one; nothing is timed while one still imports.

        In Round 0 all have imported before the first is built, so that first calls are measured alone; later Rounds
        save those seconds and record no first call.
        """
        fresh = [name for name in crew if self._shared(name) not in self.owner.kept]
        for name in fresh:
            case = workers[name][0]
            self.owner.tell("start", case=case, **self.place)
            log = f"g{self.place['group']}-r{self.place['round']}-a{self.place['attempt']}-{name}"
            cache = f"g{self.place['group']}-{name}"
            there = self.owner.conditions.compiled_before(cache)
            self.children[name] = self.owner.conditions.launch(log, case, self.logs, cache)
            self.children[name].compile_cache = ("warm" if there else "cold") if case.compiled else None
        self.children |= {name: self.owner.kept[self._shared(name)] for name in crew if name not in fresh}
        self.proof()
        for name in crew:
            with self._faults(name, workers[name]):
                running = self.children[name]
                running.ready = running.ready or worker_process.configured(running, workers[name][0].device)
                if self.protocol.shared_workers:
                    self.owner.kept[self._shared(name)] = running
                elif self.place["round"]:
                    self._prove(name, workers[name])
        for name in crew:
            if name not in self.dead and name not in self.conditions:
                with self._faults(name, workers[name]):
                    self._prove(name, workers[name])
        for name in (name for name in crew if name not in self.dead):
            case = workers[name][0]
            known = self.children[name].ceiling_known and not self.place["attempt"]  # a voided attempt's counts no more
            if not known and (FRAMEWORKS[case.framework].peer or case.guest):
                with self._faults(name, workers[name]):
                    self._ceiling(name, workers[name])
        return [Slot(case, self.children[name]) for name in crew if name not in self.dead for case in workers[name]]

    def _prove(self, name: str, cases: list[Case]) -> None:
        first, running = not self.place["round"], self.children[name]
        proven = prove(running, cases, self.proof(), self.owner.conditions, self.logs, first=first)
        ready = running.ready or {}
        self.conditions[name] = proven.conditions
        said = {"versions": ready["versions"], "python": ready["python"], "compile_cache": running.compile_cache}
        self.journal.add("worker", **self.place, worker=name, **said, **proven.facts)
        if first:
            self.journal.add("layers", rows=proven.layers)

    def _ceiling(self, name: str, cases: list[Case]) -> None:
        """What the device does at best, asked of every Worker when all others are idle, in every Round: the machine's
        speed drifts."""
        case, threads = cases[0], self.conditions[name]["threads"] or self.owner.conditions.threads
        own = FRAMEWORKS[case.framework].peer
        got = self.children[name].ask("ceiling", how=how(case, batch=1, mode=plain(case)), threads=threads, own=own)
        self.children[name].ceiling_known = True
        self.journal.add("ceiling", **self.place, worker=name, precision=case.precision, device=case.device, **got)

    def _burn_in(self, slot: Slot) -> None:
        """At least ``burn_in`` iterations, then on until the series is steady; stored apart from samples. Then, is the
        device done when ``wait`` says so?"""
        rules, began = self.protocol, time.monotonic()
        self.owner.tell("burn_in", case=slot.case, **self.place)
        start_ns: list[int] = []
        ns: list[int] = []
        stop = "count"
        least_s = rules.burn_in_gpu_s if rules.gate and slot.case.device != "cpu" else 0.0
        while (left := rules.burn_in - len(ns)) > 0 or time.monotonic() - began < least_s:
            # a few at a time: one request must answer within its limit
            got = slot.child.ask("measure", pass_=slot.method, n=min(10, left) if left > 0 else 10)
            start_ns += got["start_ns"]
            ns += got["ns"]
        while rules.gate:
            if steady(ns, window=rules.gate_window, ratio=rules.gate_ratio):
                stop = "gate"
                break
            if len(ns) >= rules.burn_in_cap or time.monotonic() - began > rules.burn_in_cap_s:
                stop = "cap"
                break
            got = slot.child.ask("measure", pass_=slot.method, n=1)
            start_ns += got["start_ns"]
            ns += got["ns"]
        slot.burn_in_ns = ns
        attempts = rules.sync_attempts
        lag = slot.child.ask("sync", pass_=slot.method, iteration_ns=slot.iteration_ns, attempts=attempts)
        steady_at = len(ns) if stop == "gate" else None
        ab = self.owner.conditions.ab
        slot.spin_ns = round(ab.slowdown(slot.case.arm) * slot.iteration_ns) if ab else 0
        self.journal.add(
            "burn_in",
            **self.place,
            case_id=slot.case.id,
            start_ns=start_ns,
            ns=ns,
            stop=stop,
            steady_at=steady_at,
            sync=lag,
            spin_ns=slot.spin_ns,
        )
        gate.refuse(gate.sync_fault(lag))

    def _turn(self, slot: Slot, n: int, *, lead: int, cycle: int) -> list[int]:
        before = noise.snapshot(slot.case.device)
        got = slot.child.ask("measure", pass_=slot.method, n=n + lead, spin_ns=slot.spin_ns)
        around = noise.between(before, noise.snapshot(slot.case.device), got["cpu_s"])
        slot.noise.append(around)
        self.journal.add("turn", **self.place, case_id=slot.case.id, cycle=cycle, lead=lead, **got, noise=around)
        self.owner.tell("turn", case=slot.case, ns=got["ns"][lead:], **self.place)
        return got["ns"]

    def _cycles(self, slots: list[Slot]) -> None:
        """Mirrored cycles of Turns: a random order of the slots, then the same order backwards; a fixed computation of
        the controller's own before and after."""
        slots = [slot for slot in slots if slot.case.worker not in self.dead]
        if not slots:
            return
        length = self.protocol.turn_length([slot.iteration_ns for slot in slots])
        self.journal.add("control", **self.place, **noise.control())
        spent, before = 0.0, None
        for cycle, turn in enumerate(self.protocol.cycles(length)):
            if spent > self.protocol.block_cap_s * len(slots):
                for slot in slots:
                    slot.stop = "time_cap"
                break
            order = self._order(slots)
            for slot in order + order[::-1]:
                if slot.case.worker in self.dead:
                    continue
                # the first iteration after a switch is up to 8 % slow; one that fills a Turn by itself may be
                lead = int(length > 1 and slot is not before)
                with self._faults(slot.case.worker, [one.case for one in slots if one.child is slot.child]):
                    spent += sum(self._turn(slot, turn, lead=lead, cycle=cycle)) / 1e9
                before = slot
        self.journal.add("control", **self.place, **noise.control())

    def _order(self, slots: list[Slot]) -> list[Slot]:
        """A random order in which those that are compared stand next to each other: the machine's speed moves within
        tenths of a second."""
        rivals: dict[tuple, list[Slot]] = {}
        for slot in slots:
            rivals.setdefault(slot.case.rivals, []).append(slot)
        together = [self.random.sample(some, len(some)) for some in rivals.values()]
        self.random.shuffle(together)
        return [slot for some in together for slot in some]

    def _straight(self, slots: list[Slot]) -> None:
        """The classic protocol: for each Pass its burn-in, then all its iterations, ten at a time."""
        for slot in slots:
            with self._faults(slot.case.worker, [one.case for one in slots]):
                if slot.case.worker not in self.dead:
                    self._burn_in(slot)
                    for done in range(0, self.protocol.iterations, 10):
                        self._turn(slot, min(10, self.protocol.iterations - done), lead=0, cycle=done // 10)

    def _finish(self, name: str, slots: list[Slot]) -> None:
        """Is what was timed still equal, under the conditions it began with? Memory; then the Worker leaves."""
        theirs = self.owner.conditions.guest(slots[0].case)
        timed = [PASSES[slot.case.pass_] for slot in slots] if theirs is None or theirs.takes_weights else []
        # with dropout on, a pass in training mode has no one right answer
        what = [each.proof for each in timed if not (each.training and slots[0].case.dropout)]
        got = self.children[name].ask("finish", what=what)
        changed = gate.changed(self.conditions[name], got["conditions"])
        case = slots[0].case
        shown = gate.shown(case, self.children[name].probed or {})
        limits = self.proof().proofs(case.batch, case.precision, shown)[-1].limits
        fault = gate.value_fault(parity.judge(got["checks"], limits))
        for slot in slots:
            self.journal.add(
                "block",
                **self.place,
                case_id=slot.case.id,
                fault=fault,
                changed=changed,
                stop=slot.stop,
                noise=noise.invalid(slot.noise),
            )
        if self._shared(name) not in self.owner.kept:
            self.children[name].end()


def plain(case: Case) -> str:
    """The framework's mode that compiles nothing, where it has one: what the device can do does not hang on it."""
    it = FRAMEWORKS[case.framework]
    return next((mode for mode in it.modes if mode not in it.compiled), it.modes[0])


class Repeat(Exception):
    """The Round is void and is run once more."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
