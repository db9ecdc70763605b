"""Noise: counters at both ends of each Turn, control measurements around the cycles of a Round, and their limits.

All are read outside the clock; an unknown value is None, never 0. Sums are over a Case's own Turns: in between, other
Workers run and would count as noise.
"""

import bisect
import contextlib
import functools
import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil
from msgspec import Struct

from bench.machine import gpu
from bench.machine.host import cgroups, cpu_quota, load_1min, read_text
from bench.worker.timing import measure

#: Limits above which a Block is noisy, percent. Pressure (PSI) is recorded only: a framework with more threads than
#: cores causes 10 % on an idle machine.
NOISY = {"steal_pct": 1.0, "foreign_cpu_pct": 5.0, "quota_pct": 1.0}
#: Limits above which a Block is invalid. A quota of whole cores stops a process with as many threads now and then.
STEAL_PCT = 10.0
QUOTA_PCT = 10.0
SUSPENDED_S = 1e-3
#: Relative deviation from the Run's median above which a control measurement is flagged.
CONTROL_OFF = 0.05
CONTROLS = ("control_cpu_ns", "control_mem_ns")
#: Kernel drivers of CPU temperature sensors.
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


class Noise(Struct, frozen=True):
    """Activity during a Turn other than the Worker's own, in seconds, and GPU readings.

    ``throttled`` is how often a CPU quota stopped the process, ``throttled_s`` for how long, summed over cores, and
    ``quota`` how many cores it allows.
    ``steal_s`` and ``foreign_s`` are of the ``cores`` that this process may use; None, in older Runs: of all.
    ``sm_mhz`` and ``sm_mhz_high`` are the GPU's lowest and highest clock, ``ecc_errors`` those that its memory could
    not correct.
    """

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
    cores: int | None = None
    throttled_s: float | None = None
    quota: float | None = None
    sm_mhz_high: float | None = None
    ecc_errors: int | None = None


class Control(NamedTuple):
    """Durations of a fixed CPU task and a fixed memory copy; load, clock and temperature of the machine."""

    control_cpu_ns: int
    control_mem_ns: int
    load1: float | None
    mhz: float | None
    temp_c: float | None


class Snapshot(NamedTuple):
    """Monotonic counters in seconds, and GPU readings as in ``Noise``."""

    wall_s: float
    busy_s: float | None
    steal_s: float | None
    psi_s: float | None
    throttled: float | None
    suspended_s: float | None
    sm_mhz: float | None = None
    watts: float | None = None
    temp_c: float | None = None
    reasons: int | None = None
    others: int | None = None
    cores: int | None = None
    throttled_s: float | None = None
    quota: float | None = None
    ecc_errors: int | None = None


def snapshot(device: str) -> Snapshot:
    """The counters and readings now; taken at both ends of a Turn."""
    cores = cores_times()
    read = gpu.read(device)
    pids = read.pop("pids")
    return Snapshot(
        wall_s=time.monotonic(),
        busy_s=sum(map(_busy_s, cores)) if cores else None,
        steal_s=sum(core.steal for core in cores) if cores and hasattr(cores[0], "steal") else None,
        psi_s=_pressure(),
        throttled=_quota_stops("nr_throttled"),
        throttled_s=_quota_stops("throttled_usec", "throttled_time"),
        suspended_s=_suspended(),
        **read,
        others=count_others(pids),
        cores=len(cores) or None,
        quota=cpu_quota(),
    )


class Observation:
    """Snapshots at both ends of a Turn, and readings of its GPU in between: ``with Observation(device) as seen``."""

    def __init__(self, device: str):
        self.device, self.sampler = device, gpu.Sampler(device)

    def __enter__(self) -> "Observation":
        self.before = snapshot(self.device)
        self.sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.sampler.stop()
        self.after = snapshot(self.device)

    def noise(self, own_s: float, start_ns: Sequence[int], ns: Sequence[int]) -> Noise:
        """The noise between the ends; the Worker itself used ``own_s`` CPU seconds.

        A GPU is judged by what was read while it computed the iterations that began at ``start_ns`` and took ``ns``:
        in between values are read and compared on the host, and its clock falls.
        """
        busy = [reading for reading in self.sampler.readings if _is_within(reading["at_ns"], start_ns, ns)]
        return between(self.before, self.after, own_s + self.sampler.cpu_s, busy)


