"""Table: rows of cells for a page, of what a Run measured; rounded for reading, a cell sorts by its whole value."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.cases.case import Case
from bench.cases.passes import pass_title
from bench.machine import noise
from bench.output import console, run_table
from bench.output.console import number
from bench.output.plots.style import COLORS, OTHER
from bench.output.run_table import words
from bench.record.pairs import Pair
from bench.record.run import Run

Rows = Mapping[str, Mapping[str, Any]]  # of summary.csv, by Case id
NONE = "–"  # nothing to say
#: Of a Case beside its time, by column of summary.csv; whatever no row has is no column.
BESIDE_TIME = {
    "peak_memory_mib": "device memory MiB",
    "peak_rss_mib": "process memory MiB",
    "first_call_ms": "first call ms",
    "first_call_warm_ms": "first call, later Rounds ms",
    "cores_used": "cores used",
    "overhead_us": "harness adds µs",
    "compile_cache": "compile cache",
}
OF_A_GPU = {"gpu_mhz": "GPU MHz, lowest", "gpu_temp_c": "GPU °C, highest", "gpu_watts": "GPU W, mean"}


@dataclass(frozen=True)
class Cell:
    """``value`` is what it sorts by, None for its text; ``color`` that of its framework."""

    text: str
    value: float | None = None
    color: str = ""


@dataclass(frozen=True)
class Column:
    """``long``: its text may break into lines; ``wide``: into few, being sentences; ``parted``: before its interval."""

    name: str
    numeric: bool = False
    long: bool = False
    wide: bool = False
    parted: bool = False


@dataclass(frozen=True)
class Table:
    """``heads`` is the number of the column that names a row."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    heads: int = 0


def results(run: Run, rows: Rows, pairs: Sequence[Pair]) -> Table:
    """A row a Case; of a profile the whole nets alone, since its rows have a table of their own."""
    cases, beside = whole_nets(run), varying(run)
    ratios = {pair.candidate: pair for pair in pairs}
    baselines = {pair.baseline for pair in pairs if pair.ratio}
    backward = any(rows[case.id]["backward_ci95_low_ms"] is not None for case in cases)
    figures = ["mean ± stddev ms (n)", "median ms", "p95 ms", "images/s", "GFLOP/s", "of peak"]
    intervals = [*(["backward ms [95 %]"] if backward else []), "ratio [95 %]"]
    columns = [
        *_names(beside),
        *(Column(name, True) for name in figures),
        *(Column(name, True, parted=True) for name in intervals),
        Column("flags", long=True),
    ]
    body = []
    for case in cases:
        row, pair = rows[case.id], ratios.get(case.id)
        if row["valid"]:
            cells = [*_figures(row, backward), _ratio(pair, case.id in baselines), Cell(row["flags"] or NONE)]
        else:
            missing = [Cell(NONE)] * (len(figures) + len(intervals))
            cells = [*missing, Cell(f"not valid: {row['invalid_reason']}")]
        body.append([*_named(case, beside), *cells])
    return Table(_in_common(run, rows, beside), columns, body, heads=1)


def _ratio(pair: Pair | None, baseline: bool) -> Cell:
    """A ratio that is not judged says so by its verdict's word, as everywhere."""
    if not pair or not pair.ratio:
        return Cell("1", 1.0) if baseline else Cell(NONE)
    word = f"{pair.word}: " if pair.differs else ""
    return Cell(word + run_table.interval(replace(pair, differs=[]), False), pair.ratio.value.center)


def memory(run: Run, rows: Rows) -> Table | None:
    """A row a Case: what it held, its first call and its Worker’s share of the machine; None where nothing is known."""
    cases, beside = whole_nets(run), varying(run)
    known = {name: said for name, said in BESIDE_TIME.items() if any(rows[one.id][name] is not None for one in cases)}
    if not known:
        return None
    text = "compile_cache"
    columns = [*_names(beside), *(Column(said, name != text) for name, said in known.items())]
    body = []
    for case in cases:
        row = rows[case.id]
        cells = [Cell(_counted(row[name]) or NONE) if name == text else measured(row[name]) for name in known]
        body.append([*_named(case, beside), *cells])
    caption = (
        "Memory: the most that a pass held, of a process beyond what importing its framework took. First call: with "
        "tracing, compiling and tuning, and no sample"
    )
    return Table(caption, columns, body, heads=1)


