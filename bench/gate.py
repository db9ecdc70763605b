"""The gate: what keeps a Net from being timed, and what keeps two rows from being compared in silence.

A fault is one line, empty where there is none. Values are judged in parity.py; here is what becomes of the verdicts,
and of the conditions that a Worker found itself in.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.case import PRESETS, Case

#: Conditions that must be at the end what they were before the clock.
KEPT = ("threads", "onednn", "tf32", "device", "layout", "traces")
#: Above this many times the ceiling, work was left out: Winograd's F(4x4, 3x3) saves a factor of 4, nothing more.
IMPLAUSIBLE = 4.0

#: What two rows must share, beside what makes them two, and where a ``worker`` event says it.
ALIKE: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "threads": lambda worker: worker["conditions"]["threads"],
    "oneDNN": lambda worker: worker["conditions"]["onednn"],
    "TF32": lambda worker: worker["conditions"]["tf32"],
    "matmul in": lambda worker: worker["precision"]["matmul"]["precision"],
    "convolution in": lambda worker: worker["precision"]["conv"]["precision"],
}


class Disagrees(Exception):
    """A Net that is not equal to the reference, not finite, or not where and how it was asked for: never timed."""


def refuse(fault: str) -> None:
    if fault:
        raise Disagrees(fault)


def value_fault(checks: Sequence[Mapping[str, Any]]) -> str:
    """The worst check that is not within its limit."""
    wrong = [check for check in checks if not check["ok"]]
    if not wrong:
        return ""
    check = max(wrong, key=lambda one: float("inf") if one["error"] is None else one["error"] / one["tolerance"])
    return f"disagrees with the float64 reference in {len(wrong)} of {len(checks)} arrays, worst {spoken(check)}"


def spoken(check: Mapping[str, Any]) -> str:
    """A check that failed: what it looked at, and by how much that is off where it has an error at all."""
    if check["error"] is None:
        return check["what"]
    return f"{check['what']}: off by {check['error']:.1e}, allowed {check['tolerance']:.0e}"


def worst_errors(checks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The largest error of each kind: logits, loss, gradient, state."""
    worst: dict[str, float] = {}
    for check in checks:
        if check["error"] is not None:
            worst[check["kind"]] = max(check["error"], worst.get(check["kind"], 0.0))
    return worst


def precision_fault(case: Case, found: Mapping[str, Mapping[str, Any]]) -> str:
    """A matmul or convolution that showed another precision than the Case's. On a GPU an unknown one passes: its fp32
    convolutions may be Winograd's. With the preset `default` what a user gets is found out, not asked for."""
    if case.preset != PRESETS[0]:
        return ""
    allowed = (case.precision,) if case.device == "cpu" else (case.precision, "unknown")
    for what, one in found.items():
        if one["precision"] not in allowed:
            return (
                f"asked for {case.precision}, but a {what} ran in {one['precision']} precision "
                f"(off by {one['error']:.1e} from float64)"
            )
    return ""


def shown(case: Case, found: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The lowest precision that the probes showed, where the preset leaves it to the framework; else None."""
    if case.preset == PRESETS[0]:
        return None
    order = ("bf16", "tf32", "unknown", "fp32")
    lowest = min((one["precision"] for one in found.values()), key=order.index)
    return "tf32" if lowest == "unknown" else lowest


def place_fault(case: Case, threads: int | None, conditions: Mapping[str, Any]) -> str:
    """An output on another device, activations in another layout, or other threads in force, than was asked for."""
    found = re.search(r"(cpu|cuda|gpu):?(\d*)$", conditions["device"].lower())
    kind, number = found.groups() if found else ("", "")
    asked = case.device.partition(":")
    elsewhere = kind not in (("cpu",) if asked[0] == "cpu" else ("cuda", "gpu"))
    if elsewhere or (kind != "cpu" and int(number or 0) != int(asked[2] or 0)):
        return f"asked for {case.device}, the output lies on {conditions['device']}"
    if conditions["layout"] != case.layout:
        return f"asked for layout {case.layout}, activations lie in {conditions['layout']}"
    if None not in (threads, conditions["threads"]) and conditions["threads"] != threads:
        return f"asked for {threads} threads, {conditions['threads']} are in force"
    return ""


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What did not stay as it was while a Case was timed: a retrace, threads, a precision switch."""
    return {what: [before[what], after[what]] for what in KEPT if before[what] != after[what]}


def pruned_fault(multiple: float | None) -> str:
    """A pass that beat the machine's ceiling by more than any algorithm can."""
    if multiple is None or multiple <= IMPLAUSIBLE:
        return ""
    return f"implausible: {multiple:.1f} times the machine's ceiling, so work was left out"


def sync_fault(lag: Mapping[str, int]) -> str:
    """A ``wait`` that leaves the device with work to do: what is timed would be the call alone."""
    if lag["copy_ns"] <= lag["allowed_ns"]:
        return ""
    return (
        "its wait returns before the device is done (sync_check): a copy right after it took "
        f"{lag['copy_ns'] / 1e6:.1f} ms, allowed {lag['allowed_ns'] / 1e6:.1f}"
    )


def bad_samples(turns: Sequence[Mapping[str, Any]]) -> dict[int, set[int]]:
    """By the id of a turn, the samples that are none: no duration, or taken while another Worker was computing too.
    No sample is bad because of how long it took."""
    found: dict[int, set[int]] = {}

    def mark(turn: Mapping[str, Any], which: set[int]) -> None:
        if which:
            found.setdefault(id(turn), set()).update(which)

    rounds: dict[tuple, list[Mapping[str, Any]]] = {}
    for turn in turns:
        mark(turn, {i for i, ns in enumerate(turn["ns"]) if ns <= 0})
        if turn["ns"]:
            rounds.setdefault((turn["group"], turn["round"], turn["attempt"]), []).append(turn)
    for together in rounds.values():  # one Round, one boot of the machine, one clock
        together.sort(key=lambda turn: turn["start_ns"][0])
        last, end = together[0], together[0]["start_ns"][-1] + together[0]["ns"][-1]
        for turn in together[1:]:
            begun = turn["start_ns"][0]
            if begun < end:
                spans = enumerate(zip(last["start_ns"], last["ns"], strict=True))
                mark(last, {i for i, (start, ns) in spans if start + ns > begun})
                mark(turn, {i for i, start in enumerate(turn["start_ns"]) if start < end})
            if turn["start_ns"][-1] + turn["ns"][-1] > end:
                last, end = turn, turn["start_ns"][-1] + turn["ns"][-1]
    return found


def differing(
    baseline: Sequence[Mapping[str, Any]], candidate: Sequence[Mapping[str, Any]], meant: Sequence[str] = ()
) -> list[str]:
    """What two rows of a ratio were not alike in, beside framework, mode and layout, from their ``worker`` events.

    What one of them does not say (XLA has no oneDNN to switch) is no difference, and nor is what is ``meant`` as one.
    """
    found = []
    for what, look in ((what, look) for what, look in ALIKE.items() if what not in meant):
        theirs, ours = ({look(worker) for worker in workers} - {None} for workers in (baseline, candidate))
        if theirs and ours and theirs != ours:
            found.append(f"{what} {_words(ours)}, {_words(theirs)} in the baseline")
    return found


def _words(values: set) -> str:
    spoken = (("off", "on")[value] if isinstance(value, bool) else str(value) for value in values)
    return " and ".join(sorted(spoken))
