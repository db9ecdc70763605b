"""Validate a Worker before timing: precision probes, build, first calls, numerical verification."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.cases import layer_table
from bench.cases.case import Case
from bench.cases.passes import PASSES, proven_with, resident_in
from bench.controller import gate, parity
from bench.controller.running_worker import RunningWorker
from bench.controller.settings import WorkerSettings, build_of, build_request
from bench.controller.team import Team
from bench.controller.worker_process import WorkerProcess
from bench.record import events
from bench.record.events import Place
from bench.worker.guest import Guest
from bench.worker.messages import (
    CallFirst,
    CountParams,
    DescribeLayers,
    ListLacking,
    MeasureOverhead,
    ReadConditions,
    Verify,
)
from bench.worker.replies import (
    Check,
    CheckKind,
    GradientCount,
    LayerReport,
    Output,
)
from impls import FRAMEWORKS

OVERHEADS = 1000  # empty iterations
NO_PARAMETERS = "it has no trainable parameters, so no backward pass: choose --pass forward"
#: The parity set of a group, computed at the first call.
Reference = Callable[[], parity.ParitySet]


class Proven(NamedTuple):
    """A Worker that is ready to be timed, the layers that its framework reports, none for a user's net, and by the ids
    of Cases that it cannot run the events that say why."""

    worker: events.Worker
    reported: list[LayerReport]
    unable: dict[str, events.Failed | events.Absent]


def prove(
    worker: RunningWorker,
    cases: list[Case],
    place: Place,
    parity_set: parity.ParitySet,
    settings: WorkerSettings,
    logs: Path,
    *,
    again: bool = False,
) -> Proven:
    """Probe precision, build, make the first calls and compare every value with the reference.

    ``again`` is for a Worker like one that was proven: its values are compared in timed iterations only, and its
    layers are not described. Numpy's matrix rate is measured in a Run's first Round only. A user's net that does not
    take our weights is built and called only. Raises Disagrees if something is not as asked.
    """
    began = time.monotonic()
    case, passes, guest, process = cases[0], _passes(cases), settings.guest(cases[0]), worker.process
    probes = worker.precision(build_of(case))
    gate.refuse(gate.precision_fault(case, probes))
    errors: dict[str, dict[CheckKind, float]] = {}
    gradients: GradientCount | None = None
    first_ns: dict[str, int] = {}
    proven, unable = guest is None or guest.takes_weights, dict[str, events.Failed | events.Absent]()
    proofs = parity_set.proofs(case.batch, case.precision, gate.precision_shown(case, probes)) if proven else []
    for proof in [] if again else proofs:
        with prover_for(process, dataclasses.replace(case, precision=proof.precision), settings, logs) as prover:
            how = dataclasses.replace(build_of(case), batch=proof.batch, precision=proof.precision)
            identity = prover.ask(build_request(case, parity_set.folder, guest, how, passes))
            cases, passes = _able(prover, guest, cases, unable)
            first_ns = {}
            checks: list[Check] = []
            for pass_ in proven_with(passes):
                if pass_.name in passes:
                    first_ns[pass_.name] = prover.ask(CallFirst(pass_.method))
                verified = prover.ask(Verify([Output(pass_.proof)], thorough=False, target=proof.target))
                checks, gradients = checks + verified.checks, verified.gradients or gradients
        judged = parity.judge(checks, proof.limits)
        errors[proof.precision] = gate.worst_errors(judged)
        gate.refuse(gate.value_fault(judged))
    if case.dropout or again or not proven:  # dropout: proven without and timed with it, its results are random
        how = dataclasses.replace(build_of(case), dropout=case.dropout)
        identity = process.ask(build_request(case, parity_set.folder, guest, how, passes, proven=proven))
        cases, passes = _able(process, guest, cases, unable)
        if guest and guest.model and not guest.part and not process.ask(CountParams()):
            trained = (case.id for case in cases if PASSES[case.pass_].training)
            unable |= {case_id: events.Failed(case_id, NO_PARAMETERS) for case_id in trained}
            cases = [case for case in cases if case.id not in unable]
            passes = _passes(cases)
            gate.refuse("" if cases else NO_PARAMETERS)
        # training first: parameters that a call makes in inference mode have no gradient
        order = passes if proven else sorted(passes, key=lambda name: not PASSES[name].training)
        first_ns = {name: process.ask(CallFirst(PASSES[name].method)) for name in order}
    if not proven:  # what it computes is not the variant
        identity = dataclasses.replace(identity, params=process.ask(CountParams()), macs=None)
    numpy_rate = worker.numpy_rate() if not place.round and judged_by_numpy(case) else None
    overhead_ns = sorted(process.ask(MeasureOverhead(OVERHEADS, PASSES[passes[0]].method)))
    conditions = process.ask(ReadConditions())
    gate.refuse(gate.place_fault(case, settings.pinned_threads(case), conditions))
    reported = [] if again else process.ask(DescribeLayers())
    net = case.on_each
    if not again and (guest is None or (reported and proven)):  # a net that is not proven may have other layers
        gate.refuse("; ".join(layer_table.differences(net, layer_table.table(net), {case.framework: reported})[:1]))
    ready = worker.ready()
    event = events.Worker(
        *place,
        worker=case.worker,
        case_ids=[case.id for case in cases],
        versions=ready.versions,
        python=ready.python,
        compile_cache=worker.compile_cache,
        identity=identity,
        proven=proven,
        parity=errors.get(case.precision, {}),
        parity_fp32=errors.get("fp32", {}),
        gradients=gradients,
        precision=events.Precision(**probes),
        numpy_gflop_per_s=numpy_rate,
        conditions=conditions,
        first_call_ns=first_ns,
        overhead_ns=statistics.median(overhead_ns),
        overhead_p99_ns=overhead_ns[OVERHEADS * 99 // 100],
        proof_s=time.monotonic() - began,
    )
    return Proven(event, reported if guest is None else [], unable)


def _able(
    process: WorkerProcess | Team,
    guest: Guest | None,
    cases: list[Case],
    unable: dict[str, events.Failed | events.Absent],
) -> tuple[list[Case], list[str]]:
    """Of these Cases those that the Net has the methods for, with their passes; to ``unable`` the others are added."""
    if guest and (names := process.ask(ListLacking())):
        why = "a model has no training step, only a Net with" if guest.model else "it has no"
        why = f"{why} {', '.join(names)} (docs/adding.md)"
        unable |= {case.id: events.Absent(case.id, why) for case in cases if PASSES[case.pass_].updates}
        cases = [case for case in cases if case.id not in unable]
        gate.refuse("" if cases else why)
    return cases, _passes(cases)


def _passes(cases: list[Case]) -> list[str]:
    """The passes of the Net that these Cases time, with a loader or without."""
    return resident_in(case.pass_ for case in cases)


def judged_by_numpy(case: Case) -> bool:
    """Whether numpy's matrix rate is a reference for a pass that the framework itself has no part in: in fp32 on the
    CPU, the null Net excepted."""
    return (case.device, case.precision) == ("cpu", "fp32") and FRAMEWORKS[case.framework].peer


@contextmanager
def prover_for(
    process: WorkerProcess | Team, case: Case, settings: WorkerSettings, logs: Path
) -> Iterator[WorkerProcess | Team]:
    """Yield the Worker that verifies: the Worker itself, or for the fp32 proof of tf32, which is set per process, a new
    one."""
    if case.process_precision == process.launch.settings.precision:
        yield process
        return
    prover = settings.start(f"{process.name}-fp32", case, logs).process
    try:
        yield prover
    finally:
        prover.kill()
