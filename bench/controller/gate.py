"""Acceptance checks: reasons not to time a Net, and conditions that changed while it was timed.

Each ``*_fault`` function returns one line, empty if there is no fault. The limits of values are in parity.py.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cases.case import PRESETS, Case
from bench.controller.parity import Judged
from bench.worker.messages import slowest_first
from bench.worker.replies import CheckKind, Conditions, FrameworkConditions, PrecisionProbe, Reading, SyncLag
from impls import accelerator_of

LEAST_SHARE = 0.5  # of the time of turns that their samples add up to; honest 0.9 to 1.0
TURN_S = 0.05  # seconds per turn of any length for a request, its reply and a collection of garbage
LATE_SHARE, LATE_NS = 1, 5_000_000  # of a pass, and nanoseconds, that reading may take beyond copies
SPARE_CORES = 0.5  # a framework's own threads beside those that compute
CORES_S = 0.1  # shorter samples than this are too few to count cores
#: Conditions that must be the same before and after timing.
KEPT = ("threads", "onednn", "tf32", "device", "layout", "traces")


class Disagrees(Exception):
    """A Net is not timed: unequal to the reference, not finite, or not on the device or in the layout asked for."""


def refuse(fault: str) -> None:
    """Raise Disagrees if there is a fault."""
    if fault:
        raise Disagrees(fault)


def value_fault(checks: Sequence[Judged]) -> str:
    """Describe the worst of the checks that exceed their limits."""
    wrong = [check for check in checks if not check.ok]
    if not wrong:
        return ""
    if faults := [check.what for check in wrong if check.kind == CheckKind.FAULT]:
        return faults[0]
    worst = max(wrong, key=lambda check: check.excess)
    return f"disagrees with the float64 reference in {len(wrong)} of {len(checks)} arrays, worst {worst.description}"


def worst_errors(checks: Sequence[Judged]) -> dict[CheckKind, float]:
    """The largest error of each kind."""
    worst: dict[CheckKind, float] = {}
    for check in checks:
        if check.error is not None:
            worst[check.kind] = max(check.error, worst.get(check.kind, 0.0))
    return worst


def precision_fault(case: Case, probes: Mapping[str, PrecisionProbe]) -> str:
    """A matmul or convolution that ran in another precision than the Case's. On a GPU an unknown precision passes: fp32
    convolutions may be Winograd's. The preset `default` leaves the precision to the framework: nothing is refused."""
    if case.preset != PRESETS[0]:
        return ""
    allowed = (case.precision,) if case.device == "cpu" else (case.precision, "unknown")
    for what, probe in probes.items():
        if probe.precision not in allowed:
            return (
                f"asked for {case.precision}, but a {what} ran in {probe.precision} precision "
                f"(off by {probe.error:.1e} from float64)"
            )
    return ""


def precision_shown(case: Case, probes: Mapping[str, PrecisionProbe]) -> str | None:
    """The lowest precision that the probes measured, if the preset leaves it to the framework; else None."""
    if case.preset == PRESETS[0]:
        return None
    order = ("bf16", "tf32", "unknown", "fp32")
    lowest = min((probe.precision for probe in probes.values()), key=order.index)
    return "tf32" if lowest == "unknown" else lowest


def place_fault(case: Case, threads: int | None, conditions: Conditions) -> str:
    """Output on another device, activations in another layout, or another number of threads, than asked for."""
    match = re.search(r"([a-z]+):?(\d*)$", conditions.device.lower())
    found, number = match.groups() if match else ("", "")
    accelerator, asked = accelerator_of(case.device), case.device.partition(":")[2]
    if found not in accelerator.names or (accelerator.indexed and int(number or 0) != int(asked or 0)):
        return f"asked for {case.device}, the output is on {conditions.device}"
    if conditions.layout != case.layout:
        return f"asked for layout {case.layout}, activations are in {conditions.layout}"
    if None not in (threads, conditions.threads) and conditions.threads != threads:
        return f"asked for {threads} threads, {conditions.threads} are in force"
    return ""


def changed(before: Conditions, after: Conditions) -> dict[str, tuple[Any, Any]]:
    """Settings that changed while a Case was timed (traces, threads, precision switches): (before, after) by name."""
    ends = {name: (getattr(before, name), getattr(after, name)) for name in KEPT}
    return {name: (first, last) for name, (first, last) in ends.items() if first != last}


def reading_fault(reading: Reading, judged: Sequence[Judged], before: FrameworkConditions) -> str:
    """A timed iteration with values unlike the reference's, or after which other settings were in force."""
    changed = [
        f"{name} {getattr(before, name)} -> {value}"
        for name, value in vars(reading.settings).items()
        if name != "bf16" and getattr(before, name) != value  # a fact of the hardware
    ]
    fault = value_fault(judged) or reading.fault or (f"it had changed {', '.join(changed)}" if changed else "")
    return f"in a timed iteration {fault}" if fault else ""


def reload_fault(reload_ns: int, again_ns: int) -> str:
    """A first pass on new images that takes much longer than a later one on them: the Net keeps results."""
    if reload_ns <= slowest_first(again_ns):
        return ""
    return (
        f"a pass takes {reload_ns / 1e6:.1f} ms on images it has not seen, and {again_ns / 1e6:.1f} ms on them again: "
        "it keeps results"
    )


def clock_fault(samples_s: float, wall_s: float, turns: int, ranks: int = 1) -> str:
    """Samples whose sum is far from the time that the controller waited for them.

    Each of the ``ranks`` of a Team has a request, a reply and a collection of garbage, and all wait for the last.
    """
    if samples_s >= LEAST_SHARE * wall_s - turns * ranks * TURN_S:
        return ""
    return (
        f"its samples add up to {samples_s:.2f} s of the {wall_s:.2f} s that they took: its clock is not the machine's"
    )


def late_fault(late_ns: int, iteration_ns: int) -> str:
    """Reading that takes a good part of a pass, more than copies do: work that the pass left undone."""
    if late_ns <= LATE_SHARE * iteration_ns + LATE_NS:
        return ""
    return (
        f"reading its values takes {late_ns / 1e6:.1f} ms more than copying them, and a pass {iteration_ns / 1e6:.1f}: "
        "work is left to the reading"
    )


def cores_fault(cpu_s: float, samples_s: float, threads: int | None) -> str:
    """More cores busy than the threads asked for."""
    if threads is None or samples_s < CORES_S or cpu_s <= (threads + SPARE_CORES) * samples_s:
        return ""
    return f"asked for --threads {threads}, {cpu_s / samples_s:.1f} cores were busy"


def sync_fault(lag: SyncLag) -> str:
    """A ``wait`` that returns while the device still has work: the time would be that of the call alone."""
    if lag.copy_ns <= lag.allowed_ns:
        return ""
    return (
        "its wait returns before the device is done (sync_check): a copy right after it took "
        f"{lag.copy_ns / 1e6:.1f} ms, allowed {lag.allowed_ns / 1e6:.1f}"
    )
