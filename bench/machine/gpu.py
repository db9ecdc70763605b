"""GPU readings from NVML: clocks and throttle reasons, power and energy, temperature, errors, computing processes.

Readings are None if unavailable: no nvidia-ml-py, no driver, or not supported by the card. A Worker is started with
CUDA_DEVICE_ORDER=PCI_BUS_ID and the caller's CUDA_VISIBLE_DEVICES; NVML counts in PCI order too, so indices agree.
"""

import functools
import importlib
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from impls import accelerator_of

#: Names of the bits of NVML's clock event reasons. Source: NVML API reference, nvmlClocksEventReasons.
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
POWER_CAP = 0x4  # usual on a busy card: noisy, not invalid
SLOWDOWN = 0x8 | 0x20 | 0x40 | 0x80
#: What changes within a Turn, the quick to read first.
QUICK = ("sm_mhz", "reasons")
SAMPLED = (*QUICK, "watts", "temp_c")
FACTS = (*SAMPLED, "ecc_errors", "pids")
SAMPLE_S = 0.005  # between two readings during a Turn, whose passes may take 10 ms in all
IS_LOST = 15  # NVML_ERROR_GPU_IS_LOST


def read(device: str) -> dict[str, Any]:
    """Current readings of a Worker's ``device`` (cuda, cuda:1); all None for those that are not NVIDIA's.

    ``reasons`` is NVML's bitmask; ``ecc_errors``, which memory could not correct, are counted since the last reset;
    ``pids`` are all processes that compute on the card, including ours.
    """
    return _facts(_handle_of(device))


