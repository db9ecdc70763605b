"""Facts from which the cause of a missing GPU follows: the PCI bus, the driver, device files, NVML.

Files are read below a folder, so that tests can plant them. The standard library alone: it is also used before anything
is installed.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.gpu import ask, start_nvml

NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI vendor; class of display controllers, which all GPUs are
#: How a container is given the GPUs of its host, by a file that is in it, the most particular first; of those that have
#: none of these files, and are known by the control groups of their first process, as the last.
CONTAINERS = {
    ".singularity.d": "start it with --nv",
    "run/secrets/kubernetes.io": "request nvidia.com/gpu for it in the pod",
    "var/run/secrets/kubernetes.io": "request nvidia.com/gpu for it in the pod",
    ".dockerenv": "start it with --gpus all",
    "run/.containerenv": "start it with --device nvidia.com/gpu=all",
    "": "start it with --gpus all",
}
IN_A_CONTAINER = re.compile(r"docker|kubepods|containerd|libpod|lxc|^0::/$", re.MULTILINE)


@dataclass(frozen=True)
class Holder:
    """A process that computes on a card; ``name`` is empty if it cannot be seen from here, ``held`` in bytes."""

    pid: int
    name: str
    held: int | None
    own: bool = False
    """This process, or one that it started."""


@dataclass(frozen=True)
class Card:
    """A card by NVML, in PCI order; memory in bytes, None for what NVML does not tell.

    ``mode`` is the compute mode: 0 default, 2 prohibited, 3 one process at a time. ``slices`` are UUIDs of MIG devices.
    """

    uuid: str = ""
    mode: int | None = None
    mig: bool = False
    slices: tuple[str, ...] = ()
    total: int | None = None
    free: int | None = None
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a machine has of NVIDIA.

    ``on_bus`` counts display controllers, ``files`` /dev/nvidia0 and so on. ``driver`` is the version of the kernel's
    module, empty if it is not loaded. ``nvml`` is the error code of NVML, 0 if it works and None without its binding;
    ``cuda`` is the newest CUDA that the driver supports, such as 13.0, empty if unknown.
    """

    on_bus: int = 0
    files: int = 0
    driver: str = ""
    container: str = ""
    """How this container is given GPUs; empty outside of one."""
    wsl: bool = False
    wsl_driver: bool = False
    """Whether Windows has put NVIDIA's library where WSL's programs find it."""
    other: bool = False
    """Whether there is a GPU that this module knows nothing of: AMD's, or NVIDIA's on a chip."""
    nvml: int | None = None
    cuda: str = ""
    cards: tuple[Card, ...] = ()

    @property
    def count(self) -> int:
        """How many GPUs there are, by the first source that has any."""
        return len(self.cards) or self.files or self.on_bus


def read(root: Path = Path("/")) -> Facts:
    """The facts of this machine, its files below ``root``."""
    version = re.search(r"\b\d+\.\d+(\.\d+)?\b", _text(root / "proc/driver/nvidia/version"))
    nvml, code = start_nvml()
    cuda = ask(nvml.nvmlSystemGetCudaDriverVersion) if nvml else None
    cards = range(ask(nvml.nvmlDeviceGetCount) or 0) if nvml else ()
    return Facts(
        on_bus=sum(
            _text(vendor).strip() == NVIDIA and _text(vendor.with_name("class")).startswith(DISPLAY)
            for vendor in (root / "sys/bus/pci/devices").glob("*/vendor")
        ),
        files=sum(bool(re.fullmatch(r"nvidia\d+", file.name)) for file in (root / "dev").glob("nvidia*")),
        driver=version[0] if version else "",
        container=_container(root),
        wsl=(root / "dev/dxg").exists(),
        wsl_driver=(root / "usr/lib/wsl/lib/libcuda.so.1").exists(),
        other=any((root / "dev" / name).exists() for name in ("kfd", "nvgpu", "nvhost-gpu", "nvmap")),
        nvml=code,
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
        cards=tuple(_card(nvml, index, root) for index in cards),
    )


def _container(root: Path) -> str:
    named = (way for file, way in CONTAINERS.items() if file and (root / file).exists())
    grouped = IN_A_CONTAINER.search(_text(root / "proc/1/cgroup"))  # its own are the root of what it sees
    return next(named, CONTAINERS[""] if grouped else "")


def _card(nvml: Any, index: int, root: Path) -> Card:
    handle = ask(nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return Card()
    modes, memory = ask(nvml.nvmlDeviceGetMigMode, handle), ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    mig = bool(modes and modes[0])
    return Card(
        uuid=ask(nvml.nvmlDeviceGetUUID, handle) or "",
        mode=ask(nvml.nvmlDeviceGetComputeMode, handle),
        mig=mig,
        slices=tuple(_slices(nvml, handle)) if mig else (),
        total=memory.total if memory else None,
        free=memory.free if memory else None,
        holders=tuple(
            Holder(process.pid, _text(root / f"proc/{process.pid}/comm").strip(), process.usedGpuMemory, own)
            for process in ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
            for own in [os.getpid() in _with_parents(process.pid, root)]
        ),
    )


def _slices(nvml: Any, handle: Any) -> Iterator[str]:
    for index in range(ask(getattr(nvml, "nvmlDeviceGetMaxMigDeviceCount", None), handle) or 0):
        device = ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if device is not None and (uuid := ask(nvml.nvmlDeviceGetUUID, device)):
            yield uuid


def _with_parents(pid: int, root: Path) -> Iterator[int]:
    """The process, its parent and so on."""
    seen: set[int] = set()
    while pid > 1 and pid not in seen:
        yield pid
        seen.add(pid)
        parent = re.match(r"\S \d+", _text(root / f"proc/{pid}/stat").rpartition(") ")[2])
        pid = int(parent[0][2:]) if parent else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
