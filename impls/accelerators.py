"""ACCELERATORS: one record per kind of device that ``--device`` names, available without importing a framework."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A kind of device. The CPU is one of them, so that nothing has to ask for it apart.

    Parameters
    ----------
    kind
        As in ``--device``; what PyTorch calls it.
    title
        As in a sentence.
    names
        What frameworks call it where they say on which device a value is, in lower case.
    indexed
        Whether there can be several, ``kind:1``.
    visible_by
        Variables that limit which of them a process sees. A Worker on one of them is given those of the whole command.
    hidden_by
        The one of these that hides all of them from the Workers of other devices, if it is empty.
    tf32, page_locked
        Whether it has that precision, and page-locked host memory for copies to it.
    watched
        Whether NVML can read its clocks.
    never_run, never_run_with
        Whether nobody has sent a Run of one yet (docs/adding.md), and libraries, by their names among a Worker's
        versions, with which nobody has: rows say so.
    needs
        The machine and build that have it, where that is more than a GPU build.
    """

    kind: str
    title: str
    names: tuple[str, ...]
    indexed: bool = True
    visible_by: tuple[str, ...] = ()
    hidden_by: str = ""
    tf32: bool = False
    page_locked: bool = True
    watched: bool = False
    never_run: bool = True
    never_run_with: tuple[str, ...] = ()
    needs: str = ""


CPU = Accelerator("cpu", "the cpu", ("cpu",), indexed=False, page_locked=False, never_run=False)

CUDA = Accelerator(
    "cuda",
    "a CUDA GPU",
    ("cuda", "gpu"),
    visible_by=("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),  # the latter two are ROCm's
    hidden_by="CUDA_VISIBLE_DEVICES",  # ROCm obeys it too
    tf32=True,
    watched=True,
    never_run_with=("hip",),
)

MPS = Accelerator(
    "mps",
    "Apple's GPU",
    ("mps",),
    indexed=False,
    page_locked=False,  # its memory is the host's
    needs="macOS on Apple silicon with PyTorch's usual build",
)

XPU = Accelerator(
    "xpu",
    "an Intel GPU",
    ("xpu",),
    visible_by=("ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR"),
    needs="an Intel GPU with its driver and PyTorch's xpu build",
)

#: In the order of messages and lists.
ACCELERATORS = {accelerator.kind: accelerator for accelerator in (CPU, CUDA, MPS, XPU)}


def accelerator_of(device: str) -> Accelerator:
    """The kind of a device such as ``cuda:1``."""
    return ACCELERATORS[device.partition(":")[0]]


def has_never_run(device: str, versions: Collection[str] = ()) -> bool:
    """Whether nobody has sent a Run of this kind of device, driven by libraries of these names."""
    record = accelerator_of(device)
    return record.never_run or any(library in versions for library in record.never_run_with)


def exact(device: str) -> str:
    """The device with its number where its kind has several: ``cuda`` is the first, ``cuda:0``."""
    return f"{device}:0" if accelerator_of(device).indexed and ":" not in device else device
