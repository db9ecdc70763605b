"""Distribution plot: the samples of each Case, Round by Round; and helpers for all plots of samples."""

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
from bench.output.labels import counted
from bench.output.plots import frames, style
from impls import FRAMEWORKS

#: Columns added to a series label when they vary.
SERIES_COLUMNS = (
    "variant",
    "size",
    "input",
    "batch",
    "device",
    "device_name",
    "precision",
    "threads",
    *style.SERIES_COLUMNS,
)
TITLE = ("variant", "batch", "device_name", "threads")
PHASES = {"burn_in": "burn-in", "lead": "lead iteration", "sample": "sample"}
INVALID = "invalid sample"
MANY = 1500  # dots above which they are rasterized and turns have no lines
REACH = 2.0  # longest axis, as a multiple of the distance from the fastest sample to the highest p95
WIDE = 5.0  # ratio of a panel's medians above which its axis is logarithmic
GOLDEN = 0.6180339887  # golden ratio conjugate; fractional parts of its multiples fill 0 to 1 evenly


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.whole_nets(frames.samples(paths)), target)


def draw(rows: pd.DataFrame, target: Path) -> Figure:
    """Draw one panel per pass and one strip per Case, in ms: a lane per Round with a tick at its median, and below the
    lanes the quartiles and p95 of all valid samples.

    ``rows`` come from ``frames.samples``. Outliers that would compress the axis are only counted at its end. Raises
    UsageError if there is no valid sample with a duration.
    """
    rows, looks, left_out = prepare(rows)
    samples = rows[rows["counts"]]
    if samples.empty:
        raise UsageError(describe_nothing("a valid row of phase sample with a duration_ns above 0", rows, left_out))
    left_out["not valid"] = int((rows["phase"] == "sample").sum()) - len(samples)
    panes = [(pass_, here) for pass_, here in samples.groupby("pass", sort=False)]
    strips = [[look for look in looks if look.name in set(here["series"])] for _, here in panes]
    heights = [len(lines) + 0.6 for lines in strips]
    style.refuse_many(sum(map(len, strips)), "cases", 32)
    with style.figure(8.0, min(1.3 + 0.74 * sum(heights), style.PAGE), target) as figure:
        panels = figure.subplots(len(panes), 1, squeeze=False, height_ratios=heights).flatten()
        for panel, (pass_, here), lines in zip(panels, panes, strips, strict=True):
            panel.use_sticky_edges = False  # keep the margin left of a box that begins at the fastest sample
            reach = scale_axis(panel.set_xscale, panel.xaxis, here)
            labels = []
            for at, line in enumerate(lines):
                part = here[here["series"] == line.name]
                _strip(panel, part, at, line, reach)
                labels.append(_label_strip(line.name, part))
            panel.set_title(pass_title(str(pass_)))
            panel.set_yticks(range(len(lines)), labels)
            panel.set_ylim(len(lines) - 0.42, -0.55)
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
        figure.suptitle(style.title(rows, "samples", TITLE), fontsize=12)
    return figure


def _strip(panel: Any, rows: pd.DataFrame, at: int, line: style.Series, reach: float) -> None:
    """Draw one series at y = ``at``: lanes from at - 0.42 to at + 0.14, box at + 0.28."""
    rounds = np.sort(rows["round"].unique())
    lane = 0.56 / len(rounds)
    tops = at - 0.42 + lane * np.arange(len(rounds))
    jitter = np.arange(len(rows)) * GOLDEN % 1.0
    y = tops[np.searchsorted(rounds, rows["round"])] + lane * (0.12 + 0.76 * jitter)
    far = (rows["ms"] > reach).to_numpy()
    look = {"color": line.color, "linestyle": "", "markeredgewidth": 0}
    alpha = np.clip(8 / np.sqrt(len(rows)), 0.05, 0.7)
    dots = {"marker": "o", "markersize": dot_size(len(rows)), "alpha": alpha, "rasterized": len(rows) > MANY}
    panel.plot(rows["ms"][~far], y[~far], **look, **dots)
    _ticks(panel, rows.groupby("round")["ms"].median(), tops, tops + lane)
    q1, median, q3, p95 = rows["ms"].quantile([0.25, 0.5, 0.75, 0.95])
    hatch = {"hatch": line.hatch, "edgecolor": "white"} if line.hatch else {}
    panel.hlines(at + 0.28, q3, p95, color=line.color, linewidth=1.5)
    panel.vlines(p95, at + 0.2, at + 0.36, color=line.color, linewidth=1.5)
    panel.barh(at + 0.28, q3 - q1, 0.18, left=q1, color=line.color, **hatch)
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
    """Make an axis logarithmic if medians differ by more than WIDE; return its upper end in ms.

    The end is the slowest iteration unless that is an outlier, and at least ``least`` times the highest p95.
    """
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
    """Diameter in points, smaller for many dots."""
    return float(np.clip(45 / np.sqrt(max(count, 1)), 1.2, 4.5))


def _label_strip(name: str, rows: pd.DataFrame) -> str:
    samples, rounds = len(rows), rows["round"].nunique()
    counts = f"{counted(samples, 'sample')}, {counted(rounds, 'Round')}"
    return f"{textwrap.fill(name, 28)}\n{counts}"


def label_axis(axis: str, left_out: Mapping[str, int]) -> str:
    """Return the axis label with counts of the rows left out below it."""
    counts = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
    return f"{axis}\nleft out: {counts}" if counts else axis


def describe_nothing(expected: str, rows: pd.DataFrame, left_out: Mapping[str, int]) -> str:
    counts: dict[Any, int] = rows["kind"].value_counts().to_dict() | dict(left_out)
    rows_by_kind = ", ".join(f"{kind} {count:,}" for kind, count in counts.items() if count) or "no row"
    return f"nothing to draw: expected {expected}, found {rows_by_kind}; name a Run with at least one finished Round"


def prepare(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[style.Series], dict[str, int]]:
    """Return the rows that have a duration, their series, and counts of the rows left out per reason.

    Adds the columns ``series``, ``kind``, ``ms`` and ``counts`` (True for a valid sample), and fills in ``pass``,
    ``attempt``, ``cycle`` and ``start_ns`` if absent.
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
    return *_add_series(rows), left_out


def _add_series(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[style.Series]]:
    """Add a ``series`` column, and list the series in the order of all plots. A Case is named by the columns that vary,
    or by its id if its framework is unknown."""
    keys = rows["run_id"] + "\n" + rows["case_id"]
    heads = rows.assign(key=keys).drop_duplicates("key").set_index("key")
    missing = {name: "" for name in ("framework", "mode") if name not in heads}
    heads = heads.assign(**missing).fillna({"framework": "", "mode": ""})
    rank = {name: number for number, name in enumerate(FRAMEWORKS)}
    heads = heads.assign(rank=heads["framework"].map(rank), batch=heads.get("batch", np.nan))
    heads = heads.sort_values(["rank", "batch", "case_id"], kind="stable")
    names = heads["case_id"].copy()
    names.update(style.label_series(heads[heads["framework"] != ""], SERIES_COLUMNS).str.strip())
    for more in ("run_id", "case_id"):
        alike = pd.DataFrame({"series": names, "pass": heads["pass"]}).duplicated(keep=False)
        if heads[more].nunique() > 1:
            names = names.where(~alike, names + " " + heads[more])
    return rows.assign(series=keys.map(names).astype("category")), style.list_series(heads, names)
