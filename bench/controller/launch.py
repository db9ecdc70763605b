"""Launch: how a Worker is started, its command line and its whole environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import bench
import impls
from bench.machine import node
from bench.machine.node import Node
from bench.worker import bootstrap
from impls.net import Settings

#: Variables from which libraries that several frameworks share read their number of threads.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
KEPT = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True)
class Launch:
    """How a Worker process is started.

    ``cache`` is the folder for compiled code, ``logs`` the one for its stdout and stderr. ``env`` is passed in addition
    to the whitelist; None removes a variable. ``package`` is the folder of an ``impls`` other than this process's.
    ``cores`` are those that the process may use; empty for all that this one may. ``node`` is the one that it runs on,
    None for this machine.
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
    node: Node | None = None

    @property
    def command(self) -> list[str]:
        """The command line, on a node that which starts a Worker there."""
        if self.node:
            return [*self.node.prefix, self.python, "-m", node.__name__]
        package = self.package / "__init__.py" if self.package else impls.__file__
        packages = str(package), bench.__file__
        return bootstrap.command(self.python, packages, self.framework, self.cores, os.getpid())


def environment(settings: Settings, extra: Mapping[str, str | None], cache: Path) -> dict[str, str]:
    """The whole environment of a Worker: no variable of the caller's shell changes what is timed, except those in
    ``extra``, where None removes a variable. Compiled code is kept in ``cache``."""
    accelerator, equal = impls.accelerator_of(settings.device), settings.preset == "equal"
    hidden = {other.hidden_by: "" for other in impls.ACCELERATORS.values() if other.hidden_by}
    visible = {name: os.environ.get(name) for name in accelerator.visible_by}
    inherited: dict[str, str | None] = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        **hidden,
        **visible,
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
