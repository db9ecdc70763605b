"""RunningWorker: a Worker process and what it has told of itself."""

from dataclasses import dataclass

from bench.controller.team import Team
from bench.controller.worker_process import WorkerProcess
from bench.worker.messages import MeasureNumpyRate, ProbePrecision
from bench.worker.replies import PrecisionProbe, Ready
from impls.net import Build


@dataclass(eq=False)
class RunningWorker:
    """A Worker process and facts about it, each asked for once.

    ``compile_cache`` is ``cold`` or ``warm`` at the start, None if its mode does not compile.
    """

    process: WorkerProcess | Team
    compile_cache: str | None = None
    ceiling_known: bool = False
    _ready: Ready | None = None
    _precision: dict[str, PrecisionProbe] | None = None
    _numpy_rate: float | None = None

    def ready(self) -> Ready:
        self._ready = self._ready or self.process.wait_until_configured()
        return self._ready

    def precision(self, how: Build) -> dict[str, PrecisionProbe]:
        """The measured precision of a matmul and of a convolution in its process."""
        self._precision = self._precision or self.process.ask(ProbePrecision(how))
        return self._precision

    def numpy_rate(self) -> float:
        """GFLOP/s of numpy's matrix product in its process."""
        self._numpy_rate = self._numpy_rate or self.process.ask(MeasureNumpyRate())
        return self._numpy_rate
