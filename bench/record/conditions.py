"""Work and conditions of a Case; Cases of two Runs are comparable if both are equal."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.cases.protocol import digest
from bench.record.recording import Recording

#: Fields of the fingerprint that may affect the speed of a pass.
MACHINE = ("host", "cpu", "system", "usable_cores", "affinity", "governor", "gpu_driver")
#: Fields of a Protocol that affect a sample; the number of Rounds and the stop rules do not.
SHAPING = "name burn_in iterations paired gate gate_window gate_ratio burn_in_cap turn_ms turn_lengths".split()
#: The fields that --allow may name.
COMPARABLE = (
    *MACHINE,
    *"device threads onednn tf32 layout libraries env slowdown versions python precision net guest".split(),
    *(f"protocol {name}" for name in SHAPING),
)


def work(case: Case) -> dict[str, Any]:
    """What is inside the clock, by field; rows are comparable only if it is equal."""
    net = case.net
    facts = dataclasses.asdict(case) | {"net": net.hash, "params": net.params, "macs": case.macs}
    for name in "framework mode layout lrn preset guest device threads variant size arm foreign".split():
        del facts[name]
    timed = PASSES.get(case.pass_)
    return facts | {"size": net.input_size, "clock": timed and timed.inside}


def conditions(run: Recording, case: Case) -> dict[str, Any]:
    """The settings in force while a Case was timed, by field; a difference may explain a ratio."""
    fingerprint, workers = run.head.fingerprint, run.workers(case)
    worker = workers[0] if workers else None
    facts = {name: getattr(fingerprint, name) for name in MACHINE}
    for name in ("device", "threads", "onednn", "tf32", "layout"):
        facts[name] = getattr(worker.conditions, name) if worker else None
    ab = run.head.ab.ab() if run.head.ab else None
    owner = case.guest, case.arm
    return facts | {
        "libraries": [dataclasses.asdict(library) for library in worker.conditions.libraries] if worker else None,
        "env": run.head.env | (ab.env(case.arm) if ab else {}),
        "slowdown": ab.value(case.arm) if ab and ab.slowdown(case.arm) else None,
        "versions": worker and worker.versions,
        "python": fingerprint.python if case.foreign else worker and worker.python,
        "precision": worker.precision.shown if worker else {},
        "net": worker and worker.identity.hash,
        "guest": next((guest.sha256 for guest in run.head.guests if (guest.label, guest.arm) == owner), None),
    }


def differing(base: Recording, candidate: Recording, case: Case, allow: Sequence[str] = ()) -> list[str]:
    """Conditions that differ between two Runs of a Case, one text per field, except those in ``allow``."""
    before, after = (_comparable(run, case) for run in (base, candidate))
    return [
        f"{name}: {_short(after[name])}, {_short(before[name])} in the baseline"
        for name in before
        if before[name] != after[name] and name not in allow
    ]


def _comparable(run: Recording, case: Case) -> dict[str, Any]:
    """Conditions, and the fields of the Protocol that shape a sample."""
    protocol = dataclasses.asdict(run.protocol)
    if case.foreign:  # pytest-benchmark calibrates how many iterations a session has
        del protocol["iterations"]
    return conditions(run, case) | {f"protocol {name}": protocol[name] for name in SHAPING if name in protocol}


def _short(value: Any) -> str:
    """A value as text, or as its hash if that is long (the libraries)."""
    text = str(value) if not isinstance(value, dict) else " ".join(f"{name} {item}" for name, item in value.items())
    return text if len(text) <= 80 else f"(hash {digest(value)[:8]})"
