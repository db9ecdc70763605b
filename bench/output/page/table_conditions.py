"""Tables of conditions: what each Worker was measured under, whether all were alike, and the machine."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from bench.cases.case import Case
from bench.output.labels import label_of
from bench.output.results_table import Rows
from bench.output.tables import Cell, Column, Table
from bench.record import conditions
from bench.record.events import BurnIn, Control
from bench.record.run import Run
from bench.worker.replies import CheckKind

#: What a Worker says of itself, or does not: XLA has no oneDNN to switch.
PROBED = ("Python", "threads", "oneDNN", "TF32", "matmul, probed", "convolution, probed")
#: What all Workers must share; the rest each has of its own.
SHARED = (*PROBED, "preset", "environment")
#: Of the fingerprint, what its names alone do not say well.
SPOKEN = {"load_1min": "load, 1 minute", "memory_mib": "memory MiB", "alexnet_bench": "alexnet-bench"}
#: What the controller read of the machine before and after the cycles of each Round.
BESIDE_TURNS = {"load beside the turns": "load1", "CPU MHz beside the turns": "mhz", "CPU °C beside them": "temp_c"}
PARITY = (CheckKind.LOGITS, CheckKind.LOSS, CheckKind.GRADIENT)


def table(run: Run, found: Rows) -> Table:
    """A line a condition, a column for each Worker that had conditions of its own."""
    workers: dict[tuple[str, ...], Case] = {}
    for case in run.cases:
        key = (label_of(case), case.device, case.precision, found[case.id]["conditions_hash"])
        workers.setdefault(key, case)
    apart = len({key[1:3] for key in workers}) > 1
    columns = [Column("condition"), Column("alike")]
    columns += [Column(f"{key[0]}, {key[1]}, {key[2]}" if apart else key[0], long=True) for key in workers]
    facts = [_facts(run, case, found[case.id]) for case in workers.values()]
    body = []
    for what in facts[0]:
        values = [one[what] for one in facts]
        if set(values) != {""}:
            body.append([Cell(what), Cell(compare_values(what, values)), *map(Cell, values)])
    return Table("What each Worker was measured under, as it read it back", columns, body)


def compare_values(what: str, values: list[str]) -> str:
    """What a framework does not say is no difference; of what a Worker was given, nothing is a value too."""
    if len(values) < 2:
        return ""
    if len(set(values)) == 1:
        return "equal"
    if what not in SHARED:
        return "each its own"
    return "equal where said" if what in PROBED and len(set(values) - {""}) == 1 else "unequal"


def _facts(run: Run, case: Case, row: Mapping[str, Any]) -> dict[str, str]:
    """Of one Case's Worker, in words."""
    held = conditions.conditions(run, case)
    facts = {
        "versions": _listed(held["versions"]),
        "Python": held["python"],
        "device": held["device"],
        "threads": held["threads"],
        "oneDNN": _switch(held["onednn"]),
        "TF32": _switch(held["tf32"]),
        "matmul, probed": row["precision_matmul"],
        "convolution, probed": row["precision_conv"],
        "layout": held["layout"],
        "LRN": None if case.foreign else case.lrn,
        "preset": None if case.foreign else case.preset,
        "environment": _environment(held["env"]),
        "slowed down on purpose": held["slowdown"] and f"{held['slowdown']} %",
        **{f"off from float64: {kind}": _off(run, case, kind, "parity") for kind in PARITY},
        **_evidence(run, case),
        "net": held["net"],
        "file of the net, sha256": held["guest"] and held["guest"][:16],
        "libraries": ", ".join(str(one.get("name")) for one in held["libraries"] or ()),
        "conditions hash": row["conditions_hash"],
    }
    return {what: "" if value in (None, "") else str(value) for what, value in facts.items()}


def _evidence(run: Run, case: Case) -> dict[str, str | None]:
    """What else speaks for a row: its net in fp32, its gradients, and that the device was idle after each ``wait``."""
    worker = next(iter(run.workers(case)), None)
    syncs = [burn_in.sync for burn_in in run.counted(BurnIn) if burn_in.case_id == case.id]
    worst = max(syncs, key=lambda sync: sync.copy_ns / sync.allowed_ns, default=None)
    count, in_fp32 = worker and worker.gradients, PARITY if case.precision != "fp32" else ()
    return {
        **{f"the same net in fp32: {kind}": _off(run, case, kind, "parity_fp32") for kind in in_fp32},
        "gradients": f"{count.parameters} of parameters, {count.others} others" if count else None,
        "copy after wait": f"{worst.copy_ns / 1e6:.2g} ms, allowed {worst.allowed_ns / 1e6:.2g}" if worst else None,
        "its own switches": _listed(worker.conditions.switches) if worker else None,
    }


def _off(run: Run, case: Case, kind: CheckKind, which: str) -> str | None:
    """Relative L2 error against float64, the worst of the Worker's Rounds."""
    known = [error for worker in run.workers(case) if (error := getattr(worker, which).get(kind)) is not None]
    return f"{max(known):.1e}" if known else None


def _listed(found: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (found or {}).items() if value is not None)


def _environment(given: Mapping[str, str | None]) -> str:
    """Variables that were let through; of an --ab one side may be without."""
    return ", ".join(f"without {name}" if value is None else f"{name}={value}" for name, value in given.items())


def _switch(value: Any) -> Any:
    return ("off", "on")[value] if isinstance(value, bool) else value


def machine(run: Run) -> list[tuple[str, str]]:
    """The fingerprint, name and value."""
    said = {name: value for name, value in structs.asdict(run.head.fingerprint).items() if value not in (None, {})}
    facts = [(SPOKEN.get(name, name.replace("_", " ")), _words(value)) for name, value in said.items()]
    for title, name in BESIDE_TURNS.items():
        if known := [value for control in run.counted(Control) if (value := getattr(control, name)) is not None]:
            facts.append((title, " to ".join(dict.fromkeys(map(_words, (min(known), max(known)))))))
    return facts


def protocol(run: Run) -> list[tuple[str, str]]:
    """How it was measured, in words, then the hash of all that shapes a sample."""
    held = run.protocol
    if run.head.ingested:
        return [("measured by", run.head.ingested.source), ("sessions", str(held.rounds))]
    turns = "fresh Workers, in mirrored order" if held.paired else "none: one framework after the other (classic)"
    burn_in = f"at least {held.burn_in}, until steady, at most {held.burn_in_cap}" if held.gate else f"{held.burn_in}"
    most = "" if held.target_ci is None else "at most "
    lengths = _words(held.turn_lengths)
    said = {
        "turns": "all rows go through the Workers of a Round" if held.shared_workers else turns,
        "Rounds": f"{most}{held.rounds}, of {held.iterations} iterations a case",
        "burn-in": f"{burn_in} iterations a case and Round",
        "length of a turn": f"the fewest of {lengths} iterations that fill {held.turn_ms:g} ms" if held.paired else "",
        "stops at": "" if held.target_ci is None else f"95 % intervals within ± {100 * held.target_ci:g} %",
        "longest": "" if held.max_time_s is None else f"{held.max_time_s:g} s",
        "a Round that noise spoils": f"is measured again, at most {held.noise_repeats} times" if held.paired else "",
        "seed": str(held.seed),
        "hash": held.hash,
    }
    return [(what, text) for what, text in said.items() if text]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return _listed(value)
    if isinstance(value, float):
        return f"{value:.1f}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
