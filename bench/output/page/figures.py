"""Figures: the plots of a Run as they stand in a page, each with its name and how it is read."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from bench import UsageError
from bench.output.console import number
from bench.output.page import svg
from bench.output.page.table import Rows, whole_nets
from bench.output.plots import kinds
from bench.output.run_table import words
from bench.record import csvfile, layer_times
from bench.record.columns import names
from bench.record.run import Run
from impls import PEERS

#: What a plot is called, and how it is read; in the order of a page.
CAPTIONS = {
    "times": (
        "Times",
        "Bar: the mean of a case; shorter is faster. Whisker: ± one standard deviation of its samples, how they "
        "scatter. Diamond: the centre of its Rounds and its 95 % interval, how sure it is.",
    ),
    "distribution": (
        "Distribution",
        "Every sample of a case in a strip, a lane a Round with a tick at its median; below the lanes quartiles and "
        "p95 of them all. Rounds that lie apart from each other say that the machine changed, not the net.",
    ),
    "series": (
        "Series",
        "Every iteration in the order it was taken, burn-in on grey, and one Round with its turns. A steady case is a "
        "level band; a slope is warming or slowing, a step that all cases share is the machine’s.",
    ),
    "throughput": (
        "Throughput",
        "Images a second against the batch, and the share of what the device does at best. Where a line goes flat, a "
        "larger batch gains nothing.",
    ),
    "roofline": (
        "Roofline",
        "Each point is a pass: how much it computes for each byte it must move, and how fast. The line above is what "
        "this machine does at best, measured in this Run; the nearer a point is to it, the less there is to gain.",
    ),
    "layers": (
        "Layers by time",
        "Each segment is a row of the net, timed as a net of its own; the outline below is the whole net. Where the "
        "two differ in length, it is fusion, or noise.",
    ),
    "history": (
        "A decade",
        "Published timings of such nets since 2014, and this Run’s where it timed the same. Hardware, libraries and "
        "clocks differ: this shows a decade, and decides nothing. Sources and caveats stand below the marks.",
    ),
}
MOST = 8  # values that are read out
MANY = 20_000  # samples from which a second process pays


@dataclass(frozen=True)
class Figure:
    """``markup`` is empty, and ``why`` a sentence, where it was not drawn; ``width`` is its natural one, CSS pixels."""

    kind: str
    name: str
    caption: str
    markup: str = ""
    width: float = 0.0
    why: str = ""


def of(run: Run, rows: Rows, prefix: str) -> list[Figure]:
    """Every kind of plot, drawn from tables that are derived here: the Run's folder stays as it is.

    ``prefix`` makes the ids of these plots their own in the page.
    """
    without = dict(_pointless(run))
    chosen = [kind for kind in CAPTIONS if kind in kinds.KINDS and kind not in without]
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        draw = functools.partial(_figure, _derived(run, Path(scratch)), prefix, _spoken(run, rows))
        if not _may_fork() or sum(row["iterations"] for row in rows.values()) < MANY:
            drawn = [draw(kind) for kind in chosen]
        else:
            with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
                drawn = list(pool.map(draw, chosen))
    return [*drawn, *(Figure(kind, CAPTIONS[kind][0], "", why=why) for kind, why in without.items())]


def _may_fork() -> bool:
    """Not where a thread runs, a framework's own too, whose lock a fork would copy."""
    frameworks = any(it.package in sys.modules for it in PEERS.values())
    return sys.platform == "linux" and threading.active_count() == 1 and not frameworks


def _pointless(run: Run) -> Iterator[tuple[str, str]]:
    """Plots that would show nothing of this Run, and why."""
    if len({case.batch for case in run.cases}) < 2:
        yield "throughput", "there is one batch; `alexnet-bench run --batch 8,32,128` measures several"
    if not run.protocol.shared_workers:
        yield "layers", "this Run is no profile; `alexnet-bench profile` times the rows of a net one by one"


def _figure(folder: Path, prefix: str, said: str, kind: str) -> Figure:
    """One plot of the Run that lies in a folder, or why there is none."""
    name, caption = CAPTIONS[kind]
    target = folder / f"{kind}.svg"
    try:
        with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of letters that matplotlib's font lacks; the page has others
            kinds.KINDS[kind]([folder], target)
        markup, width = svg.inline(target, f"{prefix}-{kind}", f"{name}. {said}")
    except UsageError as error:
        why = str(error).replace(str(folder), folder.name).removeprefix("nothing to draw: ").rstrip(".")
        return Figure(kind, name, caption, why=why)
    except ValueError as error:
        if type(error.__context__).__module__.partition(".")[0] != "pyparsing":  # what matplotlib reads formulas with
            raise
        return Figure(kind, name, caption, why="a text in it looks like a formula, and is none")
    return Figure(kind, name, caption, markup, width)


def _derived(run: Run, scratch: Path) -> Path:
    """A folder of the same name with the Run's tables, which are all that a plot reads."""
    folder = scratch / run.folder.resolve().name
    folder.mkdir()
    there = copy.copy(run)
    there.folder = folder
    there.write()
    if run.protocol.shared_workers:
        csvfile.write(folder / "profile.csv", names(layer_times.COLUMNS), layer_times.of(run))
    return folder


def _spoken(run: Run, rows: Rows) -> str:
    """What is read out in place of a plot: the figures behind it."""
    valid = [case for case in whole_nets(run) if rows[case.id]["valid"]]
    said = [
        f"{words(case)} {case.pass_.replace('_', ' + ')} {number(rows[case.id]['mean_ms'])} ms" for case in valid[:MOST]
    ]
    more = f"; and {len(valid) - MOST} more" if len(valid) > MOST else ""
    return f"Mean times: {'; '.join(said)}{more}. The table of results has them all."
