"""Tables of layers: the rows of each net, what frameworks reported of them, and the times of a profile."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import structs

from bench.output.tables import Cell, Column, Table, fraction, measured, plain, with_interval
from bench.record import layer_times
from bench.record.events import Layers
from bench.record.run import Run

Row = Mapping[str, Any]
REPORTED = ("height", "width", "channels", "params", "state")


def tables(run: Run) -> list[Table]:
    """Return one table per net, after one table of times per Worker and net for a profile."""
    rows = layer_times.layer_rows(run) if run.protocol.shared_workers else ()
    return [*map(_times, layer_times.by_worker(rows)), *_nets(run)]


def _nets(run: Run) -> Iterator[Table]:
    nets: dict[str, dict[str, dict[str, Row]]] = {}
    for row in (row for event in run.events_of(Layers) for row in event.rows):
        if "." not in row.variant:
            nets.setdefault(row.variant, {}).setdefault(row.layer, {})[row.framework] = structs.asdict(row)
    for variant, layers in nets.items():
        columns = [Column("layer"), Column("kind"), Column("output"), Column("params", True), Column("MACs", True)]
        body = []
        for layer, reports in layers.items():
            first = next(iter(reports.values()))
            cells = [Cell(layer), Cell(str(first["kind"])), Cell(_shape(first)), _count(first, "params")]
            body.append([*cells, _count(first, "macs"), Cell(_reported(reports))])
        names = ", ".join(dict.fromkeys(name for reports in layers.values() for name in reports))
        caption = f"{variant}: layers for one image, as counted here and as reported by {names}"
        yield Table(caption, [*columns, Column("reported", long=True)], body)


def _reported(reports: Mapping[str, Row]) -> str:
    """Return the differences that frameworks reported of a row."""
    differences = [
        f"{name}: {what} {value}"
        for name, row in reports.items()
        for what in REPORTED
        if (value := row.get(f"reported_{what}")) is not None and value != row.get(what)
    ]
    return ", ".join(differences) or "the same"


def _times(rows: Sequence[layer_times.Row]) -> Table:
    """Table of one Worker's rows of a net, passes side by side, then their sum and the whole net."""
    first = rows[0]
    columns, users = [Column("module" if first["net"] else "layer"), Column("output")], bool(first["net"])
    timed = layer_times.timed_per_layer(row["pass"] for row in rows)
    for each in timed:
        names = (f"{each.title} ms [95 %]", "share", *(() if users else ("GFLOP/s", "of roof")))
        columns += [*(Column(name, True) for name in names), *(() if users else (Column("bound by"),))]
    body = []
    for layer, passes in layer_times.by_layer(rows).items():
        cells = [cell for each in timed for cell in _pass_cells(passes.get(each.name, {}))[: 2 if users else None]]
        about = next(iter(passes.values()))
        calls = f" ({about['calls']} calls)" if about.get("calls", 1) > 1 else ""
        body.append([Cell(layer + calls), Cell(_shape(about)), *cells])
    what = f"{first['net']}, input {first['input']}" if users else first["variant"]
    net = f"{what}, batch {first['batch']}, {first['device']}, {first['precision']}"
    return Table(f"{net}: {first['framework']} {first['mode']}, {first['layout']}, layer by layer", columns, body)


def _pass_cells(row: Row) -> list[Cell]:
    if not row:
        return [Cell("")] * 5
    time = with_interval(*(row.get(name) for name in ("center_ms", "ci95_low_ms", "ci95_high_ms")))
    share, roof = (fraction(row.get(name)) for name in ("share_of_sum", "of_attainable"))
    return [time, share, measured(row.get("gflop_per_s")), roof, plain(row.get("bound"))]


def _shape(row: Row) -> str:
    sides = [row.get(side) for side in ("height", "width", "channels")]
    return "" if None in sides else " × ".join(map(str, sides))


def _count(row: Row, what: str) -> Cell:
    value = row.get(what)
    return Cell(f"{value:,}", value) if isinstance(value, int | float) else Cell("")
