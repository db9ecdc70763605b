"""Make a Run from a plan, and show its results."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import to_builtins

from bench.commands.plan import Plan
from bench.controller import session
from bench.output import console, run_table, verdicts
from bench.output.bars import progress_of
from bench.output.plots.kinds import draw_run_folder
from bench.record import aa_runs, csvfile, layer_times
from bench.record.columns import names
from bench.record.pairs import within
from bench.record.reasons import StopReason
from bench.record.run import Run


def measure(plan: Plan, out: Path, name: str) -> tuple[Path, StopReason]:
    """Make a Run and show its progress; return its folder and why it ended."""
    with progress_of(plan.cases, plan.protocol) as progress:
        return session.measure(
            plan.cases,
            plan.protocol,
            plan.settings,
            out,
            name,
            shard=plan.shard,
            watcher=progress,
            waiting=console.tell,
        )


def show(run: Run, reason: StopReason, as_json: bool) -> int:
    """Write the derived files and print the results.

    Returns the exit code: 0, 1 if a Case failed, 130 if interrupted, with --ab that of `compare`.
    """
    if any("bf16_emulated" in row["flags"] for row in run.rows()):
        console.tell("bf16: this device has no bf16 arithmetic; an emulation was timed")
    aa = aa_runs.find([run.folder.parent], but=[run.folder])
    pairs = within(run, aa)
    write_files(run)
    if as_json:
        ratios = [pair.as_json() for pair in pairs if pair.ratio or run.head.ab]
        console.print_json({"run": to_builtins(run.head), "cases": run.rows(), "ratios": ratios})
    else:
        run_table.run_table(run, pairs)
        if run.head.ab:
            verdicts.show(run, None, pairs)
        console.where(run.folder)
    tell_end(run.folder, reason)
    if reason == StopReason.INTERRUPTED:
        return 130
    if not all(row["valid"] for row in run.rows()):
        return 1
    return verdicts.exit_code(pairs) if run.head.ab else 0


def write_files(run: Run, layers: Sequence[layer_times.Row] | None = None) -> None:
    """Write the tables and plots of a Run; ``layers`` are the rows of a profile."""
    console.tell_problems(run)
    try:
        run.write()
        if layers is not None:
            csvfile.write(run.folder / "profile.csv", names(layer_times.COLUMNS), layers)
        for problem in draw_run_folder(run.folder, run.rows(), profile=layers is not None):
            console.tell(f"{problem}; run.jsonl holds all that was measured")
    except OSError as error:
        why = f"cannot write the tables to {run.folder}: {error.strerror}"
        console.tell(f"{why}; run.jsonl holds all that was measured")


def tell_end(folder: Path, reason: StopReason | None) -> None:
    """Say if a Run ended early, and how to continue it."""
    if reason == StopReason.TIME_CAP:
        console.tell("--max-time: stopped early, since another Round would have exceeded it")
    if reason == StopReason.INTERRUPTED:
        console.tell(
            "interrupted: the results so far are kept and summarized above; continue with "
            f"`alexnet-bench run --resume {folder}`"
        )
