"""Distribution: where the samples of each Case lie, Round beside Round; and what plots of samples share."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench import UsageError
from bench.cases.passes import pass_title
from bench.output import console
from bench.output.plots import frames, style
from impls import FRAMEWORKS

#: Beside drawing's own, what tells two Cases apart where it varies.
APART = ("variant", "size", "batch", "device", "device_name", "precision", "threads", *style.APART)
PHASES = {"burn_in": "burn-in", "lead": "lead iteration", "sample": "sample"}
INVALID = "invalid sample"
MANY = 1500  # dots, from which they are pixels in an SVG too, and turns have no lines
REACH = 2.0  # from the fastest, how many times as far as the highest p95 an axis goes at most
WIDE = 5.0  # medians of a panel that are so many times apart stand on a logarithmic axis
GOLDEN = 0.6180339887  # multiples of it, less their whole part, fill 0 to 1 evenly


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.whole_nets(frames.samples(paths)), target)


def draw(rows: pd.DataFrame, target: Path) -> Figure:
    """Every valid sample of each Case in a strip, a lane a Round with a tick at its median, and below the lanes the
    quartiles and p95 of them all; one panel a pass, in ms.

    ``rows`` are as ``frames.samples`` gives them; UsageError where none is a valid sample with a duration. Samples so
    slow that they would squash the rest lie beyond the axis, and are counted at its end.
    """
    rows, looks, left_out = prepare(rows)
    samples = rows[rows["counts"]]
    if samples.empty:
        raise UsageError(describe_nothing("a valid row of phase sample with a duration_ns above 0", rows, left_out))
    left_out["not valid"] = int((rows["phase"] == "sample").sum()) - len(samples)
    panes = [(pass_, here) for pass_, here in samples.groupby("pass", sort=False)]
    strips = [[one for one in looks if one.name in set(here["series"])] for _, here in panes]
    heights = [len(those) + 0.6 for those in strips]
    with style.figure(8.0, min(1.3 + 0.74 * sum(heights), 24.0), target) as figure:
        panels = figure.subplots(len(panes), 1, squeeze=False, height_ratios=heights).flatten()
        for panel, (pass_, here), those in zip(panels, panes, strips, strict=True):
            panel.use_sticky_edges = False  # a box that begins at the fastest sample leaves room beside it too
            reach = scale_axis(panel.set_xscale, panel.xaxis, here)
            of = [here[here["series"] == one.name] for one in those]
            for at, one in enumerate(those):
                _strip(panel, of[at], at, one, reach)
            panel.set_title(pass_title(str(pass_)))
            panel.set_yticks(range(len(those)), [_counted(one.name, mine) for one, mine in zip(those, of, strict=True)])
            panel.set_ylim(len(those) - 0.42, -0.55)
            if reach < here["ms"].max():
                panel.set_xlim(right=reach)
            style.grid(panel, "x")
        panels[-1].set_xlabel(label_axis("ms (less is faster)", left_out))
        handles = {
            "one sample; Rounds from top to bottom": _dot(style.OTHER, "o", 4),
            "median of a Round": _dot(style.INK, "|", 11, markeredgewidth=1.8),
            "q1 to q3 of all, and median": Patch(facecolor=style.OTHER),
            "up to p95": Line2D([], [], color=style.OTHER, linewidth=1.5),
        }
        style.legend(figure, list(handles.values()), list(handles))
        figure.suptitle(title(rows), fontsize=12)
    return figure


def _strip(panel: Any, rows: pd.DataFrame, at: int, one: style.Series, reach: float) -> None:
    """One series in one pass, around y = ``at``: its lanes from at - 0.42 down to at + 0.14, its box at + 0.28."""
    rounds = np.sort(rows["round"].unique())
    lane = 0.56 / len(rounds)
    tops = at - 0.42 + lane * np.arange(len(rounds))
    jitter = np.arange(len(rows)) * GOLDEN % 1.0
    y = tops[np.searchsorted(rounds, rows["round"])] + lane * (0.12 + 0.76 * jitter)
    far = (rows["ms"] > reach).to_numpy()
    look = {"color": one.color, "linestyle": "", "markeredgewidth": 0}
    alpha = np.clip(8 / np.sqrt(len(rows)), 0.05, 0.7)
    dots = {"marker": "o", "markersize": dot_size(len(rows)), "alpha": alpha, "rasterized": len(rows) > MANY}
    panel.plot(rows["ms"][~far], y[~far], **look, **dots)
    _ticks(panel, rows.groupby("round")["ms"].median(), tops, tops + lane)
    q1, median, q3, p95 = rows["ms"].quantile([0.25, 0.5, 0.75, 0.95])
    hatch = {"hatch": one.hatch, "edgecolor": "white"} if one.hatch else {}
    panel.hlines(at + 0.28, q3, p95, color=one.color, linewidth=1.5)
    panel.vlines(p95, at + 0.2, at + 0.36, color=one.color, linewidth=1.5)
    panel.barh(at + 0.28, q3 - q1, 0.18, left=q1, color=one.color, **hatch)
    _ticks(panel, median, at + 0.17, at + 0.39)
    if far.any():
        panel.plot(np.full(far.sum(), reach), y[far], **look, marker=">", markersize=5, clip_on=False)
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center"}
        panel.annotate(describe_beyond(rows["ms"], reach), (0.99, at + 0.28), fontsize=9, color=style.FAINT, **place)


def _ticks(panel: Any, x: Any, top: Any, bottom: Any) -> None:
    for color, width in ((style.PAPER, 2.8), (style.INK, 1.6)):
        panel.vlines(x, top, bottom, color=color, linewidth=width)


def _dot(color: str, marker: str, size: float, **look: Any) -> Line2D:
    return Line2D([], [], color=color, marker=marker, markersize=size, linestyle="", **look)


def scale_axis(set_scale: Any, axis: Any, rows: pd.DataFrame, least: float = 1.05) -> float:
    """Make an axis logarithmic where Cases are far apart; how far it may go, ms: all the way where all is near, and to
    ``least`` times the highest p95 where there is something."""
    counted = (rows[rows["counts"]] if rows["counts"].any() else rows).groupby(["series", "pass"], observed=True)["ms"]
    medians, p95, fastest = counted.median(), float(counted.quantile(0.95).max()), float(rows["ms"].min())
    log = medians.max() > WIDE * medians.min()
    if log:
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: console.number(value)))
        axis.set_minor_formatter(NullFormatter())
    reach = p95 * (p95 / fastest) ** (REACH - 1) if log else p95 + (p95 - fastest) * (REACH - 1)
    return min(max(reach, least * p95), float(rows["ms"].max()))


def describe_beyond(ms: pd.Series, reach: float) -> str:
    return f"{(ms > reach).sum():,} beyond, up to {console.number(ms.max())} ms"


def dot_size(count: int) -> float:
    """Of a dot, in points, so that many of them leave room for each other."""
    return float(np.clip(45 / np.sqrt(max(count, 1)), 1.2, 4.5))


def _counted(name: str, rows: pd.DataFrame) -> str:
    """A strip's label: whose it is, and of how much."""
    samples, rounds = len(rows), rows["round"].nunique()
    much = f"{samples:,} sample{'s' * (samples != 1)}, {rounds} Round{'s' * (rounds != 1)}"
    return f"{textwrap.fill(name, 28)}\n{much}"


