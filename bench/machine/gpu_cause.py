"""Why a framework finds no GPU, or too few, in one line that ends in what to do.

``python -m bench.machine.gpu_cause DEVICES`` exits with 2 and that line where no framework could find one; the Makefile
asks it before it installs any.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import gpu
from bench.machine.gpu_facts import Card, Facts, Holder, read
from impls.text import one_line

#: Where files of the machine are read; tests plant another one.
ROOT = Path("/")
#: Oldest driver for each CUDA, by major version. Source: CUDA Toolkit release notes, minor version compatibility.
DRIVERS = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
#: Error codes. Source: NVML API reference, nvmlReturn_t.
NO_PERMISSION, NOT_LOADED, LIBRARY_NOT_FOUND, MISMATCH = 4, 9, 12, 18
PROHIBITED, ONE_PROCESS = 2, (1, 3)  # compute modes. Source: NVML API reference, nvmlComputeMode_t
CONTEXT = 2**30  # bytes that a framework needs on a card before its first array, at the most


@dataclass(frozen=True)
class Search:
    """A framework's search for a GPU: the device asked for (``cuda``, ``cuda:1``) and how many GPUs were ``seen``.

    ``built_for`` is the CUDA version of its build, empty if it is not built for CUDA, None if unknown; ``visible`` is
    CUDA_VISIBLE_DEVICES, None if it is not set.
    """

    framework: str
    device: str
    seen: int = 0
    built_for: str | None = None
    visible: str | None = None

    @property
    def index(self) -> int:
        return int(self.device.partition(":")[2] or 0)


def cause(search: Search, facts: Facts) -> str:
    """Why the search failed and what to do, with ``it`` for the framework; empty if the facts do not tell."""
    if 0 < search.seen <= search.index:
        return _too_few(search, facts)
    here = _machine(facts)
    if search.built_for == "":
        if here and not facts.other:
            return f"it is not built for CUDA, and {here}"
        return (
            "it is not built for CUDA; pass --device cpu, or a GPU build "
            f"(make setup DEVICE=cuda, or --python {search.framework}=PATH)"
        )
    return here or _too_old(search, facts) or _hidden(search, facts) or _unusable(search, facts)


def shared_memory(device: str, visible: str | None, facts: Facts) -> str:
    """Which other processes hold memory of a Worker's device, and what to do; empty if none is known to."""
    found = _chosen(device, visible, facts)
    if found is None or (facts.container and not any(holder.own for holder in found[1].holders)):
        return ""  # in a container NVML's process numbers may be those of the host, and all of them ours
    number, card = found
    others = [holder for holder in card.holders if not holder.own]
    of = f" of {_gib(card.total)}" if card.total else ""
    return f"GPU {number}{of} is shared with {_listed(others)}; end it, or choose another GPU" if others else ""


def refuse(devices: Sequence[str], facts: Facts, visible: str | None) -> str:
    """The line for devices that no framework could find here; empty if one could."""
    for device in devices:
        if device.startswith("cuda") and not facts.other:
            why = _machine(facts) or _hidden(Search("", device, visible=visible), facts)
            if why:
                return f"device {device!r} asked for: {why}"
    return ""


