"""Tables of conditions: settings of each Worker and whether they are equal, the machine, the Protocol."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from bench.cases.case import Case
from bench.output.labels import label_of
from bench.output.tables import Cell, Column, Table
from bench.record.columns import Row, Rows
from bench.record.conditions import conditions_of
from bench.record.events import BurnIn, Control
from bench.record.run import Run
from bench.record.validity import on_off
from bench.worker.replies import CheckKind

#: Conditions that a Worker reads back if it has them; XLA, for one, has no oneDNN switch.
PROBED = ("Python", "threads", "oneDNN", "TF32", "matmul, probed", "convolution, probed")
#: Conditions that must be equal in all Workers.
SHARED = (*PROBED, "preset", "environment")
#: Names of fields of the fingerprint, if not the field's own.
FIELD_NAMES = {"load_1min": "load, 1 minute", "memory_mib": "memory MiB", "alexnet_bench": "alexnet-bench"}
#: Readings of the controller before and after the cycles of each Round.
AROUND_TURNS = {
    "load around the turns": "load1",
    "CPU MHz around the turns": "mhz",
    "CPU °C around the turns": "temp_c",
}
PARITY = (CheckKind.LOGITS, CheckKind.LOSS, CheckKind.GRADIENT)


def table(run: Run, rows: Rows) -> Table:
    """Table of conditions: one line per condition, one column per Worker with different conditions."""
    workers: dict[tuple[str, ...], Case] = {}
    for case in run.cases:
        key = (
            label_of(dataclasses.replace(case, loader=None)),
            case.device,
            case.precision,
            rows[case.id]["conditions_hash"],
        )
        workers.setdefault(key, case)
    apart = len({key[1:3] for key in workers}) > 1
    columns = [Column("condition"), Column("equal")]
    columns += [Column(f"{key[0]}, {key[1]}, {key[2]}" if apart else key[0], long=True) for key in workers]
    facts = [_facts(run, case, rows[case.id]) for case in workers.values()]
    body = []
    for what in facts[0]:
        values = [worker[what] for worker in facts]
        if set(values) != {""}:
            body.append([Cell(what), Cell(compare_values(what, values)), *map(Cell, values)])
    return Table("Conditions of each Worker, as it read them back", columns, body)


def compare_values(what: str, values: list[str]) -> str:
    """Return whether a condition is equal in all Workers, empty for one Worker. An empty value counts as different only
    if the condition is set by the controller, not read back."""
    if len(values) < 2:
        return ""
    if len(set(values)) == 1:
        return "equal"
    if what not in SHARED:
        return "may differ"
    return "equal where known" if what in PROBED and len(set(values) - {""}) == 1 else "unequal"


def _facts(run: Run, case: Case, row: Row) -> dict[str, str]:
    """Conditions of one Case's Worker, as text."""
    held = conditions_of(run, case)
    facts = {
        "versions": _listed(held.versions),
        "Python": held.python,
        "device": held.device,
        "threads": held.threads,
        "oneDNN": on_off(held.onednn),
        "TF32": on_off(held.tf32),
        "matmul, probed": row["precision_matmul"],
        "convolution, probed": row["precision_conv"],
        "layout": held.layout,
        "LRN": None if case.foreign else case.lrn,
        "preset": None if case.foreign else case.preset,
        "environment": _environment(held.env),
        "slowed down on purpose": held.slowdown and f"{held.slowdown} %",
        **{f"error against float64: {kind}": _off(run, case, kind, "parity") for kind in PARITY},
        **_evidence(run, case),
        "net": held.net,
        "file of the net, sha256": held.guest and held.guest[:16],
        "libraries": ", ".join(library.name for library in held.libraries or ()),
        "conditions hash": row["conditions_hash"],
    }
    return {what: "" if value in (None, "") else str(value) for what, value in facts.items()}


def _evidence(run: Run, case: Case) -> dict[str, str | None]:
    """Further evidence for a row: the net in fp32, its gradients, and an idle device after each ``wait``."""
    worker = next(iter(run.workers(case)), None)
    syncs = [burn_in.sync for burn_in in run.counted(BurnIn) if burn_in.case_id == case.id and burn_in.sync]
    worst = max(syncs, key=lambda sync: sync.copy_ns / sync.allowed_ns, default=None)
    count, in_fp32 = worker and worker.gradients, PARITY if case.precision != "fp32" else ()
    return {
        **{f"the same net in fp32: {kind}": _off(run, case, kind, "parity_fp32") for kind in in_fp32},
        "gradients": f"{count.parameters} of parameters, {count.others} others" if count else None,
        "copy after wait": f"{worst.copy_ns / 1e6:.2g} ms, allowed {worst.allowed_ns / 1e6:.2g}" if worst else None,
        "its own switches": _listed(worker.conditions.switches) if worker else None,
    }


def _off(run: Run, case: Case, kind: CheckKind, which: str) -> str | None:
    """Relative L2 error against float64, the largest of the Worker's Rounds."""
    known = [error for worker in run.workers(case) if (error := getattr(worker, which).get(kind)) is not None]
    return f"{max(known):.1e}" if known else None


def _listed(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (values or {}).items() if value is not None)


def _environment(given: Mapping[str, str | None]) -> str:
    """Variables passed to the Worker; one side of an --ab may lack one."""
    return ", ".join(f"without {name}" if value is None else f"{name}={value}" for name, value in given.items())


def machine(run: Run) -> list[tuple[str, str]]:
    """Return names and values of the fingerprint, then readings around the turns."""
    known = {name: value for name, value in structs.asdict(run.head.fingerprint).items() if value not in (None, {})}
    facts = [(FIELD_NAMES.get(name, name.replace("_", " ")), _words(value)) for name, value in known.items()]
    for title, name in AROUND_TURNS.items():
        if values := [value for control in run.counted(Control) if (value := getattr(control, name)) is not None]:
            facts.append((title, " to ".join(dict.fromkeys(map(_words, (min(values), max(values)))))))
    return facts


def protocol(run: Run) -> list[tuple[str, str]]:
    """Return names and values of the Protocol, as text, with its hash."""
    held = run.protocol
    if run.head.ingested:
        return [("measured by", run.head.ingested.described), ("sessions", str(held.rounds))]
    turns = "fresh Workers, in mirrored order" if held.paired else "none: one framework after the other (classic)"
    fewer = "" if held.least_iterations is None else f", with at least {held.least_iterations} iterations"
    least = f"{held.burn_in}"
    if held.burn_in_later is not None:
        least += f" in the first Round and {held.burn_in_later} in later ones"
    burn_in = f"at least {least}, until steady, at most {held.burn_in_cap}" if held.gate else least
    most = "" if held.target_ci is None else "at most "
    lengths = _words(held.turn_lengths)
    facts = {
        "turns": "all rows in the same Workers of a Round" if held.shared_workers else turns,
        "Rounds": f"{most}{held.rounds}, of {held.iterations} iterations per case",
        "burn-in": f"{burn_in} iterations per case and Round",
        "length of a turn": f"the fewest of {lengths} iterations that fill {held.turn_ms:g} ms" if held.paired else "",
        "stops at": "" if held.target_ci is None else f"95 % intervals within ± {100 * held.target_ci:g} %",
        "longest": "" if held.max_time_s is None else f"{held.max_time_s:g} s{fewer}",
        "a Round disturbed by noise": f"is repeated, at most {held.noise_repeats} times" if held.paired else "",
        "seed": str(held.seed),
        "hash": held.hash,
    }
    return [(what, text) for what, text in facts.items() if text]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return _listed(value)
    if isinstance(value, float):
        return f"{value:.1f}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
