"""Events of a CUDA device (ROCm's too) for impls.net.Timer; other accelerators of torch have no kernel that waits."""

import functools
from typing import Any

import torch

CYCLES = 2_000_000  # about 1 ms on a GPU of 2 GHz: long enough to count its cycles per ns


class Timer:
    """Implements impls.net.Timer, on the current stream."""

    def __init__(self, device: torch.device):
        self.device = device

    def mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self, mark: Any) -> None:
        mark.synchronize()

    def between_ns(self, first: Any, last: Any) -> int:
        return round(1e6 * first.elapsed_time(last))

    def block(self, ns: int) -> None:
        _sleep(int(ns * self.cycles_per_ns))

    @functools.cached_property
    def cycles_per_ns(self) -> float:
        _sleep(CYCLES)  # the first loads the kernel
        first = self.mark()
        _sleep(CYCLES)
        last = self.mark()
        self.wait(last)
        return CYCLES / self.between_ns(first, last)


_sleep: Any = getattr(torch.cuda, "_sleep", None)  # a kernel of torch's own tests, which spins for so many cycles


def timer(device: str) -> Timer | None:
    """The timer of a device; None if it has none."""
    place = torch.device(device)
    return Timer(place) if place.type == "cuda" and _sleep else None


def l2_mib() -> float:
    """Size of the L2 cache of the current CUDA device."""
    return float(torch.cuda.get_device_properties().L2_cache_size / 2**20)
