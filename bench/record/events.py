"""Events: the lines of run.jsonl as typed records, one class per ``event``; decoding a line validates it."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Struct

from bench.cases.arm import Sides
from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.cases.shard import Shard
from bench.machine.host import Fingerprint
from bench.machine.noise import Noise
from bench.record.ingested import Ingested
from bench.record.reasons import BlockStop, BurnInStop, StopReason
from bench.record.selftest_store import SelfTest
from bench.worker.replies import (
    CheckKind,
    Conditions,
    FaultKind,
    GradientCount,
    Identity,
    ModelParts,
    PrecisionProbe,
    Scalar,
    SyncLag,
    TimerCheck,
)
from impls.preprocessing import Preprocessing

SCHEMA = 5
#: A count of nanoseconds or bytes, limited to what an int64 of numpy holds.
Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: A setting as a Worker reads it back; ``traces`` is a count per pass.
Setting = bool | int | str | dict[str, int] | None


class Place(NamedTuple):
    """Where in a Run something was measured, all counted from 0."""

    group: int
    round: int
    attempt: int


class WeightsFile(Struct, frozen=True):
    """A file of weights; ``file`` is its name without a path."""

    file: str
    sha256: str


class GuestNet(Struct, frozen=True):
    """A user's net: a function in a file (its name without a path); ``arm`` if only one Arm has it;
    ``modules`` are the parts of a model that a profile times alone."""

    file: str
    function: str
    sha256: str
    label: str
    arm: str | None
    framework: str | None = None
    takes_weights: bool | None = None
    modules: ModelParts | None = None


class Pictures(Struct, frozen=True):
    """What the loaders of a Run deliver.

    ``folder`` is its name, None for the drawn flowers; ``names`` the sha256 of the names of the pictures in it that are
    loaded, ``count`` how many; ``left_out`` why others are not, each with how many. ``width`` and ``height`` are
    medians in pixels, ``file_bytes`` the mean.
    """

    folder: str | None
    names: str
    count: int
    classes: int
    left_out: dict[str, int]
    preprocessing: Preprocessing
    width: float
    height: float
    file_bytes: float


class Precision(Struct, frozen=True):
    """The precisions in which a Worker computes, measured by probes."""

    matmul: PrecisionProbe
    conv: PrecisionProbe

    @property
    def shown(self) -> dict[str, str]:
        """The precision of each, by name."""
        return {"matmul": self.matmul.precision, "conv": self.conv.precision}


class LayerRow(Struct, frozen=True):
    """A layer as counted from the Variant, and as reported by a framework."""

    variant: str
    layer: str
    kind: str
    height: int
    width: int
    channels: int
    params: int
    state: int
    macs: int
    framework: str
    reported_height: int
    reported_width: int
    reported_channels: int
    reported_params: int
    reported_state: int


class Event(Struct, frozen=True, tag_field="event", kw_only=True):
    """One line of run.jsonl; ``number`` counts from 0 and ``time`` is when it was written (UTC), both None before."""

    number: int | None = None
    time: datetime | None = None


class OfRound(Event, frozen=True):
    """An event of one Round of a group, in one attempt at it."""

    group: int
    round: int
    attempt: int

    @property
    def place(self) -> Place:
        return Place(self.group, self.round, self.attempt)


class OfCase(OfRound, frozen=True):
    case_id: str


class Device(Struct, frozen=True):
    """A device: its cores, none of a GPU; its node, and a hash of that machine, empty if it is this one."""

    cores: list[int]
    node: str = ""
    machine: str = ""


class Header(Event, frozen=True, tag="run", omit_defaults=True):
    """The first line: the Cases, the Protocol and the machine."""

    run_id: str
    name: str
    schema: int
    threads: int
    env: dict[str, str | None]
    pythons: list[str]
    weights: WeightsFile | None
    guests: list[GuestNet]
    ab: Sides | None
    cases: Annotated[list[Case], msgspec.Meta(min_length=1)]
    protocol: Protocol
    fingerprint: Fingerprint
    selftest: dict[str, SelfTest] = {}
    ingested: Ingested | None = None
    pictures: Pictures | None = None
    shard: Shard | None = None
    devices: list[Device] = []
    """Where the Run counts devices."""


class Parity(Event, frozen=True, tag="parity"):
    """The parity set of a group; ``draws`` are the numbers of its images in the seed's stream."""

    group: int
    case_ids: list[str]
    tie_free: bool
    draws: list[int]


