"""`profile`: where a net's time goes, row by row; each row timed as a net of its own, beside the whole net.

A profile is a Run like any other, whose Workers go on from one row to the next, so every framework and mode is measured
the same way, proven first, and in turns. What is derived here is derived from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins
from rich.table import Table

from bench import UsageError
from bench.cases.case import LRNS
from bench.cases.layer_table import shape
from bench.cases.passes import Timed, profiled_passes
from bench.cases.protocol import Protocol
from bench.commands.options import convert
from bench.commands.plan import Plan, axes_of, change_protocol, choose_frameworks, worker_settings
from bench.commands.requests import ProfileRequest, RunRequest
from bench.controller import session
from bench.controller.pool import preflight
from bench.output import console, run_notes
from bench.output.plots.kinds import draw_run_folder
from bench.output.progress import Progress
from bench.output.results_table import interval_text
from bench.record import csvfile, layer_times
from bench.record.columns import names
from bench.record.layer_times import SUM
from bench.record.run import Run
from bench.stats import descriptive
from impls.variants import VARIANTS

#: Fewer of everything than a Run of its own would have: a net has some twenty rows.
RULES = Protocol(name="profile", iterations=6, burn_in=3, gate=False, rounds=3, shared_workers=True)
#: Columns of a table that are counts, in which unit.
COUNTS = (("params", 1e6, "M"), ("macs", 1e6, ""))
BESIDE = 2  # passes in a table: 100 columns have room for no more
#: What a sum of rows over the whole may be before it needs another word.
AGREES = (0.9, 1.1)


def main(request: ProfileRequest) -> int:
    if request.run:
        made = Run(request.run)
        if not made.protocol.shared_workers:
            raise UsageError(f"{made.folder}: expected a Run of `profile`; of another Run see `plot --kind roofline`")
        return show(made, "", request.as_json)
    plan = plan_profile(request)
    preflight(plan.cases, plan.settings)
    name = f"profile-{'-'.join(request.variant)}"
    with Progress(plan.protocol) as progress:
        folder, reason = session.measure(
            plan.cases, plan.protocol, plan.settings, request.out, name, watcher=progress, waiting=console.tell
        )
    return show(Run(folder), reason, request.as_json)


def plan_profile(request: ProfileRequest) -> Plan:
    """The whole net and each of its layers alone; a dropout that is off does nothing, and is left out."""
    passes, usual = tuple(each.name for each in profiled_passes()), (32,) if "cpu" in request.device else (128,)
    whole_nets = convert(request, RunRequest, pass_=passes, batch=request.batch or usual)
    axes, cases = axes_of(whole_nets, choose_frameworks(request)), []
    for variant in request.variant:
        parts = [part.name for part in VARIANTS[variant].parts() if not layer_times.idle(part)]
        cases += dataclasses.replace(axes, variants=[variant, *parts]).cases()
    return Plan(cases, change_protocol(RULES, request), worker_settings(request))


def show(made: Run, reason: str, as_json: bool) -> int:
    """Write profile.csv and the pictures, print the tables; exit 1 where a case failed, 130 interrupted."""
    console.tell_problems(made)
    rows = list(layer_times.layer_rows(made))
    try:
        made.write()
        csvfile.write(made.folder / "profile.csv", names(layer_times.COLUMNS), rows)
        for problem in draw_run_folder(made.folder, made.rows(), profile=True):
            console.tell(problem)
    except OSError as error:
        console.tell(f"cannot write to {made.folder}: {error.strerror}; run.jsonl holds all that was measured")
    if as_json:
        console.print_json({"run": to_builtins(made.head), "layers": rows, "cases": made.rows()})
    else:
        tables(made, rows)
        console.where(made.folder, [path.name for path in sorted(made.folder.iterdir()) if path.is_file()])
    failed = {(row["variant"], row["invalid_reason"]): None for row in made.rows() if not row["valid"]}
    for variant, why in (one for one in failed if one[1] != "not measured"):
        console.tell(f"{variant}: {why}")
    if reason == "interrupted":
        console.tell(f"interrupted: go on with `alexnet-bench run --resume {made.folder}`")
    return 130 if reason == "interrupted" else 1 if failed else 0


def tables(made: Run, rows: Sequence[layer_times.Row]) -> None:
    """One table per Worker and two passes: a line per layer."""
    out = console.console()
    for mine in layer_times.by_worker(rows):
        timed = layer_times.timed_per_layer(row["pass"] for row in mine)
        for at in range(0, len(timed), BESIDE):
            out.print(table(mine, timed[at : at + BESIDE]))
        for row in (row for row in mine if row.get("sum_over_whole")):
            low, high = row["sum_over_whole_low"], row["sum_over_whole_high"]
            value = interval_text(descriptive.Interval(row["sum_over_whole"], low, high))
            apart = (
                ""
                if AGREES[0] <= row["sum_over_whole"] <= AGREES[1]
                else "; more than a tenth apart: fused or dispatched otherwise, or noise"
            )
            out.print(f"  {row['pass']}: the rows take {value} of the whole net's time{apart}", soft_wrap=True)
    for sentence in run_notes.ceilings(made):
        out.print(sentence, soft_wrap=True)
    note = (
        "of peak: multiply-adds a second over it (GFLOP/s count light rows too). of roof: the least time in which the "
        "row could be computed, or what it must move be moved, over the time it took."
    )
    out.print(note, soft_wrap=True)


def table(rows: Sequence[layer_times.Row], timed: Sequence[Timed]) -> Table:
    """Of one Worker and net in these passes and differences."""
    first = rows[0]
    lrn = f", LRN {first['lrn']}" if first["lrn"] != LRNS[0] else ""
    who = f"{first['framework']} {first['mode']} ({first['layout']}{lrn})"
    where = f"{first['device']}, {first['precision']}"
    shown = console.new_table(f"{first['variant']}, batch {first['batch']}, {where}, {who}")
    shown.add_column("layer", no_wrap=True)
    of_pass = ("GFLOP\n/s", "of\npeak", "of\nroof")
    headings = [heading for each in timed for heading in (f"{each.title}\nms", *of_pass)]
    for heading in ("output", "params", "MMACs", *headings):
        shown.add_column(heading, justify="right", no_wrap=True)
    for layer, passes in layer_times.by_layer(rows).items():
        if layer == SUM:
            shown.add_section()
        first_pass = next(iter(passes.values()))
        output = shape(first_pass).replace(" ", "") if "height" in first_pass else ""
        counts = [f"{first_pass[name] / unit:.4g}{mark}" if first_pass.get(name) else "" for name, unit, mark in COUNTS]
        cells = [cell for each in timed for cell in _cells(passes.get(each.name, {}))]
        shown.add_row(layer, output, *counts, *cells)
    return shown


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if not row:
        return ("",) * 4
    speed = row.get("gflop_per_s")
    rates = (console.percent(row.get(name)) for name in ("peak_fraction", "of_attainable"))
    return (console.number(row["center_ms"]), f"{speed:.3g}" if speed else "", *rates)
