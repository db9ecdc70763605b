"""Tables of a profile: the layers of a net, or the modules of a user's model, next to the whole."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.cases.case import LRNS
from bench.cases.layer_table import format_shape
from bench.cases.passes import Timed
from bench.output import console, run_notes
from bench.output.results_table import interval_text
from bench.record import layer_times
from bench.record.layer_times import SUM
from bench.record.run import Run
from bench.stats import descriptive

PASSES_PER_TABLE = 2  # in 100 characters
#: The sum of the layers over the whole net, within which no remark is printed.
AGREES = (0.9, 1.1)
Row = Mapping[str, Any]


def _millions(name: str, mark: str = "") -> Callable[[Row], str]:
    return lambda row: f"{row[name] / 1e6:.4g}{mark}" if row.get(name) else ""


def _share(name: str) -> Callable[[Row], str]:
    return lambda row: console.percent(row.get(name))


def _output(row: Row) -> str:
    return format_shape(row).replace(" ", "") if "height" in row else ""


#: Columns by heading: of a layer of ours or of a module, and of each of its passes.
LAYER = {"output": _output, "params": _millions("params", "M"), "MMACs": _millions("macs")}
OF_LAYER = {
    "GFLOP\n/s": lambda row: f"{row['gflop_per_s']:.3g}" if row.get("gflop_per_s") else "",
    "of\npeak": _share("peak_fraction"),
    "of\nroof": _share("of_attainable"),
}
MODULE = {
    "kind": lambda row: row.get("kind", ""),
    "calls": lambda row: str(row["calls"]) if row.get("calls", 1) > 1 else "",
    "output": _output,
    "params": lambda row: f"{row['params']:,}" if row.get("params") else "",
}
OF_MODULE = {"share": _share("share_of_sum")}


def tables(made: Run, rows: Sequence[layer_times.Row]) -> None:
    """One table per Worker and two passes, one row per layer."""
    out = console.console()
    for worker_rows in layer_times.by_worker(rows):
        timed = layer_times.timed_per_layer(row["pass"] for row in worker_rows)
        for at in range(0, len(timed), PASSES_PER_TABLE):
            out.print(table(worker_rows, timed[at : at + PASSES_PER_TABLE]))
        for row in (row for row in worker_rows if row.get("sum_over_whole")):
            out.print(f"  {_together(row)}", soft_wrap=True)
    for sentence in run_notes.ceilings(made):
        out.print(sentence, soft_wrap=True)
    for guest in made.head.guests:
        if guest.modules:
            out.print(f"{run_notes.modules(guest.label, guest.modules)}.", soft_wrap=True)
    if not any(row.get("flop") for row in rows):
        return
    note = (
        "of peak: multiply-adds per second over the peak (GFLOP/s count light layers too). of roof: the least time in "
        "which the layer's work could be computed and its data moved, over the time it took."
    )
    out.print(note, soft_wrap=True)


def _together(row: Row) -> str:
    """The sum of the layers over the whole net."""
    what, own = ("modules", "what is no module, ") if row["net"] else ("layers", "")
    low, high = row["sum_over_whole_low"], row["sum_over_whole_high"]
    value = interval_text(descriptive.Interval(row["sum_over_whole"], low, high))
    text = f"{row['pass']}: the {what} together take {value} of the whole net's time"
    if AGREES[0] <= row["sum_over_whole"] <= AGREES[1]:
        return text
    return f"{text}; more than 10 % apart: {own}other fusion or dispatch, or noise"


def table(rows: Sequence[layer_times.Row], timed: Sequence[Timed]) -> Table:
    """The layers of one Worker and net, or the modules of a user's model, in these passes and differences."""
    first = rows[0]
    lrn = f", LRN {first['lrn']}" if first["lrn"] != LRNS[0] else ""
    who = f"{first['framework']} {first['mode']} ({first['layout']}{lrn})"
    where = f"{first['device']}, {first['precision']}"
    net = f"{first['net']}, input {first['input']}" if first["net"] else first["variant"]
    grid = console.new_table(f"{net}, batch {first['batch']}, {where}, {who}")
    grid.add_column("module" if first["net"] else "layer", no_wrap=not first["net"], overflow="fold")
    columns, of_pass = (MODULE, OF_MODULE) if first["net"] else (LAYER, OF_LAYER)
    columns = {name: text for name, text in columns.items() if name != "calls" or any(map(text, rows))}
    for heading in (*columns, *(heading for each in timed for heading in (f"{each.title}\nms", *of_pass))):
        grid.add_column(heading, justify="right", no_wrap=True)
    for layer, passes in layer_times.by_layer(rows).items():
        if layer == SUM:
            grid.add_section()
        about = [text(next(iter(passes.values()))) for text in columns.values()]
        cells = [cell for each in timed for cell in _cells(passes.get(each.name, {}), of_pass)]
        grid.add_row("sum of modules" if layer == SUM and first["net"] else layer, *about, *cells)
    return grid


def _cells(row: Row, of_pass: Mapping[str, Callable[[Row], str]]) -> list[str]:
    if not row:
        return [""] * (1 + len(of_pass))
    return [console.number(row["center_ms"]), *(text(row) for text in of_pass.values())]
