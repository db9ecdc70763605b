"""Times plot: a bar per Case, with error bars and intervals."""

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

WIDEST = 10.0  # inches of all panels in a row
EDGE = 1.5  # inches of a panel for its axis and margins
BAR, SLIM = 0.8, 0.6  # inches; slim if that keeps more in one panel
NARROW = 0.45  # inches, below which the numbers over two bars would touch
LETTER = 0.095  # inches per character, upper limit of the average
LINE = 30  # characters per line of a label
REACH = 3.0  # end of an interval, as a multiple of the longest mean of its pass
MOST = 240  # bars; more take too long to lay out
INTERVAL = ("ci95_low_ms", "center_ms", "ci95_high_ms")
INTERVAL_NAME = "center of Rounds, 95 % interval"
#: With a white edge, to be visible on any color, over a hatch and on dark paper.
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
    """Draw the mean of each Case as a bar with its stddev as error bar, and the center with its 95 % interval if known.

    One panel per pass and one group of bars per net and batch, modes that do not compile first. Groups that exceed the
    page's width continue in another panel below. Raises UsageError for more than MOST rows.
    """
    if len(rows) > MOST:
        raise UsageError(f"nothing to draw: expected at most {MOST} rows as bars, found {len(rows)}; {style.FEWER}")
    passes = list(dict.fromkeys(rows["pass"]))
    names, labels = style.label_series(rows), label_rows(rows)
    series = style.list_series(rows, names)
    groups = [_groups(labels[rows["pass"] == pass_], names, series) for pass_ in passes]
    most = max(len(lines) for group in groups for lines in group.values())
    few, width = _few(max((list(group) for group in groups), key=len), most)
    parts = [[list(group)[first : first + few] for first in range(0, len(group), few)] for group in groups]
    single_row = max(map(len, parts)) == 1 and width * len(passes) <= WIDEST
    across, down = (len(passes), 1) if single_row else (1, sum(map(len, parts)))
    upright = (width - EDGE) / few / (most + 0.5) < NARROW
    height = 3.3 + 0.22 * max(label.count("\n") + 1 for label in labels)
    if height * down > style.PAGE:
        fit = int(style.PAGE / height) * few * most
        style.refuse_many(len(rows), "such bars", min(fit, len(rows) - 1))
    with style.figure(width * across, height * down, target) as figure:
        panels = list(figure.subplots(down, across, squeeze=False).flatten())
        free = iter(panels)
        for pass_, group, pages in zip(passes, groups, parts, strict=True):
            pass_panels, reach = [next(free) for _ in pages], REACH * rows["mean_ms"][rows["pass"] == pass_].max()
            for panel, part in zip(pass_panels, pages, strict=True):
                places = [_places(group[label], most) for label in part]
                for line in series:
                    chosen = (rows["pass"] == pass_) & (names == line.name) & labels.isin(part)
                    at = [(number := part.index(label)) + places[number][line.name] for label in labels[chosen]]
                    _bars(panel, rows[chosen], at, line, 0.74 / (most + 0.5), upright=upright, reach=reach)
                panel.set_title(pass_title(str(pass_)))
                panel.set_xticks(range(len(part)), part)
                panel.set_xlim(-0.5, few - 0.5)
                style.grid(panel)
            _scale(pass_panels, 1.25 if upright else 1.08)
        for panel in panels[:1] if single_row else panels:
            panel.set_ylabel("ms per pass: mean ± stddev" + (" (less is faster)" if single_row else ""))
        letters = int(width * across / LETTER)
        style.legend(figure, *_legend(series, bool(_marked(rows).any()), letters))
        title = _wrap(style.title(rows, "Time per pass"), letters)
        figure.suptitle(title, fontsize=12)
        legend = figure.legends[0].get_window_extent().height / figure.dpi
        figure.set_figheight(height * down + legend + 0.25 * (title.count("\n") + 1))
    return figure


def _groups(labels: pd.Series, names: pd.Series, series: Sequence[style.Series]) -> dict[str, list[style.Series]]:
    """Return the series of each group of one pass, by the group's label."""
    pairs = set(zip(labels, names[labels.index], strict=True))
    return {label: [line for line in series if (label, line.name) in pairs] for label in dict.fromkeys(labels)}


def _few(nets: Sequence[str], bars: int) -> tuple[int, float]:
    """Return the number of groups per panel, about the same in each, and its width in inches."""
    label = LETTER * max(len(line) for net in nets for line in net.split("\n"))
    wide, slim = (max(bar * bars, label) for bar in (BAR, SLIM))
    group = wide if wide * len(nets) <= WIDEST - EDGE else slim
    most = max(1, int((WIDEST - EDGE) / group))
    few = math.ceil(len(nets) / math.ceil(len(nets) / most))
    return few, min(max(4.0, EDGE + group * few), WIDEST)


