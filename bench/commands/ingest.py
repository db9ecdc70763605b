"""`ingest`: convert pytest-benchmark files to a Run for compare, plot and report.

A pytest-benchmark session becomes a Round (a fresh process), a round an iteration. A file that alexnet-bench wrote
contains its Run, which is restored byte for byte.
"""

import hashlib
import itertools
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from bench import UsageError
from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.commands.requests import IngestRequest
from bench.machine.host import Fingerprint
from bench.machine.noise import Noise
from bench.output import console, run_table
from bench.record import events, journal
from bench.record.journal import Journal
from bench.record.pairs import within
from bench.record.run import Run
from impls.text import quoted

#: Fields of a Case that a benchmark's parameters may name; ``_case`` has the defaults.
PARAMETERS = ("variant", "framework", "mode", "device", "precision", "layout", "batch", "pass", "threads")
LONGEST = 200  # characters of a name


class Stats(TypedDict):
    data: NotRequired[list[float]]


class Benchmark(TypedDict):
    name: str
    fullname: NotRequired[str]
    group: NotRequired[str | None]
    params: NotRequired[dict[str, Any] | None]
    extra_info: NotRequired[dict[str, Any]]
    stats: Stats


class Enclosed(TypedDict):
    run_jsonl: str
    run_id: str


class Stored(TypedDict):
    """The parts of a pytest-benchmark file that are read."""

    benchmarks: list[Benchmark]
    machine_info: NotRequired[dict[str, Any]]
    version: NotRequired[str]
    datetime: NotRequired[str]
    alexnet_bench: NotRequired[Enclosed]


def main(request: IngestRequest) -> int:
    out, files = request.out, {path: read(path) for path in request.files}
    ours = [path for path, stored in files.items() if "alexnet_bench" in stored]
    if ours and len(ours) < len(files):
        other = next(path for path in files if path not in ours)
        raise UsageError(f"{ours[0]} contains a whole Run and {other} does not: ingest them separately")
    if request.as_json and len(ours) > 1:
        raise UsageError(f"--json: expected one file that contains a Run, found {len(ours)}: ingest them separately")
    if ours:
        if request.name:
            raise UsageError(f"--name: {ours[0]} contains a Run with its own name; leave it out")
        folders = [restore(path, files[path]["alexnet_bench"], out) for path in ours]
    else:
        name = request.name or re.sub(r"[^\w.-]+", "-", next(iter(files)).stem).strip("-")[:60] or "ingested"
        folders = [collect(files, out, name)]
    for folder in folders:
        made = Run(folder)
        made.write()
        if request.as_json:
            console.print_json({"run": msgspec.to_builtins(made.head), "cases": made.rows()})
        else:
            run_table.run_table(made, within(made))
            console.where(folder)
    return 0


def read(path: Path) -> Stored:
    """Read a pytest-benchmark file. Raises UsageError if it is none, or has no samples."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=Stored)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read: {error.strerror}; expected a JSON that pytest-benchmark stored"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: expected a JSON that pytest-benchmark stored: {error}") from error
    if "alexnet_bench" in stored:
        return stored
    if not stored["benchmarks"]:
        raise UsageError(f"{path}: contains no benchmark")
    for benchmark in stored["benchmarks"]:
        if not benchmark["stats"].get("data"):
            raise UsageError(
                f"{path}: {quoted(benchmark['name'])} has no samples; store them with pytest --benchmark-save-data"
            )
    return stored


def restore(path: Path, enclosed: Enclosed, out: Path) -> Path:
    """Restore the Run that a file contains. An identical folder that exists already is left alone."""
    try:
        data = journal.unpack(enclosed["run_jsonl"])
    except ValueError as error:
        raise UsageError(f"{path}: {error}; it was changed after it was stored") from error
    run_id = enclosed["run_id"]
    folder = out / run_id
    if not re.fullmatch(r"\w[\w.-]{0,199}", run_id):
        raise UsageError(f"{path}: expected the name of a Run, found {quoted(run_id)}")
    if folder.exists():
        there = folder / "run.jsonl"
        if there.is_file() and there.read_bytes() == data:
            console.tell(f"{folder} already holds this Run")
            return folder
        raise UsageError(f"{folder} exists and holds another Run: choose another folder with --out")
    try:
        folder.mkdir(parents=True)
        (folder / "run.jsonl").write_bytes(data)
        Run(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"cannot write to {folder}: {error.strerror}; choose another with --out") from error
    except UsageError:
        shutil.rmtree(folder)
        raise
    return folder


def collect(files: Mapping[Path, Stored], out: Path, name: str) -> Path:
    """Create a Run from another program's sessions: one Round per session, in the order of their dates."""
    taken = sorted(files, key=lambda path: files[path].get("datetime", ""))
    sessions, machine, hashes = [files[path] for path in taken], _one_machine(files), _hashes(taken)
    cases: dict[str, Case] = {}
    measured: list[dict[str, list[int]]] = []
    for path, stored in zip(taken, sessions, strict=True):
        samples: dict[str, list[int]] = {}
        for benchmark in stored["benchmarks"]:
            case = _case(benchmark)
            if case.id in samples:
                raise UsageError(f"{path}: expected each benchmark once, found {quoted(case.id)} twice")
            cases.setdefault(case.id, case)
            samples[case.id] = _samples_ns(path, benchmark)
        measured.append(samples)
    folder = journal.new_folder(out, name)
    head = events.Header(
        run_id=folder.name,
        name=name,
        schema=events.SCHEMA,
        threads=machine.cores or 1,
        env={},
        pythons=[],
        weights=None,
        guests=[],
        ab=None,
        cases=list(cases.values()),
        protocol=_protocol(measured),
        fingerprint=machine,
        ingested=events.Ingested(
            source=f"pytest-benchmark {sessions[0].get('version', '')}".strip(),
            taken=[stored.get("datetime", "") for stored in sessions],
            sha256=list(hashes),
        ),
    )
    _write(Journal(folder), head, list(cases.values()), measured)
    return folder


