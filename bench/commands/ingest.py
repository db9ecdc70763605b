"""`ingest`: convert pytest-benchmark files to a Run for compare, plot and report.

A pytest-benchmark session becomes a Round (a fresh process), a round an iteration. A file that alexnet-bench wrote
contains its Run, which is restored byte for byte.
"""

import itertools
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench import UsageError
from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.commands import sessions
from bench.commands.requests import IngestRequest
from bench.commands.sessions import Benchmark, Enclosed, Stored, word
from bench.machine.noise import Noise
from bench.output import console, run_table
from bench.record import events, journal
from bench.record.ingested import Ingested
from bench.record.journal import Journal
from bench.record.pairs import within
from bench.record.reasons import StopReason
from bench.record.run import Run
from impls.text import quoted

#: Fields of a Case that a benchmark's parameters may name; ``_case`` has the defaults.
PARAMETERS = ("variant", "framework", "mode", "device", "precision", "layout", "batch", "pass", "threads")


def main(request: IngestRequest) -> int:
    out, files = request.out, {path: sessions.read(path) for path in request.files}
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
    """Create a Run from another program's sessions: one Round per session, in the order of their dates.

    Raises UsageError unless they are of one machine, interpreter, commit and clock.
    """
    taken = sessions.in_order(files)
    machine, hosts = sessions.one_machine(files)
    commit, dirty = sessions.one_commit(files)
    source = f"pytest-benchmark {sessions.one_version(files)}".strip()
    hashes = sessions.hashes(taken)
    cases: dict[str, Case] = {}
    benchmarks: dict[str, dict[Path, Benchmark]] = {}
    for path in taken:
        for benchmark in files[path]["benchmarks"]:
            case = _case(benchmark)
            if path in benchmarks.setdefault(case.id, {}):
                raise UsageError(f"{path}: expected each benchmark once, found {quoted(case.id)} twice")
            if cases.setdefault(case.id, case) != case:
                first = next(iter(benchmarks[case.id]))
                raise UsageError(f"{path}: expected the parameters of {quoted(case.id)} as in {first}, found others")
            benchmarks[case.id][path] = benchmark
    measured = [
        {case: _samples_ns(path, each[path]) for case, each in benchmarks.items() if path in each} for path in taken
    ]
    ingested = Ingested(
        source=source,
        taken=[files[path].get("datetime") or "" for path in taken],
        sha256=list(hashes),
        commit=commit,
        dirty=dirty,
        hosts=hosts,
        clocks={case: sessions.one_clock(case, each) for case, each in benchmarks.items()},
    )
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
        ingested=ingested,
    )
    _write(Journal(folder), head, list(cases.values()), measured)
    return folder


def _write(
    journal: Journal, head: events.Header, cases: Sequence[Case], measured: Sequence[Mapping[str, list[float]]]
) -> None:
    """One group per Case (there were no turns), one Round per session; start times are not stored, so made up."""
    journal.add(head)
    group_of = {group: number for number, group in enumerate(dict.fromkeys(case.group for case in cases))}
    now = 1
    for round_, samples in enumerate(measured):
        for case in (case for case in cases if case.id in samples):
            unrounded = samples[case.id]
            whole = list(map(math.ceil, unrounded))
            *starts, now = itertools.accumulate((ns + 1 for ns in whole), initial=now)
            turn = events.Turn(
                group=group_of[case.group],
                round=round_,
                attempt=0,
                case_id=case.id,
                start_ns=starts,
                ns=whole,
                cycle=0,
                lead=0,
                cpu_s=None,
                allocator_peak=None,
                process_peak=None,
                noise=Noise(sum(unrounded) / 1e9, steal_s=None, foreign_s=None, psi_s=None),
                unrounded_ns=unrounded if unrounded != whole else [],
            )
            journal.add(turn)
        for number in group_of.values():
            journal.add(events.RoundEnd(number, round_, attempt=0, disturbed=""))
    for number in group_of.values():
        journal.add(events.Stop(number, StopReason.PLANNED))
    journal.add(events.End(StopReason.PLANNED))


def _protocol(measured: Sequence[Mapping[str, Sequence[float]]]) -> Protocol:
    """The Protocol of another program: no known burn-in, no turns."""
    most = max(len(ns) for samples in measured for ns in samples.values())
    return Protocol("ingested", rounds=len(measured), burn_in=0, iterations=most, paired=False, gate=False)


def _case(benchmark: Benchmark) -> Case:
    """The Case of a benchmark: its full name, and the axes that its parameters or extra_info give; an unknown batch is
    0."""
    values = {**(benchmark.get("params") or {}), **(benchmark.get("extra_info") or {})}
    known = {
        axis: word(values[axis])
        for axis in PARAMETERS
        if isinstance(values.get(axis), str | int) and not isinstance(values[axis], bool) and str(values[axis])
    }
    whole = {
        axis: int(known[axis]) for axis in ("batch", "threads") if re.fullmatch(r"[1-9]\d{0,8}", known.get(axis, ""))
    }
    return Case(
        variant=known.get("variant") or word(benchmark["name"].partition("[")[0]),
        framework=known.get("framework", "other"),
        mode=known.get("mode", "call"),
        device=known.get("device", "cpu"),
        precision=known.get("precision", "unknown"),
        layout=known.get("layout", ""),
        batch=whole.get("batch", 0),
        pass_=known.get("pass") or word(benchmark.get("group") or "call"),
        threads=whole.get("threads"),
        foreign=word(benchmark.get("fullname") or benchmark["name"]),
    )


def _samples_ns(path: Path, benchmark: Benchmark) -> list[float]:
    """The samples in nanoseconds, with all that the timer resolved: rounded to 1e-6 ns, below any timer's digits."""
    data = benchmark["stats"].get("data", [])
    for number, value in enumerate(data, 1):
        if not 0 < value < 1e9:  # NaN too
            name = quoted(benchmark["name"])
            raise UsageError(f"{path}: {name}: sample {number}: expected seconds above 0, found {value}")
    return [round(value * 1e9, 6) for value in data]
