"""Requests to a Worker, and how requests and replies are written and read.

A request is a line ``{"do": name, ...fields}``; a reply is ``{"reply": value}``, a record or a plain value, or
``{"failure": {...}}``. Both sides validate every field, so a mismatch is one clear error. A Worker may run under
another interpreter and with the impls of another revision.
"""

import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from bench.worker import wire
from bench.worker.guest import Guest
from bench.worker.replies import (
    CeilingRates,
    Conditions,
    DeviceTime,
    Differentiated,
    Environment,
    Failure,
    Identity,
    LayerReport,
    LoaderEpoch,
    Measured,
    MeasuredLoader,
    ModelParts,
    Output,
    PrecisionProbe,
    Ready,
    SyncLag,
    TracedModel,
    Verified,
)
from bench.worker.wire import Malformed
from impls.loader import Feed
from impls.net import Build, Settings, Sgd
from impls.port import Parameter
from impls.preprocessing import Preprocessing

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


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
    """Build a variant, or the user's ``guest`` with the methods ``needed``, from the weights in ``folder``.

    ``wanted`` are more methods that are called of it if it has them, see ListLacking.
    ``own_input``: it takes none of the variant's images but makes its own, random ones of ``input_shape`` if that is
    given; the folder is then empty. ``classes``: of the output layer, None for the variant's own.
    """

    variant: str
    size: int | None
    folder: str
    how: Build
    guest: Guest | None = None
    needed: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    own_input: bool = False
    input_shape: list[int] = field(default_factory=list)
    classes: int | None = None


@dataclass(frozen=True)
class ListLacking(Request[list[str]], do="lacking"):
    """The ``wanted`` methods that the user's net lacks: it takes no part in the passes that call them."""


@dataclass(frozen=True)
class ProbePrecision(Request[dict[str, PrecisionProbe]], do="probe"):
    how: Build


@dataclass(frozen=True)
class MeasureCeiling(Request[CeilingRates], do="ceiling"):
    """``own``: with the framework's kernels, else with numpy's."""

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
class CountParams(Request[int | None], do="params"):
    """Trainable values of a user's net, None if they cannot be counted; after a call, which may make them."""


@dataclass(frozen=True)
class CallFirst(Request[int], do="first_call"):
    """Time the first call of a Net's method: tracing, compiling, tuning. Never a sample."""

    method: str


@dataclass(frozen=True)
class Verify(Request[Verified], do="verify"):
    """Load the batches that have values named ``target`` and compare ``outputs`` with those.

    All values are compared if ``thorough``. Those of the first batch are saved in folder ``keep``.
    """

    outputs: list[Output]
    thorough: bool
    target: str
    keep: str | None = None


@dataclass(frozen=True)
class CheckSync(Request[SyncLag], do="sync"):
    """Whether the device is done when ``wait`` returns."""

    method: str
    iteration_ns: int
    attempts: int


@dataclass(frozen=True)
class MeasureDeviceTime(Request[DeviceTime | None], do="device_time"):
    """Time passes on the device by its own timer; None if it has none."""

    method: str
    iteration_ns: int


def slowest_first(iteration_ns: int) -> int:
    """The most ns that a pass may take on images that the Net has not seen, given another pass: twice that and 2 ms."""
    return 2 * iteration_ns + 2_000_000


@dataclass(frozen=True)
class Reload:
    """Load batches drawn from ``seed``, which the Net has not seen, and time a pass on them.

    If it takes more than ``allowed_ns``, further batches are tried and compared with a pass on the same batch again.
    """

    seed: int
    allowed_ns: int


@dataclass(frozen=True)
class Measure(Request[Measured], do="measure"):
    """Time ``n`` iterations, each with ``spin_ns`` of busy waiting inside the clock.

    ``reads`` are the iterations, in ascending order, whose values are read after their clock has stopped: compared
    with the reference if ``output`` is given, else only required to be finite. After ``drawn``, one of them, the next
    pass is read too, which must be of the other batch.
    """

    method: str
    n: int
    spin_ns: int = 0
    reads: list[int] = field(default_factory=list)
    drawn: int | None = None
    output: Output | None = None
    reload: Reload | None = None


