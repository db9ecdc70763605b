"""`run`: verify, time, write the Run folder and print the results."""

from collections.abc import Sequence

from msgspec import to_builtins

from bench.cases.case import Case, groups
from bench.cases.protocol import Protocol
from bench.commands.plan import plan_run
from bench.commands.requests import RunRequest
from bench.controller import estimate
from bench.controller.pool import preflight
from bench.controller.session import measure
from bench.output import console, run_table, verdicts
from bench.output.plots.kinds import draw_run_folder
from bench.output.progress import Progress
from bench.record import aa_runs
from bench.record.pairs import within
from bench.record.run import Run


def main(request: RunRequest) -> int:
    plan = plan_run(request)
    if request.dry_run:
        return dry_run(plan.cases, plan.protocol, request.as_json)
    preflight(plan.cases, plan.settings)
    name = request.name or "-".join(request.variant)
    name = name if len(name) < 60 else "grid"
    with Progress(plan.protocol) as progress:
        folder, reason = measure(
            plan.cases, plan.protocol, plan.settings, request.out, name, watcher=progress, waiting=console.tell
        )
    return show(Run(folder), reason, request.as_json)


def show(run: Run, reason: str, as_json: bool) -> int:
    """Write the derived files and print the results.

    Returns the exit code: 0, 1 if a Case failed, 130 if interrupted, with --ab that of `compare`.
    """
    if any("bf16_emulated" in row["flags"] for row in run.rows()):
        console.tell("bf16: this device has no bf16 arithmetic; an emulation was timed")
    aa = aa_runs.find([run.folder.parent], but=[run.folder])
    pairs = within(run, aa)
    console.tell_problems(run)
    try:
        run.write()
        for problem in draw_run_folder(run.folder, run.rows(), profile=False):
            console.tell(f"{problem}; run.jsonl holds all that was measured")
    except OSError as error:
        console.tell(
            f"cannot write the tables to {run.folder}: {error.strerror}; run.jsonl holds all that was measured"
        )
    if as_json:
        ratios = [pair.as_json() for pair in pairs if pair.ratio or run.head.ab]
        console.print_json({"run": to_builtins(run.head), "cases": run.rows(), "ratios": ratios})
    else:
        run_table.run_table(run, pairs)
        if run.head.ab:
            verdicts.show(run, None, pairs)
        console.where(run.folder, [path.name for path in sorted(run.folder.iterdir()) if path.is_file()])
    if reason == "time_cap":
        console.tell("--max-time: stopped early, since another Round would have exceeded it")
    if reason == "interrupted":
        console.tell(
            "interrupted: the results so far are kept and summarized above; continue with "
            f"`alexnet-bench run --resume {run.folder}`"
        )
        return 130
    if not all(row["valid"] for row in run.rows()):
        return 1
    return verdicts.exit_code(pairs) if run.head.ab else 0


def dry_run(cases: Sequence[Case], protocol: Protocol, as_json: bool) -> int:
    expected_s = min(estimate.seconds(cases, protocol), protocol.max_time_s or float("inf"))
    if as_json:
        console.print_json({"cases": [case.id for case in cases], "expected_s": expected_s})
    else:
        run_table.case_list(groups(cases), protocol, expected_s)
    return 0
