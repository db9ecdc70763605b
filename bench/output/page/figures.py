"""Figures of the report: the plots of a Run as inline SVG, with titles and captions."""

from __future__ import annotations

import copy
import functools
import gc
import multiprocessing
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from bench import UsageError
from bench.cases.passes import pass_title
from bench.output.console import number
from bench.output.labels import label_of, some_of
from bench.output.page import svg
from bench.output.page.table import whole_nets
from bench.output.plots import kinds
from bench.output.plots.kinds import PROFILE, Kind
from bench.record import csvfile, layer_times
from bench.record.columns import Rows, names
from bench.record.run import Run
from impls import PEERS


@dataclass(frozen=True)
class Figure:
    """A plot in the page. ``width`` is in CSS pixels; if not drawn, ``markup`` is empty and ``why`` is set."""

    kind: Kind
    markup: str = ""
    width: float = 0.0
    why: str = ""


def draw_figures(run: Run, rows: Rows, prefix: str) -> list[Figure]:
    """Draw every kind of plot from tables derived in a temporary folder; the Run's folder is not changed.

    ``prefix`` makes the ids of these plots unique in the page. Figures that were not drawn come last.
    """
    reasons = {kind: kind.why_not([*rows.values()], run.protocol.shared_workers) for kind in kinds.KINDS.values()}
    chosen = [kind for kind, reason in reasons.items() if not reason]
    for kind in chosen:
        kind.load()  # once, and not in each process below
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        draw = functools.partial(_figure, _derived(run, Path(scratch)), prefix, _describe_times(run, rows))
        if not may_fork():
            drawn = [draw(kind) for kind in chosen]
        else:  # two processes: of 300 samples too, drawing takes as long as all the rest
            fork = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(2, fork, initializer=gc.disable) as pool:  # they end before garbage matters
                drawn = list(pool.map(draw, chosen))
    return [*drawn, *(Figure(kind, why=why) for kind, why in reasons.items() if why)]


def may_fork() -> bool:
    """False if a thread runs, also one of a framework: a fork would copy its locks."""
    frameworks = any(peer.package in sys.modules for peer in PEERS.values())
    return sys.platform == "linux" and threading.active_count() == 1 and not frameworks


def _figure(folder: Path, prefix: str, text: str, kind: Kind) -> Figure:
    """Draw one plot of the Run in a folder; ``text`` is its text alternative."""
    target = folder / f"{kind.name}.svg"
    try:
        with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing glyphs: the page uses its own font
            kind.draw([folder], target)
        markup, width = svg.inline(target, f"{prefix}-{kind.name}", f"{kind.title}. {text}")
    except UsageError as error:
        why = str(error).replace(str(folder), folder.name).removeprefix("nothing to draw: ").rstrip(".")
        return Figure(kind, why=why)
    return Figure(kind, markup, width)


def _derived(run: Run, scratch: Path) -> Path:
    """Write the Run's tables, all that a plot reads, to a folder of the same name."""
    folder = scratch / run.folder.resolve().name
    folder.mkdir()
    there = copy.copy(run)
    there.folder = folder
    there.write()
    if run.protocol.shared_workers:
        csvfile.write(folder / PROFILE, names(layer_times.COLUMNS), layer_times.layer_rows(run))
    return folder


def _describe_times(run: Run, rows: Rows) -> str:
    """Text alternative of the plots: the mean times."""
    valid = [case for case in whole_nets(run) if rows[case.id]["valid"]]
    times = (f"{label_of(case)} {pass_title(case.pass_)} {number(rows[case.id]['mean_ms'])} ms" for case in valid)
    return f"Mean times: {some_of(times)}. The table of results has them all."