@dataclass(frozen=True)
class MeasureOverhead(Request[list[int]], do="overhead"):
    """Time ``n`` iterations that wait for a pass of ``method`` that is over."""

    n: int
    method: str


@dataclass(frozen=True)
class ProveLoader(Request[LoaderEpoch], do="prove_loader"):
    """Save an epoch of a loader in ``images``, an .npy of shape (n, size, size, 3), float32, in the order delivered."""

    feed: Feed
    images: str


@dataclass(frozen=True)
class MeasureLoader(Request[MeasuredLoader], do="measure_loader"):
    """Time ``n`` batches of a loader, or if ``fed`` training steps on them."""

    feed: Feed
    n: int
    fed: bool = False


@dataclass(frozen=True)
class ReadParameters(Request[list[Parameter]], do="read_parameters"):
    """Save the parameters of a user's model in ``folder``, numbered in order of creation."""

    folder: str


@dataclass(frozen=True)
class WriteParameters(Request[int], do="write_parameters"):
    """Set the parameters ``names`` to the arrays in ``folder``, which are numbered in that order; how many."""

    folder: str
    names: list[str]


@dataclass(frozen=True)
class TraceModel(Request[TracedModel], do="trace"):
    """Save inputs, outputs and layers' calls of a user's model in inference mode in ``folder``."""

    folder: str


@dataclass(frozen=True)
class ListParts(Request[ModelParts], do="parts"):
    """The modules of a user's model that can be timed alone, each by BuildNet with their name as ``guest.part``."""


@dataclass(frozen=True)
class Differentiate(Request[Differentiated], do="differentiate"):
    """Save gradients, and changes of state, of a user's model in training mode in ``folder``, numbered as named."""

    folder: str


@dataclass(frozen=True)
class StartTraining(Request[None], do="start_training"):
    """Begin to train the Net on the pictures stored in a folder (bench/worker/pixels.py), from its weights.

    ``velocity`` is the folder of an earlier one, of ``weights.write_shared``. ``seed`` is that of the random crops.
    ``colors`` are the principal colors of the pictures to train on, three rows, if the preprocessing varies them.
    """

    pictures: str
    preprocessing: Preprocessing
    sgd: Sgd
    seed: int
    velocity: str | None = None
    colors: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Train(Request[list[float | None]], do="train"):
    """A training step per batch of these rows of the stored pictures, which are whole batches; the losses.

    A loss that is not finite is None, and the last.
    """

    rows: list[int]
    epoch: int


@dataclass(frozen=True)
class ComputeLogits(Request[None], do="logits"):
    """Save the logits of these rows of the pictures stored in a folder, which needs no labels.

    In ``file``, an .npy of shape (rows, crops of the preprocessing, classes), float32.
    """

    pictures: str
    rows: list[int]
    preprocessing: Preprocessing
    file: str


@dataclass(frozen=True)
class SaveTrained(Request[None], do="save_trained"):
    """Save the arrays that the last training step left in two folders, as ``weights.write_shared`` does."""

    weights: str
    velocity: str


def write_request(request: Request[Any]) -> bytes:
    return wire.line({"do": request.do} | wire.fields(request))


def read_request(line: bytes | str) -> Request[Any]:
    """Decode a request; raises Malformed."""
    message = wire.parse(line, "request")
    do = message.pop("do", None)
    if not isinstance(do, str) or do not in REQUESTS:
        raise Malformed(f"expected one of the requests {', '.join(REQUESTS)}, found {do!r}")
    return wire.read(REQUESTS[do], message, do)


def write_reply(reply: object) -> bytes:
    """Encode a reply or a Failure as a line. Raises TypeError or ValueError for values JSON lacks."""
    return wire.line({"failure" if isinstance(reply, Failure) else "reply": reply})


def read_reply(request: Request[R], line: bytes | str) -> R | Failure:
    """Decode the reply to ``request``, or the Failure; raises Malformed."""
    where = f"reply to {request.do}"
    message = wire.parse(line, where)
    if "failure" in message:
        return wire.read(Failure, message["failure"], where)
    if "reply" not in message:
        raise Malformed(f"{where}: expected a reply or a failure, found {', '.join(message) or 'nothing'}")
    reply: R = wire.read(request.reply, message["reply"], where)
    return reply