class Worker(OfRound, frozen=True, tag="worker"):
    """A Worker that is ready to be timed; not ``proven`` if its net does not take our weights.

    ``parity`` is the worst relative error per kind in the precision of the Cases, ``parity_fp32`` that of the same net
    in fp32; ``overhead`` is the time that the harness adds to an iteration, ``proof_s`` that of the proof, in
    seconds.
    """

    worker: str
    case_ids: list[str]
    versions: dict[str, Scalar]
    python: str
    compile_cache: str | None
    identity: Identity
    proven: bool
    parity: dict[CheckKind, float]
    parity_fp32: dict[CheckKind, float]
    gradients: GradientCount | None
    precision: Precision
    numpy_gflop_per_s: float | None
    conditions: Conditions
    first_call_ns: dict[str, Count]
    overhead_ns: float
    overhead_p99_ns: float
    proof_s: float | None = None


class LoaderProof(OfCase, frozen=True, tag="loader_proof"):
    """Pictures of a loader against float64: how many, and the largest and the mean error in steps of 255.

    ``picture`` is the name of the one with the largest error.
    """

    pictures: int
    error: float
    mean_error: float
    picture: str


class Ceiling(OfRound, frozen=True, tag="ceiling"):
    """The best rates of a device, measured in one Worker."""

    worker: str
    precision: str
    device: str
    matmul_gflop_per_s: float | None
    conv_gflop_per_s: float | None
    copy_gb_per_s: float | None


class Layers(Event, frozen=True, tag="layers"):
    rows: list[LayerRow]


class Iterations(OfCase, frozen=True):
    """Iterations: their starts, on a clock that all Workers share, and durations."""

    start_ns: list[Count]
    ns: list[Count]

    def __post_init__(self) -> None:
        if len(self.ns) != len(self.start_ns):
            raise ValueError(f"{len(self.start_ns)} starts and {len(self.ns)} durations")


class Plan(OfRound, frozen=True, tag="plan"):
    """Iterations per Case of a Round, how many Rounds, itself included, are planned to end within --max-time, and after
    how many seconds all are expected to have ended."""

    iterations: int
    rounds: int
    seconds: float


class BurnIn(Iterations, frozen=True, tag="burn_in"):
    """``steady_at`` is the iteration after which times were steady; ``spin_ns`` is what an --ab adds to each pass;
    ``sync`` is None for a loader."""

    stop: BurnInStop
    steady_at: int | None
    sync: SyncLag | None
    spin_ns: int


class DeviceTime(OfCase, frozen=True, tag="device_time"):
    """Passes on the device by its own timer, and what the host took to enqueue each, after burn-in.

    ``enqueued`` is whether each was enqueued as a whole before the device began it; ``timer`` compares two events of
    the idle device with the host's clock.
    """

    device_ns: Annotated[list[Count], msgspec.Meta(min_length=1)]
    launch_ns: Annotated[list[Count], msgspec.Meta(min_length=1)]
    timer: TimerCheck
    enqueued: bool


class Energy(OfCase, frozen=True, tag="energy"):
    """What the device used for so many iterations, by its own counter, between two readings ``wall_s`` apart."""

    joules: float
    iterations: int
    wall_s: float


class Control(OfRound, frozen=True, tag="control"):
    """The control computation (noise.control) before or after the cycles of a Round."""

    control_cpu_ns: Count
    control_mem_ns: Count
    load1: float | None
    mhz: float | None
    temp_c: float | None