def _machine(facts: Facts) -> str:
    """What the machine lacks, whatever the framework."""
    bus = f"{facts.on_bus} NVIDIA {'GPU is' if facts.on_bus == 1 else 'GPUs are'} on the PCI bus"
    unloaded = "the driver is not loaded; install NVIDIA's driver, or `sudo modprobe nvidia`"
    if facts.nvml == MISMATCH:
        return (
            f"the driver in the kernel{_version(facts)} and its libraries are of different versions, as after an "
            "update (NVML error 18); reboot"
        )
    if facts.nvml == NOT_LOADED and facts.files and not facts.driver:
        return f"there is a /dev/nvidia0, but {unloaded}"
    if facts.files or facts.cards:
        if facts.nvml == NO_PERMISSION:
            return "NVML has no permission for the GPU; check the rights of /dev/nvidia*, or join its group"
        return ""
    if facts.wsl:
        if facts.wsl_driver:
            return ""
        return (
            "WSL has no libcuda.so.1 in /usr/lib/wsl/lib; install NVIDIA's driver in Windows (none in WSL), then "
            "`wsl --shutdown`"
        )
    if facts.container and (facts.on_bus or facts.driver):
        return f"this container was started without the GPUs of its host; {facts.container}"
    if not facts.on_bus and not facts.driver:
        return "this machine has no NVIDIA GPU on its PCI bus; pass --device cpu"
    if not facts.driver:
        return f"{bus}, but {unloaded}"
    if facts.on_bus:
        return (
            f"{bus} and driver {facts.driver} is loaded, but there is no /dev/nvidia0; "
            "`sudo nvidia-modprobe -u -c=0`, then check `nvidia-smi`"
        )
    return f"driver {facts.driver} is loaded, but no NVIDIA GPU is on the PCI bus; check `dmesg` for one that was lost"


def _too_old(search: Search, facts: Facts) -> str:
    """Compared by major version: within one, a newer CUDA runs on an older driver."""
    if not search.built_for or not (match := re.match(r"\d+", search.built_for)):
        return ""
    wanted = int(match[0])
    least = DRIVERS.get(wanted)
    if facts.cuda:
        old = int(facts.cuda.partition(".")[0]) < wanted
    else:
        numbers = tuple(int(number) for number in re.findall(r"\d+", facts.driver)[:2])
        old = bool(numbers and least and numbers < least)
    if not old:
        return ""
    to = f" up to {facts.cuda}" if facts.cuda else f" older than {wanted}"
    newer = f"{least[0]}.{least[1]} or newer" if least else f"for CUDA {wanted}"
    driver = f"driver {facts.driver}" if facts.driver else "the driver"
    return (
        f"{driver} supports CUDA{to}, {search.framework} is built for CUDA {search.built_for}; install driver {newer}"
    )


def _hidden(search: Search, facts: Facts) -> str:
    """What CUDA_VISIBLE_DEVICES hides: all from its first word that is no GPU on."""
    visible, count = search.visible, facts.count
    if visible is None or not count:
        return _beyond(search, count) if count else ""
    given = f"CUDA_VISIBLE_DEVICES={visible}"
    if visible.strip() in ("", "-1"):
        what = "is -1, which" if visible.strip() else "is empty, which"
        return f"CUDA_VISIBLE_DEVICES {what} hides {'the GPU' if count == 1 else f'all {count} GPUs'}; unset it"
    words = [word.strip() for word in visible.split(",")]
    shown = 0
    for word in words:
        if fault := _fault(word, facts):
            if shown > search.index:
                break
            after = ", and CUDA ignores what follows" if len(words) > shown + 1 else ""
            return f"{given}: {word or 'an empty word'} {fault}{after}; name GPUs that are here, or unset it"
        shown += 1
    if search.index >= shown:
        return f"{given} shows {_names(shown)} only; choose {_choices(shown)}, or list more"
    return ""


def _fault(word: str, facts: Facts) -> str:
    """Why a word of CUDA_VISIBLE_DEVICES is no GPU here; empty if it is one, or may be."""
    if word.isdecimal():
        count = facts.count
        return "" if int(word) < count else f"is beyond the {'one GPU' if count == 1 else f'{count} GPUs'} here"
    if not word.startswith(("GPU-", "MIG-")):
        return "is neither the number nor the UUID of a GPU"
    known = word.startswith("GPU-") or any(card.slices for card in facts.cards)
    return (
        "is the UUID of no GPU here"
        if facts.cards and known and not any(_is_of(word, card) for card in facts.cards)
        else ""
    )


