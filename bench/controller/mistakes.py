"""Mistakes: why a Worker could not be configured where the user can correct it, and what a GPU has to do with it."""

import os
import re
import sys
from typing import TYPE_CHECKING

import impls
from bench.controller import unpassed
from bench.controller.launch import Launch
from bench.machine import gpu_cause, gpu_facts
from bench.machine.gpu_cause import Search
from bench.worker.replies import FaultKind
from impls.text import one_line

if TYPE_CHECKING:  # it asks for mistakes
    from bench.controller.worker_process import WorkerDied


def shared_memory(launch: Launch) -> str:
    """Which other processes hold memory of the Worker's GPU; empty if none is known to."""
    device = launch.settings.device
    if not _is_known(launch):
        return ""
    return gpu_cause.shared_memory(device, os.environ.get("CUDA_VISIBLE_DEVICES"), gpu_facts.read(gpu_cause.ROOT))


def mistake_of(launch: Launch, died: "WorkerDied") -> str:
    """What the user can correct if it could not be configured; empty if that is a fault."""
    framework, python, device = launch.framework, launch.python, launch.settings.device
    where = "" if python == sys.executable else f" for {python}"
    if launch.package and (died.kind in (FaultKind.DIED, FaultKind.ERROR) or "'impls" in died.last_words):
        return ""  # the impls of a revision do not fit: no framework is missing
    hidden, last = unpassed.way_to_missing(died.tail, launch.env), one_line(died.last_words)
    if died.kind == FaultKind.MISSING or "ModuleNotFoundError" in died.tail or (hidden and died.kind != FaultKind.DIED):
        lacks = f"No module named {impls.FRAMEWORKS[framework].package!r}" in died.tail
        what = "is not installed" if lacks else "cannot be imported"
        mend = hidden or f"pip install {impls.requirement(framework)}"
        return f"framework {framework!r} {what}{where}: {mend} ({last})"
    cause = _gpu_cause(launch, died)
    if died.kind == FaultKind.DEVICE:
        seen = died.reason.split(": ", 2)[-1]
        if needs := impls.accelerator_of(device).needs:
            return f"{seen}: no {device} here ({needs} has it)"
        return f"device {device!r} asked for, {seen} only: {cause or said(died.tail)}"
    if died.kind == FaultKind.ERROR and cause and died.search and died.search.built_for:
        why = died.reason.removeprefix("failed in configure: ")
        return f"device {device!r} asked for, which {framework} cannot use ({one_line(why)}): {cause}"
    if died.kind == FaultKind.DIED and (where or hidden):
        wrote = f" (it wrote: {last})" if last else ""
        return f"{python} cannot run a Worker for {framework}: {died.reason}{wrote}; {hidden or 'check --python'}"
    return ""


def _is_known(launch: Launch) -> bool:
    """Whether the Worker's device is one of this machine's that NVML watches."""
    return launch.node is None and impls.accelerator_of(launch.settings.device).watched


def _gpu_cause(launch: Launch, died: "WorkerDied") -> str:
    """Why the framework could not be configured for the GPU; empty if that is not known from here."""
    if died.search is None or not _is_known(launch):
        return ""
    device, visible = launch.settings.device, os.environ.get("CUDA_VISIBLE_DEVICES")
    search = Search(launch.framework, device, died.search.seen, died.search.built_for, visible)
    return gpu_cause.cause(search, gpu_facts.read(gpu_cause.ROOT))


def said(tail: str) -> str:
    """What to do about a GPU that is not found for no known cause, with what the framework wrote of it, if anything."""
    lines = [line for line in tail.splitlines() if re.search("cuda|gpu|nvidia", line, re.IGNORECASE)]
    lines = [line for line in lines if not line.startswith(" ") and "DeviceMissing" not in line]
    wrote = f" (it wrote: {one_line(lines[-1])})" if lines else ""
    return f"check `nvidia-smi`, or pass --device cpu{wrote}"
