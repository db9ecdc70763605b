"""Tables of results, memory and noise in the report: one row per Case."""

import itertools
from collections.abc import Iterable, Sequence

from bench.cases.case import Case
from bench.cases.passes import DIFFERENCES, pass_title
from bench.output.labels import label_of
from bench.output.plots.style import COLORS, OTHER
from bench.output.results_table import HEADINGS, Results, title_of
from bench.output.tables import Cell, Column, Table, measured, plain
from bench.record.columns import BY_NAME, Rows
from bench.record.flags import FLAGS
from bench.record.run import Run

#: Columns of summary.csv in the tables of memory and noise; those without a value are left out.
ON_DEVICE = ("device_ms", "launch_ms", "joules_per_image", "l2")
MEMORY = "peak_memory_mib peak_rss_mib first_call_ms first_call_warm_ms cores_used overhead_us compile_cache".split()
OF_A_GPU = ("gpu_mhz", "gpu_mhz_high", "gpu_temp_c", "gpu_watts")
#: Columns of noise in percent, and of variation as fractions.
EVIDENCE = ("steal_pct", "foreign_cpu_pct", "quota_pct", "psi_some_pct")
VARIATION = ("cv_within", "cv_between")


def results(model: Results) -> Table:
    """Table of results: one row per Case, for a profile only whole nets."""
    cases, axes = whole_nets(model.run), varying(model.run)
    absent = {name for name in DIFFERENCES if not any(model.cases[case.id].cells[name].text for case in cases)}
    # the ratio first: a narrow window shows the differences after scrolling
    names = sorted((name for name in HEADINGS if name not in absent), key=lambda name: name in DIFFERENCES)
    columns = [Column(HEADINGS[name], numeric=True, parted=name in (*DIFFERENCES, "ratio")) for name in names]
    rows = []
    for case in cases:
        result = model.cases[case.id]
        figures = [result.cells[name] for name in names]
        rows.append([*_named(case, axes), *figures, Cell("; ".join(result.remarks))])
    subject, extent = title_of(model.run, cases, model.rows, axes)
    caption = ": ".join(text for text in (subject, extent) if text)
    return Table(caption, [*_names(axes), *columns, Column("remarks", long=True)], rows, heads=1)


def memory(run: Run, rows: Rows) -> Table | None:
    """Table of the device's own time, memory, first calls and use of the machine; None if nothing is known."""
    cases, axes = whole_nets(run), varying(run)
    known = _known([*ON_DEVICE, *MEMORY], rows, cases)
    if not known:
        return None
    columns = [*_names(axes), *(Column(BY_NAME[name].title, BY_NAME[name].type is float) for name in known)]
    body = []
    for case in cases:
        row = rows[case.id]
        cells = [Cell(_counted(row[name])) if BY_NAME[name].type is str else measured(row[name]) for name in known]
        body.append([*_named(case, axes), *cells])
    caption = (
        "Memory: peak of a pass, for a process beyond what importing its framework took. First call: with tracing, "
        "compiling and tuning; not a sample"
    )
    if "device_ms" in known:
        caption += ". On the device: by its own timer, with the pass enqueued before it begins; to enqueue: on the host"
    return Table(caption, columns, body, heads=1)


def _counted(words: str | None) -> str:
    """Summarize a word per Round by run lengths: cold, 4 × warm."""
    runs = ((word, len(list(same))) for word, same in itertools.groupby((words or "").split()))
    return ", ".join(word if count == 1 else f"{count} × {word}" for word, count in runs)


def noises(run: Run, rows: Rows) -> Table:
    """Table of noise: one row per Case, measured during its own turns."""
    cases, axes = whole_nets(run), varying(run)
    gpu, counts = _known(OF_A_GPU, rows, cases), ("rounds", "rounds_disturbed")
    figures = (Column(BY_NAME[name].title, numeric=True) for name in (*EVIDENCE, *counts, *VARIATION, *gpu))
    columns = [*_names(axes), *figures, Column("trend"), Column("flags", long=True)]
    body = []
    for case in cases:
        row = rows[case.id]
        cells = [Cell("" if row[name] is None else f"{row[name]:.1f}", row[name]) for name in EVIDENCE]
        cells += [plain(row[name]) for name in counts]
        cells += [Cell("" if row[name] is None else f"{row[name]:.1%}", row[name]) for name in VARIATION]
        cells += [measured(row[name]) for name in gpu]
        body.append([*_named(case, axes), *cells, plain(row["trend"]), Cell(row["flags"])])
    caption = f"CPU time during each case’s own turns. noisy: {FLAGS['noisy'].rstrip('.')}"
    return Table(caption, columns, body, heads=1)


def _known(names: Sequence[str], rows: Rows, cases: Sequence[Case]) -> list[str]:
    return [name for name in names if any(rows[case.id][name] is not None for case in cases)]


def whole_nets(run: Run) -> list[Case]:
    """Return its Cases without the layers and parts of a profile."""
    return [case for case in run.cases if case.whole] or run.cases


def varying(run: Run) -> list[str]:
    """Return the axes in which rows differ, apart from pass, framework and its settings."""
    names = ("variant", "batch", "device", "precision", "size", "input", "threads")
    return [axis for axis in names if len({getattr(case, axis) for case in whole_nets(run)}) > 1]


def _names(axes: Iterable[str]) -> list[Column]:
    numeric = ("batch", "size", "threads")
    return [Column("pass"), Column("framework"), *(Column(axis, axis in numeric) for axis in axes)]


def _named(case: Case, axes: Iterable[str]) -> list[Cell]:
    color = COLORS.get(case.framework, OTHER)
    pass_, name = Cell(pass_title(case.pass_)), Cell(label_of(case), color=color)
    return [pass_, name, *(plain(getattr(case, axis) or None) for axis in axes)]