def _too_few(search: Search, facts: Facts) -> str:
    if any(card.mig for card in facts.cards):
        return "of GPUs in MIG mode a process sees one MIG device; choose cuda:0, and which by CUDA_VISIBLE_DEVICES"
    return _hidden(search, facts) or f"it sees {_names(search.seen)}; choose {_choices(search.seen)}"


def _beyond(search: Search, count: int) -> str:
    if search.index < count:
        return ""
    return f"this machine has {_names(count)}; choose {_choices(count)}"


def _unusable(search: Search, facts: Facts) -> str:
    """What keeps a process from a card that is there."""
    if facts.nvml == LIBRARY_NOT_FOUND and facts.container:
        return (
            f"the driver's libraries are not in this container; {facts.container}, with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility where that is its runtime's"
        )
    if facts.nvml == LIBRARY_NOT_FOUND:
        return "the driver's libraries are missing (libnvidia-ml.so.1); install all of NVIDIA's driver"
    found = _chosen(search.device, search.visible, facts)
    if found is None:
        return ""
    number, card = found
    if card.mig and not card.slices:
        return (
            f"GPU {number} is in MIG mode without a MIG device; create one "
            f"(`sudo nvidia-smi mig -i {number} -cgi 0 -C`), or turn MIG off (`sudo nvidia-smi -i {number} -mig 0`)"
        )
    if card.mig and not (search.visible or "").startswith("MIG-"):
        return f"GPU {number} is in MIG mode; name a MIG device of it: CUDA_VISIBLE_DEVICES={card.slices[0]}"
    mend = f"`sudo nvidia-smi -i {number} -c DEFAULT`"
    if card.mode == PROHIBITED:
        return f"GPU {number} is in a compute mode that lets no process compute (PROHIBITED); {mend}"
    if card.mode in ONE_PROCESS and card.holders:
        who = _listed(card.holders)
        return f"GPU {number} is in a compute mode that lets one process compute (EXCLUSIVE), which is {who}; {mend}"
    if card.free is not None and card.free < CONTEXT and card.holders:
        who = _listed([holder for holder in card.holders if not holder.own] or card.holders)
        left = f"{_gib(card.free)} of {_gib(card.total)} left"
        return f"GPU {number} has {left}, the rest held by {who}; end it, or choose another GPU"
    return ""


def _chosen(device: str, visible: str | None, facts: Facts) -> tuple[int, Card] | None:
    """The card that ``device`` is, and its number in PCI order."""
    chosen = gpu.select_card(device, visible)
    for number, card in enumerate(facts.cards):
        if chosen == number or (isinstance(chosen, str) and _is_of(chosen, card)):
            return number, card
    return None


def _is_of(word: str, card: Card) -> bool:
    """Whether the start of a UUID is that of a card or of a MIG device of it."""
    return any(uuid.startswith(word) for uuid in (card.uuid, *card.slices))


def _listed(holders: Sequence[Holder]) -> str:
    """The processes that hold most, at most three."""
    most = sorted(holders, key=lambda holder: -(holder.held or 0))
    more = f" and {len(most) - 3} more" if len(most) > 3 else ""
    return ", ".join(_process(holder) for holder in most[:3]) + more


def _process(holder: Holder) -> str:
    known = [word for word in (holder.name, _gib(holder.held) if holder.held else "") if word]
    return f"process {holder.pid}" + (f" ({', '.join(known)})" if known else "")


def _gib(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"


def _version(facts: Facts) -> str:
    return f" ({facts.driver})" if facts.driver else ""


def _names(count: int) -> str:
    return "one GPU" if count == 1 else f"{count} GPUs"


def _choices(count: int) -> str:
    names: Iterator[str] = (f"cuda:{number}" for number in range(count))
    return "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}" if count > 2 else " or ".join(names)


def main(devices: str) -> int:
    """Exit code 2, and the line on stderr, for devices that no framework could find here."""
    line = refuse(devices.split(","), read(ROOT), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if line:
        print(f"alexnet-bench: {one_line(line)}", file=sys.stderr)
    return 2 if line else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
