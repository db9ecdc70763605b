"""A Run in the formats of other programs."""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from bench import UsageError
from bench.cases.case import Case, groups
from bench.output import console, run_table, trace, verdicts
from bench.record import aa_runs, journal
from bench.record.pairs import Pair, within
from bench.record.run import Run
from impls.files import open_whole

#: Those that hold every Case, and say themselves which is not valid.
WHOLE = ("trace", "markdown")
#: Of a row, what --group-by=param:NAME may group by, and what tells two Runs apart.
PARAMS = "variant framework mode device precision layout lrn preset net batch pass threads size arm".split()
FACTS = "run_id work_hash conditions_hash protocol_hash flags".split()


def write(target: Path, text: str) -> None:
    """All or nothing, but straight into what is no plain file; UsageError where that is not possible."""
    straight = target.is_symlink() or (target.exists() and not target.is_file())
    opened: Callable[..., AbstractContextManager[IO[str]]] = open if straight else open_whole
    try:
        with opened(target, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except (OSError, ValueError) as error:  # ValueError: no file name
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot write {target}: {why}; choose another file with --output") from error


def enclosed(run: Run) -> dict[str, Any]:
    """What a pytest-benchmark JSON holds under ``alexnet_bench``, so that `ingest` gives the Run back whole."""
    return {"schema": 1, "run_jsonl": journal.packed(run.folder), "run_id": run.head["run_id"]}


def pytest_benchmark(run: Run) -> str:
    """As pytest-benchmark 5.3.1 stores it, in seconds; `pytest-benchmark compare` and --benchmark-compare read it."""
    benchmarks = []
    for case, row in _valid(run):
        benchmarks.append(
            {
                "group": case.pass_,
                "name": case.id,
                "fullname": case.foreign or f"alexnet-bench::{case.id}",
                "params": {name: row[name] for name in PARAMS},
                "param": case.id,
                "extra_info": {"fingerprint": run.head["fingerprint"], **{name: row[name] for name in FACTS}},
                "options": {},
                "stats": replayed([ns for samples in run.samples(case) for ns in samples]),
            }
        )
    commit = {"id": "unknown", "time": None, "author_time": None, "dirty": None, "project": None, "branch": "(unknown)"}
    return json.dumps(
        {
            "machine_info": _machine(run.head["fingerprint"]),
            "commit_info": commit,  # a Run knows the versions of what it timed, not a commit
            "benchmarks": benchmarks,
            "datetime": _made(run).isoformat(),
            "version": "5.3.1",
            "alexnet_bench": enclosed(run),
        }
    )


def replayed(samples_ns: Sequence[int]) -> dict[str, Any]:
    """What pytest-benchmark would say of these samples, by its own definitions: its quartiles are not numpy's, and of
    one sample its stddev is 0."""
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
    """The first one; of an even number the median of that half, of an odd one between two, as pytest-benchmark does."""
    whole, rest = divmod(len(ordered), 4)
    if len(ordered) == 1:
        return ordered[0]
    if rest in (0, 2):
        return statistics.median(ordered[: len(ordered) // 2])
    if rest == 1:
        return 0.25 * ordered[whole - 1] + 0.75 * ordered[whole]
    return 0.75 * ordered[whole] + 0.25 * ordered[whole + 1]


def _machine(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint in pytest-benchmark's words; the host's name stays a hash, and what no Run stores is left out."""
    system, release, machine = [*str(fingerprint.get("system") or "").split(), "", "", ""][:3]
    return {
        "node": fingerprint.get("host"),
        "processor": machine,
        "machine": machine,
        "python_version": fingerprint.get("python"),
        "release": release,
        "system": system,
        "cpu": {"brand_raw": fingerprint["cpu"], "count": fingerprint.get("cores"), "arch_string_raw": machine},
    }


def _made(run: Run) -> datetime:
    """When the Run was begun, as its name says; else when it was last written."""
    try:
        return datetime.strptime(run.head["run_id"][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp((run.folder / "run.jsonl").stat().st_mtime, UTC)


def bencher(run: Run) -> str:
    """Bencher Metric Format: its ``latency`` is in nanoseconds. Its ``throughput`` is in operations a second, which
    images are not, so there is none; the latency of a batch says the same."""
    found = {}
    for case, row in _valid(run):
        known = {name: row[f"{name}_ms"] for name in ("center", "ci95_low", "ci95_high")}
        named = zip(("value", "lower_value", "upper_value"), known.values(), strict=True)
        found[case.id] = {"latency": {name: ms * 1e6 for name, ms in named if ms is not None}}
    return json.dumps(found, indent=1)


def github_action_benchmark(run: Run) -> str:
    """For benchmark-action/github-action-benchmark with ``tool: customSmallerIsBetter``; ``extra`` says whose range."""
    return json.dumps([_smaller_is_better(run, case, row) for case, row in _valid(run)], indent=1)


def _smaller_is_better(run: Run, case: Case, row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["ci95_low_ms"], row["ci95_high_ms"]
    half, what = row["stddev_ms"], "stddev of the samples"
    if low is not None:
        half, what = (high - low) / 2, "half of the 95 % interval over Rounds"
    lines = [
        f"{row['framework']} {row['framework_version'] or ''}".strip() + f" on {row['device_name']}",
        f"median of {row['iterations']} samples in {row['rounds']} Rounds",
        *([f"range: {what}"] if half is not None else []),
        *([f"flags: {row['flags']}"] if row["flags"] else []),
        f"Run {run.head['run_id']}",
    ]
    width = {"range": f"± {console.number(half)}"} if half is not None else {}
    return {"name": case.id, "unit": "ms", "value": row["median_ms"], **width, "extra": "\n".join(lines)}


def markdown(run: Run) -> str:
    """The tables of `run`, for a comment; of an --ab its verdicts first. Text from a file can be nothing but text."""
    pairs = within(run, aa_runs.find([run.folder.resolve().parent], but=[run.folder]))
    rows, ratios = {row["case_id"]: row for row in run.rows()}, {pair.candidate: pair for pair in pairs}
    blocks = [verdicts.markdown(run, None, pairs)] if run.head["ab"] else []
    for group in groups(run.cases):
        cases = sorted(group, key=lambda case: (case.pass_, case.compiled))
        blocks += [_title(run, cases, rows), "\n".join(_table(cases, rows, ratios))]
        blocks += ["\n".join(lines)] if (lines := list(_remarks(cases, rows, ratios))) else []
    clock, *inside = run_table.in_the_clock(run)
    notes = [f"{clock}: {' '.join(line.strip() for line in inside)}" if inside else clock]
    if ratios:
        notes.append("Ratio: time over that of the row with 1; above 1 is slower; 95 % interval over Rounds.")
    if any(row["peak_fraction"] for row in rows.values()):
        notes.append("Of peak: multiply-adds a second over what the device did at best in this Run.")
    return "\n\n".join([*blocks, " ".join(notes), f"Run {verdicts.cell(run.head['run_id'])}"])


def _title(run: Run, cases: Sequence[Case], rows: Mapping[str, Any]) -> str:
    case, first = cases[0], rows[cases[0].id]
    done, asked = max(rows[one.id]["rounds"] for one in cases), run.protocol.rounds
    count = f"{done}" if done == asked else f"{done} of {asked}"
    if "ingested" in run.head:
        return f"**{verdicts.cell(case.variant)}**: {count} sessions of {verdicts.cell(run.head['ingested']['source'])}"
    threads = " and ".join(dict.fromkeys(str(rows[one.id]["threads"]) for one in cases))
    what = (
        f"{case.variant}, {first['size']} px, batch {case.batch}, {case.device} ({threads} threads), {case.precision}"
    )
    dropout = ", dropout on" if case.dropout else ""
    rounds = f"{count} Rounds x {run.protocol.iterations}" if run.protocol.paired else "classic protocol"
    return f"**{verdicts.cell(what)}{dropout}**: {rounds} after {run.protocol.burn_in} burn-in"


def _table(cases: Sequence[Case], rows: Mapping[str, Any], ratios: Mapping[str, Pair]) -> Iterator[str]:
    yield "| pass | framework | mean ± stddev ms (n) | images/s | of peak | ratio [95 %] |"
    yield "|---|---|--:|--:|--:|--:|"
    baselines = {pair.baseline for pair in ratios.values()}
    for case in cases:
        row, images = rows[case.id], rows[case.id]["images_per_s"]
        cells = ["failed" if row["invalid_reason"] != "not measured" else row["invalid_reason"], "", "", ""]
        if row["valid"]:
            ratio = run_table.interval(ratios.get(case.id), case.id in baselines)
            rate = "" if images is None else console.number(images)
            cells = [run_table.spread(row), rate, console.share(row["peak_fraction"]), ratio]
        yield _line(case.pass_, run_table.words(case), *cells)
    for case in (case for case in cases if rows[case.id]["valid"]):
        low, middle, high = (rows[case.id][f"backward_{what}ms"] for what in ("ci95_low_", "", "ci95_high_"))
        if low is not None:
            found = (
                "not resolved" if middle is None else "{} [{}, {}]".format(*map(console.number, (middle, low, high)))
            )
            yield _line("backward", run_table.words(case), found, "", "", "")


def _remarks(cases: Sequence[Case], rows: Mapping[str, Any], ratios: Mapping[str, Pair]) -> Iterator[str]:
    """A line each: what a pair was not alike in, why a Case failed, flags with the noise behind them; then versions."""
    for case in cases:
        row, pair = rows[case.id], ratios.get(case.id)
        noise = {"stolen": row["steal_pct"], "used by others": row["foreign_cpu_pct"]}
        shares = ", ".join(f"{share:.0f} % {whose}" for whose, share in noise.items() if share is not None)
        said = [f"not the same conditions: {what}" for what in (pair.differs if pair else ())]
        said += [row["invalid_reason"]] if row["invalid_reason"] not in ("", "not measured") else []
        if row["valid"] and row["flags"]:
            said.append(row["flags"] + (f" (CPU time: {shares})" if shares and "noisy" in row["flags"] else ""))
        yield from (f"- {verdicts.cell(f'{case.pass_} {run_table.words(case)}: {what}')}" for what in said)
    known = [rows[case.id] for case in cases if rows[case.id]["framework_version"]]
    versions = ", ".join(sorted({f"{row['framework']} {row['framework_version']}" for row in known}))
    yield "- " + verdicts.cell(" on ".join(part for part in (versions, str(rows[cases[0].id]["device_name"])) if part))


def _line(pass_: str, name: str, *cells: str) -> str:
    return f"| {' | '.join([verdicts.cell(pass_), verdicts.cell(name), *cells])} |"


def _valid(run: Run) -> Iterator[tuple[Case, dict[str, Any]]]:
    """The Cases that have figures, with their rows."""
    for case in run.cases:
        row = run.row(case)
        if row["valid"]:
            yield case, row


def _plain(text: str) -> str:
    """In one line, without what would steer a terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


FORMATS: dict[str, Callable[[Run], str]] = {
    "pytest-benchmark": pytest_benchmark,
    "bencher": bencher,
    "github-action-benchmark": github_action_benchmark,
    "trace": lambda run: json.dumps(trace.of(run), separators=(",", ":")),
    "markdown": markdown,
}
