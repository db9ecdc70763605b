"""Bars: the times of each Case, from result CSVs, ours or any with the same columns."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench import UsageError
from bench.cases.passes import pass_title
from bench.output import console
from bench.output.plots import frames, style
from impls.variants import VARIANTS

WIDEST = 10.0  # inches of panels beside each other that a page still shows legibly
EDGE = 1.5  # inches of a panel that hold its axis, and the room at its ends
BAR, SLIM = 0.8, 0.6  # inches; slim where that keeps more in one panel
NARROW = 0.45  # inches, below which the numbers over two bars would touch
LETTER = 0.095  # inches that one takes at most, on average
LINE = 30  # letters of a label, then it is broken
REACH = 3.0  # times the longest mean of a pass, how far an interval is drawn
MOST = 240  # bars; more take longer to lay out than anyone waits
INTERVAL = ("ci95_low_ms", "center_ms", "ci95_high_ms")
INTERVAL_NAME = "centre of Rounds, 95 % interval"
#: On a white edge, so that they show on any colour, over a hatch and on dark paper.
DARK = "#111111"
DIAMOND: dict[str, Any] = {
    "marker": "D",
    "markersize": 6,
    "markerfacecolor": DARK,
    "markeredgecolor": "white",
    "markeredgewidth": 1.2,
}


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.whole_nets(frames.read(paths)), target)


def draw(rows: pd.DataFrame, target: Path) -> Figure:
    """Mean of each Case with its stddev as thin error bar, and over it, where there is one, the centre with its 95 %
    interval.

    One panel a pass, one group of bars a net and batch that was timed in it, and in a group the modes that do not
    compile before those that do. Groups that are too many for a page's width go on in the panel below.
    """
    if len(rows) > MOST:
        raise UsageError(f"nothing to draw: expected at most {MOST} rows as bars, found {len(rows)}; name fewer CSVs")
    passes = list(dict.fromkeys(rows["pass"]))
    names, labels = style.label_series(rows), label_rows(rows)
    series = style.list_series(rows, names)
    groups = [_groups(labels[rows["pass"] == pass_], names, series) for pass_ in passes]
    most = max(len(those) for one in groups for those in one.values())
    few, width = _few(max((list(one) for one in groups), key=len), most)
    parts = [[list(one)[first : first + few] for first in range(0, len(one), few)] for one in groups]
    beside = max(map(len, parts)) == 1 and width * len(passes) <= WIDEST
    across, down = (len(passes), 1) if beside else (1, sum(map(len, parts)))
    upright = (width - EDGE) / few / (most + 0.5) < NARROW
    height = 3.3 + 0.22 * max(label.count("\n") + 1 for label in labels)
    with style.figure(width * across, height * down, target) as figure:
        panels = list(figure.subplots(down, across, squeeze=False).flatten())
        left = iter(panels)
        for pass_, of, pages in zip(passes, groups, parts, strict=True):
            mine, reach = [next(left) for _ in pages], REACH * rows["mean_ms"][rows["pass"] == pass_].max()
            for panel, part in zip(mine, pages, strict=True):
                places = [_places(of[label], most) for label in part]
                for one in series:
                    chosen = (rows["pass"] == pass_) & (names == one.name) & labels.isin(part)
                    at = [(number := part.index(label)) + places[number][one.name] for label in labels[chosen]]
                    _bars(panel, rows[chosen], at, one, 0.74 / (most + 0.5), upright=upright, reach=reach)
                panel.set_title(pass_title(str(pass_)))
                panel.set_xticks(range(len(part)), part)
                panel.set_xlim(-0.5, few - 0.5)
                style.grid(panel)
            _scale(mine, 1.25 if upright else 1.08)
        for panel in panels[:1] if beside else panels:
            panel.set_ylabel("ms a pass: mean ± stddev" + (" (less is faster)" if beside else ""))
        letters = int(width * across / LETTER)
        style.legend(figure, *_legend(series, bool(_marked(rows).any()), letters))
        title = _broken(style.title(rows, "AlexNet, time a pass"), letters)
        figure.suptitle(title, fontsize=12)
        legend = figure.legends[0].get_window_extent().height / figure.dpi
        figure.set_figheight(height * down + legend + 0.25 * (title.count("\n") + 1))
    return figure


def _groups(labels: pd.Series, names: pd.Series, series: Sequence[style.Series]) -> dict[str, list[style.Series]]:
    """Of one pass: each group's label with its series, in their order."""
    there = set(zip(labels, names[labels.index], strict=True))
    return {label: [one for one in series if (label, one.name) in there] for label in dict.fromkeys(labels)}


def _few(nets: Sequence[str], bars: int) -> tuple[int, float]:
    """How many groups stand in one panel, about as many in each; and its width in inches."""
    label = LETTER * max(len(line) for net in nets for line in net.split("\n"))
    wide, slim = (max(bar * bars, label) for bar in (BAR, SLIM))
    group = wide if wide * len(nets) <= WIDEST - EDGE else slim
    most = max(1, int((WIDEST - EDGE) / group))
    few = math.ceil(len(nets) / math.ceil(len(nets) / most))
    return few, min(max(4.0, EDGE + group * few), WIDEST)


