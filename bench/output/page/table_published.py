"""Table of the numbered marks of the history chart, for readers who cannot see it."""

import functools

from bench.cases.passes import pass_title
from bench.output.plots import published
from bench.output.tables import Cell, Column, Table, measured

WORDS = ("net", "hardware", "library", "precision", "batch")
SOURCE = ("date", "source", "caveat")
CAPTION = (
    "Numbered marks of the chart above: the fastest per year, net, kind of processor and precision in either pass. "
    "Hardware, libraries and clocks differ: they decide nothing"
)


@functools.cache
def table() -> Table:
    """Return one row per number, with its speed in each pass."""
    marks = published.select_marks(published.read_timings())
    speeds = [f"{pass_title(pass_)} images/s" for pass_ in published.PUBLISHED_PASSES]
    columns = [Column("number", True)]
    columns += [Column(name, name == "batch", name in ("hardware", "library")) for name in WORDS]
    columns += [Column(name, True) for name in speeds]
    columns += [Column(name, long=name != "date", wide=name != "date") for name in SOURCE]
    body = []
    for number, both in marks[marks["number"].notna()].groupby("number"):
        row, value = both.iloc[0], int(str(number))
        texts = {**row[[*WORDS, *SOURCE]], "precision": row["precision"] or "not stated", "batch": f"{row['batch']:g}"}
        known = dict(zip(both["pass"], both["images_per_s"], strict=True))
        cells = [
            Cell(str(value), value),
            *(Cell(texts[name], row[name] if name == "batch" else None) for name in WORDS),
        ]
        cells += [measured(known[pass_]) if pass_ in known else Cell("") for pass_ in published.PUBLISHED_PASSES]
        body.append([*cells, *(Cell(texts[name]) for name in SOURCE)])
    return Table(CAPTION, columns, body)