def label_axis(axis: str, left_out: Mapping[str, int]) -> str:
    """An axis' label, and below it what is not in the picture."""
    counts = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
    return f"{axis}\nleft out: {counts}" if counts else axis


def describe_nothing(expected: str, rows: pd.DataFrame, left_out: Mapping[str, int]) -> str:
    found: dict[Any, int] = rows["kind"].value_counts().to_dict() | dict(left_out)
    said = ", ".join(f"{what} {count:,}" for what, count in found.items() if count) or "no row"
    return f"nothing to draw: expected {expected}, found {said}; name a Run that came to the end of a Round"


def title(rows: pd.DataFrame) -> str:
    """What all rows have in common: the net, the batch, the machine."""
    words = {"variant": "{}", "batch": "batch {:g}", "device_name": "{}", "threads": "{:g} threads"}
    alike = [name for name in words if name in rows and rows[name].nunique(dropna=False) == 1]
    values = {name: rows[name].iloc[0] for name in alike}
    return ", ".join(words[name].format(value) for name, value in values.items() if pd.notna(value)) or "samples"


def prepare(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[style.Series], dict[str, int]]:
    """Rows with a duration, whatever columns they came with; the series they are of; how many were left out, and why.

    Always with ``series``, ``pass``, ``attempt``, ``cycle``, ``start_ns``, ``kind``, ``ms`` and ``counts``: whether it
    is a valid sample.
    """
    missing = {name: np.nan for name in ("attempt", "cycle", "start_ns", "pass", "run_id") if name not in rows}
    rows = rows.assign(**missing, ms=rows["duration_ns"] / 1e6)
    timed, known = (rows["ms"] > 0) & (rows["ms"] < np.inf), rows["phase"].isin(list(PHASES))
    left_out = {"without a duration": int((~timed).sum()), "of an unknown phase": int((timed & ~known).sum())}
    rows = rows[timed & known].reset_index(drop=True)
    sample = rows["phase"] == "sample"
    invalid = sample & (rows["valid"] == False if "valid" in rows else False)  # noqa: E712
    rows = rows.assign(
        **{name: rows[name].fillna(0).astype(int) for name in ("round", "attempt", "cycle")},
        **{name: rows[name].astype(object).fillna("").astype(str) for name in ("pass", "run_id", "case_id")},
        kind=rows["phase"].map(PHASES).mask(invalid, INVALID).astype("category"),
        counts=sample & ~invalid,
    )
    return *_named(rows), left_out


def _named(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[style.Series]]:
    """Rows with their series, and these as they stand in every plot. A Case is named by what tells it from the others;
    by its id where its framework is not known."""
    keys = rows["run_id"] + "\n" + rows["case_id"]
    heads = rows.assign(key=keys).drop_duplicates("key").set_index("key")
    missing = {name: "" for name in ("framework", "mode") if name not in heads}
    heads = heads.assign(**missing).fillna({"framework": "", "mode": ""})
    rank = {name: number for number, name in enumerate(FRAMEWORKS)}
    heads = heads.assign(rank=heads["framework"].map(rank), batch=heads.get("batch", np.nan))
    heads = heads.sort_values(["rank", "batch", "case_id"], kind="stable")
    names = heads["case_id"].copy()
    names.update(style.label_series(heads[heads["framework"] != ""], APART).str.strip())
    for more in ("run_id", "case_id"):
        alike = pd.DataFrame({"series": names, "pass": heads["pass"]}).duplicated(keep=False)
        if heads[more].nunique() > 1:
            names = names.where(~alike, names + " " + heads[more])
    return rows.assign(series=keys.map(names).astype("category")), style.list_series(heads, names)
