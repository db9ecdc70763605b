"""Evidence of noise: counters on both ends of each Turn, a fixed piece of work around the cycles of a Round, and what
they are held to. All of it is read outside the clock; what a system does not tell is None, never 0.

A sum goes over a Case's own Turns: in between, other Workers are at work, and would count as noise.
"""

import contextlib
import functools
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil
from msgspec import Struct

from bench.machine import gpu
from bench.machine.host import text
from bench.worker.timing import measure

#: Above these a Block is noisy, percent. Pressure (PSI) is recorded and not judged: a framework's own threads, more
#: than the cores, make 10 % of it on an idle machine.
NOISY = {"steal_pct": 1.0, "foreign_cpu_pct": 5.0}
#: Above these it is invalid.
STEAL_PCT = 10.0
SUSPENDED_S = 1e-3
#: A control further than this from the Run's median was taken on another machine, as it were.
CONTROL_OFF = 0.05
CONTROLS = ("control_cpu_ns", "control_mem_ns")
#: Sensors of a CPU, by the kernel driver's name.
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


class Noise(Struct, frozen=True):
    """What happened during a Turn beside the Worker's own work: seconds, and of a GPU what it read."""

    wall_s: float
    steal_s: float | None
    foreign_s: float | None
    psi_s: float | None
    throttled: float | None = None
    suspended_s: float | None = None
    reasons: int | None = None
    sm_mhz: float | None = None
    temp_c: float | None = None
    watts: float | None = None
    others: int | None = None


class Control(NamedTuple):
    """A fixed piece of work for one core and one for the memory, and the state of the machine: load, clock, warmth."""

    control_cpu_ns: int
    control_mem_ns: int
    load1: float
    mhz: float | None
    temp_c: float | None


def snapshot(device: str) -> dict[str, Any]:
    """Counters that only grow, in seconds, to be taken on both ends of a Turn; for a GPU, what it reads now as well."""
    cpu = psutil.cpu_times()
    idle = cpu.idle + getattr(cpu, "iowait", 0.0)
    read = gpu.read(device)
    pids = read.pop("pids")
    return {
        "wall_s": time.monotonic(),
        "steal_s": getattr(cpu, "steal", None),
        "busy_s": sum(cpu[:8]) - idle - getattr(cpu, "steal", 0.0),  # guest times are inside user's
        "psi_s": _pressure(),
        "throttled": _throttled(),
        "suspended_s": _suspended(),
        **read,
        "others": None if pids is None else gpu.others(pids, {pid for pid in pids if _ours(pid)}),
    }


def between(before: Mapping[str, Any], after: Mapping[str, Any], own_s: float) -> Noise:
    """What happened between two snapshots beside the Worker's own ``own_s`` seconds of CPU.

    Of a GPU: every reason that held its clocks down at either end, its lowest clock, highest temperature, mean power,
    and the most processes of others.
    """

    def grown(name: str) -> float | None:
        first, last = before[name], after[name]
        return None if first is None or last is None else last - first

    def of(name: str, fold: Callable[[list[Any]], Any]) -> Any:
        known = [end[name] for end in (before, after) if end[name] is not None]
        return fold(known) if known else None

    busy = grown("busy_s")
    return Noise(
        wall_s=after["wall_s"] - before["wall_s"],
        steal_s=grown("steal_s"),
        foreign_s=None if busy is None else max(0.0, busy - own_s),
        psi_s=grown("psi_s"),
        throttled=grown("throttled"),
        suspended_s=grown("suspended_s"),
        reasons=of("reasons", lambda bits: functools.reduce(int.__or__, bits)),
        sm_mhz=of("sm_mhz", min),
        temp_c=of("temp_c", max),
        watts=of("watts", statistics.fmean),
        others=of("others", max),
    )


def percent(turns: Sequence[Noise]) -> dict[str, float | None]:
    """The evidence of a Case's own Turns summed, in percent; None below a second, where 10 ms ticks say nothing."""
    wall, cores = sum(turn.wall_s for turn in turns), os.cpu_count() or 1

    def of(name: str, per: float) -> float | None:
        values = [getattr(turn, name) for turn in turns]
        if wall < 1 or any(value is None for value in values):
            return None
        return 100 * float(sum(values)) / (wall * per)

    return {
        "steal_pct": of("steal_s", cores),
        "foreign_cpu_pct": of("foreign_s", cores),
        "psi_some_pct": of("psi_s", 1),
    }


