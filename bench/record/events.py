"""The events of run.jsonl: which there are, and what each must hold to be read as one."""

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec

SCHEMA = 4
#: What a count of nanoseconds or bytes may be: more is no measurement, and numpy could not hold it.
Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Foreign(Exception):
    """A line that is not one of our events; the message says what is wrong with it."""


class Placed(TypedDict):
    group: int
    round: int
    attempt: int


class OfCase(Placed):
    case_id: str


class WeightsFile(TypedDict):
    file: str
    sha256: str


class TheirNet(TypedDict):
    file: str
    function: str
    sha256: str
    label: str
    arm: str | None


class Sides(TypedDict):
    key: str
    values: tuple[str, str]
    identical: bool


class Machine(TypedDict):
    cpu: str


class Ingested(TypedDict):
    """Where a Run came from that another program measured; when each of its sessions was taken."""

    source: str
    taken: list[str]


class Head(TypedDict):
    run_id: str
    schema: int
    threads: int
    env: dict[str, str | None]
    pythons: list[str]
    weights: WeightsFile | None
    guests: list[TheirNet]
    ab: Sides | None
    cases: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    protocol: dict[str, Any]
    fingerprint: Machine
    ingested: NotRequired[Ingested]


class Probed(TypedDict):
    precision: str


class Precision(TypedDict):
    matmul: Probed
    conv: Probed


class Library(TypedDict):
    inside: bool


class InForce(TypedDict):
    threads: int | None
    onednn: bool | None
    tf32: bool | None
    device: str
    layout: str
    libraries: list[Library]
    other_frameworks: list[str]


class Worker(Placed):
    worker: str
    case_ids: list[str]
    versions: dict[str, Any]
    python: str
    identity: dict[str, Any]
    proven: bool
    parity: dict[str, float]
    precision: Precision
    numpy_gflop_per_s: float | None
    conditions: InForce
    compile_cache: str | None
    first_call_ns: dict[str, Count]
    overhead_ns: float
    overhead_p99_ns: float


class Ceiling(Placed):
    worker: str
    precision: str
    device: str
    matmul_gflop_per_s: float | None
    conv_gflop_per_s: float | None
    copy_gb_per_s: float | None


class Noise(TypedDict):
    wall_s: float
    steal_s: float | None
    foreign_s: float | None
    psi_s: float | None
    throttled: NotRequired[float | None]
    suspended_s: NotRequired[float | None]
    reasons: NotRequired[int | None]
    others: NotRequired[int | None]


class BurnIn(OfCase):
    start_ns: list[Count]
    ns: list[Count]
    stop: str
    steady_at: int | None
    spin_ns: int


class Turn(OfCase):
    cycle: int
    lead: Annotated[int, msgspec.Meta(ge=0)]
    start_ns: list[Count]
    ns: list[Count]
    cpu_s: float | None
    allocator_peak: Count | None
    process_peak: Count | None
    noise: Noise


class Block(OfCase):
    fault: str
    changed: dict[str, tuple[Any, Any]]
    stop: str
    noise: str


class Control(Placed):
    control_cpu_ns: Count
    control_mem_ns: Count


class Void(Placed):
    reason: str


class RoundEnd(Placed):
    spoilt: str


class Fault(Placed):
    worker: str
    kind: str
    reason: str
    stderr_tail: str


class Failed(TypedDict):
    case_id: str
    reason: str


class Parity(TypedDict):
    group: int
    case_ids: list[str]
    tie_free: bool


class Layers(TypedDict):
    rows: list[dict[str, Any]]


class Stop(TypedDict):
    group: int
    reason: str


class Resume(TypedDict):
    dropped_bytes: int
    fingerprint: dict[str, Any]


class End(TypedDict):
    reason: str
    failed: NotRequired[dict[str, str]]


EVENTS: dict[str, Any] = {
    "run": Head,
    "parity": Parity,
    "worker": Worker,
    "ceiling": Ceiling,
    "layers": Layers,
    "burn_in": BurnIn,
    "control": Control,
    "turn": Turn,
    "block": Block,
    "void": Void,
    "round": RoundEnd,
    "fault": Fault,
    "failed": Failed,
    "stop": Stop,
    "resume": Resume,
    "end": End,
}
#: Those that say a Round was begun.
OF_A_ROUND = ("worker", "ceiling", "burn_in", "control", "turn", "block", "fault")


def parsed(line: bytes) -> dict[str, Any]:
    """The event of a line, whole; Foreign where it is none."""
    try:
        event = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Foreign(f"not a JSON object ({error})") from error
    except RecursionError as error:
        raise Foreign("not a JSON object of ours: nested too deep") from error
    name = event.get("event")
    if not isinstance(name, str) or name not in EVENTS:
        raise Foreign(
            f"expected an event of a Run, found {str(name)[:40]!r}" if name else "expected an event, found none"
        )
    if name == "run" and type(event.get("schema")) is int and event["schema"] != SCHEMA:
        return event  # what else its header holds is not ours to judge
    try:
        msgspec.convert(event, EVENTS[name])
    except msgspec.ValidationError as error:
        raise Foreign(f"a {name} event that is not whole ({error})") from error
    if name in ("turn", "burn_in") and len(event["ns"]) != len(event["start_ns"]):
        raise Foreign(f"a {name} event with {len(event['start_ns'])} starts and {len(event['ns'])} durations")
    return event
