"""Series: every iteration in the order taken, burn-in and turns."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench import UsageError
from bench.cases.passes import pass_title
from bench.output import console
from bench.output.plots import distribution, frames, style

MOST_BANDS = 100  # Rounds, up to which a line stands where each begins
BURNING = 2.0  # where burn-in is shown, at least so many times the highest p95
PAUSE = 0.005  # of all time in iterations: what is left on the axis of a longer pause
LINES = (("-", ":"), ("--", "-."))  # not compiled and compiled, as drawing's markers


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.whole_nets(frames.samples(paths)), target)


def draw(rows: pd.DataFrame, target: Path) -> Figure:
    """Every iteration of a Run in the order taken, in ms: one panel a pass, and one of a single Round and its turns.

    ``rows`` are as ``frames.samples`` gives them; UsageError where they are of several Runs, which have no clock in
    common, or where none has a duration. Pauses are cut short. Without start times, x is the iteration's number.
    """
    runs = list(map(str, rows["run_id"].unique())) if "run_id" in rows else []
    if len(runs) > 1:
        some = ", ".join(runs[:3]) + ", ..." * (len(runs) > 3)
        raise UsageError(f"series: expected one Run, found {len(runs)} ({some}): draw each by itself")
    rows, looks, left_out = distribution.prepare(rows)
    if rows.empty:
        raise UsageError(distribution.describe_nothing("a row with a duration_ns above 0", rows, left_out))
    rows, axis = _placed(rows)
    bands = _bands(rows)
    panes = [(pass_title(str(pass_)), here) for pass_, here in rows.groupby("pass", sort=False)]
    heights = [2.0] * len(panes) + [2.6] * (len(bands) > 1)
    with style.figure(8.0, 1.4 + sum(heights) + 0.3 * len(heights), target) as figure:
        panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights).flatten()
        for number, (panel, (title, here)) in enumerate(zip(panels, panes, strict=False)):
            _iterations(panel, here, looks, title, distribution.dot_size(len(here)), pad=6 if number else 18)
            _medians(panel, here, looks)
            _banded(panel, rows)
            _bounded(panel, bands, labels=not number)
            panel.tick_params(labelbottom=number == len(panes) - 1)
        if len(bands) > 1:
            alone = rows[rows["band"] == _alone(rows)]
            title = f"{bands['label'][_alone(rows)]} alone, turn by turn"
            _iterations(panels[-1], alone, looks, title, 1.4 * distribution.dot_size(len(alone)))
            _banded(panels[-1], alone)
        panels[len(panels) // 2].set_ylabel("ms (less is faster)")
        panels[-1].set_xlabel(distribution.label_axis(axis, left_out))
        handles = dict(_legend(rows, looks))
        style.legend(figure, list(handles.values()), list(handles))
        figure.suptitle(distribution.title(rows), fontsize=12)
    return figure


def _placed(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Rows in the order taken, with their ``x``, the ``band`` of their Round and their ``turn``, both from 0; and what
    x is: s since the first one, without most of the pauses."""
    starts = rows["start_ns"]
    if starts.isna().any() or starts.nunique() < 2:
        why = "not every row has a start_ns" if starts.isna().any() else "all rows have one start_ns"
        x, axis = np.arange(1.0, len(rows) + 1), f"iteration, as they stand in the table: {why}"
    else:
        back = starts.diff() < 0
        if (back & rows.duplicated(["round", "attempt"])).any():  # else a Run went on after a restart, with a new clock
            rows = rows.sort_values("start_ns", kind="stable")
        x, axis = _elapsed(rows)
    band = pd.Series(_number(rows["round"], rows["attempt"]), rows.index)
    leads = rows["phase"] == "lead"
    begun = (leads & ~leads.shift(fill_value=False)).cumsum()
    turn = _number(band, rows["case_id"], rows["cycle"], rows["phase"] == "burn_in", begun)
    return rows.assign(x=x, band=band, turn=turn), axis


def _elapsed(rows: pd.DataFrame) -> tuple[np.ndarray, str]:
    lasted = rows["ms"].to_numpy()[:-1] / 1e3
    steps = np.diff(rows["start_ns"].to_numpy()) / 1e9
    short = PAUSE * lasted.sum()
    cut = (steps < 0) | (steps > lasted + short)
    pauses = round((steps - lasted - short)[cut & (steps > 0)].sum(), 1)
    x = np.concatenate([[0.0], np.cumsum(np.where(cut, lasted + short, steps))])
    return x, "s since the first iteration" + (f", without {console.number(pauses)} s of pauses" if pauses else "")


def _number(*columns: pd.Series) -> np.ndarray:
    """Which stretch of rows that are alike in these columns each row is in, from 0."""
    changes = [(column != column.shift()).to_numpy() for column in columns]
    return np.logical_or.reduce(changes).cumsum() - 1


def _bands(rows: pd.DataFrame) -> pd.DataFrame:
    """The Rounds in the order taken: what each is called, its first and its last x."""
    bands = rows.groupby("band").agg({"round": "first", "attempt": "first", "x": ["min", "max"]})
    bands.columns = pd.Index(["round", "attempt", "left", "right"])
    again = np.where(bands["attempt"] > 0, " again", "")
    return bands.assign(label="Round " + (bands["round"] + 1).astype(str) + again)[["label", "left", "right"]]


