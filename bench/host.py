"""Fingerprint of machine and software, and evidence of noise around each Turn. No path, no host name in clear."""

import hashlib
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import bench

#: Above these a row says so. Pressure (PSI) is recorded and not judged: a framework's own threads, more than the cores,
#: make 10 % of it on an idle machine.
NOISY = {"steal_pct": 1.0, "foreign_cpu_pct": 5.0}


def usable_cores() -> int:
    """Cores this process may use: its affinity, less what a cgroup quota cuts off; at least 1."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        pass
    return max(1, int(cores))


def fingerprint() -> dict[str, Any]:
    """What a Run was made on; None where a source is absent, never 0."""
    return {
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_mib": psutil.virtual_memory().total >> 20,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "python": platform.python_version(),
        "alexnet_bench": bench.__version__,
        "packages": {name: _version(name) for name in ("numpy", "scipy", "pandas", "matplotlib")},
        "load_1min": os.getloadavg()[0],
    }


def snapshot() -> dict[str, float | None]:
    """Counters that only grow, to be taken on both sides of a Turn; seconds."""
    cpu = psutil.cpu_times()
    idle = cpu.idle + getattr(cpu, "iowait", 0.0)
    return {
        "wall_s": time.monotonic(),
        "steal_s": getattr(cpu, "steal", None),
        "busy_s": sum(cpu[:8]) - idle - getattr(cpu, "steal", 0.0),  # guest times are inside user's
        "psi_s": _pressure(),
        "throttled": _throttled(),
    }


def noise(
    before: Mapping[str, float | None], after: Mapping[str, float | None], own_s: float
) -> dict[str, float | None]:
    """What happened between two snapshots beside the Worker's own ``own_s`` seconds of CPU."""

    def grown(name: str) -> float | None:
        first, last = before[name], after[name]
        return None if first is None or last is None else last - first

    busy = grown("busy_s")
    return {
        "wall_s": grown("wall_s"),
        "steal_s": grown("steal_s"),
        "foreign_s": None if busy is None else max(0.0, busy - own_s),
        "psi_s": grown("psi_s"),
        "throttled": grown("throttled"),
    }


def noise_percent(turns: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The evidence of a Case's own Turns summed, in percent; None below a second, where 10 ms ticks say nothing."""
    wall, cores = sum(turn["wall_s"] or 0.0 for turn in turns), os.cpu_count() or 1

    def percent(name: str, per: float) -> float | None:
        values = [turn[name] for turn in turns]
        if wall < 1 or any(value is None for value in values):
            return None
        return 100 * sum(value for value in values if value) / (wall * per)

    return {
        "steal_pct": percent("steal_s", cores),
        "foreign_cpu_pct": percent("foreign_s", cores),
        "psi_some_pct": percent("psi_s", 1),
    }


def _cpu_model() -> str:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _pressure() -> float | None:
    """Seconds in which some task waited for a CPU."""
    text = _text("/proc/pressure/cpu")
    return int(text.splitlines()[0].rpartition("total=")[2]) / 1e6 if text else None


def _throttled() -> float | None:
    for line in (_text("/sys/fs/cgroup/cpu.stat") or "").splitlines():
        if line.startswith("nr_throttled"):
            return float(line.split()[1])
    return None