def joules(device: str) -> float | None:
    """What the card has used since its driver was loaded, updated every 0.1 s or so; None if it does not count."""
    handle, nvml = _handle_of(device), _nvml()
    if handle is None:
        return None
    millijoules = ask(getattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", None), handle)
    return None if millijoules is None else float(millijoules / 1000)


def is_lost(device: str) -> bool:
    """Whether NVML says that the card has stopped working."""
    handle, nvml = _handle_of(device), _nvml()
    if handle is None:
        return False
    try:
        nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    except Exception as error:  # NVMLError
        return getattr(error, "value", None) == IS_LOST
    return False


class Sampler:
    """Readings of a card while a Turn runs, by a thread from ``start`` to ``stop``; none for ``cpu`` or without NVML.

    Clock and reasons are read every SAMPLE_S; power and temperature, which take longer to read, at every tenth time.
    ``at_ns`` of a reading is when it began, on the clock of the samples. ``cpu_s`` is what the thread took.
    """

    def __init__(self, device: str):
        self.handle, self.over = _handle_of(device), threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.readings: list[dict[str, Any]] = []
        self.cpu_s = 0.0

    def start(self) -> None:
        if self.handle is not None:
            self.thread.start()

    def stop(self) -> None:
        self.over.set()
        if self.handle is not None:
            self.thread.join()

    def _sample(self) -> None:
        for number in itertools.count():
            names = SAMPLED if number % 10 == 0 else QUICK
            self.readings.append({"at_ns": time.perf_counter_ns(), **_read(self.handle, names)})
            if self.over.wait(SAMPLE_S):
                break
        self.cpu_s = time.thread_time()


def select_card(device: str, visible: str | None) -> int | str | None:
    """The card that is ``device`` under this CUDA_VISIBLE_DEVICES: an index in PCI order, the start of a UUID, or None.

    CUDA ignores the list from its first invalid entry on.
    """
    index = int(device.partition(":")[2] or 0)
    if visible is None:
        return index
    listed: list[int | str] = []
    for word in (word.strip() for word in visible.split(",")):
        if not word.isdecimal() and not word.startswith(("GPU-", "MIG-")):
            break
        listed.append(int(word) if word.isdecimal() else word)
    return listed[index] if index < len(listed) else None


def reason_names(reasons: int | None) -> list[str]:
    """Names of the reasons in NVML's bitmask."""
    return [name for bit, name in REASONS.items() if (reasons or 0) & bit]


def driver() -> str | None:
    """The driver's version, from NVML or else from the kernel module."""
    nvml = _nvml()
    text = ask(nvml.nvmlSystemGetDriverVersion) if nvml else None
    try:
        match = re.search(r"\b\d+\.\d+(\.\d+)?\b", text or Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return match.group() if match else None


def cards() -> list[dict[str, Any]]:
    """Name and current readings of every card, in PCI order."""
    nvml = _nvml()
    rows = []
    for index in range((ask(nvml.nvmlDeviceGetCount) if nvml else None) or 0):
        handle = _handle(index)
        name = ask(nvml.nvmlDeviceGetName, handle) if handle is not None else None
        rows.append({"index": index, "name": name, **_facts(handle)})
    return rows


def name(device: str) -> str | None:
    """The product that a Worker's ``device`` is; None if unknown, as for those that are not NVIDIA's."""
    handle = _handle_of(device)
    return ask(_nvml().nvmlDeviceGetName, handle) if handle is not None else None


def memory_bytes(device: str) -> int | None:
    """All memory of a Worker's ``device``; None if unknown, as for those that are not NVIDIA's."""
    handle = _handle_of(device)
    info = ask(_nvml().nvmlDeviceGetMemoryInfo, handle) if handle is not None else None
    return info.total if info else None


def nvml_available() -> bool:
    """Whether NVML can be used."""
    return _nvml() is not None


def has_gpu() -> bool:
    """Whether there is a GPU with NVIDIA's driver: counted by NVML, or a device file."""
    nvml = _nvml()
    return bool(nvml and ask(nvml.nvmlDeviceGetCount)) or Path("/dev/nvidia0").exists()


@functools.cache
def start_nvml() -> tuple[Any, int | None]:
    """NVML's Python binding, initialized once per process, or None; and the error code of that, 0 for none."""
    try:
        nvml = importlib.import_module("pynvml")  # optional and untyped
        nvml.nvmlInit()
    except Exception as error:  # no module, library or driver: each raises its own error
        return None, getattr(error, "value", None)
    return nvml, 0


def ask(call: Any, *args: Any) -> Any:
    """What NVML answers; None if it does not."""
    try:
        return call(*args)
    except Exception:  # NVMLError: not supported by this card, not permitted, lost
        return None


def _nvml() -> Any:
    return start_nvml()[0]


def _handle_of(device: str) -> Any:
    if not accelerator_of(device).watched:
        return None
    return _handle(select_card(device, os.environ.get("CUDA_VISIBLE_DEVICES")))


def _handle(card: int | str | None) -> Any:
    nvml = _nvml()
    if nvml is None or card is None:
        return None
    if isinstance(card, int):
        return ask(nvml.nvmlDeviceGetHandleByIndex, card)
    for index in range(ask(nvml.nvmlDeviceGetCount) or 0):  # NVML needs the whole UUID, CUDA only its start
        handle = ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is not None and (ask(nvml.nvmlDeviceGetUUID, handle) or "").startswith(card):
            return handle
    return ask(nvml.nvmlDeviceGetHandleByUUID, card)  # a MIG slice has a UUID and no index


def _facts(handle: Any) -> dict[str, Any]:
    if handle is None:
        return dict.fromkeys(FACTS)
    nvml = _nvml()
    processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    uncorrected, since_reset = _ECC
    return {
        **_read(handle, SAMPLED),
        "ecc_errors": ask(getattr(nvml, "nvmlDeviceGetTotalEccErrors", None), handle, uncorrected, since_reset),
        "pids": None if processes is None else sorted({process.pid for process in processes}),
    }


_ECC = 1, 0  # NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC


def _read(handle: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: _READERS[name](_nvml(), handle) for name in names}


def _watts(nvml: Any, handle: Any) -> float | None:
    milliwatts = ask(nvml.nvmlDeviceGetPowerUsage, handle)
    return None if milliwatts is None else float(milliwatts / 1000)


def _reasons(nvml: Any, handle: Any) -> int | None:
    reasons: int | None = ask(getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None), handle)
    if reasons is None:  # older drivers and bindings have the older name only
        reasons = ask(getattr(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None), handle)
    return reasons


_READERS: dict[str, Callable[[Any, Any], Any]] = {
    "sm_mhz": lambda nvml, handle: ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
    "reasons": _reasons,
    "watts": _watts,
    "temp_c": lambda nvml, handle: ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
}
