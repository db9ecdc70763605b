"""Work and conditions of a Case; Cases of two Runs are comparable if both are equal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.cases.protocol import digest
from bench.record.recording import Recording
from bench.worker.replies import Library, Scalar
from impls.splits import DATA

#: Fields of the fingerprint that may affect the speed of a pass.
MACHINE = ("host", "cpu", "system", "usable_cores", "affinity", "governor", "gpu_driver")
#: Fields of a Protocol that affect a sample; the number of Rounds and the stop rules do not.
SAMPLE_FIELDS = (
    *"name burn_in burn_in_later iterations paired gate gate_window gate_ratio burn_in_cap".split(),
    *"turn_ms turn_lengths loader_turn".split(),
)


@dataclass(frozen=True)
class CaseConditions:
    """The settings in force while a Case was timed; a difference may explain a ratio. None where unknown."""

    host: str | None
    cpu: str
    system: str | None
    usable_cores: int | None
    affinity: str | None
    governor: str | None
    gpu_driver: str | None
    device: str | None
    threads: int | None
    onednn: bool | None
    tf32: bool | None
    layout: str | None
    libraries: Sequence[Library] | None
    env: Mapping[str, str | None]
    slowdown: str | None
    versions: Mapping[str, Scalar] | None
    python: str | None
    precision: Mapping[str, str]
    net: str | None
    guest: str | None


#: The fields that --allow may name; ``clock`` is that of another program's benchmark, ``pictures`` what was loaded.
COMPARABLE = (
    *(field.name for field in fields(CaseConditions)),
    "clock",
    "pictures",
    *(f"protocol {name}" for name in SAMPLE_FIELDS),
)


def work(case: Case) -> dict[str, Any]:
    """What is inside the clock, by field; rows are comparable only if it is equal."""
    net = case.net
    facts = asdict(case) | {"net": net.hash, "params": net.params, "macs": case.macs}
    for name in "framework mode layout lrn preset guest input device threads variant size arm strong foreign".split():
        del facts[name]
    for name, usual in (("part", None), ("loader", None), ("world", 1), ("split", DATA)):
        if getattr(case, name) == usual:
            del facts[name]
    timed = PASSES.get(case.pass_)
    return facts | {"size": case.input or net.input_size, "clock": timed and timed.inside}


def conditions_of(run: Recording, case: Case) -> CaseConditions:
    fingerprint, workers = run.head.fingerprint, run.workers(case)
    worker = workers[0] if workers else None
    ab, owner = run.head.ab.ab() if run.head.ab else None, (case.guest, case.arm)
    read_back = ("device", "threads", "onednn", "tf32", "layout", "libraries")
    settings: dict[str, Any] = {name: getattr(worker.conditions, name) if worker else None for name in read_back}
    return CaseConditions(
        **{name: getattr(fingerprint, name) for name in MACHINE},
        **settings,
        env=run.head.env | (ab.env(case.arm) if ab else {}),
        slowdown=ab.value(case.arm) if ab and ab.slowdown(case.arm) else None,
        versions=worker.versions if worker else None,
        python=fingerprint.python if case.foreign else worker.python if worker else None,
        precision=worker.precision.shown if worker else {},
        net=worker.identity.hash if worker else None,
        guest=next((guest.sha256 for guest in run.head.guests if (guest.label, guest.arm) == owner), None),
    )


def condition_differences(base: Recording, candidate: Recording, case: Case, allow: Sequence[str] = ()) -> list[str]:
    """Conditions that differ between two Runs of a Case, one text per field, except those in ``allow``."""
    before, after = (_comparable(run, case) for run in (base, candidate))
    differ = [name for name in COMPARABLE if before.get(name) != after.get(name) and name not in allow]
    texts = {name: f"{_shorten(after[name])}, {_shorten(before[name])} in the baseline" for name in differ}
    if set(MACHINE).intersection(differ) == {"host"}:
        texts["host"] += " (a host name; the rest of the machine is equal, as in a new container: --allow host)"
    return [f"{name}: {text}" for name, text in texts.items()]


def _comparable(run: Recording, case: Case) -> dict[str, Any]:
    """Conditions, and the fields of the Protocol that shape a sample."""
    protocol = asdict(run.protocol)
    clock = run.head.ingested.clocks.get(case.id) if run.head.ingested else None
    if case.foreign:  # pytest-benchmark calibrates how many iterations a session has
        del protocol["iterations"]
    pictures = run.head.pictures.names if case.loader is not None and run.head.pictures else None
    held = asdict(conditions_of(run, case)) | {"clock": clock, "pictures": pictures}
    return held | {f"protocol {name}": value for name, value in protocol.items()}


def _shorten(value: Any) -> str:
    """A value as text, or as its hash if that is long (the libraries)."""
    text = str(value) if not isinstance(value, dict) else " ".join(f"{name} {item}" for name, item in value.items())
    return text if len(text) <= 80 else f"(hash {digest(value)[:8]})"
