"""One Round of one group: fresh Workers that take mirrored turns, one computing at a time."""

import dataclasses
import random
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass

from bench import UsageError
from bench.cases import layer_table
from bench.cases.case import Case
from bench.cases.passes import LOAD
from bench.controller import gate
from bench.controller.budget import Budget
from bench.controller.feed_slot import FeedSlot
from bench.controller.gate import Disagrees
from bench.controller.proof import Reference, prove
from bench.controller.running_worker import RunningWorker
from bench.controller.settings import build_of
from bench.controller.slot import Session, Slot, shuffle
from bench.controller.worker_process import RECOVER, WorkerDied
from bench.machine import noise
from bench.record import events
from bench.record.events import Place
from bench.record.reasons import BlockStop
from bench.worker.messages import MeasureCeiling, ReadConditions
from bench.worker.replies import Conditions, FaultKind
from impls import FRAMEWORKS

#: Workers shared by groups, by name, device and precision.
Kept = Mapping[tuple[str, ...], RunningWorker]


@dataclass(frozen=True)
class RoundResult:
    """How a Round ended; its measurements are in the journal already.

    ``void`` is why it must be repeated (a Worker died), ``disturbed`` what outside the Workers disturbed it; each is
    empty if nothing did. ``failed`` are reasons by Case id, ``kept`` the Workers for the next group, ``proven`` the
    names of the group's Workers that have been proven.
    """

    void: str
    disturbed: str
    failed: Mapping[str, str]
    kept: Kept
    proven: AbstractSet[str]


