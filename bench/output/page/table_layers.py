"""Tables of layers: what each row of a net is, what frameworks reported of it, and of a profile how long it took."""

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
    """Of a profile a table of times for each Worker and net first; then a table for each net."""
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
        for layer, theirs in layers.items():
            first = next(iter(theirs.values()))
            cells = [Cell(layer), Cell(str(first["kind"])), Cell(_shape(first)), _count(first, "params")]
            body.append([*cells, _count(first, "macs"), Cell(_reported(theirs))])
        names = ", ".join(dict.fromkeys(name for theirs in layers.values() for name in theirs))
        caption = f"{variant}: what one image goes through, as counted here, and what {names} reported"
        yield Table(caption, [*columns, Column("reported", long=True)], body)


def _reported(theirs: Mapping[str, Row]) -> str:
    """What frameworks said of a row: the same, or what else."""
    unlike = [
        f"{name}: {what} {said}"
        for name, row in theirs.items()
        for what in REPORTED
        if (said := row.get(f"reported_{what}")) is not None and said != row.get(what)
    ]
    return ", ".join(unlike) or "the same"


def _times(rows: Sequence[layer_times.Row]) -> Table:
    """One Worker's rows of a net, its passes side by side, then their sum and the whole net."""
    columns = [Column("layer"), Column("output")]
    shown = layer_times.timed_per_layer(row["pass"] for row in rows)
    for each in shown:
        names = (f"{each.title} ms [95 %]", "share", "GFLOP/s", "of roof")
        columns += [*(Column(name, True) for name in names), Column("bound by")]
    body = []
    for layer, passes in layer_times.by_layer(rows).items():
        cells = [cell for each in shown for cell in _of_pass(passes.get(each.name, {}))]
        body.append([Cell(layer), Cell(_shape(next(iter(passes.values())))), *cells])
    first = rows[0]
    net = f"{first['variant']}, batch {first['batch']}, {first['device']}, {first['precision']}"
    return Table(f"{net}: {first['framework']} {first['mode']}, {first['layout']}, row by row", columns, body)


def _of_pass(row: Row) -> list[Cell]:
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
