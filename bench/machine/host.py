"""Fingerprint of machine and software, without paths; the host name is hashed."""

import contextlib
import hashlib
import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path, PurePosixPath

import psutil
from msgspec import Struct

import bench
from bench.machine import code, gpu

CGROUPS = Path("/sys/fs/cgroup")


class Fingerprint(Struct, frozen=True, kw_only=True):
    """Machine and software of a Run; None (never 0) where unknown. ``code`` is a digest of bench and impls."""

    host: str | None = None
    cpu: str
    cores: int | None = None
    usable_cores: int | None = None
    affinity: str | None = None
    memory_mib: int | None = None
    system: str | None = None
    virtual: bool | None = None
    governor: str | None = None
    gpu_driver: str | None = None
    python: str | None = None
    alexnet_bench: str | None = None
    code: str | None = None
    commit: str | None = None
    packages: dict[str, str | None] = {}
    load_1min: float | None = None


def usable_cores() -> int:
    """Cores this process may use: the lower of its affinity and its cgroup quota, at least 1."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if (quota := cpu_quota()) is not None:
        cores = min(cores, quota)
    return max(1, int(cores))


def core_numbers() -> list[int]:
    """The numbers of so many of the cores that this process may use; threads of one physical core follow each other."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(cores, key=lambda core: (_first_sibling(core), core))[: usable_cores()]


def _first_sibling(core: int) -> int:
    """The first of the threads that share a physical core; the core itself without Linux's /sys."""
    threads = read_text(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or ""
    first = re.match(r"\d+", threads)
    return int(first[0]) if first else core


def cpu_quota() -> float | None:
    """Cores that this process's cgroup and those above it allow, the least of all; None without a limit."""
    quotas = []
    for folder in cgroups():
        limit = (read_text(folder / "cpu.max") or "").split()  # version 2
        limit = limit or [read_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]  # version 1
        if len(limit) == 2 and all(word.isdecimal() and int(word) for word in limit):  # neither "max" nor -1
            quotas.append(int(limit[0]) / int(limit[1]))
    return min(quotas, default=None)


def cgroups() -> list[Path]:
    """Folders of the cgroups that limit this process's CPU time, of versions 1 and 2: its own and those above it."""
    folders: dict[Path, None] = {}
    for line in (read_text("/proc/self/cgroup") or "0::/").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers or "cpu" in controllers.split(","):
            below = PurePosixPath(path.lstrip("/"))  # in a container it may be the host's, which is not there
            for mount in (controllers, "cpu") if controllers else ("", "unified"):
                folders |= dict.fromkeys(CGROUPS / mount / level for level in (below, *below.parents))
    return list(folders)


def fingerprint() -> Fingerprint:
    """The fingerprint of this machine."""
    return Fingerprint(
        host=hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        cpu=_cpu_model(),
        cores=os.cpu_count(),
        usable_cores=usable_cores(),
        affinity=affinity(),
        memory_mib=_memory_mib(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        virtual=virtual(),
        governor=read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        gpu_driver=gpu.driver(),
        python=platform.python_version(),
        alexnet_bench=bench.__version__,
        code=code.digest(),
        commit=code.commit(),
        packages={name: _version(name) for name in ("numpy", "scipy", "pandas", "matplotlib")},
        load_1min=load_1min(),
    )


def affinity() -> str | None:
    """Cores that this process is bound to, as ranges: 0-3,8."""
    return ranges(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def ranges(numbers: Iterable[int]) -> str:
    """Format integers as ``taskset`` does: 0-3,8."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def virtual() -> bool | None:
    """Whether this is a virtual machine, by the CPU flag of x86; None on other CPUs."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("flags"):
            return "hypervisor" in line.split()
    return None


def load_1min() -> float | None:
    """Processes that ran or waited for a CPU, mean over the last minute; None if the system does not tell."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def read_text(path: str | Path) -> str | None:
    """Contents of a kernel file, stripped; None if it is absent, empty or unreadable."""
    try:
        return Path(path).read_text(errors="replace").strip() or None
    except OSError:
        return None


def _memory_mib() -> int | None:
    with contextlib.suppress(Exception):  # psutil passes on any error of the system's files
        return psutil.virtual_memory().total >> 20
    return None


def _cpu_model() -> str:
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
