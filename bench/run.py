"""`run`: prove, time, write the Run folder, and show it."""

import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock

from bench import estimate, options, plot, results, screen
from bench.case import Case, groups
from bench.crew import preflight
from bench.protocol import Protocol
from bench.results import Run
from bench.rounds import Rounds


def main(asked: dict[str, Any]) -> int:
    protocol, cases = options.protocol(asked), options.cases(asked)
    given = options.given(asked, list(dict.fromkeys(case.variant for case in cases)))
    cases, conditions = options.cases(asked, given), options.conditions(asked, given)
    if asked["dry_run"]:
        return dry_run(cases, protocol, asked["as_json"])
    preflight(cases, conditions)
    name = asked["name"] or "-".join(dict.fromkeys(case.variant for case in cases))
    progress = screen.Progress(protocol.rounds, classic=not protocol.paired)
    with interruptible(), alone([case.device for case in cases]):
        folder = results.new_folder(Path(asked["out"]), name if len(name) < 60 else "grid")
        rounds = Rounds(cases, protocol, conditions, folder, progress)
        rounds.head(run_id=folder.name, name=name, schema=results.SCHEMA)
        reason = rounds.run()
    progress.done()
    return show(Run(folder), reason, asked["as_json"])


def show(run: Run, reason: str, as_json: bool) -> int:
    """Write what is derived, print the table or the JSON; the exit code: 0, 1 a case failed, 130 interrupted."""
    run.write()
    chart = run.folder / "times.png"
    if any(row["valid"] for row in run.rows()):
        plot.bars(plot.read([run.folder]), chart)
    if as_json:
        screen.print_json({"run": run.head, "cases": run.rows(), "ratios": run.ratios()})
    else:
        screen.run_table(run)
        screen.where(run.folder, [path.name for path in sorted(run.folder.iterdir()) if path.is_file()])
    if reason == "time_cap":
        screen.tell("--max-time: another Round would not have ended in time, so there are fewer than asked for")
    if reason == "interrupted":
        screen.tell("interrupted: what was measured so far is kept and summarised above")
        return 130
    return 0 if all(row["valid"] for row in run.rows()) else 1


def dry_run(cases: Sequence[Case], protocol: Protocol, as_json: bool) -> int:
    expected_s = min(estimate.seconds(cases, protocol), protocol.max_time_s or float("inf"))
    if as_json:
        screen.print_json({"cases": [case.id for case in cases], "expected_s": expected_s})
    else:
        screen.case_list(groups(cases), protocol, expected_s)
    return 0


class alone:
    """One Run at a time on a device: two would time each other. Waits, and says so."""

    def __init__(self, devices: Sequence[str]):
        kinds = sorted({device.partition(":")[0] for device in devices})
        folder = Path(tempfile.gettempdir())
        self.locks = [filelock.FileLock(folder / f"alexnet-bench-{kind}.lock", mode=0o666) for kind in kinds]

    def __enter__(self) -> None:
        for lock in self.locks:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                screen.tell("another alexnet-bench run holds this device: waiting for it to end")
                lock.acquire()

    def __exit__(self, *error: object) -> None:
        for lock in self.locks:
            lock.release()


class interruptible:
    """SIGTERM ends a Run as Ctrl-C does: what was measured is kept."""

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGTERM, self._raise)

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _raise(self, *args: object) -> None:
        raise KeyboardInterrupt
