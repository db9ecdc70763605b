"""Series plot: every iteration in the order taken, with burn-in and turns."""

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

MOST_BANDS = 100  # Rounds; with more, no lines between them
BURNING = 2.0  # shortest axis, as a multiple of the highest p95
PAUSE = 0.005  # longest pause on the axis, as a share of the time in iterations
LINES = (("-", ":"), ("--", "-."))  # not compiled, compiled; like style.MARKERS


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.whole_nets(frames.samples(paths)), target)


def draw(rows: pd.DataFrame, target: Path) -> Figure:
    """Draw every iteration of a Run in the order taken, in ms: one panel per pass, and one with the turns of one Round.

    ``rows`` come from ``frames.samples``. Pauses are shortened; without start times, x is the iteration's number.
    Raises UsageError for several Runs, which have no common clock, or if no row has a duration.
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
        figure.suptitle(style.title(rows, "samples", distribution.TITLE), fontsize=12)
    return figure


def _placed(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Sort rows in the order taken and add ``x``, ``band`` (Round) and ``turn``, both from 0; return them with the
    label of the x axis."""
    starts = rows["start_ns"]
    if starts.isna().any() or starts.nunique() < 2:
        why = "not every row has a start_ns" if starts.isna().any() else "all rows have one start_ns"
        x, axis = np.arange(1.0, len(rows) + 1), f"iteration, in the order of the table: {why}"
    else:
        back = starts.diff() < 0
        if (
            back & rows.duplicated(["round", "attempt"])
        ).any():  # else the machine restarted, with a new clock, before --resume
            rows = rows.sort_values("start_ns", kind="stable")
        x, axis = _elapsed(rows)
    band = pd.Series(_stretch_index(rows["round"], rows["attempt"]), rows.index)
    leads = rows["phase"] == "lead"
    begun = (leads & ~leads.shift(fill_value=False)).cumsum()
    turn = _stretch_index(band, rows["case_id"], rows["cycle"], rows["phase"] == "burn_in", begun)
    return rows.assign(x=x, band=band, turn=turn), axis


def _elapsed(rows: pd.DataFrame) -> tuple[np.ndarray, str]:
    lasted = rows["ms"].to_numpy()[:-1] / 1e3
    steps = np.diff(rows["start_ns"].to_numpy()) / 1e9
    short = PAUSE * lasted.sum()
    cut = (steps < 0) | (steps > lasted + short)
    pauses = round((steps - lasted - short)[cut & (steps > 0)].sum(), 1)
    x = np.concatenate([[0.0], np.cumsum(np.where(cut, lasted + short, steps))])
    return x, "s since the first iteration" + (f", without {console.number(pauses)} s of pauses" if pauses else "")


def _stretch_index(*columns: pd.Series) -> np.ndarray:
    """Number the stretches of rows with equal values in these columns, from 0."""
    changes = [(column != column.shift()).to_numpy() for column in columns]
    return np.logical_or.reduce(changes).cumsum() - 1


def _bands(rows: pd.DataFrame) -> pd.DataFrame:
    """Return label, first and last x of the Rounds in the order taken."""
    bands = rows.groupby("band").agg({"round": "first", "attempt": "first", "x": ["min", "max"]})
    bands.columns = pd.Index(["round", "attempt", "left", "right"])
    again = np.where(bands["attempt"] > 0, " again", "")
    return bands.assign(label="Round " + (bands["round"] + 1).astype(str) + again)[["label", "left", "right"]]


def _alone(rows: pd.DataFrame) -> int:
    """Return the band of the first Round with valid samples, else of the first Round."""
    counted = rows["band"][rows["counts"]]
    return int(counted.iloc[0]) if len(counted) else 0


