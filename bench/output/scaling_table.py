"""Tables of scaling: what more devices give, and where the rest goes; for terminal, Markdown and page."""

import dataclasses
from collections.abc import Iterator

from bench.cases.case import Case
from bench.output.console import number, percent
from bench.output.feeding_table import share
from bench.output.labels import label_of
from bench.output.tables import Cell, Column, Table, measured, with_interval
from bench.record.columns import Rows
from bench.record.run import Run
from bench.record.scaling import Scaling, alone_of, scalings, sent_bytes, shares_cores
from bench.stats.descriptive import Interval
from bench.stats.projection import VALUE_BYTES
from impls.splits import DATA, HYBRID, TOWERS

GAINS = (
    Column("pass"),
    Column("framework"),
    Column("devices", numeric=True, narrow=True),
    Column("images/s", numeric=True),
    Column("on one device", numeric=True, narrow=True),
    Column("efficiency [95 %]", numeric=True),
    Column("MB sent", numeric=True, narrow=True),
)
COSTS = (
    Column("framework"),
    Column("devices", numeric=True, narrow=True),
    Column("interference", numeric=True),
    Column("communication", numeric=True),
    Column("exposed ms", numeric=True),
    Column("all-reduce ms", numeric=True, narrow=True),
    Column("bus GB/s", numeric=True, narrow=True),
    Column("hidden", numeric=True, narrow=True),
)
SHARED = {
    TOWERS: "each device has a part of the filters and units of every row, for the images of all.",
    HYBRID: "each device has all convolutions, for its own images, and a part of the units of every dense row, for the "
    "images of all.",
}
NO_WITNESS = "Without what it exchanges it computes nothing, so interference and communication are not told apart."
SLOW = 0.02  # a rank above the mean by less is not named


def tables(run: Run, rows: Rows) -> list[Table]:
    """Images/s with the efficiency, and what it is made of; none for a Run of single devices."""
    found = scalings(run)
    if not found:
        return []
    made = [
        Table(
            "Images/s of all devices, and the efficiency",
            GAINS,
            [_gain(each, rows) for each in found],
            heads=1,
            grouped=True,
        )
    ]
    if split := [each for each in found if each.communication]:
        title = "Where forward_backward spends it, with 95 % intervals: efficiency = interference x communication"
        made.append(Table(title, COSTS, [_cost(each) for each in split]))
    return made


def _gain(scaling: Scaling, rows: Rows) -> list[Cell]:
    case = scaling.case
    speeds = (rows[each.id]["images_per_s"] for each in (case, alone_of(case)))
    efficiency = Cell("") if scaling.efficiency is None else share(scaling.efficiency)
    size = sent_bytes(case)
    sent = Cell("") if size is None else Cell(number(size / 1e6), size / 1e6)
    return [Cell(case.pass_), *_named(case), *map(measured, speeds), efficiency, sent]


def _cost(scaling: Scaling) -> list[Cell]:
    exposed, hidden = scaling.exposed_ms, scaling.hidden
    shown = with_interval(exposed.center, exposed.low, exposed.high) if exposed else Cell("")
    return [
        *_named(scaling.case),
        *map(_share, (scaling.interference, scaling.communication)),
        shown if scaling.exposed_resolved else Cell(""),
        measured(scaling.all_reduce_ms),
        measured(scaling.bus_gb_per_s),
        _center(hidden) if hidden and scaling.hidden_resolved else Cell(""),
    ]


def _share(value: Interval | None) -> Cell:
    """With its interval where there is one: there are too few Rounds for all of them or for none."""
    if value is None:
        return Cell("")
    return _center(value) if value.low is None else share(value)


def _center(value: Interval) -> Cell:
    return Cell(percent(value.center), value.center)


def _named(case: Case) -> list[Cell]:
    """Framework with its settings, and devices."""
    return [Cell(label_of(dataclasses.replace(case, world=1))), Cell(str(case.world), case.world)]


def notes(run: Run) -> Iterator[str]:
    """How to read the tables, and which rank is slow."""
    found = scalings(run)
    if not found:
        return
    strong = any(each.case.strong for each in found)
    batch = "the batch is that of all devices" if strong else "the batch is that of each device"
    yield f"Efficiency: time on one device of this Run over that on all, for the same images; {batch}."
    if shares_cores(run):
        yield "Several devices share a core, so there is no efficiency: what it would show is the sharing."
    if any(each.communication for each in found):
        yield (
            "Interference: one device over all at once without reduction (apart). Communication: apart over the pass "
            "with it. Exposed: the pass less apart. Hidden: 1 - exposed / all-reduce alone, below 0 % where reducing "
            "costs more inside the pass, empty where not resolved. Bus: 2 (W - 1) / W times the bytes over the "
            "time, as nccl-tests has it."
        )
    for each in found:
        if (slow := each.slowest) and slow.behind > SLOW:
            yield (
                f"{label_of(each.case)}: rank {slow.rank} is the slowest without reduction, {percent(slow.behind)} "
                f"above the mean of all, last in {percent(slow.share)} of the iterations."
            )
    yield "MB sent: by each device per iteration, counted from the layers, with values of float32."
    sizes = sorted({VALUE_BYTES * each.case.net.params / 1e6 for each in found if each.case.split == DATA})
    if sizes:
        which = "" if all(each.case.split == DATA for each in found) else " where each has the whole net"
        yield f"Each reduction sums {' or '.join(map(number, sizes))} MB of gradients over all devices{which}."
    for split in dict.fromkeys(each.case.split for each in found):
        if split in SHARED:
            yield f"{split}: {SHARED[split]} {NO_WITNESS}"
