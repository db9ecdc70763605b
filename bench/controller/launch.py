"""Launch: how a Worker is started, its command line and its whole environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import bench
import impls
from impls.net import Settings

OLDEST = (3, 11)  # of a Worker: enum.StrEnum
# Loads the two packages from the given paths without adding those to sys.path: another interpreter must import its own
# framework and numpy. Python 2.7 compiles it too, to say that it is too old.
BOOTSTRAP = f"""
import sys
if sys.version_info[:2] < {OLDEST}:
    sys.exit("Python %d.%d: a Worker needs {OLDEST[0]}.{OLDEST[1]} or newer" % tuple(sys.version_info[:2]))
if sys.argv[4]:
    import os
    os.sched_setaffinity(0, map(int, sys.argv[4].split(",")))
import importlib.util
for name, path in (("impls", sys.argv[1]), ("bench", sys.argv[2])):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from bench.worker.main import main
main(sys.argv[3], *map(int, sys.argv[5:8]))
"""
#: Variables from which libraries that several frameworks share read their number of threads.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
KEPT = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True)
class Launch:
    """How a Worker process is started.

    ``cache`` is the folder for compiled code, ``logs`` the one for its stdout and stderr. ``env`` is passed in addition
    to the whitelist; None removes a variable. ``package`` is the folder of an ``impls`` other than this process's.
    ``cores`` are those that the process may use; empty for all that this one may.
    """

    name: str
    framework: str
    settings: Settings
    cache: Path
    logs: Path
    limit_s: float
    python: str
    env: Mapping[str, str | None]
    package: Path | None
    cores: tuple[int, ...] = ()

    @property
    def command(self) -> list[str]:
        """The command line without the ends of the two pipes."""
        package = self.package / "__init__.py" if self.package else impls.__file__
        cores = ",".join(map(str, self.cores))
        return [self.python, "-c", BOOTSTRAP, str(package), bench.__file__, self.framework, cores]


def environment(settings: Settings, extra: Mapping[str, str | None], cache: Path) -> dict[str, str]:
    """The whole environment of a Worker: no variable of the caller's shell changes what is timed, except those in
    ``extra``, where None removes a variable. Compiled code is kept in ``cache``."""
    on_gpu, equal = settings.device != "cpu", settings.preset == "equal"
    visible = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    inherited: dict[str, str | None] = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        **(visible if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_CACHE_MAXSIZE": "4294967296",
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        **({} if settings.threads is None else dict.fromkeys(THREADS, str(settings.threads))),
        **({"ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"} if equal else {}),
        **({} if settings.precision == "tf32" or not equal else {"NVIDIA_TF32_OVERRIDE": "0"}),
        **impls.environment(settings.device, settings.threads, settings.preset, str(cache)),
        **extra,
    }
    return {name: value for name, value in inherited.items() if value is not None}
