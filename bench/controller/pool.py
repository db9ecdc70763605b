"""Workers for commands that time nothing: a check before the command starts, and a pool shared by variants."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bench import UsageError
from bench.cases.arm import describe_arm
from bench.cases.case import Case
from bench.controller.running_worker import RunningWorker
from bench.controller.settings import WorkerSettings, build_of
from bench.controller.worker_process import WorkerDied
from bench.machine import signals
from bench.machine.scratch import scratch_folder
from bench.worker.messages import Request
from bench.worker.replies import FaultKind

R = TypeVar("R")


def preflight(cases: Sequence[Case], settings: WorkerSettings) -> None:
    """Start a Worker per GPU, other interpreter and other revision before anything is written.

    Raises UsageError if one is missing or does not fit.
    """

    def needs(case: Case) -> tuple[object, ...]:
        return settings.python(case), settings.package(case), case.framework, case.device

    with scratch_folder() as scratch:
        for case in {needs(case): case for case in cases}.values():
            own = settings.package(case)
            if case.device == "cpu" and settings.python(case) is None and own is None:
                continue
            try:
                worker = settings.start(case.framework, case, scratch)
                if own:
                    worker.precision(build_of(case))
            except WorkerDied as died:
                if own and died.kind in (FaultKind.DIED, FaultKind.ERROR, FaultKind.MISSING):
                    raise UsageError(_unfit(case, settings, died)) from died
                continue  # the command meets it again and reports its stderr
            worker.process.kill()


def _unfit(case: Case, settings: WorkerSettings, died: WorkerDied) -> str:
    """One line that says why this harness cannot time the revision of an Arm."""
    side = describe_arm(settings.ab.recorded(), case.arm) if settings.ab and case.arm else ""
    why = died.last_words if died.kind == FaultKind.DIED and died.last_words else died.reason
    return (
        f"arm {case.arm} ({side}) cannot run a Worker for {case.framework}: {why}; choose a revision nearer to this one"
    )


class WorkerPool:
    """One Worker per framework, mode and process-wide precision, shared by variants; a dead one is started again for
    the next variant."""

    def __init__(self, settings: WorkerSettings):
        self.settings = settings
        self.running: dict[str, RunningWorker] = {}

    def __enter__(self) -> "WorkerPool":
        self.stack = contextlib.ExitStack()
        self.scratch = self.stack.enter_context(scratch_folder())
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.running.values():
            worker.process.kill()
        self.stack.close()

    def by_variant(self, cases: Sequence[Case]) -> Iterator[tuple[list[Case], Path]]:
        """Yield the Cases of each variant, and a folder for its weights that is removed before the next."""
        for variant in dict.fromkeys(case.variant for case in cases):
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                yield [case for case in cases if case.variant == variant], Path(folder)

    def worker(self, case: Case) -> RunningWorker:
        """The Worker of a Case, started if it is not running."""
        name = f"{case.worker}-{case.process_precision}"
        if name not in self.running:
            self.running[name] = self.settings.start(name, case, self.scratch / "workers")
        return self.running[name]

    def ask(self, case: Case, request: Request[R]) -> R:
        """Send a request to the Case's Worker and return the reply. A Worker that raises WorkerDied leaves the pool."""
        self.send(case, request)
        return self.receive(case, request)

    def send(self, case: Case, request: Request[R]) -> None:
        """Send a request whose reply is for ``receive``; raises KeyboardInterrupt if a signal asked to end."""
        signals.check()
        self.worker(case).process.send(request)

    def receive(self, case: Case, request: Request[R]) -> R:
        """Wait for the reply to the last request. A Worker that raises WorkerDied leaves the pool."""
        worker = self.worker(case)
        try:
            return worker.process.receive(request)
        except WorkerDied:
            self.running = {name: other for name, other in self.running.items() if other is not worker}
            raise
