"""Replies of a Worker: the record that answers each request, and the records in it.

A Worker imports this: standard library only.
"""

from dataclasses import dataclass
from enum import StrEnum

from bench.worker.ownership import OwnedTwice

Scalar = bool | int | float | str | None


class FaultKind(StrEnum):
    """Why no reply to a request came, or none that can be used."""

    DEVICE = "device"  # the device asked for is not there
    MISSING = "missing"  # the framework, or what it imports, is not installed
    MEMORY = "memory"
    NET = "net"  # a user's own net that is not a Net
    ERROR = "error"
    HUNG = "hung"  # no reply within the limit
    DIED = "died"  # the process ended


class Output(StrEnum):
    """What a pass computes, and `verify` holds against values."""

    LOGITS = "logits"
    GRADIENTS = "gradients"


class CheckKind(StrEnum):
    """What a check compares; the last two are those of `verify`: no values came, or not under the conditions asked."""

    LOGITS = "logits"
    LOSS = "loss"
    GRADIENT = "gradient"
    NORM = "norm"
    STATE = "state"
    FAULT = "fault"
    CONDITIONS = "conditions"


@dataclass(frozen=True)
class Ready:
    """A configured Worker: versions of the framework and its libraries, the devices it sees, the interpreter's."""

    versions: dict[str, Scalar]
    devices: list[str]
    python: str


@dataclass(frozen=True)
class Identity:
    """The Net that was built."""

    hash: str
    params: int
    macs: int


@dataclass(frozen=True)
class PrecisionProbe:
    """A small product held against float64: relative L2 error, and the precision it shows, ``unknown`` between two."""

    error: float
    precision: str


@dataclass(frozen=True)
class CeilingRates:
    """What the device does at best; None where it cannot be asked."""

    matmul_gflop_per_s: float | None = None
    conv_gflop_per_s: float | None = None
    copy_gb_per_s: float | None = None


@dataclass(frozen=True)
class Library:
    """A shared object in memory: file name without its path, and whether it lies in the interpreter's environment."""

    name: str
    inside: bool


@dataclass(frozen=True)
class FrameworkConditions:
    """Settings of a framework, read back, None where it has no such setting or does not tell; ``bf16``: the device
    computes bf16 itself; ``switches`` are what this framework alone has."""

    threads: int | None
    onednn: bool | None
    tf32: bool | None
    bf16: bool | None
    switches: dict[str, Scalar]


@dataclass(frozen=True)
class Conditions(FrameworkConditions):
    """What is in force in a Worker that holds a Net: where that lies, how often each pass was traced, the methods a
    guest left out, and what else is loaded."""

    device: str
    layout: str
    traces: dict[str, int]
    filled: list[str]
    libraries: list[Library]
    other_frameworks: list[str]


@dataclass(frozen=True)
class Environment:
    """What a Worker's process is made of, without a Net."""

    libraries: list[Library]
    other_frameworks: list[str]
    settings: FrameworkConditions
    owned_twice: list[OwnedTwice]


@dataclass(frozen=True)
class LayerReport:
    """A layer as the framework itself reports it."""

    layer: str
    height: int
    width: int
    channels: int
    params: int
    state: int


@dataclass(frozen=True)
class Check:
    """One array held against its values: relative L2 ``error``, None where it has no finite one, and how far its length
    is off, ``norm``."""

    kind: CheckKind
    what: str
    error: float | None
    norm: float | None = None


@dataclass(frozen=True)
class GradientCount:
    """How many gradients are those of parameters, how many are not, and whether all are finite."""

    parameters: int
    others: int
    finite: bool


@dataclass(frozen=True)
class Verified:
    checks: list[Check]
    gradients: GradientCount | None


@dataclass(frozen=True)
class SyncLag:
    """How long a copy took after ``wait`` returned from so many queued iterations, and how long it may take."""

    iterations: int
    copy_ns: int
    allowed_ns: int


@dataclass(frozen=True)
class Measured:
    """The samples of a turn, CPU seconds of the process in them, and peaks in bytes: of the device's allocator, and of
    the process beside what it held once its framework was imported; None where the system does not tell."""

    start_ns: list[int]
    ns: list[int]
    cpu_s: float
    allocator_peak: int | None
    process_peak: int | None


@dataclass(frozen=True)
class Finished:
    """After the last turn: the conditions in force, and the values once more."""

    conditions: Conditions
    checks: list[Check]


@dataclass(frozen=True)
class Failure:
    """A request that was not answered; ``why`` is one line."""

    kind: FaultKind
    why: str
