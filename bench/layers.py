"""`layers`: every layer's shape, params, state and MACs, beside what each framework itself reports."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import options, screen
from bench.case import Case
from bench.crew import Conditions, Crew, building
from impls import weights
from impls.variants import VARIANTS, Variant

REPORTED = ("height", "width", "channels", "params", "state")


def main(asked: dict[str, Any]) -> int:
    variants = options.several("variant", asked["variant"], list(VARIANTS))
    cases = options.plain_cases(variants, asked, batch=1) if asked["framework"] else []  # the table needs none
    reported = ask(cases, options.conditions(asked)) if cases else {}
    tables = []
    for name in variants:
        net = VARIANTS[name].resized(options.size(asked))
        beside = {case.framework: reported[case.id] for case in cases if case.variant == name and case.id in reported}
        tables.append((net, table(net), beside))
    if asked["as_json"]:
        screen.print_json([row for net, rows, beside in tables for row in with_reports(rows, beside)])
    else:
        for net, rows, beside in tables:
            print_table(net, rows, beside)
    wrong = [line for net, rows, beside in tables for line in differences(net, rows, beside)]
    for line in wrong:
        screen.tell(line)
    return 1 if wrong else 0


def ask(cases: Sequence[Case], conditions: Conditions) -> dict[str, list[dict[str, Any]]]:
    """What each framework reports of its own net, by Case id; one Worker a framework."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        with Crew(conditions, Path(scratch) / "workers") as crew:
            for variant in dict.fromkeys(case.variant for case in cases):
                here = [case for case in cases if case.variant == variant]
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    weights.share(weights.initial(here[0].net, here[0].seed), Path(folder) / "weights")
                    for case in here:
                        screen.tell(f"{variant}: asking {case.framework}")
                        crew.ask(case, "build", **building(case, Path(folder)))
                        found[case.id] = crew.ask(case, "layers")["layers"]
    return found


def table(net: Variant) -> list[dict[str, Any]]:
    """The columns of layers.csv from the rows alone."""
    return [
        {
            "variant": net.name,
            "layer": placed.layer.name,
            "kind": placed.layer.kind,
            "height": placed.output[0],
            "width": placed.output[1],
            "channels": placed.output[2],
            "params": placed.params,
            "state": placed.state,
            "macs": placed.macs,
        }
        for placed in net.placed()
    ]


def with_reports(rows: Sequence[dict[str, Any]], beside: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each row with ``reported``: what each framework says of that layer."""
    if not beside:
        return list(rows)
    return [
        row | {"reported": {name: {key: theirs[i][key] for key in REPORTED} for name, theirs in beside.items()}}
        for i, row in enumerate(rows)
    ]


def differences(net: Variant, rows: Sequence[dict[str, Any]], beside: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line for each layer on which a framework and the table disagree."""
    lines = []
    for framework, theirs in beside.items():
        if [row["layer"] for row in rows] != [their["layer"] for their in theirs]:
            lines.append(f"{net.name} on {framework}: expected {len(rows)} layers, found {len(theirs)}")
            continue
        for row, their in zip(rows, theirs, strict=True):
            for what in REPORTED:
                if row[what] != their[what]:
                    lines.append(
                        f"{net.name} on {framework}, {row['layer']}: {what} expected {row[what]}, found {their[what]}; "
                        "run `alexnet-bench verify`"
                    )
    return lines


def recorded(case: Case, reported: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a Run's layers.csv."""
    return [
        row | {"framework": case.framework} | {f"reported_{key}": theirs[key] for key in REPORTED}
        for row, theirs in zip(table(case.net), reported, strict=True)
    ]


def print_table(net: Variant, rows: Sequence[Mapping[str, Any]], beside: Mapping[str, Sequence[Mapping]]) -> None:
    """Layer, kind, output shape, params, state, MACs; beside them each framework's report, ``=`` where it agrees."""
    shown = screen.new_table(f"{net.name}, {net.input_size} px: {net.note}")
    for heading in ("layer", "kind"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("output", "params", "state", "MACs", *beside):
        shown.add_column(heading, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        cells = [row["layer"], row["kind"], shape(row), *(f"{row[key]:,}" for key in ("params", "state", "macs"))]
        shown.add_row(*cells, *(agreement(row, theirs[i]) for theirs in beside.values()))
    shown.add_section()
    totals = [f"{sum(row[key] for row in rows):,}" for key in ("params", "state", "macs")]
    shown.add_row("total", "", "", *totals, *("" for _ in beside))
    screen.console().print(shown)


def shape(row: Mapping[str, Any]) -> str:
    return " x ".join(str(row[name]) for name in ("height", "width", "channels"))


def agreement(row: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    if all(row[name] == theirs[name] for name in ("height", "width", "channels", "params", "state")):
        return "="
    return f"{shape(theirs)}, {theirs['params']:,}, {theirs['state']:,}"
