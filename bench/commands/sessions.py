"""Sessions of pytest-benchmark: their files, what the sessions of one Run must share, and their order in time."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from bench import UsageError
from bench.machine.host import Fingerprint
from bench.output import console
from bench.output.labels import some_of
from impls.text import quoted

LONGEST = 200  # characters of a name
NOT_STATED = "not stated"


class Stats(TypedDict):
    data: NotRequired[list[float]]


class Commit(TypedDict):
    id: NotRequired[str | None]
    dirty: NotRequired[bool | None]


class Benchmark(TypedDict):
    name: str
    fullname: NotRequired[str | None]
    group: NotRequired[str | None]
    params: NotRequired[dict[str, Any] | None]
    extra_info: NotRequired[dict[str, Any] | None]
    options: NotRequired[dict[str, Any] | None]
    stats: Stats


class Enclosed(TypedDict):
    run_jsonl: str
    run_id: str


class Stored(TypedDict):
    """The parts of a pytest-benchmark file that are read."""

    benchmarks: list[Benchmark]
    machine_info: NotRequired[dict[str, Any] | None]
    commit_info: NotRequired[Commit | None]
    version: NotRequired[str | None]
    datetime: NotRequired[str | None]
    alexnet_bench: NotRequired[Enclosed]


def read(path: Path) -> Stored:
    """Read a pytest-benchmark file. Raises UsageError if it is none, or has no samples."""
    try:  # not msgspec's: pytest-benchmark writes Infinity and NaN
        stored = msgspec.convert(json.loads(path.read_bytes()), Stored)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read: {error.strerror}; expected a JSON that pytest-benchmark stored"
        ) from error
    except (ValueError, RecursionError) as error:
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


def in_order(files: Mapping[Path, Stored]) -> list[Path]:
    """The files in the order of their dates, as instants; as given if none has a date.

    Raises UsageError for a date that is none, or if only some have a date or a time zone.
    """
    taken = {path: _instant(path, stored.get("datetime") or "") for path, stored in files.items()}
    kinds = {path: _dated(when) for path, when in taken.items()}
    _one("kind of date", kinds, "their order is not known")
    if None in taken.values():
        if len(files) > 1:
            console.tell("no session has a date: Rounds are in the order of the files given")
        return list(files)
    return sorted(files, key=lambda path: taken[path] or datetime.min)


def _instant(path: Path, text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise UsageError(f"{path}: expected a date and time in ISO 8601, found {quoted(text)}") from error


def _dated(when: datetime | None) -> str:
    return "no date" if when is None else "a date without a time zone" if when.tzinfo is None else "a time zone"


def one_commit(files: Mapping[Path, Stored]) -> tuple[str | None, bool]:
    """The commit that the sessions share, None if not stated, and whether files were changed since."""
    commits = {path: stored.get("commit_info") or {} for path, stored in files.items()}
    _one("commit", {path: _commit_words(commit) for path, commit in commits.items()}, "a Run is of one commit")
    first = next(iter(commits.values()))
    return word(first["id"]) if first.get("id") else None, bool(first.get("dirty"))


def _commit_words(commit: Commit) -> str:
    return word(commit.get("id") or NOT_STATED) + (" with uncommitted changes" if commit.get("dirty") else "")


def one_version(files: Mapping[Path, Stored]) -> str:
    """The version of pytest-benchmark that the sessions share."""
    return _one("version of pytest-benchmark", {path: stored.get("version") or "" for path, stored in files.items()})


def one_clock(case_id: str, benchmarks: Mapping[Path, Benchmark]) -> str:
    """How the sessions of a benchmark were timed: the clock, and what else its options say."""
    return _one(f"clock of {quoted(case_id)}", {path: _clock(benchmark) for path, benchmark in benchmarks.items()})


def _clock(benchmark: Benchmark) -> str:
    options = benchmark.get("options") or {}
    more = {"disable_gc": ", without garbage collection", "warmup": ", after warm-up"}
    return word(options.get("timer") or NOT_STATED) + "".join(text for name, text in more.items() if options.get(name))


def one_machine(files: Mapping[Path, Stored]) -> tuple[Fingerprint, list[str]]:
    """The fingerprint that the sessions share, and their host names, hashed.

    A host name decides nothing, since each container has a new one: with several, ``host`` is None. Raises UsageError
    for sessions of different machines or interpreters.
    """
    prints = {path: _fingerprint(stored.get("machine_info") or {}) for path, stored in files.items()}
    facts: dict[str, Callable[[Fingerprint], str]] = {
        "cpu": lambda machine: machine.cpu,
        "number of cores": lambda machine: str(machine.cores),
        "system": lambda machine: machine.system or NOT_STATED,
        "python": lambda machine: machine.python or NOT_STATED,
    }
    for what, of in facts.items():
        _one(what, {path: of(machine) for path, machine in prints.items()}, "a Run is of one machine")
    first, hosts = next(iter(prints.values())), sorted({machine.host or "" for machine in prints.values()})
    if len(hosts) == 1:
        return first, hosts
    alike = f"{first.cpu}, {first.cores or 'unknown number of'} cores, {first.system}, Python {first.python}"
    console.tell(
        f"{len(hosts)} host names, one machine as far as the files say ({alike}): taken as one, since a container has "
        f"a new name each time; a file of another machine ({some_of(map(str, prints))}) must be left out"
    )
    return msgspec.structs.replace(first, host=None), hosts


def _one(what: str, values: Mapping[Path, str], why: str = "a Run is of one") -> str:
    """The value that all files share. Raises UsageError that names each value with its first file."""
    firsts: dict[str, Path] = {}
    for path, value in values.items():
        firsts.setdefault(value, path)
    if len(firsts) > 1:
        found = some_of(f"{value} in {path}" for value, path in firsts.items())
        raise UsageError(f"expected one {what}, found {found}: {why}; ingest the files of each by themselves")
    return next(iter(firsts))


def _fingerprint(machine: Mapping[str, Any]) -> Fingerprint:
    """Convert pytest-benchmark's machine_info; the host name is hashed."""
    cpu = machine["cpu"] if isinstance(machine.get("cpu"), dict) else {}
    count = cpu.get("count")
    name = cpu.get("brand_raw") or cpu.get("brand") or machine.get("processor") or machine.get("machine") or "unknown"
    words = [word(machine[what]) for what in ("system", "release", "machine") if machine.get(what)]
    return Fingerprint(
        host=hashlib.sha256(str(machine.get("node", "")).encode()).hexdigest()[:12],
        cpu=word(name),
        cores=count if isinstance(count, int) and 0 < count < 2**20 else None,
        system=" ".join(words),
        python=_interpreter(machine),
    )


def _interpreter(machine: Mapping[str, Any]) -> str:
    """The version, with the implementation if that is not CPython, and with compiler and build if stated."""
    implementation, build = machine.get("python_implementation"), machine.get("python_build")
    parts = [implementation if implementation != "CPython" else "", machine.get("python_version") or "unknown"]
    parts += [machine.get("python_compiler"), *(build if isinstance(build, list) else [build])]
    return word(" ".join(str(part) for part in parts if part))


def hashes(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their sha256. Raises UsageError for a file given twice, which would count as two Rounds."""
    known: dict[str, Path] = {}
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in known:
            raise UsageError(f"{path} and {known[digest]} are the same session: expected each once")
        known[digest] = path
    return known


def word(value: Any) -> str:
    """A name from a file, on one line and at most LONGEST characters."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", " ", str(value)).strip() or "unnamed"
    return (
        plain if len(plain) <= LONGEST else plain[: LONGEST - 9] + "~" + hashlib.sha256(plain.encode()).hexdigest()[:8]
    )
