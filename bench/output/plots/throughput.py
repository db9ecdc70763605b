"""Throughput plot: images per second, and the share of the machine's best rate, against the batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench import UsageError
from bench.cases.passes import ALL_REDUCE, pass_title, timed_by_name
from bench.output import console
from bench.output.plots import frames, style
from bench.stats import roofline
from impls.layers import LayerError
from impls.variants import variant_named

#: Columns added to a line's name when they vary.
SERIES_COLUMNS = ("variant", "size", "input", "device", "device_name", "precision", "threads", *style.SERIES_COLUMNS)
REACH = 2.0  # longest axis, as a multiple of the fastest speed


def draw_files(paths: Sequence[Path], target: Path) -> None:
    rows = frames.whole_nets(frames.read(paths))
    draw(rows[rows["pass"] != ALL_REDUCE.name], target)  # which computes no images


def draw(rows: pd.DataFrame, target: Path) -> Figure:
    """Draw images per second with 95 % intervals against the batch, one panel per pass and one line per series, and the
    peak fraction below if known. A dotted line marks the batch from which the net is compute-bound.

    ``rows`` come from ``frames.read``. With a single batch, points are side by side and the axis tells how to get more.
    Benchmarks of which nobody counted images have a mark each, in calls per second. Raises UsageError for both kinds.
    """
    uncounted = frames.uncounted(rows)
    calls = bool(uncounted.any())
    if calls and not uncounted.all():
        odd = rows["case_id"][uncounted].iloc[0]
        raise UsageError(
            f"throughput: expected images/s of every row, found none of {odd!r}; draw such rows by themselves"
        )
    unit = "calls/s" if calls else "images/s"
    rows = _with_speed(rows.assign(batch=1) if calls else rows)
    batches = sorted(rows["batch"].unique())
    passes = list(dict.fromkeys(rows["pass"]))
    names = _names(rows, calls)
    series = style.list_series(rows, names)
    peaks = bool(rows["peak_fraction"].notna().any())
    with style.figure(4.6 * max(len(passes), 1.3), 6.6 if peaks else 4.6, target) as figure:
        panels = figure.subplots(1 + peaks, len(passes), squeeze=False, sharex=True, height_ratios=[3, 2][: 1 + peaks])
        for column, pass_ in zip(panels.T, passes, strict=True):
            here = rows["pass"] == pass_
            for number, line in enumerate(series):
                shift = 1.0 if len(batches) > 1 else 2 ** (0.12 * (number - (len(series) - 1) / 2))
                _line(column, rows[here & (names == line.name)].sort_values("batch"), line, shift)
            text = _mark_compute_bound(column, rows[here])
            column[0].set_title(pass_title(str(pass_)), pad=20 if text else None)
            # above the panel, clear of all lines
            column[0].annotate(text, (0.5, 1.02), xycoords="axes fraction", ha="center", fontsize=9, color=style.FAINT)
            for panel in column:
                panel.set_xscale("log", base=2)
                panel.set_xticks(batches, ["" if calls else f"{batch:g}" for batch in batches])
                panel.set_xticks([], minor=True)
                style.grid(panel)
            highest, widest = rows["speed"][here].max(), rows["speed_high"][here].max()
            if widest > REACH * highest:  # would compress all lines
                column[0].set_ylim(0, REACH * highest)
                column[0].set_title(f"one interval extends to {console.number(widest)}", loc="right", fontsize=9)
            else:
                column[0].set_ylim(0, column[0].get_ylim()[1] * 1.05)
            if peaks:
                column[1].axhline(1, color=style.INK, linestyle="--", linewidth=1)
                column[1].set_ylim(0, max(1.08, column[1].get_ylim()[1]))
            only = "benchmarks, side by side" if calls else f"batch: only {batches[0]:g}; run --batch 8,32,128"
            column[-1].set_xlabel("batch" if len(batches) > 1 else only)
            if len(batches) < 2:
                column[-1].set_xlim(batches[0] / 2, batches[0] * 2)
        panels[0, 0].set_ylabel(f"{unit}, 95 % interval\n(more is faster)")
        if peaks:
            panels[1, 0].set_ylabel("share of the best\nrate measured here")
        style.legend(figure, *panels[0, 0].get_legend_handles_labels())
        figure.suptitle(style.title(rows, "Throughput", ("variant", "device_name", "threads")), fontsize=12)
    return figure


def _names(rows: pd.DataFrame, calls: bool) -> pd.Series:
    """Name each row's line; of another program each benchmark is its own."""
    short = rows["case_id"].str.rpartition("::")[2]
    names = short if calls else style.label_series(rows, SERIES_COLUMNS)
    more = [rows["run_id"].fillna("").astype(str)] if "run_id" in rows and rows["run_id"].nunique() > 1 else []
    for suffix in (*more, rows["case_id"]):
        if pd.DataFrame({"series": names, "pass": rows["pass"], "batch": rows["batch"]}).duplicated().any():
            names = names + " " + suffix
    return names


