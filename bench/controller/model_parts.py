"""Ask a Worker which modules of a user's model can be timed alone."""

from bench import UsageError
from bench.cases.case import Case
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.worker_process import WorkerDied
from bench.machine.scratch import scratch_folder
from bench.worker.messages import ListParts
from bench.worker.replies import FaultKind, ModelParts


def parts_of(case: Case, settings: WorkerSettings) -> ModelParts:
    """The parts of the model of a Case. Raises UsageError if it has none, or cannot be built."""
    with scratch_folder() as scratch:
        try:
            process = settings.start("parts", case, scratch).process
            try:
                process.ask(build_request(case, scratch, settings.guest(case)))
                return process.ask(ListParts())
            finally:
                process.kill()
        except WorkerDied as died:
            net = "" if died.kind == FaultKind.NET else f"{case.guest}: "
            raise UsageError(f"--net: {net}{died.reason}") from died