def _is_within(at_ns: int, start_ns: Sequence[int], ns: Sequence[int]) -> bool:
    last = bisect.bisect_right(start_ns, at_ns) - 1
    return last >= 0 and at_ns < start_ns[last] + ns[last]


def cores_times() -> list[Any]:
    """CPU times of each core that this process may use; of all where the system counts others. Empty if unknown."""
    with contextlib.suppress(Exception):  # psutil passes on any error of the system's files
        times = psutil.cpu_times(percpu=True)
        ours = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(len(times))
        return [times[number] for number in ours] if ours[-1] < len(times) else times
    return []


def _busy_s(core: Any) -> float:
    """Seconds in which a core computed; user time includes guest time."""
    return float(sum(core[:8]) - core.idle - getattr(core, "iowait", 0.0) - getattr(core, "steal", 0.0))


def count_others(pids: Sequence[int] | None) -> int | None:
    """Number of processes that compute on the card and are neither this one nor a descendant, such as a Worker.

    None if all are others: then NVML reports pids of another namespace (a container).
    """
    ours = [pid for pid in pids or () if os.getpid() in (pid, *_parents(pid))]
    return None if pids is None or (pids and not ours) else len(pids) - len(ours)


def between(before: Snapshot, after: Snapshot, own_s: float, samples: Sequence[Mapping[str, Any]] = ()) -> Noise:
    """Noise between two snapshots; the Worker itself used ``own_s`` CPU seconds.

    For a GPU, over both ends and the ``samples`` between them (gpu.Sampler): all throttle reasons, highest temperature
    and mean power; without the first end lowest and highest clock; of both ends the largest number of other processes.
    """

    def growth(name: str) -> float | None:
        first, last = getattr(before, name), getattr(after, name)
        return None if first is None or last is None else last - first

    def fold_known(name: str, fold: Callable[[list[Any]], Any]) -> Any:
        readings = [*(sample.get(name) for sample in samples), *(getattr(end, name) for end in (before, after))]
        known = [value for value in readings if value is not None]
        return fold(known) if known else None

    # a card may have come from rest at the first end, which says nothing of the Turn's clock
    mhz = [value for value in (*(sample["sm_mhz"] for sample in samples), after.sm_mhz) if value is not None]

    return Noise(
        wall_s=after.wall_s - before.wall_s,
        steal_s=growth("steal_s"),
        foreign_s=None if (busy_s := growth("busy_s")) is None else max(0.0, busy_s - own_s),
        psi_s=growth("psi_s"),
        throttled=growth("throttled"),
        suspended_s=growth("suspended_s"),
        reasons=fold_known("reasons", lambda bits: functools.reduce(int.__or__, bits)),
        sm_mhz=min(mhz, default=before.sm_mhz),
        sm_mhz_high=max(mhz, default=before.sm_mhz),
        temp_c=fold_known("temp_c", max),
        watts=fold_known("watts", statistics.fmean),
        others=fold_known("others", max),
        cores=before.cores,
        throttled_s=growth("throttled_s"),
        quota=before.quota,
        ecc_errors=None if (errors := growth("ecc_errors")) is None else int(errors),
    )


def percentages(turns: Sequence[Noise]) -> dict[str, float | None]:
    """Noise summed over Turns, in percent: of the cores that the process may use, or that its quota allows.

    None below one second, too short for the 10 ms ticks in which all but the stops of a quota are counted.
    """
    wall = sum(turn.wall_s for turn in turns)
    cores_wall = sum(turn.wall_s * (turn.cores or os.cpu_count() or 1) for turn in turns)
    quota_wall = sum(turn.wall_s * (turn.quota or turn.cores or os.cpu_count() or 1) for turn in turns)

    def share(name: str, of: float, least_s: float = 1.0) -> float | None:
        values = [getattr(turn, name) for turn in turns]
        if not wall or wall < least_s or any(value is None for value in values):
            return None
        return 100 * float(sum(values)) / of

    return {
        "steal_pct": share("steal_s", cores_wall),
        "foreign_cpu_pct": share("foreign_s", cores_wall),
        "psi_some_pct": share("psi_s", wall),
        "quota_pct": share("throttled_s", quota_wall, least_s=0.0),
    }


