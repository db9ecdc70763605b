"""One Round of one group: fresh Workers, alive together, one computing at a time, in mirrored turns."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import child, gate, host, layers, parity
from bench.case import Case
from bench.child import Child, WorkerDied
from bench.crew import building, how
from bench.gate import Disagrees
from bench.timing import steady
from impls import FRAMEWORKS

if TYPE_CHECKING:
    from bench.rounds import Rounds

#: What a group is held against, computed when it is first asked for.
Reference = Callable[[], parity.ParitySet]


@dataclass
class Slot:
    """One Pass of one running Worker."""

    case: Case
    child: Child
    burn_in_ns: list[int] = field(default_factory=list)


class Round:
    """One Round of one group: start every Worker, prove it, burn it in, then cycles, then end."""

    def __init__(self, owner: Rounds, group: int, number: int, attempt: int, proof: Reference, logs: Path):
        self.owner, self.protocol, self.journal = owner, owner.protocol, owner.journal
        self.place = {"group": group, "round": number, "attempt": attempt}
        self.proof, self.logs = proof, logs
        self.children: dict[str, Child] = {}
        self.conditions: dict[str, dict[str, Any]] = {}
        self.dead: set[str] = set()

    def run(self, cases: list[Case]) -> bool:
        """Measure; False when a Worker died and the Round is to be repeated."""
        workers: dict[str, list[Case]] = {}
        for case in cases:
            workers.setdefault(case.worker, []).append(case)
        # the classic protocol times one framework after the other, each Pass in turn; else all are alive together
        crews = [list(workers)] if self.protocol.paired else [[name] for name in workers]
        try:
            for crew in crews:
                slots = self._start(crew, workers)
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
                            self._finish(name, workers[name])
        except Repeat as repeat:
            self.journal.add("void", **self.place, reason=repeat.reason)
            return False
        finally:
            for running in self.children.values():
                running.kill()
        return True

    @contextmanager
    def _faults(self, name: str, cases: list[Case]) -> Iterator[None]:
        """A dead Worker voids the Round once; in the repeat it fails its Cases and the others go on."""
        try:
            yield
        except WorkerDied as died:
            self.journal.add(
                "fault", **self.place, worker=name, kind=died.kind, reason=died.reason, stderr_tail=died.tail
            )
            self.owner.tell("fault", worker=name, reason=died.reason, tail=died.tail, **self.place)
            self.dead.add(name)
            if self.place["attempt"] == 0:
                raise Repeat(f"{name} {died.reason}") from died
            for case in cases:
                self.owner.fail(case, died.reason)
        except Disagrees as disagrees:
            self.dead.add(name)
            for case in cases:
                self.owner.fail(case, str(disagrees))
            self.children[name].kill()

    def _start(self, crew: list[str], workers: dict[str, list[Case]]) -> list[Slot]:
        """Fresh Workers, imported all at once and proven one by one; nothing is timed while one still imports.

        In Round 0 all have imported before the first is built, so that first calls are measured alone; later Rounds
        save those seconds and record no first call.
        """
        for name in crew:
            case = workers[name][0]
            self.owner.tell("start", case=case, **self.place)
            log = f"g{self.place['group']}-r{self.place['round']}-a{self.place['attempt']}-{name}"
            self.children[name] = self.owner.conditions.launch(log, case, self.logs)
        self.proof()
        ready: dict[str, dict[str, Any]] = {}
        for name in crew:
            with self._faults(name, workers[name]):
                ready[name] = child.configured(self.children[name], workers[name][0].device)
                if self.place["round"]:
                    self._prove(name, workers[name], ready[name])
        for name in crew:
            if name not in self.dead and not self.place["round"]:
                with self._faults(name, workers[name]):
                    self._prove(name, workers[name], ready[name])
        return [Slot(case, self.children[name]) for name in crew if name not in self.dead for case in workers[name]]

    def _prove(self, name: str, cases: list[Case], ready: dict[str, Any]) -> None:
        """Probe, build, first call, and the proof of what will be timed; Disagrees where one fails."""
        case, running, parity_set = cases[0], self.children[name], self.proof()
        passes = [one.pass_ for one in cases]
        rate = not self.place["round"] and FRAMEWORKS[case.framework].peer  # the null Net does nothing, and says so
        probed = running.ask("probe", how=how(case), rate=rate)
        gate.refuse(gate.precision_fault(case, probed["precision"]))
        errors: dict[str, dict[str, float]] = {}
        manifest: dict[str, Any] | None = None
        first: dict[str, int] = {}
        for proof in parity_set.proofs(case.batch, case.precision):
            with self._prover(name, dataclasses.replace(case, precision=proof.precision)) as prover:
                asked = building(case, parity_set.folder, batch=proof.batch, precision=proof.precision)
                identity = prover.ask("build", **asked)
                # logits before the first training pass, which moves BatchNorm's statistics
                first = {}
                checks: list[dict[str, Any]] = []
                for pass_, what in (("forward", "logits"), ("forward_backward", "gradients")):
                    if pass_ in passes:
                        first[pass_] = prover.ask("first_call", pass_=pass_)["ns"]
                    if pass_ in passes or what == "logits":
                        proved = prover.ask("verify", what=[what], thorough=False)
                        checks, manifest = checks + proved["checks"], proved["gradients"] or manifest
            checks = parity.judge(checks, proof.limits)
            errors[proof.precision] = gate.worst_errors(checks)
            gate.refuse(gate.value_fault(checks))
        if case.dropout:  # proven off and timed on: with it there is no one right answer
            running.ask("build", **building(case, parity_set.folder, dropout=True))
            first = {pass_: running.ask("first_call", pass_=pass_)["ns"] for pass_ in passes}
        overhead = statistics.median(running.ask("overhead", n=1000)["ns"])
        self.conditions[name] = running.ask("conditions")
        threads = case.threads or self.owner.conditions.threads
        gate.refuse(gate.place_fault(case, threads, self.conditions[name]))
        reported = running.ask("layers")["layers"]
        net = case.net
        gate.refuse("; ".join(layers.differences(net, layers.table(net), {case.framework: reported})[:1]))
        self.journal.add(
            "worker",
            **self.place,
            worker=name,
            case_ids=[one.id for one in cases],
            versions=ready["versions"],
            python=ready["python"],
            identity=identity,
            parity=errors[case.precision],
            parity_fp32=errors["fp32"],
            gradients=manifest,
            precision=probed["precision"],
            gemm_gflop_per_s=probed["gemm_gflop_per_s"],
            conditions=self.conditions[name],
            first_call_ns=None if self.place["round"] else first,
            overhead_ns=overhead,
        )
        if not self.place["round"]:
            self.journal.add("layers", rows=layers.recorded(case, reported))

    @contextmanager
    def _prover(self, name: str, case: Case) -> Iterator[Child]:
        """The Worker itself; for the fp32 proof of a tf32 one a Worker of its own, since tf32 is set for a process."""
        if case.process_precision == self.children[name].precision:
            yield self.children[name]
            return
        prover, _ = self.owner.conditions.start(f"{self.children[name].name}-fp32", case, self.logs)
        try:
            yield prover
        finally:
            prover.kill()

    def _burn_in(self, slot: Slot) -> None:
        """At least ``burn_in`` iterations, then on until the series is steady; stored apart from samples."""
        rules, began = self.protocol, time.monotonic()
        self.owner.tell("burn_in", case=slot.case, **self.place)
        start_ns: list[int] = []
        ns: list[int] = []
        stop = "count"
        while len(ns) < rules.burn_in:  # a few at a time: one request must answer within its limit
            got = slot.child.ask("measure", pass_=slot.case.pass_, n=min(10, rules.burn_in - len(ns)))
            start_ns += got["start_ns"]
            ns += got["ns"]
        while rules.gate:
            if steady(ns, window=rules.gate_window, ratio=rules.gate_ratio):
                stop = "gate"
                break
            if len(ns) >= rules.burn_in_cap or time.monotonic() - began > rules.burn_in_cap_s:
                stop = "cap"
                break
            got = slot.child.ask("measure", pass_=slot.case.pass_, n=1)
            start_ns += got["start_ns"]
            ns += got["ns"]
        slot.burn_in_ns = ns
        self.journal.add("burn_in", **self.place, case_id=slot.case.id, start_ns=start_ns, ns=ns, stop=stop)

    def _turn(self, slot: Slot, n: int, *, lead: int, cycle: int) -> list[int]:
        before = host.snapshot()
        got = slot.child.ask("measure", pass_=slot.case.pass_, n=n + lead)
        noise = host.noise(before, host.snapshot(), got["cpu_s"])
        self.journal.add(
            "turn",
            **self.place,
            case_id=slot.case.id,
            cycle=cycle,
            lead=lead,
            start_ns=got["start_ns"],
            ns=got["ns"],
            cpu_s=got["cpu_s"],
            nivcsw=got["nivcsw"],
            noise=noise,
        )
        self.owner.tell("turn", case=slot.case, ns=got["ns"][lead:], **self.place)
        return got["ns"]

    def _cycles(self, slots: list[Slot]) -> None:
        """Mirrored cycles of Turns: a random order of the slots, then the same order backwards."""
        slots = [slot for slot in slots if slot.case.worker not in self.dead]
        if not slots:
            return
        length = self.protocol.turn_length([statistics.median(slot.burn_in_ns) for slot in slots])
        spent, before = 0.0, None
        for cycle, turn in enumerate(self.protocol.cycles(length)):
            order = self.owner.random.sample(slots, len(slots))
            for slot in order + order[::-1]:
                if slot.case.worker in self.dead:
                    continue
                # the first iteration after a switch is up to 8 % slow; one that fills a Turn by itself may be
                lead = int(length > 1 and slot is not before)
                with self._faults(slot.case.worker, [one.case for one in slots if one.child is slot.child]):
                    spent += sum(self._turn(slot, turn, lead=lead, cycle=cycle)) / 1e9
                before = slot
            if spent > self.protocol.block_cap_s * len(slots):
                break

    def _straight(self, slots: list[Slot]) -> None:
        """The classic protocol: for each Pass its burn-in, then all its iterations, ten at a time."""
        for slot in slots:
            with self._faults(slot.case.worker, [one.case for one in slots]):
                if slot.case.worker not in self.dead:
                    self._burn_in(slot)
                    for done in range(0, self.protocol.iterations, 10):
                        self._turn(slot, min(10, self.protocol.iterations - done), lead=0, cycle=done // 10)

    def _finish(self, name: str, cases: list[Case]) -> None:
        """Is what was timed still equal, under the conditions it began with? Memory; then the Worker leaves."""
        what = {"forward": "logits", "forward_backward": "gradients"}
        got = self.children[name].ask("finish", what=[what[case.pass_] for case in cases])
        changed = gate.changed(self.conditions[name], got["conditions"])
        limits = self.proof().proofs(cases[0].batch, cases[0].precision)[-1].limits
        fault = gate.value_fault(parity.judge(got["checks"], limits))
        for case in cases:
            self.journal.add(
                "block",
                **self.place,
                case_id=case.id,
                fault=fault,
                changed=changed,
                peak_memory=got["peak_memory"],
            )
        self.children[name].end()


class Repeat(Exception):
    """The Round is void and is run once more."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
