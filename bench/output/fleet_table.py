"""A Fleet on a terminal, as JSON and as rows of a CSV: machines are next to each other, and ratios within a Run."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs, to_builtins

from bench.cases.case import Case
from bench.cases.passes import place_of
from bench.machine.host import Fingerprint
from bench.output.labels import counted, label_of, some_of
from bench.output.results_table import Results, results_of, title_of
from bench.output.run_table import print_line, print_table
from bench.output.tables import Cell, Column, Table, with_interval
from bench.record.fleet import PASSING, Fleet, Member
from bench.record.pairs import within

SCHEMA = 1
SIDE_BY_SIDE = 3  # machines, in 100 characters
#: Facts of a fingerprint by which people know a machine; others are named where machines differ in them.
KNOWN_BY = ("cpu", "cores", "usable_cores", "memory_mib", "system", "host")


def show(fleet: Fleet) -> None:
    """Print what the machines are, then of each group its Cases with the machines as columns, and how to read it."""
    for machine, text in descriptions(fleet.machines).items():
        ids = [member.run.head.run_id for member in fleet.members if member.machine == machine]
        print_line(f"{machine}: {text}; {counted(len(ids), 'Run')}: {some_of(ids)}")
    results: dict[Path, Results] = {}
    for number, group in enumerate(fleet.groups):
        shown = [member for member in fleet.shown(number).values() if member.groups[number]]
        for at in range(0, len(shown), SIDE_BY_SIDE):
            members = shown[at : at + SIDE_BY_SIDE]
            for run in (member.run for member in members if member.run.folder not in results):
                results[run.folder] = results_of(run, within(run))
            columns = {member.machine: results[member.run.folder] for member in members}
            drawn = table(group, members[0].groups[number], columns)
            print_line(drawn.caption)  # a table of one machine is narrower, and would wrap it
            print_table(replace(drawn, caption=""))
            for machine, result in columns.items():
                for case in group:
                    for remark in result.cases[case.id].remarks if case.id in result.cases else ():
                        fault = remark in result.cases[case.id].faults
                        print_line(f"  {machine} {case.pass_} {label_of(case)}: {remark}", dim=not fault)
    for note in notes(fleet):
        print_line(note, dim=True)


def descriptions(machines: Mapping[str, Fingerprint]) -> dict[str, str]:
    """Each machine in words, with whatever else they differ in."""
    facts = {machine: _flat(fingerprint) for machine, fingerprint in machines.items()}
    texts = {}
    for machine, each in facts.items():
        cores = f"{each['usable_cores'] or 'unknown'} of {counted(each['cores'] or 0, 'core')}" if each["cores"] else ""
        memory = f"{each['memory_mib']:,} MiB" if each["memory_mib"] else ""
        parts = [each["cpu"], cores, memory, each["system"], f"host {each['host'] or 'unknown'}"]
        for name in (name for name in each if name not in (*KNOWN_BY, *PASSING)):
            if any(other.get(name) != each[name] for other in facts.values()):
                parts.append(f"{name} {each[name]}")
        texts[machine] = ", ".join(part for part in parts if part)
    return texts


def _flat(fingerprint: Fingerprint) -> dict[str, Any]:
    """Facts by name, packages among them."""
    facts = structs.asdict(fingerprint)
    packages: dict[str, Any] = facts.pop("packages")
    return {**facts, **packages}


def table(group: Sequence[Case], timed: Sequence[Case], columns: Mapping[str, Results]) -> Table:
    """The Cases of a group: per pass their times, then the ratios that each machine's own Run has.

    ``timed`` are those that the first machine has, ``columns`` the results by machine.
    """
    first = next(iter(columns.values()))
    what, _ = title_of(first.run, timed, first.rows, varying=("threads",))
    rows = []
    by_pass = sorted(group, key=lambda case: (place_of(case.pass_), case.compiled))
    for pass_, several in itertools.groupby(by_pass, key=lambda case: case.pass_):
        cases = list(several)
        for heading, cell in ((pass_, _time), ("ratio", _ratio)):
            found = [[cell(result, case) for result in columns.values()] for case in cases]
            if heading == pass_ or any(each.text not in ("", "1") for cells in found for each in cells):
                rows += [
                    [Cell(heading), Cell(label_of(case)), *cells] for case, cells in zip(cases, found, strict=True)
                ]
    headings = [Column("pass"), Column("framework"), *(Column(machine, numeric=True) for machine in columns)]
    return Table(f"{what}: ms [95 %]", headings, rows, heads=1, grouped=True)


def _time(results: Results, case: Case) -> Cell:
    """The center with its interval; for a row that is not valid why; empty if the Run lacks the Case."""
    row = results.rows.get(case.id)
    if row is None or not row["valid"]:
        return results.cases[case.id].cells["time"] if row else Cell("")
    return with_interval(row["center_ms"], row["ci95_low_ms"], row["ci95_high_ms"])


def _ratio(results: Results, case: Case) -> Cell:
    return results.cases[case.id].cells["ratio"] if case.id in results.cases else Cell("")


def notes(fleet: Fleet) -> list[str]:
    """How to read the tables."""
    lines = [
        "Time: geometric mean of the Rounds' medians, with its 95 % interval. Ratio: time over that of the row with 1 "
        "in the same Run, from mirrored turns; above 1 is slower."
    ]
    if len(fleet.machines) > 1:
        lines.append(
            "Columns are machines. Their figures are not pooled, and no verdict compares them: nothing took turns on "
            "two of them."
        )
    if any(len(group) > 1 for group in _again(fleet)):
        lines.append("Of a group that a machine measured more than once the newest Run is shown; all are in the files.")
    return [
        *lines,
        "More of each Run: `alexnet-bench report RUN...`; two Runs of one machine: `alexnet-bench compare`.",
    ]


def _again(fleet: Fleet) -> Iterator[list[Member]]:
    """The Runs of each group and machine."""
    for number, machine in itertools.product(range(len(fleet.groups)), fleet.machines):
        yield [member for member in fleet.members if member.machine == machine and number in member.groups]


def index(fleet: Fleet, folder: Path) -> dict[str, Any]:
    """The content of index.json in ``folder``, from which paths are relative."""
    shown = [fleet.shown(number) for number in range(len(fleet.groups))]
    return {
        "schema": SCHEMA,
        "grid": {
            "digest": fleet.grid,
            "protocol_hash": fleet.members[0].run.protocol.hash,
            "groups": [[case.id for case in group] for group in fleet.groups],
            "missing_groups": fleet.missing,
            "missing_shards": fleet.missing_shards,
        },
        "machines": {machine: to_builtins(fingerprint) for machine, fingerprint in fleet.machines.items()},
        "runs": [
            {
                "run_id": member.run.head.run_id,
                "path": path_from(folder, member),
                "machine": member.machine,
                "began": member.run.head.time and member.run.head.time.isoformat(),
                "finished": member.finished,
                "shard": member.run.head.shard and member.run.head.shard.number,
                "groups": sorted(member.groups),
                "shown": [number for number in sorted(member.groups) if member in shown[number].values()],
            }
            for member in fleet.members
        ],
    }


def rows(fleet: Fleet, folder: Path) -> list[dict[str, Any]]:
    """The rows of merged.csv in ``folder``: those of every Run, in the order of Runs."""
    return [
        {"run": path_from(folder, member), "machine": member.machine} | row
        for member in fleet.members
        for row in member.run.rows()
    ]


def path_from(folder: Path, member: Member) -> str:
    """The path of a Run from a folder, as text with slashes."""
    return Path(os.path.relpath(member.run.folder.resolve(), folder.resolve())).as_posix()
