"""Outcome: how a step ended, why, and what is kept of it in steps.json."""

import contextlib
import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench import UsageError
from bench.commands.gpu_check import figures
from bench.commands.gpu_check.child import Ended
from bench.commands.gpu_check.steps import Step, number_of
from bench.record.run import Run
from impls.text import one_line

LONGEST = 110  # characters of a line of a log
NOTE = "alexnet-bench: "
REFUSED = 2  # the exit code of a command that did not begin, of which the last line says why
FIRST_CODE = 10  # a failed step's exit code is this and its number


class Result(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    NO_TIME = "no time"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


NOT_PASSED = (Result.FAILED, Result.TIMED_OUT, Result.NO_TIME, Result.INTERRUPTED)


@dataclass(frozen=True)
class Outcome:
    """``told`` is a telling figure, or why the step did not pass."""

    step: Step
    result: Result
    told: str
    limit_s: float = 0.0
    commands: Sequence[Ended] = field(default_factory=tuple)

    @property
    def failed(self) -> bool:
        return self.result in NOT_PASSED

    @property
    def wall_s(self) -> float:
        return sum(ended.wall_s for ended in self.commands)

    def as_json(self) -> dict[str, Any]:
        return {
            "number": number_of(self.step),
            "name": self.step.name,
            "result": self.result,
            "told": self.told,
            "limit_s": round(self.limit_s, 1),
            "wall_s": round(self.wall_s, 1),
            "commands": [
                {"argv": list(ended.argv), "exit_code": ended.code, "wall_s": round(ended.wall_s, 1)}
                for ended in self.commands
            ],
        }


def judge(
    step: Step, limit_s: float, commands: Sequence[Ended], runs: Sequence[Run], log: Path, remark: str = ""
) -> Outcome:
    """The outcome of a step whose commands have ended; ``remark``: what is told with its figure."""
    told = "; ".join(filter(None, [step.figure(runs, read(log)), remark])) or last_line(log)
    cut = next((ended for ended in commands if ended.code is None), None)
    if cut and not (step.ends_full and len(commands) > 1):  # of several batches, those before it have rows
        asked = f"asked to end {cut.grace_s:.1g} s before its limit of {limit_s:.0f} s, to write what it has"
        return Outcome(step, Result.TIMED_OUT, "; ".join(filter(None, [asked, told])), limit_s, commands)
    code = next((ended.code for ended in commands if ended.code), 0)
    if code and not (step.ends_full and full_as_expected(runs)):
        refused = last_line(log) if code == REFUSED else ""
        why = one_line("; ".join(reasons(runs)) or refused or told)[:LONGEST]
        return Outcome(step, Result.FAILED, f"exit code {code}: {why}", limit_s, commands)
    return Outcome(step, Result.PASSED, told, limit_s, commands)


def broken(step: Step, limit_s: float, commands: Sequence[Ended], log: Path, error: Exception) -> Outcome:
    """The outcome of a step whose own code raised; the log gets the traceback."""
    with contextlib.suppress(OSError), log.open("a") as out:
        out.write("".join(traceback.format_exception(error)))
    kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
    return Outcome(step, Result.FAILED, one_line(f"{kind}{error}")[:LONGEST], limit_s, commands)


def reasons(runs: Sequence[Run]) -> list[str]:
    """Why rows are not valid, each once."""
    return list(dict.fromkeys(str(row["invalid_reason"]) for run in runs for row in run.rows() if not row["valid"]))


def full_as_expected(runs: Sequence[Run]) -> bool:
    """Whether memory is all that rows lack, and smaller batches than theirs have rows."""
    rows = [row for run in runs for row in run.rows()]
    fits = [row["batch"] for row in rows if row["valid"]]
    lacks = [row for row in rows if not row["valid"]]
    full = [row["batch"] for row in lacks if figures.is_full(row["invalid_reason"])]
    return bool(fits) and len(full) == len(lacks) > 0 and max(fits) < min(full)


def read(log: Path) -> str:
    return log.read_text(errors="replace") if log.is_file() else ""


def last_line(log: Path) -> str:
    """The last line that a step printed, cut to LONGEST; not where its results are."""
    lines = (line.strip().removeprefix(NOTE) for line in read(log).splitlines())
    said = [line for line in lines if line and not line.startswith(("$ ", "Results: "))]
    return one_line(said[-1])[:LONGEST] if said else ""


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0, or FIRST_CODE and the number of the first step that did not pass."""
    return next((FIRST_CODE + number_of(each.step) for each in outcomes if each.failed), 0)


def write(path: Path, facts: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write steps.json: facts of the check, and each step's outcome."""
    path.write_text(json.dumps(facts | {"steps": [each.as_json() for each in outcomes]}, indent=1) + "\n")
