"""`layers`: shape, params, state and MACs of every layer, and what each framework reports."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cases.case import Case, check_size
from bench.cases.layer_table import REPORTED, differences, format_shape, table
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
    nets = (VARIANTS[name] for name in request.variant)
    fitting = [net.name for net in nets if request.size is None or request.size >= net.least_size]
    cases = plain_cases(request, frameworks, fitting) if frameworks else []
    reported = ask(cases, worker_settings(request)) if cases else {}
    tables = []
    for name in fitting:
        net = VARIANTS[name].resized(request.size)
        reports = {case.framework: reported[case.id] for case in cases if case.variant == name}
        tables.append((net, table(net), reports))
    if request.as_json:
        console.print_json([row for net, rows, reports in tables for row in with_reports(rows, reports)])
    else:
        for net, rows, reports in tables:
            print_table(net, rows, reports)
    wrong = [line for net, rows, reports in tables for line in differences(net, rows, reports)]
    for line in wrong:
        console.tell(line)
    check_size(request.variant, request.size)
    return 1 if wrong else 0


def ask(cases: Sequence[Case], settings: WorkerSettings) -> dict[str, list[LayerReport]]:
    """The layers that each framework reports, by Case id; one Worker per framework."""
    reports = {}
    with WorkerPool(settings) as pool:
        for alike, folder in pool.by_variant(cases):
            weights.write_shared(weights.initial(alike[0].net, alike[0].seed), folder / "weights")
            for case in alike:
                console.tell(f"{case.variant}: starting a {case.framework} Worker")
                pool.ask(case, build_request(case, folder))
                reports[case.id] = pool.ask(case, DescribeLayers())
    return reports


def with_reports(rows: Sequence[dict[str, Any]], reports: Mapping[str, Sequence[LayerReport]]) -> list[dict[str, Any]]:
    """The rows, each with ``reported`` if there are reports: that layer in each framework."""

    def reported(i: int) -> dict[str, Any]:
        return {name: {key: getattr(layers[i], key) for key in REPORTED} for name, layers in reports.items()}

    return [row | ({"reported": reported(i)} if reports else {}) for i, row in enumerate(rows)]


def print_table(net: Variant, rows: Sequence[Mapping[str, Any]], reports: Mapping[str, Sequence[LayerReport]]) -> None:
    """Layer, kind, output shape, params, state, MACs; then each framework's report, ``=`` if it agrees."""
    grid = console.new_table(f"{net.name}, {net.input_size} px: {net.note}")
    for heading in ("layer", "kind"):
        grid.add_column(heading, no_wrap=True)
    for heading in ("output", "params", "state", "MACs", *reports):
        grid.add_column(heading, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        counts = [f"{row[key]:,}" for key in ("params", "state", "macs")]
        grid.add_row(
            row["layer"],
            row["kind"],
            format_shape(row),
            *counts,
            *(agreement(row, layers[i]) for layers in reports.values()),
        )
    grid.add_section()
    totals = [f"{sum(row[key] for row in rows):,}" for key in ("params", "state", "macs")]
    grid.add_row("total", "", "", *totals, *("" for _ in reports))
    console.console().print(grid)


def agreement(row: Mapping[str, Any], report: LayerReport) -> str:
    reported = dataclasses.asdict(report)
    if all(row[name] == reported[name] for name in REPORTED):
        return "="
    return f"{format_shape(reported)}, {report.params:,}, {report.state:,}"
