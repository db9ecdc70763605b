"""Messages: every request to a Worker and its reply, and the records in them.

A request is a line ``{"do": name, ...fields}``; a reply is ``{"reply": value}``, a record or a plain value, or
``{"failure": {...}}``. Both sides read a message field by field, so one that is not as declared is one clear error.
A Worker imports this, under any interpreter and with the impls of any revision: standard library and impls only.
"""

import typing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from bench.worker import wire
from bench.worker.guest import Guest
from bench.worker.ownership import OwnedTwice
from bench.worker.wire import Malformed
from impls.net import Build, Settings

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
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


class Request(Generic[R_co]):
    """A request whose reply is an R; ``do`` is its name on the pipe."""

    do: ClassVar[str]
    reply: ClassVar[Any]

    def __init_subclass__(cls, do: str) -> None:
        cls.do = do
        (cls.reply,) = typing.get_args(cls.__orig_bases__[0])  # type: ignore[attr-defined]
        REQUESTS[do] = cls


REQUESTS: dict[str, type[Request[Any]]] = {}


@dataclass(frozen=True)
class Configure(Request[Ready], do="configure"):
    """The first request: import the framework and set it up."""

    settings: Settings


@dataclass(frozen=True)
class BuildNet(Request[Identity], do="build"):
    """Build a variant, or the user's ``guest`` with the methods ``needed``, from the weights in ``folder``."""

    variant: str
    size: int | None
    folder: str
    how: Build
    guest: Guest | None = None
    needed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ProbePrecision(Request[dict[str, PrecisionProbe]], do="probe"):
    how: Build


@dataclass(frozen=True)
class MeasureCeiling(Request[CeilingRates], do="ceiling"):
    """``own``: by the framework's own kernels; else by numpy's."""

    how: Build
    threads: int
    own: bool


@dataclass(frozen=True)
class MeasureNumpyRate(Request[float], do="numpy_rate"):
    pass


@dataclass(frozen=True)
class ReadConditions(Request[Conditions], do="conditions"):
    pass


@dataclass(frozen=True)
class DescribeEnvironment(Request[Environment], do="environment"):
    pass


@dataclass(frozen=True)
class DescribeLayers(Request[list[LayerReport]], do="layers"):
    pass


@dataclass(frozen=True)
class CallFirst(Request[int], do="first_call"):
    """The first call of a Net's method: tracing, compiling and tuning, never a sample."""

    method: str


@dataclass(frozen=True)
class Verify(Request[Verified], do="verify"):
    """Hold passes against the values in ``target``: every value if ``thorough``. ``keep``: a folder for those found."""

    outputs: list[Output]
    thorough: bool
    target: str = "reference"
    keep: str | None = None


@dataclass(frozen=True)
class CheckSync(Request[SyncLag], do="sync"):
    """Is the device done when ``wait`` returns?"""

    method: str
    iteration_ns: int
    attempts: int


@dataclass(frozen=True)
class Measure(Request[Measured], do="measure"):
    """``n`` iterations, each with ``spin_ns`` of busy waiting inside its clock."""

    method: str
    n: int
    spin_ns: int = 0


@dataclass(frozen=True)
class MeasureOverhead(Request[list[int]], do="overhead"):
    """The timing loop around nothing, n times."""

    n: int


@dataclass(frozen=True)
class Finish(Request[Finished], do="finish"):
    outputs: list[Output]


def write_request(request: Request[Any]) -> bytes:
    return wire.line({"do": request.do} | wire.fields(request))


def read_request(line: bytes | str) -> Request[Any]:
    """The request of a line; Malformed where it is none."""
    message = wire.parse(line, "request")
    do = message.pop("do", None)
    if not isinstance(do, str) or do not in REQUESTS:
        raise Malformed(f"expected one of the requests {', '.join(REQUESTS)}, found {do!r}")
    return wire.read(REQUESTS[do], message, do)


def write_reply(reply: object) -> bytes:
    """The line of a reply, a Failure included; TypeError or ValueError where it holds what JSON has not."""
    return wire.line({"failure" if isinstance(reply, Failure) else "reply": reply})


def read_reply(request: Request[R], line: bytes | str) -> R | Failure:
    """The reply of a line to that request, or the failure; Malformed where it is neither."""
    where = f"reply to {request.do}"
    message = wire.parse(line, where)
    if "failure" in message:
        return wire.read(Failure, message["failure"], where)
    if "reply" not in message:
        raise Malformed(f"{where}: expected a reply or a failure, found {', '.join(message) or 'nothing'}")
    reply: R = wire.read(request.reply, message["reply"], where)
    return reply