def invalid_reason(turns: Sequence[Noise]) -> str:
    """Why a Block, the Turns of one Case in one Round, is invalid, in one line; empty if valid.

    A duration is never a reason.
    """
    why = []
    shares = percentages(turns)
    if (steal := shares["steal_pct"] or 0.0) > STEAL_PCT:
        why.append(f"other virtual machines took {steal:.0f} % of the CPU time (limit {STEAL_PCT:g} %)")
    if (stopped := shares["quota_pct"] or 0.0) > QUOTA_PCT:
        why.append(f"the CPU quota stopped it for {stopped:.0f} % of the CPU time (limit {QUOTA_PCT:g} %)")
    if (suspended := max(_known(turns, "suspended_s"), default=0.0)) > SUSPENDED_S:
        why.append(f"the machine was suspended for {suspended:.3g} s")
    if held := _reasons(turns) & gpu.SLOWDOWN:
        why.append(f"the GPU slowed down: {', '.join(gpu.reason_names(held))} ({held:#x})")
    if others := max(_known(turns, "others"), default=0):
        why.append(f"{others} other process{'es' if others > 1 else ''} computed on the GPU")
    if errors := sum(_known(turns, "ecc_errors")):
        why.append(f"the GPU’s memory had {errors} error{'s' if errors > 1 else ''} that ECC could not correct")
    return "; ".join(why)


def noise_flags(turns: Sequence[Noise]) -> list[str]:
    """Names of the noise limits that a valid Block exceeds."""
    values = percentages(turns)
    names = [name for name, limit in NOISY.items() if (values[name] or 0.0) > limit]
    return names + (["gpu_power_cap"] if _reasons(turns) & gpu.POWER_CAP else [])


def control() -> Control:
    """Time a fixed CPU task and a fixed memory copy, before and after the cycles of a Round; about 40 ms.

    They reveal a machine that changed its speed; samples are never rescaled by them.
    """
    source, target = _buffers()
    _, (cpu_ns,) = measure(lambda: sum(range(10**6)), lambda out: None, 1)
    _, (mem_ns,) = measure(lambda: np.copyto(target, source), lambda out: None, 1)
    return Control(cpu_ns, mem_ns, load_1min(), _mhz(), _temperature())


def control_off(controls: Sequence[Any]) -> set[int]:
    """Indices of controls of a Run that deviate by more than 5 % from their median."""
    off = set()
    for name in CONTROLS:
        values = [getattr(control, name) for control in controls]
        middle = statistics.median(values) if values else 0
        off |= {i for i, ns in enumerate(values) if abs(ns - middle) > CONTROL_OFF * middle}
    return off


@functools.cache
def _buffers() -> tuple[np.ndarray, np.ndarray]:
    """Two buffers of 64 MiB with every page written, since untouched pages all map to one page of zeros."""
    source = np.full(1 << 23, 1.5)
    return source, source.copy()


def _known(turns: Sequence[Noise], name: str) -> list[Any]:
    return [value for turn in turns if (value := getattr(turn, name)) is not None]


def _reasons(turns: Sequence[Noise]) -> int:
    return functools.reduce(int.__or__, _known(turns, "reasons"), 0)


def _parents(pid: int) -> list[int]:
    with contextlib.suppress(psutil.Error, OSError):
        return [parent.pid for parent in psutil.Process(pid).parents()]
    return []


def _pressure() -> float | None:
    """Seconds in which some task waited for a CPU."""
    total = re.search(r"^some .*total=(\d+)", read_text("/proc/pressure/cpu") or "")
    return int(total[1]) / 1e6 if total else None


def _quota_stops(*names: str) -> float | None:
    """A counter of CPU quotas, in its unit or in seconds, summed over this process's cgroup and those above it."""
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}  # of cgroup v2 and v1
    stats = [read_text(folder / "cpu.stat") or "" for folder in cgroups()]
    found = [(name, re.search(rf"^{name} (\d+)", stat, re.M)) for stat in stats for name in names]
    counts = [units.get(name, 1) * float(count[1]) for name, count in found if count]
    return sum(counts) if counts else None


def _suspended() -> float | None:
    """Seconds this machine was suspended since boot.

    The quickest of three readings counts: a preemption between two clocks looks like sleep.
    """
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
    with contextlib.suppress(Exception):  # psutil passes on any error of the system's files
        return psutil.cpu_freq().current or None
    return None


def _temperature() -> float | None:
    """The hottest CPU sensor."""
    with contextlib.suppress(Exception):  # psutil passes on any error of the system's files
        sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
        return max((sensor.current for name in SENSORS for sensor in sensors.get(name, ())), default=None)
    return None
