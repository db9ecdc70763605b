"""`layers`: every layer's shape, params, state and MACs, beside what each framework itself reports."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cases.case import Case
from bench.cases.layer_table import REPORTED, differences, shape, table
from bench.commands.plan import choose_frameworks, plain_cases, worker_settings
from bench.commands.requests import LayersRequest
from bench.controller.pool import WorkerPool
from bench.controller.settings import WorkerSettings, build_request
from bench.output import console
from bench.worker.messages import DescribeLayers
from bench.worker.replies import LayerReport
from impls import weights
from impls.variants import VARIANTS, Variant


def main(request: LayersRequest) -> int:
    frameworks = choose_frameworks(request) if request.framework else []  # the table needs none
    cases = plain_cases(request, frameworks, request.variant) if frameworks else []
    reported = ask(cases, worker_settings(request)) if cases else {}
    tables = []
    for name in request.variant:
        net = VARIANTS[name].resized(request.size)
        beside = {case.framework: reported[case.id] for case in cases if case.variant == name and case.id in reported}
        tables.append((net, table(net), beside))
    if request.as_json:
        console.print_json([row for net, rows, beside in tables for row in with_reports(rows, beside)])
    else:
        for net, rows, beside in tables:
            print_table(net, rows, beside)
    wrong = [line for net, rows, beside in tables for line in differences(net, rows, beside)]
    for line in wrong:
        console.tell(line)
    return 1 if wrong else 0


def ask(cases: Sequence[Case], conditions: WorkerSettings) -> dict[str, list[LayerReport]]:
    """What each framework reports of its own net, by Case id; one Worker a framework."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        with WorkerPool(conditions, Path(scratch) / "workers") as crew:
            for variant in dict.fromkeys(case.variant for case in cases):
                here = [case for case in cases if case.variant == variant]
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    weights.write_shared(weights.initial(here[0].net, here[0].seed), Path(folder) / "weights")
                    for case in here:
                        console.tell(f"{variant}: asking {case.framework}")
                        crew.ask(case, build_request(case, Path(folder)))
                        found[case.id] = crew.ask(case, DescribeLayers())
    return found


def with_reports(rows: Sequence[dict[str, Any]], beside: Mapping[str, Sequence[LayerReport]]) -> list[dict[str, Any]]:
    """Each row with ``reported``: what each framework says of that layer."""
    if not beside:
        return list(rows)
    return [
        row
        | {"reported": {name: {key: getattr(theirs[i], key) for key in REPORTED} for name, theirs in beside.items()}}
        for i, row in enumerate(rows)
    ]


def print_table(net: Variant, rows: Sequence[Mapping[str, Any]], beside: Mapping[str, Sequence[LayerReport]]) -> None:
    """Layer, kind, output shape, params, state, MACs; beside them each framework's report, ``=`` where it agrees."""
    shown = console.new_table(f"{net.name}, {net.input_size} px: {net.note}")
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
    console.console().print(shown)


def agreement(row: Mapping[str, Any], theirs: LayerReport) -> str:
    reported = dataclasses.asdict(theirs)
    if all(row[name] == reported[name] for name in REPORTED):
        return "="
    return f"{shape(reported)}, {theirs.params:,}, {theirs.state:,}"
