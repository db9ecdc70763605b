"""`profile`: time each layer of a net as a net of its own, next to the whole net.

A profile is an ordinary Run whose Workers are shared by all layers: each framework and mode is verified first, then
measured in turns, the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins
from rich.table import Table

from bench import UsageError
from bench.cases.case import LRNS
from bench.cases.layer_table import format_shape
from bench.cases.passes import Timed, profiled_passes
from bench.cases.protocol import Protocol
from bench.commands.options import convert, refuse_others
from bench.commands.plan import Plan, axes_of, change_protocol, choose_frameworks, worker_settings
from bench.commands.requests import ProfileRequest, RunRequest
from bench.commands.results import measure, tell_end, write_files
from bench.controller.pool import preflight
from bench.output import console, run_notes
from bench.output.results_table import interval_text
from bench.record import layer_times
from bench.record.layer_times import SUM
from bench.record.reasons import StopReason
from bench.record.run import Run
from bench.stats import descriptive
from impls.variants import VARIANTS

#: Fewer Rounds and iterations than `run` has by default: a net has about twenty layers.
RULES = Protocol(name="profile", iterations=6, burn_in=3, gate=False, rounds=3, shared_workers=True)
#: Columns that are counts: name, divisor, suffix.
COUNTS = (("params", 1e6, "M"), ("macs", 1e6, ""))
PASSES_PER_TABLE = 2  # in 100 characters
#: The sum of the layers over the whole net, within which no remark is printed.
AGREES = (0.9, 1.1)


def main(request: ProfileRequest) -> int:
    if request.run:
        refuse_others({"run", "as_json"}, "RUN: a profile has its own settings")
        made = Run(request.run)
        if not made.protocol.shared_workers:
            raise UsageError(f"{made.folder}: expected a Run of `profile`; for other Runs use `plot --kind roofline`")
        return show(made, None, request.as_json)
    plan = plan_profile(request)
    preflight(plan.cases, plan.settings)
    folder, reason = measure(plan, request.out, f"profile-{'-'.join(request.variant)}")
    return show(Run(folder), reason, request.as_json)


def plan_profile(request: ProfileRequest) -> Plan:
    """The whole net and each of its layers alone, except dropout, which is off."""
    passes, usual = tuple(each.name for each in profiled_passes()), (32,) if "cpu" in request.device else (128,)
    whole_nets = convert(request, RunRequest, pass_=passes, batch=request.batch or usual)
    axes, cases = axes_of(whole_nets, choose_frameworks(request)), []
    for variant in request.variant:
        parts = [part.name for part in VARIANTS[variant].parts() if not layer_times.idle(part)]
        cases += dataclasses.replace(axes, variant=[variant, *parts]).cases()
    return Plan(cases, change_protocol(RULES, request), worker_settings(request))


def show(made: Run, reason: StopReason | None, as_json: bool) -> int:
    """Write profile.csv and the plots, print the tables; exit code 1 if a Case failed, 130 if interrupted."""
    rows = list(layer_times.layer_rows(made))
    write_files(made, rows)
    if as_json:
        console.print_json({"run": to_builtins(made.head), "layers": rows, "cases": made.rows()})
    else:
        tables(made, rows)
        console.where(made.folder)
    failed = {(row["variant"], row["invalid_reason"]): None for row in made.rows() if not row["valid"]}
    for variant, reason_ in failed:
        if reason_ != "not measured":
            console.tell(f"{variant}: {reason_}")
    tell_end(made.folder, reason)
    return 130 if reason == StopReason.INTERRUPTED else 1 if failed else 0


def tables(made: Run, rows: Sequence[layer_times.Row]) -> None:
    """One table per Worker and two passes, one row per layer."""
    out = console.console()
    for worker_rows in layer_times.by_worker(rows):
        timed = layer_times.timed_per_layer(row["pass"] for row in worker_rows)
        for at in range(0, len(timed), PASSES_PER_TABLE):
            out.print(table(worker_rows, timed[at : at + PASSES_PER_TABLE]))
        for row in (row for row in worker_rows if row.get("sum_over_whole")):
            low, high = row["sum_over_whole_low"], row["sum_over_whole_high"]
            value = interval_text(descriptive.Interval(row["sum_over_whole"], low, high))
            apart = (
                ""
                if AGREES[0] <= row["sum_over_whole"] <= AGREES[1]
                else "; more than 10 % apart: other fusion or dispatch, or noise"
            )
            out.print(
                f"  {row['pass']}: the layers together take {value} of the whole net's time{apart}", soft_wrap=True
            )
    for sentence in run_notes.ceilings(made):
        out.print(sentence, soft_wrap=True)
    note = (
        "of peak: multiply-adds per second over the peak (GFLOP/s count light layers too). of roof: the least time in "
        "which the layer's work could be computed and its data moved, over the time it took."
    )
    out.print(note, soft_wrap=True)


def table(rows: Sequence[layer_times.Row], timed: Sequence[Timed]) -> Table:
    """The layers of one Worker and net, in these passes and differences."""
    first = rows[0]
    lrn = f", LRN {first['lrn']}" if first["lrn"] != LRNS[0] else ""
    who = f"{first['framework']} {first['mode']} ({first['layout']}{lrn})"
    where = f"{first['device']}, {first['precision']}"
    grid = console.new_table(f"{first['variant']}, batch {first['batch']}, {where}, {who}")
    grid.add_column("layer", no_wrap=True)
    of_pass = ("GFLOP\n/s", "of\npeak", "of\nroof")
    headings = [heading for each in timed for heading in (f"{each.title}\nms", *of_pass)]
    for heading in ("output", "params", "MMACs", *headings):
        grid.add_column(heading, justify="right", no_wrap=True)
    for layer, passes in layer_times.by_layer(rows).items():
        if layer == SUM:
            grid.add_section()
        first_pass = next(iter(passes.values()))
        output = format_shape(first_pass).replace(" ", "") if "height" in first_pass else ""
        counts = [f"{first_pass[name] / unit:.4g}{mark}" if first_pass.get(name) else "" for name, unit, mark in COUNTS]
        cells = [cell for each in timed for cell in _cells(passes.get(each.name, {}))]
        grid.add_row(layer, output, *counts, *cells)
    return grid


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if not row:
        return ("",) * 4
    speed = row.get("gflop_per_s")
    rates = (console.percent(row.get(name)) for name in ("peak_fraction", "of_attainable"))
    return (console.number(row["center_ms"]), f"{speed:.3g}" if speed else "", *rates)