def _with_speed(rows: pd.DataFrame) -> pd.DataFrame:
    """Add center and interval as images per second; the mean serves if there is no center."""
    known = {name: rows[name] for name in ("center_ms", "ci95_low_ms", "ci95_high_ms", "peak_fraction") if name in rows}
    numbers = {name: pd.to_numeric(column, errors="coerce") for name, column in known.items()}
    none = pd.Series(np.nan, rows.index)
    center = numbers.get("center_ms", none).fillna(rows["mean_ms"])
    worlds = rows["world"].fillna(1) if "world" in rows else 1
    images = rows["batch"] * worlds * 1e3
    return rows.assign(
        speed=images / center,
        speed_low=images / numbers.get("ci95_high_ms", none),
        speed_high=images / numbers.get("ci95_low_ms", none),
        peak_fraction=numbers.get("peak_fraction", none),
    )


def _line(column: Any, rows: pd.DataFrame, line: style.Series, shift: float) -> None:
    """Draw a series in the panels of a pass; the factor ``shift`` separates points of one batch."""
    look = {"color": line.color, "marker": line.marker, "linestyle": "--" if line.compiled else "-", "markersize": 6}
    errors = [rows["speed"] - rows["speed_low"], rows["speed_high"] - rows["speed"]]
    known = [error.fillna(0.0).clip(lower=0).to_numpy() for error in errors]
    bars = {"yerr": known, "capsize": 4} if np.any(known) else {}  # caps of no length would hide the marker
    column[0].errorbar(rows["batch"] * shift, rows["speed"], label=line.name, **bars, **look)
    if len(column) > 1 and rows["peak_fraction"].notna().any():
        column[1].plot(rows["batch"] * shift, rows["peak_fraction"], **look)


def _mark_compute_bound(column: Any, rows: pd.DataFrame) -> str:
    """Mark the batch from which the net is compute-bound, or a range if ceilings differ; return it in words."""
    batches = _compute_bound_batches(rows)
    if not batches:
        return ""
    low, high = min(batches), max(batches)
    least, most = rows["batch"].min(), rows["batch"].max()
    if low > roofline.LARGEST_BATCH:
        return f"memory-bound up to batch {roofline.LARGEST_BATCH}"
    if low <= most and high >= least:
        for panel in column:
            if low == high:
                panel.axvline(low, color=style.FAINT, linestyle=":", linewidth=1.5)
            else:
                panel.axvspan(low, high, color=style.SHADE, zorder=0)
    return f"compute-bound from batch {low if low == high else f'{low}–{high}'} on"


def _compute_bound_batches(rows: pd.DataFrame) -> list[int]:
    needed = ("ceiling_gflop_per_s", "copy_gb_per_s")
    if any(name not in rows for name in needed):
        return []
    facts = [rows["variant"], *(pd.to_numeric(rows[name], errors="coerce") for name in needed)]
    facts += [
        rows[name] if name in rows else pd.Series(None, rows.index, dtype=object)
        for name in ("size", "precision", "pass")
    ]
    batches = []
    for variant, ceiling, copy, size, precision, pass_ in set(zip(*facts, strict=True)):
        if pd.isna(ceiling) or pd.isna(copy) or pd.isna(size) or pass_ not in timed_by_name():
            continue
        width = roofline.value_bytes(precision)
        try:
            batch = roofline.turning_batch(variant_named(variant, int(size)), pass_, ceiling, copy, width=width)
        except (KeyError, LayerError):  # net of another program
            continue
        batches.append(roofline.LARGEST_BATCH + 1 if batch is None else batch)
    return batches
