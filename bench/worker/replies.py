"""Replies of a Worker to the requests in messages.py, and the records in them."""

from dataclasses import dataclass, field
from enum import StrEnum

from bench.worker.ownership import OwnedTwice

Scalar = bool | int | float | str | None


class FaultKind(StrEnum):
    """Why a request has no usable reply."""

    DEVICE = "device"  # the requested device does not exist
    MISSING = "missing"  # the framework, or a package it imports, is not installed
    MEMORY = "memory"
    LOST = "lost"  # the device has stopped working
    NET = "net"  # a user's own net that is not a Net
    ERROR = "error"
    HUNG = "hung"  # no reply within the limit
    DIED = "died"  # the process ended


class Output(StrEnum):
    """Outputs of a pass that are compared with expected values."""

    LOGITS = "logits"
    GRADIENTS = "gradients"
    TRAINED = "trained"
    OWN = "own_gradients"  # of a rank's own batch
    REDUCED = "reduced"  # the sum of all ranks' patterns


class CheckKind(StrEnum):
    """What a check compares. FAULT compares no values; CONDITIONS (not those requested) comes from `verify` only."""

    LOGITS = "logits"
    LOSS = "loss"
    GRADIENT = "gradient"
    NORM = "norm"
    CHANGE = "change"
    VELOCITY = "velocity"
    STATE = "state"
    REDUCED = "reduced"
    FAULT = "fault"
    CONDITIONS = "conditions"


@dataclass(frozen=True)
class Ready:
    """A configured Worker: versions of the framework and its libraries, visible devices, Python version."""

    versions: dict[str, Scalar]
    devices: list[str]
    python: str


@dataclass(frozen=True)
class Identity:
    """The Net that was built; of a user's net that is not proven, ``params`` if counted and no ``macs``."""

    hash: str
    params: int | None
    macs: int | None


@dataclass(frozen=True)
class PrecisionProbe:
    """Relative L2 error of a small product against float64, and the precision it implies (or ``unknown``)."""

    error: float
    precision: str


@dataclass(frozen=True)
class CeilingRates:
    """Best rates of the device; None where not measured."""

    matmul_gflop_per_s: float | None = None
    conv_gflop_per_s: float | None = None
    copy_gb_per_s: float | None = None


@dataclass(frozen=True)
class Library:
    """A loaded shared library: file name, and whether it is inside the interpreter's environment."""

    name: str
    inside: bool


@dataclass(frozen=True)
class FrameworkConditions:
    """Settings read back from a framework; None where it has no such setting or does not report it.

    ``bf16``: the device has bf16 arithmetic. ``switches``: settings that only this framework has.
    """

    threads: int | None
    onednn: bool | None
    tf32: bool | None
    bf16: bool | None
    switches: dict[str, Scalar]


@dataclass(frozen=True)
class Conditions(FrameworkConditions):
    """Conditions in force in a Worker with a Net.

    ``traces``: how often each pass was traced. ``filled``: Net methods that a guest lacks.
    """

    device: str
    layout: str
    traces: dict[str, int]
    filled: list[str]
    libraries: list[Library]
    other_frameworks: list[str]


@dataclass(frozen=True)
class Environment:
    """Libraries and settings of a Worker's process without a Net."""

    libraries: list[Library]
    other_frameworks: list[str]
    settings: FrameworkConditions
    owned_twice: list[OwnedTwice]


@dataclass(frozen=True)
class LayerReport:
    """A layer as reported by the framework."""

    layer: str
    height: int
    width: int
    channels: int
    params: int
    state: int


@dataclass(frozen=True)
class Check:
    """Comparison of one array: relative L2 ``error`` (None if not finite), and relative error of its ``norm``."""

    kind: CheckKind
    what: str
    error: float | None
    norm: float | None = None


@dataclass(frozen=True)
class GradientCount:
    """Number of gradients of parameters and of anything else, and whether all are finite."""

    parameters: int
    others: int
    finite: bool


