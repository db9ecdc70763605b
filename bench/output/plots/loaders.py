"""Loaders plot: images/s of load, step and fed per loader, and the series of each, since an average hides bursts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from bench import UsageError
from bench.output.console import number
from bench.output.plots import frames, style
from bench.pictures import judge

MOST = 16  # loaders in one plot
TURNS = 6  # of each slot in the series
#: Looks of the slots, from top to bottom.
SLOTS: Mapping[str, Mapping[str, Any]] = {
    "load": {"alpha": 0.45},
    "train_step": {"fill": False, "hatch": "///"},
    "fed": {},
}
#: Looks of the series.
LINES: Mapping[str, Mapping[str, Any]] = {
    "load": {"alpha": 0.45, "marker": "o"},
    "fed": {"alpha": 0.9, "marker": "s"},
}
SAME = "run_id variant framework mode device precision layout lrn preset batch size threads arm".split()


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.read(paths), frames.samples(paths), target)


def draw(rows: pd.DataFrame, samples: pd.DataFrame, target: Path) -> Figure:
    """Draw a line of panels per loader: bars of images/s, and ms per batch from the start of its turns.

    ``rows`` come from ``frames.read``, ``samples`` from ``frames.samples``. UsageError without a fed step.
    """
    fed = rows[rows["pass"] == "fed"] if "loader" in rows else rows[:0]
    if fed.empty:
        raise UsageError("loaders: expected a Run with loaders, found none; see `alexnet-bench run --loaders`")
    if len(fed) > MOST:
        raise UsageError(f"loaders: expected at most {MOST} loaders in one plot, found {len(fed)}; {style.FEWER}")
    others = style.label_series(fed, [name for name in style.SERIES_COLUMNS if name != "loader"])
    names = others + " " + fed["loader"].map(lambda workers: style.describe_value("loader", workers))
    slots = [slots_of(rows, row) for _, row in fed.iterrows()]
    fastest = max(row["images_per_s"] for each in slots for row in each.values())
    with style.figure(10.0, 1.3 + 1.25 * len(fed), target) as figure:
        panels = figure.subplots(len(fed), 2, squeeze=False, width_ratios=(1, 1.3))
        for (left, right), name, each in zip(panels, names, slots, strict=True):
            _bars(left, each, fastest)
            _series(right, samples, each)
            left.set_title(name, loc="left", fontsize=10)
            right.set_title("ms per batch, a line per turn", loc="left", fontsize=9, color=style.FAINT)
        last = max(panel.get_xlim()[1] for panel in panels[:, 1])
        ends = [panel.get_ylim() for panel in panels[:, 1]]
        for panel in panels[:, 1]:
            panel.set_xlim(0.5, last)
            panel.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
        for panel in panels[:-1].flatten():
            panel.tick_params(labelbottom=False)
        panels[-1, 0].set_xlabel("images/s (more is faster)")
        panels[-1, 1].set_xlabel("batch since the start of the loader (gray: lead)")
        handles: list[Any] = [Patch(facecolor=style.OTHER, edgecolor=style.OTHER, **look) for look in SLOTS.values()]
        handles += [Line2D([], [], color=style.OTHER, markersize=4, **LINES[name]) for name in LINES]
        legend = ["load: the loader alone", "step: on a resident batch", "fed: both together", "load", "fed"]
        style.legend(figure, handles, legend)
        columns = ("variant", "size", "batch", "device_name", "threads")
        figure.suptitle(style.title(rows, "summary", columns), fontsize=12)
    return figure


def slots_of(rows: pd.DataFrame, fed: pd.Series) -> dict[str, pd.Series]:
    """The rows of load, train_step and fed of one loader, as far as they are valid."""
    same = pd.Series(True, rows.index)
    for column in (column for column in SAME if column in rows):
        same &= rows[column].isna() if pd.isna(fed[column]) else rows[column] == fed[column]
    alike = rows[same]
    chosen = {
        "load": alike[(alike["pass"] == "load") & (alike["loader"] == fed["loader"])],
        "train_step": alike[alike["pass"] == "train_step"],
    }
    return {name: part.iloc[0] for name, part in chosen.items() if len(part)} | {"fed": fed}


def _bars(panel: Any, slots: Mapping[str, pd.Series], fastest: float) -> None:
    alone = {name: row["images_per_s"] for name, row in slots.items() if name != "fed"}
    bound = min(alone, key=lambda name: alone[name]) if len(alone) == 2 else ""
    for place, (name, row) in enumerate(slots.items()):
        color, rate = style.COLORS.get(row["framework"], style.OTHER), row["images_per_s"]
        panel.barh(place, rate, 0.75, facecolor=color, edgecolor=color, **SLOTS[name])
        text = number(rate) + ("  limits" if name == bound else "")
        if name == "load" and row.get("pixel_error", 0) > judge.MOST:
            text += f"  pixels off by {row['pixel_error']:.0f}"
        if name == "fed" and pd.notna(row.get("stall")):
            text += f"  stall {row['stall']:.0%}"
        panel.text(rate + 0.01 * fastest, place, text, va="center", fontsize=9)
    panel.set_yticks(range(len(slots)), ["step" if name == "train_step" else name for name in slots])
    panel.invert_yaxis()
    panel.set_xlim(0, 1.35 * fastest)
    style.grid(panel, "x")


def _series(panel: Any, samples: pd.DataFrame, slots: Mapping[str, pd.Series]) -> None:
    """A line per turn of load and of fed, of the first turns that count."""
    lead = 0
    for name in ("load", "fed"):
        if name not in slots:
            continue
        row = slots[name]
        own = samples[(samples["case_id"] == row["case_id"]) & samples["phase"].isin(["lead", "sample"])]
        turns = (own["phase"].eq("lead") & ~own["phase"].shift(fill_value="").eq("lead")).cumsum()
        color = style.COLORS.get(row["framework"], style.OTHER)
        for place, turn in own.groupby(turns):
            if place <= TURNS:
                batch = range(2, len(turn) + 2)  # the first is not among them
                panel.plot(batch, turn["duration_ns"] / 1e6, color=color, linewidth=0.7, markersize=2.5, **LINES[name])
                lead = max(lead, int(turn["phase"].eq("lead").sum()))
                panel.set_xlim(0.5, max(panel.get_xlim()[1] if place > 1 else 0, len(turn) + 1.5))
    panel.axvspan(0.5, lead + 1.5, color=style.SHADE, zorder=0)
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high < 100 * low else (1,), numticks=5))
    panel.tick_params(axis="y", labelsize=9)
    panel.yaxis.set_major_formatter(lambda ms, _: number(ms))
    panel.yaxis.set_minor_locator(NullLocator())
    style.grid(panel)