def _iterations(
    panel: Any, rows: pd.DataFrame, looks: Sequence[style.Series], title: str, size: float, pad: int = 6
) -> None:
    """Draw a dot per iteration and a line per turn; iterations beyond the axis are triangles at its end."""
    reach = distribution.scale_axis(panel.set_yscale, panel.yaxis, rows, BURNING)
    for line in looks:
        part = rows[rows["series"] == line.name]
        x, y, far = part["x"].to_numpy(), part["ms"].clip(upper=reach).to_numpy(), (part["ms"] > reach).to_numpy()
        if len(rows) <= distribution.MANY:
            ends = np.flatnonzero(np.diff(part["turn"])) + 1
            gaps = (np.insert(x, ends, np.nan), np.insert(y, ends, np.nan))
            panel.plot(*gaps, color=line.color, linewidth=0.7, alpha=0.6)
        for kind, look in _kinds(line, size).items():
            chosen = (part["kind"] == kind).to_numpy() & ~far
            panel.plot(x[chosen], y[chosen], linestyle="", rasterized=len(rows) > distribution.MANY, **look)
        if far.any():
            panel.plot(x[far], y[far], marker="^", linestyle="", color=line.color, markersize=5, clip_on=False)
    panel.set_title(title, loc="left", fontsize=11, pad=pad)
    if (rows["ms"] > reach).any():
        text = distribution.describe_beyond(rows["ms"], reach)
        panel.set_title(text, loc="right", fontsize=9, color=style.FAINT, pad=pad)
        panel.set_ylim(top=reach)
    style.grid(panel)


def _kinds(line: style.Series, size: float) -> dict[str, dict[str, Any]]:
    """Return the look of each kind of iteration, in the order of painting."""
    plain = {"color": line.color, "marker": line.marker, "markersize": size}
    return {
        distribution.PHASES["burn_in"]: plain
        | {"markerfacecolor": "none", "markeredgewidth": min(0.8, size / 3), "alpha": 0.7},
        distribution.PHASES["lead"]: plain | {"markersize": size * 0.6, "markeredgewidth": 0, "alpha": 0.5},
        distribution.PHASES["sample"]: plain | {"markeredgewidth": 0, "alpha": 0.8 if size > 2 else 0.5},
        distribution.INVALID: plain | {"marker": "x", "markersize": max(size, 3), "markeredgewidth": 0.8},
    }


def _medians(panel: Any, rows: pd.DataFrame, looks: Sequence[style.Series]) -> None:
    """Draw a line at the median of each Round's valid samples."""
    for line in looks:
        part = rows[rows["counts"] & (rows["series"] == line.name)]
        rounds = part.groupby("band").agg(median=("ms", "median"), left=("x", "min"), right=("x", "max"))
        for color, width, dashes in ((style.PAPER, 3.2, "-"), (line.color, 1.6, _dashes(line))):
            look = {"color": color, "linewidth": width, "linestyle": dashes}
            panel.hlines(rounds["median"], rounds["left"], rounds["right"], zorder=3, **look)


def _dashes(line: style.Series) -> Any:
    return LINES[line.compiled][line.number % 2]


def _banded(panel: Any, rows: pd.DataFrame) -> None:
    """Shade burn-in and set the x limits."""
    burning = rows["phase"] == "burn_in"
    spans = rows[burning].groupby(_stretch_index(burning, rows["band"])[burning.to_numpy()])["x"].agg(["min", "max"])
    places = list(zip(spans["min"], spans["max"] - spans["min"], strict=True))
    panel.broken_barh(places, (0, 1), transform=panel.get_xaxis_transform(), color=style.SHADE, zorder=0)
    first, last = rows["x"].min(), rows["x"].max()
    room = 0.01 * (last - first) or 1.0
    panel.set_xlim(first - room, last + room)


def _bounded(panel: Any, bands: pd.DataFrame, labels: bool) -> None:
    """Draw a line at the start of each Round, and labels as far as there is room."""
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
    for line in looks:
        yield line.name, Line2D([], [], color=line.color, marker=line.marker, linestyle=_dashes(line), linewidth=1.6)
    for kind, look in _kinds(style.Series("", "", False, 0), 5.0).items():
        if kind != distribution.PHASES["sample"] and (rows["kind"] == kind).any():
            yield kind, Line2D([], [], linestyle="", **look)
    if rows["counts"].any():
        yield "median of a Round", Line2D([], [], color=style.OTHER, linewidth=1.6)