class Round:
    """One Round of one group: start the Workers that are not in ``kept``, prove them, burn in, run cycles, end.

    ``proven`` are the names of Workers proven in an earlier Round that counts. ``spare`` is whether the Round may still
    be repeated for a dead Worker, ``left`` how many Rounds are left, this one included. The order of turns depends only
    on seed and place, so a resumed Run continues as it would have.
    """

    def __init__(
        self,
        session: Session,
        place: Place,
        proof: Reference,
        kept: Kept,
        *,
        budget: Budget,
        proven: AbstractSet[str],
        spare: bool,
        left: int,
    ):
        self.budget, self.proven, self.left = budget, proven, left
        self.session, self.protocol, self.settings = session, session.protocol, session.settings
        self.journal, self.watcher, self.logs = session.journal, session.watcher, session.folder / "workers"
        self.place, self.proof, self.spare = place, proof, spare
        self.random = random.Random(f"{self.protocol.seed} {place.group} {place.round} {place.attempt}")
        self.workers: dict[str, RunningWorker] = {}
        self.conditions: dict[str, Conditions] = {}
        self.slots: list[Slot] = []
        self.dead: set[str] = set()
        self.failed: dict[str, str] = {}
        self.kept = dict(kept)
        self.kind: tuple[str, ...] = ()
        self.newly_proven: set[str] = set()

    def run(self, cases: list[Case]) -> RoundResult:
        """Measure these Cases. Workers that are not kept have ended when it returns."""
        self.kind = (cases[0].device, cases[0].precision)
        cases_of: dict[str, list[Case]] = {}
        for case in cases:
            cases_of.setdefault(case.worker, []).append(case)
        # the classic protocol times one framework after the other; in a paired one all are alive together
        crews = [self._start_order(list(cases_of))] if self.protocol.paired else [[name] for name in cases_of]
        void, over = "", False
        try:
            for crew in crews:
                self._measure(crew, cases_of)
            over = True
        except Repeat as repeat:
            void, over = repeat.reason, True
        finally:
            kept = list(self.kept.values()) if over else []  # an interrupted Round keeps none
            for worker in self.workers.values():
                if worker not in kept:
                    worker.process.kill()
        return RoundResult(
            void, self._disturbance(), self.failed, self.kept, self.proven | self.newly_proven - self.dead
        )

    def _measure(self, crew: list[str], cases_of: dict[str, list[Case]]) -> None:
        """Start, time and finish Workers that are alive together."""
        slots = self._start(crew, cases_of)
        self.slots += slots
        if self.protocol.paired:
            for slot in slots:
                if slot.case.worker not in self.dead:
                    with self._faults(slot.case.worker, cases_of[slot.case.worker]):
                        slot.burn_in()
            self._cycles(slots)
        else:
            self._straight(slots)
        for name in crew:
            if name in self.workers and name not in self.dead:
                with self._faults(name, cases_of[name]):
                    self._finish(name, [slot for slot in slots if slot.case.worker == name])

    def _shared(self, name: str) -> tuple[str, ...]:
        """Key of a Worker in ``kept``: it serves other groups of the same device and precision only."""
        return (name, *self.kind)

    def _disturbance(self) -> str:
        """What outside the Workers disturbed a Block, and with it the Round; empty if nothing did."""
        faults = [(slot.case.id, noise.invalid_reason(slot.noise)) for slot in self.slots if slot.noise]
        return next((f"{fault} ({case_id})" for case_id, fault in faults if fault), "")

    @contextmanager
    def _faults(self, name: str, cases: list[Case]) -> Iterator[None]:
        """Handle a dead Worker: void the Round the first time; in the repeat fail its Cases only."""
        try:
            yield
        except WorkerDied as died:
            self.journal.add(
                events.Fault(*self.place, worker=name, kind=died.kind, reason=died.reason, stderr_tail=died.tail)
            )
            # memory will be exhausted again, the device stays lost, and the user's net will fail again
            again = self.spare and died.kind not in (FaultKind.MEMORY, FaultKind.LOST, FaultKind.NET)
            tail = died.tail if died.kind != FaultKind.NET else ""
            self.watcher.on_fault(name, self.place, died.reason, tail, again)
            self.dead.add(name)
            self.kept.pop(self._shared(name), None)
            if again:
                raise Repeat(f"{name} {died.reason}") from died
            self._fail(cases, died.reason)
        except Disagrees as disagrees:
            self.dead.add(name)
            self._fail(cases, str(disagrees))
            if self._shared(name) not in self.kept:  # a shared Worker still serves other nets
                self.workers[name].process.kill()

    def _fail(self, cases: list[Case], reason: str) -> None:
        for case in cases:
            self._leave_out(case, events.Failed(case.id, reason))

    def _leave_out(self, case: Case, event: events.Failed | events.Absent) -> None:
        if case.id not in self.failed:
            self.failed[case.id] = event.reason
            self.journal.add(event)
            self.watcher.on_failed(case, event.reason)

    def _start_order(self, names: list[str]) -> list[str]:
        """Draw the order of start and build, reversed in every other Round: it decides which memory a process gets, and
        that can make one of two equal processes faster every time."""
        both = random.Random(f"{self.protocol.seed} {self.place.group} {self.place.round // 2}")
        order = both.sample(names, len(names))
        return order[::-1] if self.place.round % 2 else order

    def _start(self, crew: list[str], cases_of: dict[str, list[Case]]) -> list[Slot]:
        """Start Workers, which import concurrently, and prove them one by one; nothing is timed during an import.

        In Round 0 all have imported before the first is built, so that first calls are measured alone; later Rounds
        save that time.
        """
        for name in crew:
            if kept := self.kept.get(self._shared(name)):
                self.workers[name] = kept
            else:
                self._launch(name, cases_of[name][0])
        self.proof()
        for name in crew:
            with self._faults(name, cases_of[name]):
                self._reach(name, cases_of[name][0])
                if self.protocol.shared_workers:
                    self.kept[self._shared(name)] = self.workers[name]
                elif self.place.round:
                    self._prove(name, cases_of[name])
        for name in crew:
            if name not in self.dead and name not in self.conditions:
                with self._faults(name, cases_of[name]):
                    self._prove(name, cases_of[name])
        for name in (name for name in crew if name in self.newly_proven and name not in self.dead):
            for case in (case for case in cases_of[name] if case.pass_ == LOAD.name):
                with self._faults(name, cases_of[name]):
                    self._prove_loader(case, cases_of[name])
        self.budget.end_start()
        alive = (case for name in crew if name not in self.dead for case in cases_of[name])
        return [self._slot(case) for case in alive if case.id not in self.failed]

    def _reach(self, name: str, case: Case) -> None:
        """Wait until a Worker is configured. What an earlier one had is a fault, no mistake of the user."""
        try:
            self.workers[name].ready()
        except UsageError as error:
            died = error.__cause__
            if (case.framework, case.device) not in self.session.reached or not isinstance(died, WorkerDied):
                raise
            raise WorkerDied(name, FaultKind.LOST, f"its device is gone: {died.reason}; {RECOVER}", died.tail) from None
        self.session.reached.add((case.framework, case.device))

    def _prove_loader(self, case: Case, cases: list[Case]) -> None:
        """Prove what a loader of a new Worker delivers; if it is refused, the Worker goes on without it."""
        assert self.settings.source
        try:
            self.journal.add(self.settings.source.prove(self.workers[case.worker], case, self.place))
        except Disagrees as disagrees:
            self._fail([other for other in cases if other.loader == case.loader], str(disagrees))

    def _launch(self, name: str, case: Case) -> None:
        self.watcher.on_start(case, self.place)
        log = f"g{self.place.group}-r{self.place.round}-a{self.place.attempt}-{name}"
        cache = f"g{self.place.group}-{name}"
        state = "warm" if self.settings.compiled_before(cache) else "cold"
        process = self.settings.launch(log, case, self.logs, cache)
        self.workers[name] = RunningWorker(process, compile_cache=state if case.compiled else None)

    def _prove(self, name: str, cases: list[Case]) -> None:
        # timed iterations are read in every Round, but with dropout their values are random
        again = name in self.proven and not cases[0].dropout
        worker, reported, unable = prove(
            *(self.workers[name], cases, self.place, self.proof(), self.settings, self.logs), again=again
        )
        for case in cases:
            if event := unable.get(case.id):
                self._leave_out(case, event)
        self.conditions[name] = worker.conditions
        self.journal.add(worker)
        if name not in self.proven:
            self.newly_proven.add(name)
        if not self.place.round:
            rows = layer_table.reported_rows(cases[0], reported) if reported else []
            self.journal.add(events.Layers([events.LayerRow(**row) for row in rows]))

    def _slot(self, case: Case) -> Slot:
        worker, guest = self.workers[case.worker], self.settings.guest(case)
        shown = gate.precision_shown(case, worker.precision(build_of(case)))
        limits = self.proof().proofs(case.batch, case.precision, shown)[-1].limits
        known = guest is None or guest.takes_weights
        new = case.worker in self.newly_proven
        conditions = self.conditions[case.worker]
        kind = Slot if case.loader is None else FeedSlot
        return kind(self.session, self.place, case, worker, conditions, limits if known else None, new)

    def _ceiling(self, name: str, case: Case) -> None:
        """Measure the best rates of the device in a Worker while all others are idle."""
        threads = self.conditions[name].threads or self.settings.threads
        how = dataclasses.replace(build_of(case), batch=1, mode=uncompiled_mode(case))
        own = FRAMEWORKS[case.framework].peer
        rates = self.workers[name].process.ask(MeasureCeiling(how, threads, own))
        self.workers[name].ceiling_known = True
        self.journal.add(
            events.Ceiling(
                *self.place,
                worker=name,
                precision=case.precision,
                device=case.device,
                matmul_gflop_per_s=rates.matmul_gflop_per_s,
                conv_gflop_per_s=rates.conv_gflop_per_s,
                copy_gb_per_s=rates.copy_gb_per_s,
            )
        )

    def _cycles(self, slots: list[Slot]) -> None:
        """Mirrored cycles of Turns: a random order of the slots, then its reverse; with a control computation in the
        controller before and after."""
        slots = [slot for slot in slots if slot.case.worker not in self.dead]
        if not slots:
            return
        length = self.protocol.turn_length([slot.iteration_ns for slot in slots])
        passes_s, aside_s = [slot.iteration_ns / 1e9 for slot in slots], sum(slot.aside_ns for slot in slots) / 1e9
        plan = self.budget.plan(passes_s, length, self.left, len(self.newly_proven), turns_aside_s=aside_s)
        self.journal.add(events.Plan(*self.place, *plan))
        self.watcher.on_plan(self.place, plan, self.left)
        self.journal.add(events.Control(*self.place, **noise.control()._asdict()))
        spent, before, turns = 0.0, None, self.protocol.cycles(length, plan.iterations)
        fastest: dict[tuple[object, ...], int] = {}  # rivals have leads alike
        for slot in slots:
            slot.plan_readings([turn for turn in turns for _ in range(2)])
            fastest[slot.case.rivals] = min(slot.iteration_ns, fastest.get(slot.case.rivals, slot.iteration_ns))
        for cycle, turn in enumerate(turns):
            if spent > self.protocol.block_cap_s * len(slots):
                for slot in slots:
                    slot.stop = BlockStop.TIME_CAP
                    self._turn(slot, slots, 0, lead=1, cycle=cycle, last=True)  # no sample, but read
                break
            order = shuffle(slots, self.random)
            for slot in order + order[::-1]:
                lead = 0 if slot is before else self.protocol.lead(length, fastest[slot.case.rivals])
                lead = max(lead, 1) if slot.case.world > 1 else lead  # its ranks begin one after another
                spent += self._turn(slot, slots, turn, lead=lead, cycle=cycle)
                before = slot
        self.journal.add(events.Control(*self.place, **noise.control()._asdict()))

    def _turn(self, slot: Slot, slots: list[Slot], n: int, *, lead: int, cycle: int, last: bool = False) -> float:
        """Run a Turn unless its Worker is dead; return the seconds of its iterations."""
        spent = 0.0
        if slot.case.worker not in self.dead:
            with self._faults(slot.case.worker, [other.case for other in slots if other.worker is slot.worker]):
                spent = slot.turn(n, lead=lead, cycle=cycle, last=last)
        return spent

    def _straight(self, slots: list[Slot]) -> None:
        """The classic protocol: for each Pass its burn-in, then all its iterations, ten at a time."""
        for slot in slots:
            with self._faults(slot.case.worker, [other.case for other in slots]):
                if slot.case.worker not in self.dead:
                    slot.burn_in()
                    lengths = [
                        min(10, self.protocol.iterations - done) for done in range(0, self.protocol.iterations, 10)
                    ]
                    slot.plan_readings(lengths)
                    for cycle, length in enumerate(lengths):
                        slot.turn(length, lead=0, cycle=cycle)

    def _finish(self, name: str, slots: list[Slot]) -> None:
        """Check clock and conditions after timing, record each Case's Block, and end a Worker not kept."""
        worker = self.workers[name]
        for slot in slots:
            slot.check_clock()
        changed = gate.changed(self.conditions[name], worker.process.ask(ReadConditions()))
        for slot in slots:
            self.journal.add(events.Block(*self.place, case_id=slot.case.id, changed=changed, stop=slot.stop))
        case = slots[0].case
        known = worker.ceiling_known and not self.place.attempt  # that of a void attempt does not count
        if (
            case.world == 1
            and name in self.newly_proven
            and not known
            and (FRAMEWORKS[case.framework].peer or case.guest)
        ):
            self._ceiling(name, case)  # after the samples, since it takes a second
        if self._shared(name) not in self.kept:
            worker.process.end()


def uncompiled_mode(case: Case) -> str:
    """The framework's first mode that compiles nothing, else its first mode; the ceiling does not depend on it."""
    framework = FRAMEWORKS[case.framework]
    return next((mode for mode in framework.modes if mode not in framework.compiled), framework.modes[0])


class Repeat(Exception):
    """The Round is void and is repeated."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
