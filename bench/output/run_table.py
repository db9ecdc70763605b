"""Tables on stdout, 100 characters wide."""

from collections.abc import Sequence

from rich.text import Text

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller.estimate import Expected
from bench.output import feeding_table, scaling_table
from bench.output.console import console, new_table, say
from bench.output.labels import counted
from bench.output.results_table import Group, results_of
from bench.output.tables import Table
from bench.record.pairs import Pair
from bench.record.run import Run
from impls.text import one_line


def run_table(run: Run, pairs: Sequence[Pair]) -> None:
    """Print one table per group, with remarks; then what is inside the clock, and how to read the tables."""
    results = results_of(run, pairs)
    for name, text in results.given.items():
        print_line(f"{name}: {text}")
    if results.arms:
        print_line("; ".join(f"{label}: {text}" for label, text in results.arms.items()))
    for group in results.groups:
        print_table(group.table())
        _print_remarks(group)
    for table in (*feeding_table.tables(run, results.rows), *scaling_table.tables(run, results.rows)):
        print_table(table)
    for note in (*feeding_table.notes(run), *scaling_table.notes(run)):
        print_line(note, dim=True)
    print_line("Inside the clock", dim=True)
    for name, text in results.clock:
        print_line(f"  {name}: {text}.", dim=True)
    for note in filter(None, (results.no_ratio, *results.notes)):
        print_line(note, dim=True)


def _print_remarks(group: Group) -> None:
    """Print remarks, all but faults dimmed."""
    for result in group.cases:
        for remark in result.remarks:
            print_line(f"  {result.case.pass_} {result.label}: {remark}", dim=remark not in result.faults)
    print_line(group.where, dim=True)


def print_line(text: str, dim: bool = False) -> None:
    console().print(Text(one_line(text), style="dim" if dim else ""), soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table. A group shows its first cell once; only the column that names a row may wrap."""
    grid = new_table(one_line(table.caption))
    for number, column in enumerate(table.columns):
        name = column.name.replace(" ", "\n") if column.narrow else column.name
        grid.add_column(
            name, justify="right" if column.numeric else "left", no_wrap=number != table.heads, overflow="fold"
        )
    last = ""
    for row in table.rows:
        first, *rest = (one_line(cell.text) for cell in row)
        if table.grouped and last and first != last:
            grid.add_section()
        grid.add_row("" if table.grouped and first == last else first, *rest)
        last = first
    console().print(grid)


def case_list(
    groups: Sequence[Sequence[Case]],
    protocol: Protocol,
    expected: Sequence[Expected],
    unknown: Sequence[str],
    others_s: float | None,
) -> None:
    """Print the Cases of a Run, and the plan and expected duration of each group.

    ``unknown``: users' nets of unknown cost. ``others_s``: the time of all other Cases alone, None if there are none.
    """
    plans = list(dict.fromkeys(_plan(each, protocol) for each in expected))
    for group, each in zip(groups, expected, strict=True):
        for case in group:
            say(one_line(case.id))
        if len(plans) > 1:
            say(f"  {_plan(each, protocol)}, {'unknown time' if each.seconds is None else _about(each.seconds)}")
    cases = counted(sum(map(len, groups)), "case")
    plan = f"; {plans[0]}" if len(plans) == 1 else f" in {counted(len(groups), 'group')}"
    about = sum(each.seconds or 0.0 for each in expected)
    source = "(an estimate from this machine's matrix rate)"
    told = f"{_about(about)} {source}"
    if unknown:
        told = f"unknown, since nothing tells how long a pass of {' and '.join(unknown)} takes before it is timed"
        told += f"; the other cases alone: {_about(others_s)} {source}" if others_s is not None else ""
    say(one_line(f"{cases}{plan} after {protocol.burn_in} burn-in; expected: {told}"))
    each_group = " of each group" if len(groups) > 1 else ""
    if protocol.max_time_s is not None and about > protocol.max_time_s and not unknown:
        say(
            f"--max-time {protocol.max_time_s:g}: expected {about:.0f} s or more for one Round{each_group}, which is "
            "measured all the same; a smaller --batch fits sooner"
        )
    if protocol.max_time_s is not None and unknown:
        say(
            f"--max-time {protocol.max_time_s:g}: one Round{each_group} is measured all the same, and as many more as "
            "end in time"
        )


def _about(seconds: float) -> str:
    return f"about {max(1, round(seconds / 60))} min"


def _plan(expected: Expected, protocol: Protocol) -> str:
    """Rounds and iterations; the most there can be, where --max-time limits them by a time that is unknown."""
    most = "at most " if expected.seconds is None and protocol.max_time_s is not None else ""
    return f"{most}{counted(expected.rounds, 'Round')} of {counted(expected.iterations, 'iteration')}"
