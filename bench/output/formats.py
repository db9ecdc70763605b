"""Convert a Run to the formats of other programs.

A round of pytest-benchmark is an iteration here, and its iterations are 1.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from bench import UsageError
from bench.cases.case import Case
from bench.machine.host import Fingerprint
from bench.output import console, scaling_table, trace, verdicts
from bench.output.labels import counted
from bench.output.markdown import escape, table
from bench.output.results_table import results_of
from bench.record import aa_runs, journal
from bench.record.pairs import within
from bench.record.run import Run
from impls.files import open_target

#: Formats that contain every Case, invalid ones too.
WHOLE = ("trace", "markdown")
#: Columns for --benchmark-group-by=param:NAME, and columns that identify a Run.
PARAMS = "variant framework mode device precision layout lrn preset net batch pass threads size input arm".split()
FACTS = "run_id work_hash conditions_hash protocol_hash flags".split()


def write(target: Path, text: str) -> None:
    """Write a file as ``open_target`` does. Raises UsageError."""
    try:
        with open_target(target, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except (OSError, ValueError) as error:  # ValueError: no file name
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot write {target}: {why}; choose another file with --output") from error


def enclosed(run: Run) -> dict[str, Any]:
    """The value of ``alexnet_bench`` in a pytest-benchmark JSON, from which `ingest` restores the whole Run."""
    return {"schema": 1, "run_jsonl": journal.pack(run.folder), "run_id": run.head.run_id}


def pytest_benchmark(run: Run) -> str:
    """JSON as pytest-benchmark 5.3.1 stores it, in seconds, for `pytest-benchmark compare` and --benchmark-compare."""
    benchmarks = []
    for case, row in _valid(run):
        benchmarks.append(
            {
                "group": case.pass_,
                "name": case.id,
                "fullname": case.foreign or f"alexnet-bench::{case.id}",
                "params": {name: row[name] for name in PARAMS},
                "param": case.id,
                "extra_info": {
                    "fingerprint": structs.asdict(run.head.fingerprint),
                    **{name: row[name] for name in FACTS},
                },
                "options": {},
                "stats": replayed([ns for samples in run.samples(case) for ns in samples]),
            }
        )
    commit = {"id": "unknown", "time": None, "author_time": None, "dirty": None, "project": None, "branch": "(unknown)"}
    return json.dumps(
        {
            "machine_info": _machine(run.head.fingerprint),
            "commit_info": commit,  # a Run stores versions, not a commit
            "benchmarks": benchmarks,
            "datetime": _made(run).isoformat(),
            "version": "5.3.1",
            "alexnet_bench": enclosed(run),
        }
    )


def replayed(samples_ns: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics, in seconds. Its quartiles differ from numpy's; stddev of one sample is 0."""
    data = [ns * 1e-9 for ns in samples_ns]
    ordered, mean, total = sorted(data), statistics.mean(data), sum(data)
    stddev = statistics.stdev(data) if len(data) > 1 else 0
    q1, q3 = _quartile(ordered), _quartile(ordered[::-1])
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    inside = [value for value in ordered if low <= value <= high]
    beyond = sum(value < mean - stddev or value > mean + stddev for value in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": stddev,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(data) - len(inside),
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{len(data) - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": len(data) / total,
        "total": total,
        "data": data,
        "iterations": 1,
    }


def _quartile(ordered: Sequence[float]) -> float:
    """The first quartile as pytest-benchmark defines it."""
    whole, rest = divmod(len(ordered), 4)
    if len(ordered) == 1:
        return ordered[0]
    if rest in (0, 2):
        return statistics.median(ordered[: len(ordered) // 2])
    if rest == 1:
        return 0.25 * ordered[whole - 1] + 0.75 * ordered[whole]
    return 0.75 * ordered[whole] + 0.25 * ordered[whole + 1]


def _machine(fingerprint: Fingerprint) -> dict[str, Any]:
    """The fingerprint as pytest-benchmark's machine_info; the host name stays a hash."""
    system, release, machine = [*(fingerprint.system or "").split(), "", "", ""][:3]
    return {
        "node": fingerprint.host,
        "processor": machine,
        "machine": machine,
        "python_version": fingerprint.python,
        "release": release,
        "system": system,
        "cpu": {"brand_raw": fingerprint.cpu, "count": fingerprint.cores, "arch_string_raw": machine},
    }


def _made(run: Run) -> datetime:
    """The start of the Run, from its name; else when it was last written."""
    try:
        return datetime.strptime(run.head.run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp((run.folder / "run.jsonl").stat().st_mtime, UTC)


def bencher(run: Run) -> str:
    """Bencher Metric Format, latency in nanoseconds. Its ``throughput`` counts operations per second, not images, so it
    is left out."""
    metrics = {}
    for case, row in _valid(run):
        known = {name: row[f"{name}_ms"] for name in ("center", "ci95_low", "ci95_high")}
        named = zip(("value", "lower_value", "upper_value"), known.values(), strict=True)
        metrics[case.id] = {"latency": {name: ms * 1e6 for name, ms in named if ms is not None}}
    return json.dumps(metrics, indent=1)


def github_action_benchmark(run: Run) -> str:
    """For benchmark-action/github-action-benchmark with ``tool: customSmallerIsBetter``."""
    return json.dumps([_smaller_is_better(run, case, row) for case, row in _valid(run)], indent=1)


def _smaller_is_better(run: Run, case: Case, row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["ci95_low_ms"], row["ci95_high_ms"]
    half, what = row["stddev_ms"], "stddev of the samples"
    if low is not None:
        half, what = (high - low) / 2, "half of the 95 % interval over Rounds"
    lines = [
        f"{row['framework']} {row['framework_version'] or ''}".strip() + f" on {row['device_name']}",
        f"median of {counted(row['iterations'], 'sample')} in {counted(row['rounds'], 'Round')}",
        *([f"range: {what}"] if half is not None else []),
        *([f"flags: {row['flags']}"] if row["flags"] else []),
        f"Run {run.head.run_id}",
    ]
    width = {"range": f"± {console.number(half)}"} if half is not None else {}
    return {"name": case.id, "unit": "ms", "value": row["median_ms"], **width, "extra": "\n".join(lines)}


def markdown(run: Run) -> str:
    """The tables of `run` for a pull request; with --ab, verdicts first. Text from files is escaped."""
    pairs = within(run, aa_runs.find([run.folder.resolve().parent], but=[run.folder]))
    results = results_of(run, pairs)
    blocks = [verdicts.markdown(run, None, pairs)] if run.head.ab else []
    blocks += ["; ".join(escape(f"{name}: {text}") for name, text in results.given.items())] if results.given else []
    for group in results.groups:
        lines = [f"{result.case.pass_} {result.label}: {text}" for result in group.cases for text in result.remarks]
        blocks += [f"**{escape(group.subject)}**: {escape(group.extent)}", table(group.table())]
        blocks += ["\n".join(f"- {escape(line)}" for line in [*lines, group.where])]
    for shown in scaling_table.tables(run, results.rows):
        blocks += [f"**{escape(shown.caption)}**", table(shown)]
    clock = " ".join(f"{name}: {text}." for name, text in results.clock)
    scaling = scaling_table.notes(run)
    notes = filter(None, (*scaling, f"Inside the clock: {clock}", results.no_ratio, *results.notes))
    return "\n\n".join([*blocks, escape(" ".join(notes)), f"Run {escape(run.head.run_id)}"])


def _valid(run: Run) -> Iterator[tuple[Case, dict[str, Any]]]:
    """The valid Cases, with their rows."""
    for case in run.cases:
        row = run.row(case)
        if row["valid"]:
            yield case, row


FORMATS: dict[str, Callable[[Run], str]] = {
    "pytest-benchmark": pytest_benchmark,
    "bencher": bencher,
    "github-action-benchmark": github_action_benchmark,
    "trace": lambda run: json.dumps(trace.trace_of(run), separators=(",", ":")),
    "markdown": markdown,
}