@dataclass(frozen=True)
class Verified:
    """``digests`` are those of what a rank of a Team holds after its reductions, by output: the same on every rank."""

    checks: list[Check]
    gradients: GradientCount | None
    digests: dict[Output, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SyncLag:
    """Duration of a copy after ``wait`` returned from this many queued iterations, and the allowed duration."""

    iterations: int
    copy_ns: int
    allowed_ns: int


@dataclass(frozen=True)
class TimerCheck:
    """The time between two events of an idle device, and the least and the most that the host's clock leaves for it."""

    device_ns: int
    least_ns: int
    most_ns: int


@dataclass(frozen=True)
class DeviceTime:
    """What the device took for passes by its event timer, and the host to enqueue each.

    ``enqueued`` is whether each was enqueued as a whole before the device began it: else gaps are in ``device_ns``.
    """

    device_ns: list[int]
    launch_ns: list[int]
    timer: TimerCheck
    enqueued: bool


@dataclass(frozen=True)
class Reading:
    """Values of a timed iteration, read after its clock had stopped.

    ``batch`` is the resident batch that they belong to, None if they were not compared or belong to none. ``fault`` is
    what is wrong other than a value in ``checks``; empty if nothing is. ``read_ns`` is the duration of the reading,
    ``copy_ns`` that of copying as many bytes in memory, and ``settings`` were in force right after the iteration.
    ``digest`` is as one of Verified; empty without a reduction.
    """

    iteration: int
    batch: int | None
    checks: list[Check]
    fault: str
    read_ns: int
    copy_ns: int
    settings: FrameworkConditions
    digest: str = ""


@dataclass(frozen=True)
class Measured:
    """Samples of a Turn, CPU seconds of the process, and memory peaks in bytes, None where unknown.

    ``process_peak`` is above what the process held after importing its framework. ``reload_ns`` is the duration of
    a first pass on images that the Net had not seen, ``again_ns`` that of a later pass on them; None if not measured.
    ``aside_ns`` is the time of all readings and reloads, ``aside_cpu_s`` the CPU time outside the samples. ``rank_ns``
    are the samples of each rank of a Team, of which ``ns`` are the means; empty of a lone Worker.
    """

    start_ns: list[int]
    ns: list[int]
    cpu_s: float
    allocator_peak: int | None
    process_peak: int | None
    readings: list[Reading]
    reload_ns: int | None
    again_ns: int | None
    aside_ns: int
    aside_cpu_s: float
    rank_ns: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class LoaderEpoch:
    """Places and labels of the pictures that a loader delivered in an epoch, in order."""

    rows: list[int]
    labels: list[int]


@dataclass(frozen=True)
class MeasuredLoader:
    """A Turn of a loader: ``lead`` iterations that are no samples, then samples.

    ``first_batch_ns`` is from its start to its first batch. ``sample_cpu_s`` is the CPU time of the samples, ``cpu_s``
    that of the whole turn, worker processes included. ``aside_ns`` is the time outside of all iterations. Peaks are in
    bytes, None where unknown, ``process_peak`` without worker processes. Not ``finite`` if a
    value of the last velocity is not.
    """

    start_ns: list[int]
    ns: list[int]
    lead: int
    first_batch_ns: int
    sample_cpu_s: float
    cpu_s: float
    aside_ns: int
    allocator_peak: int | None
    process_peak: int | None
    finite: bool


@dataclass(frozen=True)
class TracedCall:
    """A layer's first call: whether its input and how many stages of its output were saved (impls/port.py)."""

    layer: str
    has_input: bool
    outputs: int
    grids: list[list[int]]


@dataclass(frozen=True)
class TracedModel:
    """The names of the inputs and outputs of a model that were saved, and the calls of its layers."""

    inputs: list[str]
    outputs: list[str]
    calls: list[TracedCall]


@dataclass(frozen=True)
class Differentiated:
    """The parameters whose gradients, or changes of state, were saved; ``left_out`` is why there are none, else empty.

    ``noise`` is the norm of what rounding moves each by.
    """

    names: list[str]
    noise: list[float]
    left_out: str


@dataclass(frozen=True)
class ModelPart:
    """A module of a user's model that is timed alone: its class, how often the model calls it, and its own output.

    ``shape`` is (height, width, channels) of the first call's output, empty if it has no such shape.
    """

    name: str
    kind: str
    calls: int
    shape: list[int]
    params: int


@dataclass(frozen=True)
class ModelParts:
    """The modules that are timed alone, those ``left_out`` with the reason, and how many modules are inside them that
    are not timed themselves."""

    parts: list[ModelPart]
    left_out: list[str]
    inside: int


@dataclass(frozen=True)
class Failure:
    """A failed request; ``why`` is one line."""

    kind: FaultKind
    why: str
