"""The gate: what keeps a Net from being timed, and what keeps two rows from being compared in silence.

A fault is one line, empty where there is none. Values are judged in parity.py; here is what becomes of the verdicts,
and of the conditions that a Worker found itself in.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cases.case import PRESETS, Case
from bench.controller.parity import Judged
from bench.worker.replies import CheckKind, Conditions, PrecisionProbe, SyncLag

#: Conditions that must be at the end what they were before the clock.
KEPT = ("threads", "onednn", "tf32", "device", "layout", "traces")


class Disagrees(Exception):
    """A Net that is not equal to the reference, not finite, or not where and how it was asked for: never timed."""


def refuse(fault: str) -> None:
    if fault:
        raise Disagrees(fault)


def value_fault(checks: Sequence[Judged]) -> str:
    """The worst check that is not within its limit."""
    wrong = [check for check in checks if not check.ok]
    if not wrong:
        return ""
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
    """A matmul or convolution that showed another precision than the Case's. On a GPU an unknown one passes: its fp32
    convolutions may be Winograd's. With the preset `default` what a user gets is found out, not asked for."""
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
    """The lowest precision that the probes showed, where the preset leaves it to the framework; else None."""
    if case.preset == PRESETS[0]:
        return None
    order = ("bf16", "tf32", "unknown", "fp32")
    lowest = min((probe.precision for probe in probes.values()), key=order.index)
    return "tf32" if lowest == "unknown" else lowest


def place_fault(case: Case, threads: int | None, conditions: Conditions) -> str:
    """An output on another device, activations in another layout, or other threads in force, than was asked for."""
    found = re.search(r"(cpu|cuda|gpu):?(\d*)$", conditions.device.lower())
    kind, number = found.groups() if found else ("", "")
    asked = case.device.partition(":")
    elsewhere = kind not in (("cpu",) if asked[0] == "cpu" else ("cuda", "gpu"))
    if elsewhere or (kind != "cpu" and int(number or 0) != int(asked[2] or 0)):
        return f"asked for {case.device}, the output lies on {conditions.device}"
    if conditions.layout != case.layout:
        return f"asked for layout {case.layout}, activations lie in {conditions.layout}"
    if None not in (threads, conditions.threads) and conditions.threads != threads:
        return f"asked for {threads} threads, {conditions.threads} are in force"
    return ""


def changed(before: Conditions, after: Conditions) -> dict[str, tuple[Any, Any]]:
    """What did not stay as it was while a Case was timed: a retrace, threads, a precision switch."""
    ends = {name: (getattr(before, name), getattr(after, name)) for name in KEPT}
    return {name: (first, last) for name, (first, last) in ends.items() if first != last}


def sync_fault(lag: SyncLag) -> str:
    """A ``wait`` that leaves the device with work to do: what is timed would be the call alone."""
    if lag.copy_ns <= lag.allowed_ns:
        return ""
    return (
        "its wait returns before the device is done (sync_check): a copy right after it took "
        f"{lag.copy_ns / 1e6:.1f} ms, allowed {lag.allowed_ns / 1e6:.1f}"
    )
