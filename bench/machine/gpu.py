"""What NVML says of a GPU: clocks and what holds them down, power, temperature, who computes on it.

None wherever it says nothing: without nvidia-ml-py, without a driver, or for a figure that a card does not have. A
Worker is started with CUDA_DEVICE_ORDER=PCI_BUS_ID and the caller's CUDA_VISIBLE_DEVICES, and NVML counts in PCI order
too, so both mean the same card.
"""

import functools
import importlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

#: Bits of NVML's clock event reasons, in words. Source: NVML API reference, nvmlClocksEventReasons.
REASONS = {
    0x1: "idle",
    0x2: "application clocks set",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware",
    0x80: "power brake",
    0x100: "display clocks",
}
POWER_CAP = 0x4  # usual on a busy card: it makes a row noisy, not invalid
SLOWDOWN = 0x8 | 0x20 | 0x40 | 0x80
FACTS = ("sm_mhz", "watts", "temp_c", "reasons", "pids")


def read(device: str, visible: str | None = None) -> dict[str, Any]:
    """The card that a Worker calls ``device`` (cuda, cuda:1), now; all None for ``cpu``.

    ``visible`` is CUDA_VISIBLE_DEVICES, the caller's own where it is not given. ``reasons`` is NVML's bitmask, ``pids``
    are of all processes that compute on the card, ours included.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    return _facts(_handle(chosen(device, visible)) if device != "cpu" else None)


def chosen(device: str, visible: str | None) -> int | str | None:
    """Which card a process with that CUDA_VISIBLE_DEVICES calls ``device``: an index in PCI order, the start of a UUID,
    or None. CUDA stops reading the list at the first entry that names no card."""
    index = int(device.partition(":")[2] or 0)
    if visible is None:
        return index
    listed: list[int | str] = []
    for word in (word.strip() for word in visible.split(",")):
        if not word.isdecimal() and not word.startswith(("GPU-", "MIG-")):
            break
        listed.append(int(word) if word.isdecimal() else word)
    return listed[index] if index < len(listed) else None


def others(pids: Collection[int] | None, own: Collection[int]) -> int | None:
    """How many processes beside our own compute on a card. None where none of them is ours, though ours has one: then
    NVML counts processes of another PID namespace (a container), and ours is among them under another number."""
    if pids is None or (pids and not set(pids) & set(own)):
        return None
    return len(set(pids) - set(own))


def words(reasons: int | None) -> list[str]:
    """What holds the clocks down, bit by bit."""
    return [word for bit, word in REASONS.items() if (reasons or 0) & bit]


def driver() -> str | None:
    """The driver's version; from the kernel module where NVML is silent."""
    nvml = _nvml()
    said = _ask(nvml.nvmlSystemGetDriverVersion) if nvml else None
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", said or Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return found.group() if found else None


def cards() -> list[dict[str, Any]]:
    """Every card that NVML knows, in PCI order, with its name and what it reads now."""
    nvml = _nvml()
    found = []
    for index in range((_ask(nvml.nvmlDeviceGetCount) if nvml else None) or 0):
        handle = _handle(index)
        name = _ask(nvml.nvmlDeviceGetName, handle) if handle is not None else None
        found.append({"index": index, "name": name, **_facts(handle)})
    return found


def answers() -> bool:
    """Is NVML there to be asked?"""
    return _nvml() is not None


def present() -> bool:
    """Is there a GPU with NVIDIA's driver: one that NVML counts, or the file by which programs reach the first."""
    nvml = _nvml()
    return bool(nvml and _ask(nvml.nvmlDeviceGetCount)) or Path("/dev/nvidia0").exists()


@functools.cache
def _nvml() -> Any:
    """NVML's Python binding with the library initialised, for as long as this process lives; None without either."""
    try:
        nvml = importlib.import_module("pynvml")  # optional: it is no dependency, and has no types
        nvml.nvmlInit()
    except Exception:  # no module, no library, no driver: each has an error of its own, and all mean silence
        return None
    return nvml


def _ask(call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except Exception:  # NVMLError in many kinds: not supported by this card, not permitted, gone
        return None


def _handle(card: int | str | None) -> Any:
    nvml = _nvml()
    if nvml is None or card is None:
        return None
    if isinstance(card, int):
        return _ask(nvml.nvmlDeviceGetHandleByIndex, card)
    for index in range(_ask(nvml.nvmlDeviceGetCount) or 0):  # NVML wants the whole UUID, CUDA the start of it
        handle = _ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is not None and (_ask(nvml.nvmlDeviceGetUUID, handle) or "").startswith(card):
            return handle
    return _ask(nvml.nvmlDeviceGetHandleByUUID, card)  # a slice of a card has a UUID and no index


def _facts(handle: Any) -> dict[str, Any]:
    if handle is None:
        return dict.fromkeys(FACTS)
    nvml = _nvml()
    milliwatts = _ask(nvml.nvmlDeviceGetPowerUsage, handle)
    processes = _ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    newer, older = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    reasons = _ask(getattr(nvml, newer, None), handle)
    if reasons is None:  # an older driver, or an older binding, knows the older name only
        reasons = _ask(getattr(nvml, older, None), handle)
    return {
        "sm_mhz": _ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        "watts": None if milliwatts is None else milliwatts / 1000,
        "temp_c": _ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        "reasons": reasons,
        "pids": None if processes is None else sorted({process.pid for process in processes}),
    }
