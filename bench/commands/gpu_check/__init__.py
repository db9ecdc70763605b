"""`gpu-check`: all that the suite does on a GPU, in steps of limited time, and one archive of the results."""

import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import UsageError
from bench.commands.gpu_check import archive, child, facts, outcome
from bench.commands.gpu_check.outcome import Outcome, Result
from bench.commands.gpu_check.settings import settings_of
from bench.commands.gpu_check.steps import STEPS, Check, Made, Skipped, Step, number_of
from bench.commands.requests import GpuCheckRequest
from bench.machine import code, signals
from bench.output import console
from bench.output.run_table import print_table
from bench.output.tables import Cell, Column, Table
from bench.record import journal
from bench.record.run import Run

LEAST_S = 5.0  # a step with less time is not begun
ENDING_S = 6.0  # of the whole time, for the archive
PAGE = "report"  # the last step, for which time is kept


def main(request: GpuCheckRequest) -> int:
    checking = Checking(request)
    try:
        return checking.run()
    except OSError as error:
        where = f"cannot write to {checking.check.folder.parent}: {error.strerror or error}"
        raise UsageError(f"{where}; make room there, or choose another folder with --out") from error


class Checking:
    """One check: its steps, how each ended, and the files."""

    def __init__(self, request: GpuCheckRequest):
        self.request, self.began, self.date = request, time.monotonic(), datetime.now(UTC)
        frameworks = facts.usable(request)
        passed_on = [f"--python={name}={path}" for name, path in request.python]
        passed_on += [f"--env={name}={value}" for name, value in request.env]
        folder = journal.new_folder(request.out.absolute(), "gpu-check", "steps.json")
        self.check = Check(settings_of(request.device), request.device, frameworks, passed_on, folder)
        self.steps = [step for step in STEPS if step.name in request.step]
        self.outcomes: list[Outcome] = []
        self.interrupted = False

    def run(self) -> int:
        check = self.check
        names = ", ".join(check.frameworks)
        console.tell(f"{check.device}, {names}: {len(self.steps)} steps in {self.request.max_time_s:g} s")
        for name in ("logs", "runs"):
            (check.folder / name).mkdir()
        if smi := facts.nvidia_smi():
            (check.folder / "logs/nvidia-smi.log").write_text(smi)
        try:
            for step in self.steps:
                self.outcomes.append(self.taken(step))
                self.keep()
        except KeyboardInterrupt:
            signals.answered()
            self.interrupted = True
        self.keep()
        return self.finish()

    def left_s(self) -> float:
        return self.request.max_time_s - ENDING_S - (time.monotonic() - self.began)

    def limit_of(self, step: Step) -> float:
        """Seconds of a step: its own limit, or what is left; of the last step's something is kept for it."""
        own = self.check.settings.limits_s
        keeps = own[PAGE] if step.name != PAGE and self.steps[-1].name == PAGE else 0.0
        return min(own[step.name], self.left_s() - min(keeps, 0.2 * self.request.max_time_s))

    def taken(self, step: Step) -> Outcome:
        """Take one step and say how it ended."""
        limit_s = self.limit_of(step)
        if limit_s < LEAST_S:
            found = Outcome(step, Result.NO_TIME, f"not begun: --max-time={self.request.max_time_s:g} is over")
        else:
            console.tell(f"{number_of(step)} {step.name}: {step.what}; at most {limit_s:.0f} s")
            found = self.commanded(step, limit_s)
        spent = f" in {found.wall_s:.0f} s" if found.commands else ""
        console.tell(f"{number_of(step)} {step.name}: {found.result}{spent}; {found.told}")
        return found

    def commanded(self, step: Step, limit_s: float) -> Outcome:
        """Run the commands of a step, until its time is over."""
        log = self.check.folder / f"logs/{number_of(step):02}-{step.name}.log"
        began, made, words = time.monotonic(), list[Made](), list[str]()
        remark = ""
        try:
            try:
                words = next(commands := step.commands(self.check, limit_s))
                while not made or made[-1].ended.code is not None:
                    made.append(self.made_by(words, log, limit_s - (time.monotonic() - began)))
                    words = commands.send(made[-1])
            except StopIteration as end:
                remark = end.value or ""
            runs = [run for each in made for run in each.runs]
            return outcome.judge(step, limit_s, [each.ended for each in made], runs, log, remark)
        except Skipped as skipped:
            return Outcome(step, Result.SKIPPED, str(skipped))
        except KeyboardInterrupt:
            done = [each.ended for each in made]
            cut = child.Ended(child.argv_of(words), None, time.monotonic() - began - sum(each.wall_s for each in done))
            self.outcomes.append(Outcome(step, Result.INTERRUPTED, "", limit_s, [*done, cut]))
            raise
        except Exception as error:  # whatever it is, the other steps are taken and the archive is written
            return outcome.broken(step, limit_s, [each.ended for each in made], log, error)

    def made_by(self, words: Sequence[str], log: Path, limit_s: float) -> Made:
        """Run one command."""
        before = set(self.check.made())
        ended = child.run(words, log, limit_s)
        return Made(ended, [Run(folder) for folder in self.check.made() if folder not in before])

    @property
    def code(self) -> int:
        return 130 if self.interrupted else outcome.exit_code(self.outcomes)

    def keep(self) -> None:
        """Write steps.json as of now."""
        about = {
            "date": self.date.isoformat(timespec="seconds"),
            "device": self.check.device,
            "frameworks": list(self.check.frameworks),
            "code": code.digest(),
            "commit": code.commit(),
            "python": platform.python_version(),
            "max_time_s": self.request.max_time_s,
            "wall_s": round(time.monotonic() - self.began, 1),
            "exit_code": self.code,
        }
        outcome.write(self.check.folder / "steps.json", about, self.outcomes)

    def finish(self) -> int:
        """Write the archive, print the table and return the exit code."""
        target = self.check.folder.with_name(f"{self.check.folder.name}.tar.gz")
        left = archive.write(self.check.folder, target)
        print_table(table(self.outcomes))
        page = self.check.folder / "report.html"
        console.say(f"Page: {page}" if page.is_file() else f"Results: {self.check.folder}")
        console.say(f"Archive: {target} ({target.stat().st_size / 2**20:.1f} MiB)")
        if left:
            console.tell(f"left out of the archive, which is small: {', '.join(left)}")
        self.tell_end()
        return self.code

    def tell_end(self) -> None:
        """The last line: what did not pass."""
        if self.interrupted:
            console.tell("interrupted; what was made is in the archive")
        elif failed := [f"{number_of(each.step)} {each.step.name}" for each in self.outcomes if each.failed]:
            console.tell(f"not passed: {', '.join(failed)}")


def table(outcomes: Sequence[Outcome]) -> Table:
    columns = [Column("step"), Column("result"), Column("s", numeric=True), Column("", long=True)]
    rows = [
        [
            Cell(f"{number_of(each.step)} {each.step.name}"),
            Cell(each.result),
            Cell(f"{each.wall_s:.0f}" if each.commands else "-"),
            Cell(each.told),
        ]
        for each in outcomes
    ]
    return Table("gpu-check", columns, rows, heads=3)
