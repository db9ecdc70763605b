"""Tables of the report's page: results, memory and noise, a row per Case."""

import itertools
from collections.abc import Iterable, Sequence

from bench.cases.case import Case
from bench.cases.passes import pass_title
from bench.machine import noise
from bench.output.labels import label_of
from bench.output.plots.style import COLORS, OTHER
from bench.output.results_table import HEADINGS, Results, Rows, title_of
from bench.output.tables import Cell, Column, Table, measured, plain
from bench.record.columns import BY_NAME
from bench.record.run import Run

#: Columns of summary.csv of a Case beside its time, then those of a GPU; one that no row has is left out.
BESIDE_TIME = (
    "peak_memory_mib peak_rss_mib first_call_ms first_call_warm_ms cores_used overhead_us compile_cache".split()
)
OF_A_GPU = ("gpu_mhz", "gpu_temp_c", "gpu_watts")
#: Columns of evidence of noise, in percent, and of variation, as fractions.
EVIDENCE = ("steal_pct", "foreign_cpu_pct", "psi_some_pct")
VARIATION = ("cv_within", "cv_between")


def results(found: Results) -> Table:
    """A row per Case; of a profile the whole nets alone, since its layers have a table of their own."""
    cases, beside = whole_nets(found.run), varying(found.run)
    backward = any(found.cases[case.id].cells["backward"].text for case in cases)
    names = [name for name in HEADINGS if name != "backward" or backward]
    columns = [Column(HEADINGS[name], numeric=True, parted=name in ("backward", "ratio")) for name in names]
    rows = []
    for case in cases:
        result = found.cases[case.id]
        figures = [result.cells[name] for name in names]
        rows.append([*_named(case, beside), *figures, Cell("; ".join(result.remarks))])
    subject, extent = title_of(found.run, cases, found.rows, beside)
    caption = ": ".join(text for text in (subject, extent) if text)
    return Table(caption, [*_names(beside), *columns, Column("remarks", long=True)], rows, heads=1)


def memory(run: Run, rows: Rows) -> Table | None:
    """A row a Case: what it held, its first call and its Worker’s share of the machine; None where nothing is known."""
    cases, beside = whole_nets(run), varying(run)
    known = _known(BESIDE_TIME, rows, cases)
    if not known:
        return None
    columns = [*_names(beside), *(Column(BY_NAME[name].title, BY_NAME[name].type is float) for name in known)]
    body = []
    for case in cases:
        row = rows[case.id]
        cells = [Cell(_counted(row[name])) if name == "compile_cache" else measured(row[name]) for name in known]
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


def noises(run: Run, rows: Rows) -> Table:
    """A row a Case: what its own turns saw of others."""
    cases, beside = whole_nets(run), varying(run)
    gpu, counts = _known(OF_A_GPU, rows, cases), ("rounds", "rounds_disturbed")
    figures = (Column(BY_NAME[name].title, numeric=True) for name in (*EVIDENCE, *counts, *VARIATION, *gpu))
    columns = [*_names(beside), *figures, Column("trend"), Column("flags", long=True)]
    body = []
    for case in cases:
        row = rows[case.id]
        cells = [Cell("" if row[name] is None else f"{row[name]:.1f}", row[name]) for name in EVIDENCE]
        cells += [plain(row[name]) for name in counts]
        cells += [Cell("" if row[name] is None else f"{row[name]:.1%}", row[name]) for name in VARIATION]
        cells += [measured(row[name]) for name in gpu]
        body.append([*_named(case, beside), *cells, plain(row["trend"]), Cell(row["flags"])])
    stolen, others = noise.NOISY["steal_pct"], noise.NOISY["foreign_cpu_pct"]
    limits = f"noisy is above {stolen:g} % stolen, or {others:g} % used by others"
    return Table(f"CPU time during each case’s own turns; {limits}", columns, body, heads=1)


def _known(names: Sequence[str], rows: Rows, cases: Sequence[Case]) -> list[str]:
    return [name for name in names if any(rows[case.id][name] is not None for case in cases)]


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
    pass_, name = Cell(pass_title(case.pass_)), Cell(label_of(case), color=color)
    return [pass_, name, *(plain(getattr(case, axis)) for axis in beside)]
