"""Devices of a Run: GPUs, or equal slices of the cores of one machine or of several nodes."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench import UsageError
from bench.machine import host
from bench.machine.node import Node
from bench.record import events


@dataclass(frozen=True)
class Device:
    """What a rank computes on: cores of a CPU, empty for all, or the GPU of this ``index`` on its machine."""

    cores: tuple[int, ...]
    index: int = 0
    node: Node | None = None

    def recorded(self) -> events.Device:
        if self.node is None:
            return events.Device(list(self.cores))
        machine = hashlib.sha256(self.node.machine.boot.encode()).hexdigest()[:12]
        return events.Device(list(self.cores), self.node.name, machine)


def devices_here(count: int, on_gpu: bool, oversubscribe: bool = False) -> list[Device]:
    """So many devices of this machine; on a CPU equal slices of its cores. Raises UsageError if there are fewer cores.

    If ``oversubscribe``, several share a core.
    """
    slices = [()] * count if on_gpu else slices_of(host.core_numbers(), count, oversubscribe)
    return [Device(cores, index) for index, cores in enumerate(slices)]


def devices_on(nodes: Sequence[Node], count: int, on_gpu: bool, oversubscribe: bool = False) -> list[Device]:
    """So many devices, block by block on these nodes, of which those on one machine share its cores.

    Raises UsageError as ``devices_here``.
    """
    if count % len(nodes):
        raise UsageError(f"--devices: expected a multiple of the {len(nodes)} nodes, found {count}")
    each = count // len(nodes)
    places = [nodes[number // each] for number in range(count)]
    crowds = Counter(place.machine.boot for place in places)
    taken = Counter[str]()
    devices = []
    for place in places:
        boot, cores = place.machine.boot, tuple[int, ...]()
        if not on_gpu:
            where = f" on the machine of node {place.name}"
            cores = slices_of(place.machine.cores, crowds[boot], oversubscribe, where)[taken[boot]]
        devices.append(Device(cores, taken[boot], place))
        taken[boot] += 1
    size = min(len(device.cores) for device in devices)  # all are equal, on nodes of other sizes too
    return [replace(device, cores=device.cores[:size]) for device in devices]


def slices_of(cores: Sequence[int], count: int, oversubscribe: bool, where: str = "") -> list[tuple[int, ...]]:
    """Equal slices of these cores."""
    if count > len(cores):
        if not oversubscribe:
            raise UsageError(
                f"--devices: expected at most {len(cores)}{where}, a core for each, found {count}; with "
                "--oversubscribe they share cores, and give no efficiency"
            )
        return [(cores[number % len(cores)],) for number in range(count)]
    size = len(cores) // count
    return [tuple(cores[number * size : (number + 1) * size]) for number in range(count)]