def _alone(rows: pd.DataFrame) -> int:
    """The band of the first Round that has valid samples, or that there is."""
    counted = rows["band"][rows["counts"]]
    return int(counted.iloc[0]) if len(counted) else 0


def _iterations(
    panel: Any, rows: pd.DataFrame, looks: Sequence[style.Series], title: str, size: float, pad: int = 6
) -> None:
    """A dot an iteration, a line through those of one turn; what is beyond the axis stands at its end."""
    reach = distribution.scale_axis(panel.set_yscale, panel.yaxis, rows, BURNING)
    for one in looks:
        mine = rows[rows["series"] == one.name]
        x, y, far = mine["x"].to_numpy(), mine["ms"].clip(upper=reach).to_numpy(), (mine["ms"] > reach).to_numpy()
        if len(rows) <= distribution.MANY:
            ends = np.flatnonzero(np.diff(mine["turn"])) + 1
            panel.plot(
                np.insert(x, ends, np.nan), np.insert(y, ends, np.nan), color=one.color, linewidth=0.7, alpha=0.6
            )
        for kind, look in _kinds(one, size).items():
            chosen = (mine["kind"] == kind).to_numpy() & ~far
            panel.plot(x[chosen], y[chosen], linestyle="", rasterized=len(rows) > distribution.MANY, **look)
        if far.any():
            panel.plot(x[far], y[far], marker="^", linestyle="", color=one.color, markersize=5, clip_on=False)
    panel.set_title(title, loc="left", fontsize=11, pad=pad)
    if (rows["ms"] > reach).any():
        text = distribution.describe_beyond(rows["ms"], reach)
        panel.set_title(text, loc="right", fontsize=9, color=style.FAINT, pad=pad)
        panel.set_ylim(top=reach)
    style.grid(panel)


def _kinds(one: style.Series, size: float) -> dict[str, dict[str, Any]]:
    """How the iterations of a series are drawn, in the order they are painted."""
    plain = {"color": one.color, "marker": one.marker, "markersize": size}
    return {
        distribution.PHASES["burn_in"]: plain
        | {"markerfacecolor": "none", "markeredgewidth": min(0.8, size / 3), "alpha": 0.7},
        distribution.PHASES["lead"]: plain | {"markersize": size * 0.6, "markeredgewidth": 0, "alpha": 0.5},
        distribution.PHASES["sample"]: plain | {"markeredgewidth": 0, "alpha": 0.8 if size > 2 else 0.5},
        distribution.INVALID: plain | {"marker": "x", "markersize": max(size, 3), "markeredgewidth": 0.8},
    }


def _medians(panel: Any, rows: pd.DataFrame, looks: Sequence[style.Series]) -> None:
    """A line at the median of each Round's valid samples."""
    for one in looks:
        mine = rows[rows["counts"] & (rows["series"] == one.name)]
        of = mine.groupby("band").agg(median=("ms", "median"), left=("x", "min"), right=("x", "max"))
        for color, width, line in ((style.PAPER, 3.2, "-"), (one.color, 1.6, _line(one))):
            look = {"color": color, "linewidth": width, "linestyle": line}
            panel.hlines(of["median"], of["left"], of["right"], zorder=3, **look)


def _line(one: style.Series) -> Any:
    return LINES[one.compiled][one.number % 2]


def _banded(panel: Any, rows: pd.DataFrame) -> None:
    """Burn-in on grey."""
    burning = rows["phase"] == "burn_in"
    spans = rows[burning].groupby(_number(burning, rows["band"])[burning.to_numpy()])["x"].agg(["min", "max"])
    places = list(zip(spans["min"], spans["max"] - spans["min"], strict=True))
    panel.broken_barh(places, (0, 1), transform=panel.get_xaxis_transform(), color=style.SHADE, zorder=0)
    first, last = rows["x"].min(), rows["x"].max()
    room = 0.01 * (last - first) or 1.0
    panel.set_xlim(first - room, last + room)


def _bounded(panel: Any, bands: pd.DataFrame, labels: bool) -> None:
    """A line where each Round begins, and its label above it where there is room."""
    across = panel.get_xaxis_transform()
    if len(bands) <= MOST_BANDS:
        panel.vlines(bands["left"], 0, 1, color=style.FAINT, linewidth=0.5, alpha=0.6, transform=across, zorder=0)
    whole = bands["right"].max() - bands["left"].min()
    free = -np.inf
    for label, left, right in bands.itertuples(index=False) if labels else ():
        middle, half = (left + right) / 2, len(label) * 0.006 * whole
        if middle - half >= free:
            look = {"fontsize": 9, "color": style.FAINT, "ha": "center", "va": "bottom"}
            panel.text(middle, 1.02, label, transform=across, **look)
            free = middle + half


def _legend(rows: pd.DataFrame, looks: Sequence[style.Series]) -> Iterator[tuple[str, Line2D]]:
    for one in looks:
        yield one.name, Line2D([], [], color=one.color, marker=one.marker, linestyle=_line(one), linewidth=1.6)
    for kind, look in _kinds(style.Series("", "", False, 0), 5.0).items():
        if kind != distribution.PHASES["sample"] and (rows["kind"] == kind).any():
            yield kind, Line2D([], [], linestyle="", **look)
    if rows["counts"].any():
        yield "median of a Round", Line2D([], [], color=style.OTHER, linewidth=1.6)
