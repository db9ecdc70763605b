"""What one Worker goes through before it is timed: probes, build, first calls, and the proof of what will be timed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cases import layer_table
from bench.cases.case import Case
from bench.cases.passes import PASSES, proven_with
from bench.controller import gate, parity
from bench.controller.pool import WorkerSettings, building, how
from bench.controller.worker_process import WorkerProcess
from impls import FRAMEWORKS

#: What a group is held against, computed when it is first asked for.
Reference = Callable[[], parity.ParitySet]


@dataclasses.dataclass(frozen=True)
class Proven:
    """Of one Worker: the fields of its ``worker`` event, and what the framework reports of its layers."""

    facts: dict[str, Any]
    layers: list[dict[str, Any]]

    @property
    def conditions(self) -> dict[str, Any]:
        return self.facts["conditions"]


def prove(
    running: WorkerProcess,
    cases: list[Case],
    parity_set: parity.ParitySet,
    conditions: WorkerSettings,
    logs: Path,
    *,
    first: bool,
) -> Proven:
    """Probe, build, first call, and hold every value against the reference; Disagrees where something is not as asked.

    ``first`` is a Run's first Round, the only one in which the Net's cost beside others' is looked at. A user's own net
    that does not take our weights is built and called, and cannot be proven.
    """
    case, passes, theirs = cases[0], [one.pass_ for one in cases], conditions.guest(cases[0])
    precision = running.probed = running.probed or running.ask("probe", how=how(case))["precision"]
    gate.refuse(gate.precision_fault(case, precision))
    errors: dict[str, dict[str, float]] = {}
    manifest: dict[str, Any] | None = None
    first_ns: dict[str, int] = {}
    proven = theirs is None or theirs.takes_weights
    for proof in parity_set.proofs(case.batch, case.precision, gate.shown(case, precision)) if proven else ():
        with prover_for(running, dataclasses.replace(case, precision=proof.precision), conditions, logs) as prover:
            request = building(case, parity_set.folder, theirs, batch=proof.batch, precision=proof.precision)
            identity = prover.ask("build", **request)
            first_ns = {}
            checks: list[dict[str, Any]] = []
            for each in proven_with(passes):
                if each.name in passes:
                    first_ns[each.name] = prover.ask("first_call", pass_=each.method)["ns"]
                proved = prover.ask("verify", what=[each.proof], thorough=False)
                checks, manifest = checks + proved["checks"], proved["gradients"] or manifest
        checks = parity.judge(checks, proof.limits)
        errors[proof.precision] = gate.worst_errors(checks)
        gate.refuse(gate.value_fault(checks))
    if case.dropout or not proven:  # proven off and timed on: with it there is no one right answer
        identity = running.ask("build", **building(case, parity_set.folder, theirs, dropout=case.dropout))
        first_ns = {pass_: running.ask("first_call", pass_=PASSES[pass_].method)["ns"] for pass_ in passes}
    if first and judged_by_numpy(case):
        running.numpy_gflop_per_s = running.numpy_gflop_per_s or running.ask("numpy_rate")["gflop_per_s"]
    overhead_ns = sorted(running.ask("overhead", n=1000)["ns"])
    in_force = running.ask("conditions")
    gate.refuse(gate.place_fault(case, conditions.pinned_threads(case), in_force))
    reported = running.ask("layers")["layers"]
    net = case.net
    if theirs is None or (reported and proven):  # one that is not proven may be another net
        gate.refuse("; ".join(layer_table.differences(net, layer_table.table(net), {case.framework: reported})[:1]))
    facts = {
        "case_ids": [one.id for one in cases],
        "identity": identity,
        "proven": proven,
        "parity": errors.get(case.precision, {}),
        "parity_fp32": errors.get("fp32", {}),
        "gradients": manifest,
        "precision": precision,
        "numpy_gflop_per_s": running.numpy_gflop_per_s,
        "conditions": in_force,
        "first_call_ns": first_ns,
        "overhead_ns": statistics.median(overhead_ns),
        "overhead_p99_ns": overhead_ns[len(overhead_ns) * 99 // 100],
    }
    return Proven(facts, layer_table.recorded(case, reported) if theirs is None else [])


def judged_by_numpy(case: Case) -> bool:
    """Whether numpy's product can be held against a pass: in fp32 on the CPU, where the framework is not the only
    witness of its own speed. The null Net does nothing, and says so."""
    return (case.device, case.precision) == ("cpu", "fp32") and FRAMEWORKS[case.framework].peer


@contextmanager
def prover_for(running: WorkerProcess, case: Case, conditions: WorkerSettings, logs: Path) -> Iterator[WorkerProcess]:
    """The Worker itself; for the fp32 proof of a tf32 one a Worker of its own, since tf32 is set for a process."""
    if case.process_precision == running.precision:
        yield running
        return
    prover, _ = conditions.start(f"{running.name}-fp32", case, logs)
    try:
        yield prover
    finally:
        prover.kill()
