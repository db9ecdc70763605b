"""What one Worker goes through before it is timed: probes, build, first calls, and the proof of what will be timed."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cases import layer_table
from bench.cases.case import Case
from bench.cases.passes import PASSES, methods_called, proven_with
from bench.controller import gate, parity
from bench.controller.settings import WorkerSettings, build_of, build_request
from bench.controller.worker_process import RunningWorker, WorkerProcess
from bench.worker.messages import CallFirst, DescribeLayers, MeasureOverhead, ReadConditions, Verify
from bench.worker.replies import (
    Check,
    CheckKind,
    Conditions,
    GradientCount,
    Identity,
    LayerReport,
    Output,
    PrecisionProbe,
)
from impls import FRAMEWORKS

#: What a group is held against, computed when it is first asked for.
Reference = Callable[[], parity.ParitySet]


@dataclasses.dataclass(frozen=True)
class Proven:
    """What was found of one Worker: the Net it holds, errors against float64 by kind, and under which conditions.

    ``proven`` is False for a user's own net that takes no weights of ours. ``layers`` are what the framework reports,
    none of a guest.
    """

    identity: Identity
    proven: bool
    parity: dict[CheckKind, float]
    parity_fp32: dict[CheckKind, float]
    gradients: GradientCount | None
    precision: dict[str, PrecisionProbe]
    numpy_gflop_per_s: float | None
    conditions: Conditions
    first_call_ns: dict[str, int]
    overhead_ns: list[int]
    layers: list[LayerReport]

    @property
    def median_overhead_ns(self) -> float:
        return statistics.median(self.overhead_ns)

    @property
    def p99_overhead_ns(self) -> int:
        return sorted(self.overhead_ns)[len(self.overhead_ns) * 99 // 100]


def prove(
    worker: RunningWorker,
    cases: list[Case],
    parity_set: parity.ParitySet,
    settings: WorkerSettings,
    logs: Path,
    *,
    first: bool,
) -> Proven:
    """Probe, build, first call, and hold every value against the reference; Disagrees where something is not as asked.

    ``first`` is a Run's first Round, the only one in which the Net's cost beside others' is looked at. A user's own net
    that does not take our weights is built and called, and cannot be proven.
    """
    case, passes, guest, process = cases[0], [case.pass_ for case in cases], settings.guest(cases[0]), worker.process
    precision = worker.precision(build_of(case))
    gate.refuse(gate.precision_fault(case, precision))
    errors: dict[str, dict[CheckKind, float]] = {}
    gradients: GradientCount | None = None
    first_ns: dict[str, int] = {}
    proven = guest is None or guest.takes_weights
    needed = methods_called(passes, proven=proven)
    for proof in parity_set.proofs(case.batch, case.precision, gate.precision_shown(case, precision)) if proven else ():
        with prover_for(process, dataclasses.replace(case, precision=proof.precision), settings, logs) as prover:
            how = dataclasses.replace(build_of(case), batch=proof.batch, precision=proof.precision)
            identity = prover.ask(build_request(case, parity_set.folder, guest, how, needed))
            first_ns = {}
            checks: list[Check] = []
            for each in proven_with(passes):
                if each.name in passes:
                    first_ns[each.name] = prover.ask(CallFirst(each.method))
                verified = prover.ask(Verify([Output(each.proof)], thorough=False))
                checks, gradients = checks + verified.checks, verified.gradients or gradients
        judged = parity.judge(checks, proof.limits)
        errors[proof.precision] = gate.worst_errors(judged)
        gate.refuse(gate.value_fault(judged))
    if case.dropout or not proven:  # proven off and timed on: with it there is no one right answer
        how = dataclasses.replace(build_of(case), dropout=case.dropout)
        identity = process.ask(build_request(case, parity_set.folder, guest, how, needed))
        first_ns = {pass_: process.ask(CallFirst(PASSES[pass_].method)) for pass_ in passes}
    numpy_rate = worker.numpy_rate() if first and judged_by_numpy(case) else None
    overhead_ns = process.ask(MeasureOverhead(1000))
    conditions = process.ask(ReadConditions())
    gate.refuse(gate.place_fault(case, settings.pinned_threads(case), conditions))
    reported = process.ask(DescribeLayers())
    net = case.net
    if guest is None or (reported and proven):  # one that is not proven may be another net
        gate.refuse("; ".join(layer_table.differences(net, layer_table.table(net), {case.framework: reported})[:1]))
    return Proven(
        identity=identity,
        proven=proven,
        parity=errors.get(case.precision, {}),
        parity_fp32=errors.get("fp32", {}),
        gradients=gradients,
        precision=precision,
        numpy_gflop_per_s=numpy_rate,
        conditions=conditions,
        first_call_ns=first_ns,
        overhead_ns=overhead_ns,
        layers=reported if guest is None else [],
    )


def judged_by_numpy(case: Case) -> bool:
    """Whether numpy's product can be held against a pass: in fp32 on the CPU, where the framework is not the only
    witness of its own speed. The null Net does nothing, and says so."""
    return (case.device, case.precision) == ("cpu", "fp32") and FRAMEWORKS[case.framework].peer


@contextmanager
def prover_for(process: WorkerProcess, case: Case, settings: WorkerSettings, logs: Path) -> Iterator[WorkerProcess]:
    """The Worker itself; for the fp32 proof of a tf32 one a Worker of its own, since tf32 is set for a process."""
    if case.process_precision == process.launch.settings.precision:
        yield process
        return
    prover = settings.start(f"{process.name}-fp32", case, logs).process
    try:
        yield prover
    finally:
        prover.kill()
