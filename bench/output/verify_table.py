"""Results of `verify`: tables for the terminal, and JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.cases.case import Case
from bench.controller import dump, parity
from bench.controller.parity import Judged
from bench.output import console, run_table
from bench.worker.replies import CheckKind, Conditions, PrecisionProbe


@dataclass
class Against:
    """The file of --against: its name, its values, and their checks against float64."""

    name: str
    values: dump.Values
    precision: str
    checks: list[Judged] = field(default_factory=list)


@dataclass(frozen=True)
class CaseCheck:
    """One check of a Case."""

    case: Case
    check: Judged


@dataclass(frozen=True)
class VerifiedWorker:
    """A Worker in the precision of ``case``: its versions, and the precision and settings that it reported."""

    case: Case
    versions: Mapping[str, Any]
    probes: Mapping[str, PrecisionProbe]
    conditions: Conditions


def as_json(checks: Sequence[CaseCheck], workers: Iterable[VerifiedWorker], against: Against | None) -> dict[str, Any]:
    """The checks of every Case and of the file of --against, and each Worker with what it reported."""

    def named(case: Case, names: str) -> dict[str, Any]:
        return {name: getattr(case, name) for name in names.split()}

    rows = [named(row.case, "variant framework mode worker precision batch") | asdict(row.check) for row in checks]
    reports = [
        named(worker.case, "framework mode worker precision")
        | {"versions": worker.versions}
        | {"precision_found": {what: asdict(probe) for what, probe in worker.probes.items()}}
        | {"conditions": asdict(worker.conditions)}
        for worker in workers
    ]
    data: dict[str, Any] = {"checks": rows, "workers": reports}
    if against:
        own = [asdict(check) | {"precision": against.precision} for check in against.checks]
        data["against"] = {"file": against.name, "checks": own}
    return data


def print_checks(checks: Sequence[CaseCheck], against: Against | None = None) -> None:
    """One table per precision, one row per variant, Worker and batch: the worst error of each kind; then the failures.

    ``against`` replaced the reference; the last row is the file itself against float64.
    """
    out = console.console()
    own = against.checks if against else []
    reference = against.name if against else "float64"
    for precision in dict.fromkeys(row.case.precision for row in checks):
        groups: dict[tuple[str, ...], list[Judged]] = {}
        for row in (row for row in checks if row.case.precision == precision):
            key = (row.case.variant, row.case.worker.replace("-", " "), str(row.case.batch))
            groups.setdefault(key, []).append(row.check)
        if against and own and against.precision == precision:
            groups["", "the file to float64", ""] = own
        here = [check for group in groups.values() for check in group]
        # a norm is judged where a gradient may move far
        norms = {check.kind: check.tolerance or 0.0 for check in here if check.kind == CheckKind.NORM}
        absent = {CheckKind.CHANGE, CheckKind.VELOCITY} - {check.kind for check in here}  # of a file of another program
        absent.add(CheckKind.REDUCED)  # of a Team only, and there is no room for it
        limits = {kind: limit for kind, limit in (parity.LIMITS[precision] | norms).items() if kind not in absent}
        table = console.new_table(f"{precision}: relative L2 error against {reference}, worst array of its kind")
        kinds = [f"{kind}\n≤ {_short(limit, 0)}" for kind, limit in limits.items()]
        for heading in ("variant", "framework", "batch", *kinds, ""):
            table.add_column(heading, no_wrap=heading != "framework")  # its two words may take two lines
        for names, group in groups.items():
            if group is own:
                table.add_section()
            verdict = "equal" if all(check.ok for check in group) else "DIFFERS"
            table.add_row(*names, *(_worst(group, kind, limit) for kind, limit in limits.items()), verdict)
        out.print(table)
    for check in (check for check in own if not check.ok):
        out.print(f"{reference}, against float64: {check.description}", soft_wrap=True)
    for row in (row for row in checks if not row.check.ok):
        worker = row.case.worker.replace("-", " ")
        out.print(f"{row.case.variant} on {worker}: {row.check.description}", soft_wrap=True)


def _worst(checks: Iterable[Judged], kind: str, limit: float) -> str:
    """The worst error of a kind, and its tolerance where that is not ``limit``."""
    worst = max((check for check in checks if check.kind == kind), key=lambda check: check.excess, default=None)
    if worst is None or worst.error is None:
        return "none" if worst else "-"
    own = "" if worst.tolerance in (None, limit) else f" ≤ {_short(worst.tolerance, 0)}"
    return _short(worst.error, 1) + own


def _short(value: float, digits: int) -> str:
    """1.7e-6, without the zero that Python puts in: six columns of errors fit in a line of 100 characters."""
    return f"{value:.{digits}e}".replace("e-0", "e-")


def print_conditions(workers: Iterable[VerifiedWorker]) -> None:
    """The precision and settings that each Worker reported, one line per Worker."""
    for worker in workers:
        case, conditions = worker.case, worker.conditions
        facts = [f"{what} in {probe.precision} ({probe.error:.0e})" for what, probe in worker.probes.items()]
        if conditions.threads:
            facts.append(f"{conditions.threads} threads")
        if conditions.onednn is not None:
            facts.append(f"oneDNN {('off', 'on')[conditions.onednn]}")
        facts += [conditions.layout, conditions.device.rpartition("device:")[2].lower()]
        version = worker.versions.get(case.framework)
        run_table.print_line(f"{case.framework} {version} {case.mode}: {', '.join(facts)}", dim=True)