def _hashes(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their sha256. Raises UsageError for a file given twice, which would count as two Rounds."""
    known: dict[str, Path] = {}
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in known:
            raise UsageError(f"{path} and {known[digest]} are the same session: expected each once")
        known[digest] = path
    return known


def _write(
    journal: Journal, head: events.Header, cases: Sequence[Case], measured: Sequence[Mapping[str, list[int]]]
) -> None:
    """One group per Case (there were no turns), one Round per session; start times are not stored, so made up."""
    journal.add(head)
    group_of = {group: number for number, group in enumerate(dict.fromkeys(case.group for case in cases))}
    now = 1
    for round_, samples in enumerate(measured):
        for case in (case for case in cases if case.id in samples):
            *starts, now = itertools.accumulate((ns + 1 for ns in samples[case.id]), initial=now)
            turn = events.Turn(
                group=group_of[case.group],
                round=round_,
                attempt=0,
                case_id=case.id,
                start_ns=starts,
                ns=samples[case.id],
                cycle=0,
                lead=0,
                cpu_s=None,
                allocator_peak=None,
                process_peak=None,
                noise=Noise(sum(samples[case.id]) / 1e9, steal_s=None, foreign_s=None, psi_s=None),
            )
            journal.add(turn)
        for number in group_of.values():
            journal.add(events.RoundEnd(number, round_, attempt=0, disturbed=""))
    for number in group_of.values():
        journal.add(events.Stop(number, events.StopReason.PLANNED))
    journal.add(events.End(events.StopReason.PLANNED))


def _protocol(measured: Sequence[Mapping[str, Sequence[int]]]) -> Protocol:
    """The Protocol of another program: no known burn-in, no turns."""
    most = max(len(ns) for samples in measured for ns in samples.values())
    return Protocol("ingested", rounds=len(measured), burn_in=0, iterations=most, paired=False, gate=False)


def _case(benchmark: Benchmark) -> Case:
    """The Case of a benchmark: its full name, and the axes that its parameters or extra_info give."""
    values = {**(benchmark.get("params") or {}), **benchmark.get("extra_info", {})}
    known = {
        axis: _word(values[axis])
        for axis in PARAMETERS
        if isinstance(values.get(axis), str | int) and str(values[axis])
    }
    whole = {
        axis: int(known[axis]) for axis in ("batch", "threads") if re.fullmatch(r"[1-9]\d{0,8}", known.get(axis, ""))
    }
    return Case(
        variant=known.get("variant") or _word(benchmark["name"].partition("[")[0]),
        framework=known.get("framework", "other"),
        mode=known.get("mode", "call"),
        device=known.get("device", "cpu"),
        precision=known.get("precision", "unknown"),
        layout=known.get("layout", ""),
        batch=whole.get("batch", 1),
        pass_=known.get("pass") or _word(benchmark.get("group") or "call"),
        threads=whole.get("threads"),
        foreign=_word(benchmark.get("fullname") or benchmark["name"]),
    )


def _word(value: Any) -> str:
    """A name from a file, on one line and at most LONGEST characters."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", " ", str(value)).strip() or "unnamed"
    return (
        plain if len(plain) <= LONGEST else plain[: LONGEST - 9] + "~" + hashlib.sha256(plain.encode()).hexdigest()[:8]
    )


def _samples_ns(path: Path, benchmark: Benchmark) -> list[int]:
    """The samples in whole nanoseconds, at least 1."""
    data = benchmark["stats"].get("data", [])
    if wrong := [value for value in data if not 0 <= value < 1e9]:  # NaN too
        raise UsageError(f"{path}: {quoted(benchmark['name'])}: expected seconds, found {wrong[0]}")
    return [max(1, round(value * 1e9)) for value in data]


def _one_machine(files: Mapping[Path, Stored]) -> Fingerprint:
    """The fingerprint that the files share. Raises UsageError if they are of different machines or Pythons."""
    fingerprints = {path: _fingerprint(stored.get("machine_info", {})) for path, stored in files.items()}
    first, *others = fingerprints
    for path in others:
        for what in Fingerprint.__struct_fields__:
            if (value := getattr(fingerprints[path], what)) != (wanted := getattr(fingerprints[first], what)):
                raise UsageError(
                    f"{path}: expected {what} {wanted} as in {first}, found {value}: a Run is of one machine"
                )
    return fingerprints[first]


def _fingerprint(machine: Mapping[str, Any]) -> Fingerprint:
    """Convert pytest-benchmark's machine_info; the host name is hashed."""
    cpu = machine["cpu"] if isinstance(machine.get("cpu"), dict) else {}
    count = cpu.get("count")
    name = cpu.get("brand_raw") or cpu.get("brand") or machine.get("processor") or machine.get("machine") or "unknown"
    words = [_word(machine[what]) for what in ("system", "release", "machine") if machine.get(what)]
    return Fingerprint(
        host=hashlib.sha256(str(machine.get("node", "")).encode()).hexdigest()[:12],
        cpu=_word(name),
        cores=count if isinstance(count, int) and 0 < count < 2**20 else None,
        system=" ".join(words),
        python=_word(machine.get("python_version", "unknown")),
    )