class Reading(Struct, frozen=True):
    """Values of a timed iteration, read after its clock had stopped.

    ``batch`` is the resident batch that they belong to and ``parity`` the worst relative error per kind; None and
    empty if they can only be required to be finite. ``copy_ns`` is the time of copying as many bytes as were read.
    """

    iteration: int
    batch: int | None
    parity: dict[CheckKind, float]
    read_ns: Count
    copy_ns: Count


class Turn(Iterations, frozen=True, tag="turn"):
    """The first ``lead`` iterations are not samples; peaks are in bytes.

    ``reload_ns`` is the duration of a first pass, not a sample, on images that the Net had not seen, and if that took
    long, ``again_ns`` that of a later pass on them. ``unrounded_ns`` has the digits below 1 ns that another program's
    timer resolved, else it is empty; ``ns`` is then rounded up.

    Of a loader ``first_batch_ns`` is the time from its start to its first batch and ``sample_cpu_s`` the CPU time of
    the samples; ``cpu_s`` is that of the whole turn. Its samples count as one, their mean, since its workers deliver in
    bursts.

    Of a Team ``rank_ns`` are the durations of each rank, of which ``ns`` are the means.
    """

    cycle: int
    lead: Annotated[int, msgspec.Meta(ge=0)]
    cpu_s: float | None
    allocator_peak: Count | None
    process_peak: Count | None
    noise: Noise
    readings: list[Reading] = []
    reload_ns: Count | None = None
    again_ns: Count | None = None
    unrounded_ns: list[Annotated[float, msgspec.Meta(gt=0)]] = []
    first_batch_ns: Count | None = None
    sample_cpu_s: float | None = None
    rank_ns: list[list[Count]] = []

    def __post_init__(self) -> None:
        Iterations.__post_init__(self)
        if self.unrounded_ns and list(map(math.ceil, self.unrounded_ns)) != self.ns:
            raise ValueError("unrounded_ns are other durations than ns")
        if any(len(each) != len(self.ns) for each in self.rank_ns):
            raise ValueError("rank_ns are of another number of iterations than ns")

    @property
    def durations_ns(self) -> Sequence[float]:
        """The durations with all their digits."""
        return self.unrounded_ns or self.ns


class Block(OfCase, frozen=True, tag="block"):
    """A Case at the end of a Round: ``changed`` has settings before and after."""

    changed: dict[str, tuple[Setting, Setting]]
    stop: BlockStop


class Void(OfRound, frozen=True, tag="void"):
    """An attempt that does not count."""

    reason: str


class RoundEnd(OfRound, frozen=True, tag="round"):
    """A completed Round; ``disturbed`` is what outside the Workers disturbed it, else empty."""

    disturbed: str


class Fault(OfRound, frozen=True, tag="fault"):
    """A Worker died."""

    worker: str
    kind: FaultKind
    reason: str
    stderr_tail: str


class Failed(Event, frozen=True, tag="failed"):
    """A Case is not measured again."""

    case_id: str
    reason: str


class Absent(Event, frozen=True, tag="absent"):
    """A Case of a user's net that takes no part in its pass, for lack of a method: the Run has it no more."""

    case_id: str
    reason: str


class Stop(Event, frozen=True, tag="stop"):
    """A group has no more Rounds."""

    group: int
    reason: StopReason


class Resume(Event, frozen=True, tag="resume"):
    """The Run is resumed after it was cut off; an unfinished last line of ``dropped_bytes`` was removed."""

    dropped_bytes: int


class End(Event, frozen=True, tag="end"):
    """An invocation ended."""

    reason: StopReason


AnyEvent = (
    Header | Parity | Worker | LoaderProof | Ceiling | Layers | BurnIn | DeviceTime | Energy | Plan | Control | Turn
    | Block | Void | RoundEnd | Fault | Failed | Absent | Stop | Resume | End
)  # fmt: skip
#: By the value of the field ``event``.
EVENTS: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in AnyEvent.__args__}
#: Events that show that a Round was begun.
OF_A_ROUND = (Worker, LoaderProof, Ceiling, BurnIn, DeviceTime, Energy, Plan, Control, Turn, Block, Fault)
