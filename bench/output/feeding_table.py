"""Table of loaders: what each delivers alone, and what it costs the training step; for terminal, Markdown and page."""

import dataclasses
from collections.abc import Iterator

from bench.cases.case import Case
from bench.cases.passes import STEP
from bench.output.console import number, percent
from bench.output.labels import counted, label_of
from bench.output.tables import Cell, Column, Table, measured
from bench.record.columns import Rows
from bench.record.events import Pictures
from bench.record.feeding import Feeding, feedings
from bench.record.run import Run
from bench.stats.descriptive import Interval

RATES = (
    Column("loader"),
    Column("workers", numeric=True),
    *(Column(f"{slot} images/s", numeric=True) for slot in ("load", "step", "fed")),
    Column("pixels off by (of 255)", numeric=True),
)
COSTS = (
    Column("loader"),
    Column("workers", numeric=True, narrow=True),
    Column("stall [95 %]", numeric=True),
    Column("hidden [95 %]", numeric=True),
    Column("limited by", narrow=True),
    Column("first batch ms", numeric=True, narrow=True),
    Column("CPU ms/image", numeric=True, narrow=True),
)


def tables(run: Run, rows: Rows) -> list[Table]:
    """Speeds and costs, one row per loader; none for a Run without."""
    found = feedings(run)
    if not found:
        return []
    return [
        Table("Loaders: alone, the step on a resident batch, and both", RATES, [_rates(each, rows) for each in found]),
        Table("What the step waits for them, and what they cost", COSTS, [_costs(each, rows) for each in found]),
    ]


def _rates(feeding: Feeding, rows: Rows) -> list[Cell]:
    speeds = [1000 * feeding.case.batch / ms for ms in (feeding.load_ms, feeding.step_ms, feeding.fed_ms)]
    return [*_named(feeding.case), *map(measured, [*speeds, rows[feeding.load.id]["pixel_error"]])]


def _costs(feeding: Feeding, rows: Rows) -> list[Cell]:
    """Of the loader alone is its CPU time."""
    hidden = share(feeding.hidden) if feeding.hidden_resolved else Cell("not resolved")
    bound = Cell("step" if feeding.bound == STEP.name else "loader")
    alone = rows[feeding.load.id]
    costs = (measured(alone[name]) for name in ("first_batch_ms", "cpu_ms_per_image"))
    return [*_named(feeding.case), share(feeding.stall), hidden, bound, *costs]


def _named(case: Case) -> list[Cell]:
    """Framework with its settings, and workers."""
    return [Cell(label_of(dataclasses.replace(case, loader=None))), Cell(str(case.loader), case.loader)]


def share(value: Interval) -> Cell:
    """A fraction in percent, with its interval."""
    if value.low is None or value.high is None:
        return Cell(f"{percent(value.center)} [needs 3 Rounds]", value.center)
    return Cell(f"{percent(value.center)} [{100 * value.low:.0f}, {100 * value.high:.0f}]", value.center)


def notes(run: Run) -> Iterator[str]:
    """How to read the table, which loaders limit their step, and what was loaded."""
    found = feedings(run)
    if not found or not run.head.pictures:
        return
    yield (
        "Stall: the share of a fed step in which it waits for its loader, 1 - step / fed; below 0 % fed was faster. "
        "Hidden: how much of the shorter of load and step costs nothing, 0 % if one follows the other; not resolved "
        "where its interval is wider than 100 %. A turn of a loader counts as one sample, the mean of its batches."
    )
    if any(feeding.case.device == "cpu" for feeding in found):
        yield "On a CPU loader and step share the cores, so little can be hidden; the CPU time per image is the cost."
    yield describe_pictures(run.head.pictures)


def describe_pictures(facts: Pictures) -> str:
    """What the loaders delivered."""
    where = f"of {facts.folder}" if facts.folder else "of drawn flowers"
    how = facts.preprocessing
    left_out = "".join(f"; left out: {counted(count, 'picture')} ({why})" for why, count in facts.left_out.items())
    return (
        f"Loaded: {counted(facts.count, 'picture')} {where}, median {number(facts.width)} x {number(facts.height)} "
        f"pixels, {number(facts.file_bytes / 1000)} kB per file, {how.name} preprocessing, the middle crop; from the "
        f"page cache, not from a cold disk{left_out}."
    )