def _scale(panels: Sequence[Any], room: float) -> None:
    """Start all panels of a pass at 0, with one scale unless bars would vanish on it, and ``room`` for numbers."""
    tops = [panel.get_ylim()[1] for panel in panels]
    for panel, top in zip(panels, tops, strict=True):
        panel.set_ylim(0, room * (max(tops) if min(tops) > max(tops) / 4 else top))


def _places(series: Sequence[style.Series], most: int) -> dict[str, float]:
    """Return the offset of each series' bar in a group of width 0.8 with room for ``most`` bars; half a bar separates
    compiled series from the others."""
    gap = 0.5 * (len({line.compiled for line in series}) - 1)
    middle = (len(series) - 1 + gap) / 2
    width = 0.8 / (most + 0.5)
    return {line.name: (number + gap * line.compiled - middle) * width for number, line in enumerate(series)}


def _bars(
    panel: Any, rows: pd.DataFrame, at: list[float], line: style.Series, width: float, *, upright: bool, reach: float
) -> None:
    """Draw the bars of a series, their intervals (cut at ``reach`` with an arrow), and each mean above."""
    means, errors = rows["mean_ms"].to_numpy(dtype=float), _column(rows, "stddev_ms")
    errors = np.where(errors >= 0, errors, np.nan)
    panel.bar(at, means, width, yerr=errors, ecolor=style.INK, capsize=6, error_kw={"elinewidth": 1}, **_look(line))
    low, center, high = (_column(rows, name)[_marked(rows)] for name in INTERVAL)
    far = high > reach  # would compress all other bars
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


def _look(line: style.Series) -> dict[str, Any]:
    look = {"facecolor": line.color, "label": line.name}
    return look | ({"hatch": line.hatch, "edgecolor": "white"} if line.hatch else {})


def _marked(rows: pd.DataFrame) -> np.ndarray:
    """True for rows whose interval contains their center."""
    low, center, high = (_column(rows, name) for name in INTERVAL)
    return (low > 0) & (low <= center) & (center <= high)


def _column(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as float64, NaN where absent."""
    column = rows[name] if name in rows else pd.Series(np.nan, rows.index)
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


def _legend(series: Sequence[style.Series], intervals: bool, letters: int) -> tuple[list[Any], list[str]]:
    handles: list[Any] = [Patch(**_look(line)) for line in series]
    names = [_wrap(line.name, letters) for line in series]
    if intervals:
        handles.append(Line2D([], [], color=DARK, linewidth=4, **DIAMOND))
        names.append(INTERVAL_NAME)
    return handles, names


def label_rows(rows: pd.DataFrame) -> pd.Series:
    """Return the label of each row's group: net, batch and every axis that varies, plus the Run, the Case or the row's
    number if rows would share a bar."""
    names = style.label_series(rows)
    where = ", " + rows["device"]
    subjects = rows["variant"]
    if "input" in rows:  # a model alone is no variant
        own = rows["input"].map(lambda value: style.describe_value("input", value))
        subjects = subjects.mask(own != "", own)
    labels = subjects.map(lambda name: _wrap(name, LINE)) + rows["batch"].map(lambda value: _line(value, "batch"))
    labels = labels + where.where(rows["device"] != "", "")
    for axis in ("size", "threads", "precision"):
        if axis in rows and rows.groupby([rows["variant"], names])[axis].nunique().max() > 1:
            labels = labels + rows[axis].map(lambda value, axis=axis: _line(value, axis))
    if "device_name" in rows and rows.groupby("device")["device_name"].nunique().max() > 1:  # several machines
        labels = labels + rows["device_name"].map(_line)
    if "size" in rows:
        own = rows["variant"].map({name: net.input_size for name, net in VARIANTS.items()})
        odd = rows["size"].notna() & own.notna() & (rows["size"] != own) & ~labels.str.contains(" px", regex=False)
        labels = labels + rows["size"].map(lambda value: _line(value, "size")).where(odd, "")
    more = [rows["run_id"].map(_line)] if "run_id" in rows else []
    more += [rows["case_id"].map(_line)] if rows["case_id"].nunique() > 1 else []
    for suffix in (*more, pd.Series([f"\nrow {number}" for number in range(1, len(rows) + 1)], rows.index)):
        if pd.DataFrame({"series": names, "pass": rows["pass"], "label": labels}).duplicated().any():
            labels = labels + suffix
    return labels


def _line(value: Any, column: str = "") -> str:
    """Return a further line of a label, empty for no value."""
    text = style.describe_value(column, value)
    return f"\n{_wrap(text, LINE)}" if text else ""


def _wrap(text: str, letters: int) -> str:
    """Wrap to lines of so many characters, keeping each escaped ``$`` together."""
    return textwrap.fill(text.replace(r"\$", "$"), letters).replace("$", r"\$")