def _scale(panels: Sequence[Any], room: float) -> None:
    """From 0, with room for numbers: one scale for all parts of a pass, unless bars would vanish on it."""
    tops = [panel.get_ylim()[1] for panel in panels]
    for panel, top in zip(panels, tops, strict=True):
        panel.set_ylim(0, room * (max(tops) if min(tops) > max(tops) / 4 else top))


def _places(series: Sequence[style.Series], most: int) -> dict[str, float]:
    """Where in a group of width 0.8 that has room for ``most`` bars each series has its own, with half a bar between
    the compiled and the rest."""
    gap = 0.5 * (len({one.compiled for one in series}) - 1)
    middle = (len(series) - 1 + gap) / 2
    width = 0.8 / (most + 0.5)
    return {one.name: (number + gap * one.compiled - middle) * width for number, one in enumerate(series)}


def _bars(
    panel: Any, rows: pd.DataFrame, at: list[float], one: style.Series, width: float, *, upright: bool, reach: float
) -> None:
    """The bars of a series, their marks, and above both each mean. An interval that goes on beyond ``reach`` ends there
    in an arrow."""
    means, errors = rows["mean_ms"].to_numpy(dtype=float), _column(rows, "stddev_ms")
    errors = np.where(errors >= 0, errors, np.nan)
    panel.bar(at, means, width, yerr=errors, ecolor=style.INK, capsize=6, error_kw={"elinewidth": 1}, **_look(one))
    low, center, high = (_column(rows, name)[_marked(rows)] for name in INTERVAL)
    far = high > reach  # one such interval would leave no room for the rest
    high = np.minimum(high, reach)
    places = np.array(at)[_marked(rows)]
    panel.vlines(places, low, high, color="white", linewidth=6.5, zorder=3)
    panel.vlines(places, low, high, color=DARK, linewidth=4, zorder=3.1)
    panel.plot(places, center, linestyle="none", zorder=3.2, **DIAMOND)
    panel.plot(places[far], high[far], linestyle="none", zorder=3.2, **DIAMOND | {"marker": "^"})
    tops = np.minimum(means + np.nan_to_num(errors), reach)
    tops[_marked(rows)] = np.maximum(tops[_marked(rows)], high)
    look = {"ha": "center", "va": "bottom", "fontsize": 9, "rotation": 90 if upright else 0}
    for x, top, mean in zip(at, tops, means, strict=True):
        panel.annotate(console.number(mean), (x, top), xytext=(0, 4), textcoords="offset points", **look)


def _look(one: style.Series) -> dict[str, Any]:
    look = {"facecolor": one.color, "label": one.name}
    if one.hatch:  # a framework keeps its colour
        look |= {"hatch": one.hatch, "edgecolor": "white"}
    return look


def _marked(rows: pd.DataFrame) -> np.ndarray:
    """Which rows have a centre inside an interval."""
    low, center, high = (_column(rows, name) for name in INTERVAL)
    return (low > 0) & (low <= center) & (center <= high)


def _column(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A column's numbers, NaN where it says nothing."""
    column = rows[name] if name in rows else pd.Series(np.nan, rows.index)
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


def _legend(series: Sequence[style.Series], intervals: bool, letters: int) -> tuple[list[Any], list[str]]:
    handles: list[Any] = [Patch(**_look(one)) for one in series]
    names = [_broken(one.name, letters) for one in series]
    if intervals:
        handles.append(Line2D([], [], color=DARK, linewidth=4, **DIAMOND))
        names.append(INTERVAL_NAME)
    return handles, names


def label_rows(rows: pd.DataFrame) -> pd.Series:
    """Net and batch, with every axis that varies, and the Run, or at last the row, where one Case is there twice."""
    names = style.label_series(rows)
    where = ", " + rows["device"]
    labels = rows["variant"].map(lambda name: _broken(name, LINE)) + "\nbatch " + rows["batch"].astype(str)
    labels = labels + where.where(rows["device"] != "", "")
    for axis, unit in (("size", " px"), ("threads", " threads"), ("precision", "")):
        if axis in rows and rows.groupby([rows["variant"], names])[axis].nunique().max() > 1:
            labels = labels + rows[axis].map(lambda value, unit=unit: _line(value, unit))
    if "device_name" in rows and rows.groupby("device")["device_name"].nunique().max() > 1:  # several machines
        labels = labels + rows["device_name"].map(_line)
    if "size" in rows:
        own = rows["variant"].map({name: net.input_size for name, net in VARIANTS.items()})
        odd = rows["size"].notna() & own.notna() & (rows["size"] != own) & ~labels.str.contains(" px", regex=False)
        labels = labels + rows["size"].map(lambda value: _line(value, " px")).where(odd, "")
    more = [rows["run_id"].map(_line)] if "run_id" in rows else []
    more += [rows["case_id"].map(_line)] if rows["case_id"].nunique() > 1 else []
    for one in (*more, pd.Series([f"\nrow {number}" for number in range(1, len(rows) + 1)], rows.index)):
        if pd.DataFrame({"series": names, "pass": rows["pass"], "label": labels}).duplicated().any():
            labels = labels + one
    return labels


def _line(value: Any, unit: str = "") -> str:
    """A line more of a label, none where there is nothing to say."""
    text = style.format_value(value)
    return f"\n{_broken(text, LINE)}{unit}" if text else ""


def _broken(text: str, letters: int) -> str:
    """In lines of so many letters; a ``$`` stays with what escapes it."""
    return textwrap.fill(text.replace(r"\$", "$"), letters).replace("$", r"\$")
