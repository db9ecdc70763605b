"""A stand-in for NVML's Python binding: the cards that the JSON file in NVML_STAND_IN describes.

First on PYTHONPATH, it is what bench/machine/gpu.py imports. Keys of the file: ``driver``, ``cuda`` (as NVML writes it,
13000), ``init`` and ``lost`` (the error code of nvmlInit, and after how many readings of clocks a card is lost), and
``cards``. Keys of a card: ``uuid``, ``name``, ``sm_mhz``, ``watts``, ``temp_c``, ``reasons``, ``pids`` (``own`` for the
processes that this one started), ``held``, ``memory`` (bytes), ``mig``, ``slices`` (UUIDs of MIG devices), ``mode``
(of computing), ``ecc`` (uncorrected errors). A list is what successive readings return, over and over; what a card
lacks is not supported by it. Its energy is that of its watts since the system's start.
"""

import json
import os
import time
from itertools import count
from types import SimpleNamespace

import psutil

NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0
NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0
NVML_ERROR_UNINITIALIZED, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_DRIVER_NOT_LOADED = 1, 3, 4, 9
NVML_ERROR_NOT_FOUND = 6
NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_GPU_IS_LOST, NVML_ERROR_LIB_RM_VERSION_MISMATCH = 12, 15, 18


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(f"NVML error {value}")
        self.value = value


class _Card:
    def __init__(self, facts):
        self.facts, self.readings = facts, {}

    def read(self, name):
        if name not in self.facts:
            raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
        value = self.facts[name]
        turn = next(self.readings.setdefault(name, count()))
        if name == "sm_mhz" and turn >= _state.get("lost", turn + 1):
            _state["is_lost"] = True
        if _state.get("is_lost"):
            raise NVMLError(NVML_ERROR_GPU_IS_LOST)
        return value[turn % len(value)] if isinstance(value, list) and name != "pids" else value


_state, _cards = {}, []


def nvmlInit():
    if "NVML_STAND_IN" not in os.environ:
        raise NVMLError(NVML_ERROR_LIBRARY_NOT_FOUND)
    with open(os.environ["NVML_STAND_IN"]) as file:
        _state.update(json.load(file))
    if _state.get("init"):
        raise NVMLError(_state["init"])
    _cards[:] = map(_Card, _state.get("cards", ()))


def nvmlSystemGetDriverVersion():
    return _state["driver"]


def nvmlSystemGetCudaDriverVersion():
    return _state["cuda"]


def nvmlDeviceGetCount():
    return len(_cards)


def nvmlDeviceGetHandleByIndex(index):
    return _cards[index]


def nvmlDeviceGetHandleByUUID(uuid):
    return next(card for card in _cards if card.facts["uuid"] == uuid)


def nvmlDeviceGetUUID(card):
    return card.facts["uuid"]


def nvmlDeviceGetName(card):
    return card.facts["name"]


def nvmlDeviceGetClockInfo(card, kind):
    return card.read("sm_mhz")


def nvmlDeviceGetTemperature(card, sensor):
    return card.read("temp_c")


def nvmlDeviceGetPowerUsage(card):
    return int(1000 * card.read("watts"))


def nvmlDeviceGetTotalEnergyConsumption(card):
    return int(1000 * card.read("watts") * time.monotonic())


def nvmlDeviceGetCurrentClocksEventReasons(card):
    return card.read("reasons")


def nvmlDeviceGetComputeRunningProcesses(card):
    own = [child.pid for child in psutil.Process().children(recursive=True)]
    pids = [pid for given in card.read("pids") for pid in (own if given == "own" else [given])]
    return [SimpleNamespace(pid=pid, usedGpuMemory=card.facts.get("held", 0) // len(pids)) for pid in pids]


def nvmlDeviceGetMemoryInfo(card):
    total, used = card.read("memory"), card.facts.get("held", 0)
    return SimpleNamespace(total=total, used=used, free=total - used)


def nvmlDeviceGetMigMode(card):
    return card.read("mig"), card.read("mig")


def nvmlDeviceGetComputeMode(card):
    return card.read("mode")


def nvmlDeviceGetTotalEccErrors(card, kind, counter):
    return card.read("ecc")


def nvmlDeviceGetMaxMigDeviceCount(card):
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(card, index):
    if index >= len(card.facts.get("slices", ())):
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return _Card({"uuid": card.facts["slices"][index]})