def invalid(turns: Sequence[Noise]) -> str:
    """Why a Block, the Turns of one Case in one Round, is not to be trusted, in one line; empty where nothing says so.
    A duration is never among the reasons."""
    why = []
    steal = percent(turns)["steal_pct"]
    if steal is not None and steal > STEAL_PCT:
        why.append(f"other virtual machines took {steal:.0f} % of the CPU time (limit {STEAL_PCT:g} %)")
    if throttled := sum(_known(turns, "throttled")):
        why.append(f"the CPU quota stopped it {throttled:.0f} times")
    if (suspended := max(_known(turns, "suspended_s"), default=0.0)) > SUSPENDED_S:
        why.append(f"the machine was suspended for {suspended:.3g} s")
    if held := _reasons(turns) & gpu.SLOWDOWN:
        why.append(f"the GPU slowed down: {', '.join(gpu.words(held))} ({held:#x})")
    if others := max(_known(turns, "others"), default=0):
        why.append(f"{others} other process{'es' if others > 1 else ''} computed on the GPU")
    return "; ".join(why)


def noisy(turns: Sequence[Noise]) -> list[str]:
    """Softer evidence against a Block, by name."""
    found = percent(turns)
    names = [name for name, limit in NOISY.items() if (found[name] or 0.0) > limit]
    return names + (["gpu_power_cap"] if _reasons(turns) & gpu.POWER_CAP else [])


def control() -> Control:
    """A fixed piece of work for one core and one for the memory, before and after the cycles of a Round; about 40 ms.

    They show a machine that changed its speed, and are never used to rescale a sample.
    """
    source, target = _buffers()
    _, (cpu_ns,) = measure(lambda: sum(range(10**6)), lambda out: None, 1)
    _, (mem_ns,) = measure(lambda: np.copyto(target, source), lambda out: None, 1)
    return Control(cpu_ns, mem_ns, os.getloadavg()[0], _mhz(), _temperature())


def control_off(controls: Sequence[Control]) -> set[int]:
    """Which controls lie more than 5 % off the median of all that are given, a Run's; by index."""
    off = set()
    for name in CONTROLS:
        found = [getattr(control, name) for control in controls]
        middle = statistics.median(found) if found else 0
        off |= {i for i, ns in enumerate(found) if abs(ns - middle) > CONTROL_OFF * middle}
    return off


@functools.cache
def _buffers() -> tuple[np.ndarray, np.ndarray]:
    """Two times 64 MiB, every page touched before it is timed: a page of zeros would be one and the same page."""
    source = np.full(1 << 23, 1.5)
    return source, source.copy()


def _known(turns: Sequence[Noise], name: str) -> list[Any]:
    return [value for turn in turns if (value := getattr(turn, name)) is not None]


def _reasons(turns: Sequence[Noise]) -> int:
    return functools.reduce(int.__or__, _known(turns, "reasons"), 0)


def _ours(pid: int) -> bool:
    """A child of this process, as each Worker is, or this process itself."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return os.getpid() in (pid, *(parent.pid for parent in process.parents()))
    return False


def _pressure() -> float | None:
    """Seconds in which some task waited for a CPU."""
    said = text("/proc/pressure/cpu")
    return int(said.splitlines()[0].rpartition("total=")[2]) / 1e6 if said else None


def _throttled() -> float | None:
    for line in (text("/sys/fs/cgroup/cpu.stat") or "").splitlines():
        if line.startswith("nr_throttled"):
            return float(line.split()[1])
    return None


def _suspended() -> float | None:
    """Seconds this machine slept since it was started. A preemption between two clocks would look like sleep, so the
    quickest of three readings counts."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    readings = []
    for _ in range(3):
        first, boot, last = (
            time.clock_gettime_ns(clock) for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC)
        )
        readings.append((last - first, boot - first))
    return min(readings)[1] / 1e9


def _mhz() -> float | None:
    with contextlib.suppress(Exception):  # psutil raises what the system's own files make it raise
        return psutil.cpu_freq().current or None
    return None


def _temperature() -> float | None:
    """The hottest sensor of the CPU."""
    found: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    return max((one.current for name in SENSORS for one in found.get(name, ())), default=None)
