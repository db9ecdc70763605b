"""Workers for commands that time nothing: asked before anything is made, and kept from variant to variant."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from bench import UsageError
from bench.cases.arm import describe_arm
from bench.cases.case import Case
from bench.controller.settings import WorkerSettings, build_of
from bench.controller.worker_process import RunningWorker, WorkerDied
from bench.worker.messages import Request
from bench.worker.replies import FaultKind

R = TypeVar("R")


def preflight(cases: Sequence[Case], settings: WorkerSettings) -> None:
    """Ask for GPUs, other interpreters and other revisions before anything is made: what is missing is a mistake, not a
    fault."""

    def alike(case: Case) -> tuple[object, ...]:
        return settings.python(case), settings.package(case), case.framework, case.device

    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        for case in {alike(case): case for case in cases}.values():
            own = settings.package(case)
            if case.device == "cpu" and settings.python(case) is None and own is None:
                continue
            try:
                worker = settings.start(case.framework, case, Path(scratch))
                if own:
                    worker.precision(build_of(case))
            except WorkerDied as died:
                if own and died.kind in (FaultKind.DIED, FaultKind.ERROR, FaultKind.MISSING):
                    raise UsageError(_unfit(case, settings, died)) from died
                continue  # the command will meet it again, and say what it wrote
            worker.process.kill()


def _unfit(case: Case, settings: WorkerSettings, died: WorkerDied) -> str:
    """Why the revision of an Arm cannot be timed by this one's harness, in one line."""
    side = describe_arm(settings.ab.recorded(), case.arm) if settings.ab and case.arm else ""
    why = died.last_words if died.kind == FaultKind.DIED and died.last_words else died.reason
    return (
        f"arm {case.arm} ({side}) cannot run a Worker for {case.framework}: {why}; choose a revision nearer to this one"
    )


class WorkerPool:
    """One Worker per framework, mode and process-wide precision, kept from variant to variant; a dead one is started
    afresh for the next."""

    def __init__(self, settings: WorkerSettings, logs: Path):
        self.settings, self.logs = settings, logs
        self.running: dict[str, RunningWorker] = {}

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.running.values():
            worker.process.kill()

    def worker(self, case: Case) -> RunningWorker:
        """The running Worker of a Case, started where there is none."""
        name = f"{case.worker}-{case.process_precision}"
        if name not in self.running:
            self.running[name] = self.settings.start(name, case, self.logs)
        return self.running[name]

    def ask(self, case: Case, request: Request[R]) -> R:
        """One request to the Case's Worker; WorkerDied is passed on, and the Worker forgotten."""
        worker = self.worker(case)
        try:
            return worker.process.ask(request)
        except WorkerDied:
            self.running = {name: other for name, other in self.running.items() if other is not worker}
            raise
