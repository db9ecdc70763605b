"""`profile`: time each layer of a net as a net of its own, next to the whole net.

A profile is an ordinary Run whose Workers are shared by all layers: each framework and mode is verified first, then
measured in turns, the same way.
"""

from __future__ import annotations

from msgspec import to_builtins

from bench import UsageError
from bench.commands.options import refuse_others
from bench.commands.profile_plan import plan_models, plan_profile
from bench.commands.requests import ProfileRequest
from bench.commands.results import measure, tell_end, write_files
from bench.controller.pool import preflight
from bench.output import console, profile_table
from bench.record import layer_times
from bench.record.reasons import StopReason
from bench.record.run import Run


def main(request: ProfileRequest) -> int:
    if request.run:
        refuse_others({"run", "as_json"}, "RUN: a profile has its own settings")
        made = Run(request.run)
        if not made.protocol.shared_workers:
            raise UsageError(f"{made.folder}: expected a Run of `profile`; for other Runs use `plot --kind roofline`")
        return show(made, None, request.as_json)
    plan = plan_models(request) if request.net else plan_profile(request)
    if plan.note:
        console.tell(plan.note)
    preflight(plan.cases, plan.settings)
    names = list(plan.settings.guests) if request.net else request.variant
    folder, reason = measure(plan, request.out, f"profile-{'-'.join(names)}")
    return show(Run(folder), reason, request.as_json)


def show(made: Run, reason: StopReason | None, as_json: bool) -> int:
    """Write profile.csv and the plots, print the tables; exit code 1 if a Case failed, 130 if interrupted."""
    rows = list(layer_times.layer_rows(made))
    write_files(made, rows)
    if as_json:
        console.print_json({"run": to_builtins(made.head), "layers": rows, "cases": made.rows()})
    else:
        profile_table.tables(made, rows)
        console.where(made.folder)
    failed = {(row["net"] or row["variant"], row["invalid_reason"]): None for row in made.rows() if not row["valid"]}
    for net, reason_ in failed:
        if reason_ != "not measured":
            console.tell(f"{net}: {reason_}")
    tell_end(made.folder, reason)
    return 130 if reason == StopReason.INTERRUPTED else 1 if failed else 0