def _counted(words: str | None) -> str:
    """What was found Round by Round, in few words: cold, 4 × warm."""
    runs = ((word, len(list(same))) for word, same in itertools.groupby((words or "").split()))
    return ", ".join(word if count == 1 else f"{count} × {word}" for word, count in runs)


def _figures(row: Mapping[str, Any], backward: bool) -> list[Cell]:
    cells = [Cell(run_table.spread(row), row["mean_ms"])]
    cells += [measured(row[name]) for name in ("median_ms", "p95_ms", "images_per_s", "gflop_per_s")]
    cells += [Cell(console.share(row["peak_fraction"]) or NONE, row["peak_fraction"])]
    low, middle, high = (row[f"backward_{what}ms"] for what in ("ci95_low_", "", "ci95_high_"))
    if middle is not None:
        return [*cells, Cell(f"{number(middle)} [{number(low)}, {number(high)}]", middle)]
    return [*cells, Cell("not resolved" if low is not None else NONE)] if backward else cells


def _in_common(run: Run, rows: Rows, beside: Sequence[str]) -> str:
    """What is the same for all rows, as the caption."""
    first = whole_nets(run)[0]
    if first.foreign:
        return f"Measured by {run.head['ingested']['source']}" if "ingested" in run.head else "Measured by others"
    fixed = {
        "variant": first.variant,
        "size": f"{rows[first.id]['size']} px",
        "batch": f"batch {first.batch}",
        "device": first.device,
        "threads": f"{rows[first.id]['threads']} threads",
        "precision": first.precision + (", dropout on" if first.dropout else ""),
    }
    return ", ".join(text for axis, text in fixed.items() if axis not in beside)


def noises(run: Run, rows: Rows) -> Table:
    """A row a Case: what its own turns saw of others."""
    cases, beside = whole_nets(run), varying(run)
    evidence = {"stolen %": "steal_pct", "used by others %": "foreign_cpu_pct", "under pressure %": "psi_some_pct"}
    spread = {"spread within": "cv_within", "between Rounds": "cv_between"}
    figures = [*evidence, "Rounds", "spoilt", *spread]
    gpu = {name: said for name, said in OF_A_GPU.items() if any(rows[one.id][name] is not None for one in cases)}
    figures += gpu.values()
    columns = [*_names(beside), *(Column(name, True) for name in figures), Column("trend"), Column("flags", long=True)]
    body = []
    for case in cases:
        row = rows[case.id]
        cells = [Cell(NONE if row[name] is None else f"{row[name]:.1f}", row[name]) for name in evidence.values()]
        cells += [plain(row["rounds"]), plain(row["rounds_spoilt"])]
        cells += [Cell(NONE if row[name] is None else f"{row[name]:.1%}", row[name]) for name in spread.values()]
        cells += [measured(row[name]) for name in gpu]
        body.append([*_named(case, beside), *cells, Cell(row["trend"] or NONE), Cell(row["flags"] or NONE)])
    stolen, others = noise.NOISY["steal_pct"], noise.NOISY["foreign_cpu_pct"]
    limits = f"noisy is above {stolen:g} % stolen, or {others:g} % used by others"
    return Table(f"CPU time during each case’s own turns; {limits}", columns, body, heads=1)


def whole_nets(run: Run) -> list[Case]:
    """Its Cases but for the rows alone of a profile."""
    return [case for case in run.cases if "." not in case.variant or case.foreign] or run.cases


def varying(run: Run) -> list[str]:
    """The axes beside pass, framework and its settings in which rows differ."""
    axes = ("variant", "batch", "device", "precision", "size", "threads")
    return [axis for axis in axes if len({getattr(case, axis) for case in whole_nets(run)}) > 1]


def _names(beside: Iterable[str]) -> list[Column]:
    numeric = ("batch", "size", "threads")
    return [Column("pass"), Column("framework"), *(Column(axis, axis in numeric) for axis in beside)]


def _named(case: Case, beside: Iterable[str]) -> list[Cell]:
    color = COLORS.get(case.framework, OTHER)
    pass_, name = Cell(pass_title(case.pass_)), Cell(words(case), color=color)
    return [pass_, name, *(plain(getattr(case, axis)) for axis in beside)]


def plain(value: Any) -> Cell:
    if value is None:
        return Cell(NONE)
    return Cell(str(value), value if isinstance(value, int | float) else None)


def measured(value: float | None) -> Cell:
    return Cell(NONE if value is None else number(value), value)
