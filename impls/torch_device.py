"""What PyTorch says and does about a device in ways that differ by its kind: how to wait, memory, name, bf16.

Each kind has a module in PyTorch (torch.cuda, torch.mps, torch.xpu), with the functions that its kind can have. ROCm's
is torch.cuda, with ``torch.version.hip`` set.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from impls.accelerators import ACCELERATORS, exact
from impls.frameworks import TORCH

CPU = torch.device("cpu")
_chosen = CPU


def choose(name: str) -> None:
    """Make it the device of this process, which ``described`` describes."""
    global _chosen
    _chosen = torch.device(exact(name))
    if hasattr(module := module_of(_chosen), "set_device") and _chosen != CPU:  # not Apple's, which has one
        module.set_device(_chosen)


def devices() -> list[str]:
    """All that this build sees, the CPU first."""
    found = ["cpu"]
    for kind in TORCH.accelerators:
        count = module_of(torch.device(kind)).device_count()
        indexed = ACCELERATORS[kind].indexed
        found += [f"{kind}:{index}" for index in range(count)] if indexed else [kind] * bool(count)
    return found


def module_of(device: torch.device) -> Any:
    return torch.get_device_module(device.type)


def waiter(device: torch.device) -> Callable[[], None]:
    """What returns when the device has done all that it was given: found once, since it is called inside the clock."""
    if device.type in ("cpu", "meta"):  # a call returns when it is done; meta, of which nothing is computed, in tests
        return lambda: None
    synchronize = module_of(device).synchronize
    return partial(synchronize, device) if _indexed(device) else synchronize


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes of the allocator since the last call; None where PyTorch does not keep a peak: on a CPU, and on mps,
    whose counters are those of the moment."""
    if device.type == "meta" or not hasattr(module := module_of(device), "max_memory_allocated"):
        return None
    peak = module.max_memory_allocated(device)
    module.reset_peak_memory_stats(device)
    return peak


def name(device: torch.device) -> str | None:
    """The product's name; None on a CPU."""
    if device == CPU:
        return None
    module = module_of(device)
    if hasattr(module, "get_device_name"):
        return module.get_device_name(device)
    if device.type == "mps" and hasattr(torch.backends.mps, "get_name"):  # not in every version
        return torch.backends.mps.get_name()
    return ACCELERATORS[device.type].title


def computes_bf16(device: torch.device) -> bool | None:
    """Whether it multiplies bfloat16 by itself; None where PyTorch does not tell: on a CPU, on mps, and with ROCm,
    whose compute capabilities are numbered otherwise."""
    if device.type == "cuda" and torch.version.hip is None:
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "xpu":
        return getattr(torch.xpu.get_device_properties(device), "has_bfloat16_conversions", None)
    return None


def described() -> dict[str, Any]:
    """Name of the chosen device, and the versions of the libraries that drive it."""
    others = {kind: getattr(torch.version, kind, None) for kind in ("hip", "xpu")}
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if _chosen.type == "cuda" else None,
        **{kind: version for kind, version in others.items() if version},  # left out by builds without them
        "device_name": name(_chosen),
    }


def chosen() -> torch.device:
    return _chosen


def _indexed(device: torch.device) -> bool:
    return device.type not in ACCELERATORS or ACCELERATORS[device.type].indexed
