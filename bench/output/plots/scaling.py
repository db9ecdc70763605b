"""Scaling plot: images per second and efficiency over devices: ideal, measured, and projected beyond."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from bench import UsageError
from bench.cases.passes import ALL_REDUCE, pass_title
from bench.output.console import number
from bench.output.plots import frames, style
from bench.stats.links import Link
from bench.stats.projection import Projected, Step, project
from impls.layers import LayerError
from impls.variants import variant_named

PASSES = ("forward_backward", "train_step")
#: Columns that name a line where they vary, and with the pass tell rows of one line.
SERIES_COLUMNS = (
    *("variant", "size", "device", "device_name", "precision", "threads"),
    *(name for name in style.SERIES_COLUMNS if name not in ("loader", "world")),
)
SAME = ("run_id", "framework", "mode", *SERIES_COLUMNS)
NUMBERS = (
    *("efficiency", "efficiency_ci95_low", "efficiency_ci95_high"),
    *("center_ms", "ci95_low_ms", "ci95_high_ms", "bus_gb_per_s"),
)
BEYOND = 8  # how many times as many devices as were measured are projected, at least LEAST
LEAST = 16
IDEAL: Mapping[str, Any] = {"linestyle": ":", "linewidth": 1.2}
PROJECTED: Mapping[str, Any] = {"linestyle": (0, (5, 2)), "linewidth": 1.2}
SHIFT = 2**0.05  # of the points of neighboring series, as a factor of the devices


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.whole_nets(frames.read(paths)), target)


def draw(rows: pd.DataFrame, target: Path) -> Figure:
    """Draw a panel per pass that reduces gradients: images/s with 95 % intervals over devices, both on log axes, and
    below it the efficiency.

    ``rows`` come from ``frames.read``. A line is a batch per device (weak scaling), or a batch of all devices that is
    split (strong). It begins at one device, from which its ideal is drawn, and is projected from that device's passes
    and the all-reduce that was measured on most devices, where the net is ours and scaling weak. Raises UsageError
    without a pass on several devices that has an efficiency.
    """
    rows = _whole(rows)
    points = _points(rows)
    names = style.label_series(points, SERIES_COLUMNS) + points["extent"].map(
        lambda text: f" {text}" if points["extent"].nunique() > 1 else ""
    )
    series = style.list_series(points, names)
    passes = [name for name in PASSES if (points["pass"] == name).any()]
    curves: list[tuple[str, style.Series, list[Projected]]] = []
    with style.figure(5.2 * max(len(passes), 1.4), 6.8, target) as figure:
        panels = figure.subplots(2, len(passes), squeeze=False, sharex=True, height_ratios=[3, 2])
        for (upper, lower), pass_ in zip(panels.T, passes, strict=True):
            here = points["pass"] == pass_
            for place, line in enumerate(series):
                own = points[here & (names == line.name)].sort_values("world")
                shift = SHIFT ** (place - (len(series) - 1) / 2)
                for _, batch in own.groupby(["run_id", "base"], sort=False, dropna=False):
                    _measured(upper, lower, batch, line, shift)
                    if curve := _projection(rows, batch):
                        curves.append((pass_, line, curve))
                        _projected(upper, lower, curve, line)
            upper.set_title(pass_title(pass_))
            _axes(upper, lower)
        upper, lower = panels[0, 0], panels[1, 0]
        upper.set_ylabel("images/s of all devices,\n95 % interval (more is faster)")
        lower.set_ylabel("efficiency: share of\nthe ideal")
        _legend(figure, series, curves)
        shared = ("variant", "size", "device_name", "threads")
        extents = list(dict.fromkeys(points["extent"]))
        said = style.title(points, "Scaling", shared) + (f", {extents[0]}" if len(extents) == 1 else "")
        figure.suptitle(said, fontsize=12)
    return figure


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the passes that are drawn, with ``base`` (the batch on one device), ``extent`` (that in words),
    ``strong``, and ``speed`` with its ends, images/s of all devices. Raises UsageError as ``draw`` does."""
    if "world" not in rows or not (rows["world"] > 1).any():
        raise UsageError("scaling: expected a Run on several devices, found none; see `alexnet-bench run --devices`")
    chosen = _with_own_starts(rows[rows["pass"].isin(PASSES) & rows["world"].notna()])
    if not chosen["efficiency"].notna().any():
        raise UsageError(
            "scaling: expected an efficiency, found none; it takes one device in the same Run, and a core for each"
        )
    alone = chosen[chosen["world"] == 1]
    strong = _strong_runs(chosen, alone)
    whole = chosen["batch"] * chosen["world"]
    base = chosen["batch"].where(~chosen["run_id"].astype(str).isin(strong), whole)
    images = whole * 1e3
    texts = [
        f"batch {size:g} {'of all devices' if run in strong else 'per device'}"
        for size, run in zip(base, chosen["run_id"].astype(str), strict=True)
    ]
    return chosen.assign(
        base=base,
        extent=texts,
        strong=chosen["run_id"].astype(str).isin(strong),
        speed=images / chosen["center_ms"].fillna(chosen["mean_ms"]),
        speed_low=images / chosen["ci95_high_ms"],
        speed_high=images / chosen["ci95_low_ms"],
    )


def _with_own_starts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, with those of one device once more for each way in which Teams of their Run share the net: a line of
    its own, which begins there too."""
    whole = set(rows["run_id"][(rows["world"] > 1) & rows["split"].isna()])
    starts = [rows[(rows["world"] > 1) | rows["run_id"].isin(whole)]]
    for (run, split), _ in rows[rows["split"].notna()].groupby(["run_id", "split"], sort=False):
        starts.append(rows[(rows["run_id"] == run) & (rows["world"] == 1)].assign(split=str(split)))
    return pd.concat(starts, ignore_index=True) if len(starts) > 1 else rows


def _whole(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every column that is needed here, empty where they lack it."""
    lacking = {name: None for name in SAME if name not in rows}
    numbers = {name: pd.to_numeric(rows[name], errors="coerce") if name in rows else math.nan for name in NUMBERS}
    return rows.assign(**lacking, **numbers)


def _strong_runs(chosen: pd.DataFrame, alone: pd.DataFrame) -> set[str]:
    """Runs in which the batch of one device is split: there is none of one device with the batch of a Team's device,
    but one with that of all of them."""
    single = set(zip(alone["run_id"].astype(str), alone["batch"], strict=True))
    teams = chosen[chosen["world"] > 1]
    found = set()
    for run, batch, world in zip(teams["run_id"].astype(str), teams["batch"], teams["world"], strict=True):
        if (run, batch) not in single and (run, batch * world) in single:
            found.add(run)
    return found


def _measured(upper: Any, lower: Any, rows: pd.DataFrame, line: style.Series, shift: float) -> None:
    """Draw a line's points with their intervals, and the ideal from its point on one device."""
    look = {"color": line.color, "marker": line.marker, "markersize": 6, "linestyle": "-", "linewidth": 1.2}
    at = rows["world"] * shift
    _points_with_bars(upper, at, [rows[name] for name in ("speed", "speed_low", "speed_high")], look)
    efficiency = ["efficiency", "efficiency_ci95_low", "efficiency_ci95_high"]
    teams = rows[rows["efficiency"].notna()]
    _points_with_bars(lower, teams["world"] * shift, [teams[name] for name in efficiency], look)
    alone = rows[rows["world"] == 1]
    if len(alone):
        worlds = [1, LEAST, *rows["world"], BEYOND * rows["world"].max()]
        ends = [min(worlds), max(worlds)]
        upper.plot(ends, [alone["speed"].iloc[0] * world for world in ends], color=line.color, gid="ideal", **IDEAL)


def _points_with_bars(panel: Any, at: pd.Series, values: Sequence[pd.Series], look: Mapping[str, Any]) -> None:
    center, low, high = values
    errors = [(center - low).fillna(0.0).clip(lower=0), (high - center).fillna(0.0).clip(lower=0)]
    bars = {"yerr": [error.to_numpy() for error in errors], "capsize": 4} if (errors[0] + errors[1]).any() else {}
    panel.errorbar(at, center, **bars, **look)


def _projection(rows: pd.DataFrame, line: pd.DataFrame) -> list[Projected]:
    """A line's pass on 1, 2, 4, ... devices; empty where one device, its all-reduce or its net is not known."""
    alone, first = line[line["world"] == 1], line.iloc[0]
    if alone.empty or first["strong"]:
        return []
    same = pd.Series(True, rows.index)
    for column in SAME:
        same &= rows[column].isna() if pd.isna(first[column]) else rows[column] == first[column]
    sums = rows[same & (rows["pass"] == ALL_REDUCE.name)]
    sums = sums[sums["bus_gb_per_s"].notna()]
    if sums.empty or pd.notna(first["net"]):
        return []
    _, rate = max(zip(sums["world"], sums["bus_gb_per_s"], strict=True))
    link = Link("", float(rate))
    one = rows[same & (rows["world"] == 1) & (rows["batch"] == first["batch"])]
    centers = {name: float(part["center_ms"].iloc[0]) for name, part in one.groupby("pass")}
    try:
        net = variant_named(str(first["variant"]), int(first["size"]))
    except (KeyError, ValueError, LayerError):
        return []
    pass_, passes = str(first["pass"]), ("forward", "forward_backward")
    before = {f"{name}_ms": centers[name] for name in passes if name in centers}
    step = Step.of(net, pass_, int(first["batch"]), centers[pass_], **before)
    most = max(LEAST, BEYOND * int(line["world"].max()))
    return [project(net, step, link, 2**power) for power in range(math.ceil(math.log2(most)) + 1)]


def _projected(upper: Any, lower: Any, curve: Sequence[Projected], line: style.Series) -> None:
    worlds = [each.world for each in curve]
    look = {"color": line.color, "gid": "projected", **PROJECTED}
    upper.plot(worlds, [each.images_per_s for each in curve], **look)
    lower.plot(worlds, [each.efficiency for each in curve], **look)


def _axes(upper: Any, lower: Any) -> None:
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter(lambda value, _: number(value))
    low, high = upper.get_ylim()
    upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    upper.yaxis.set_minor_locator(NullLocator())
    lower.axhline(1, color=style.INK, linewidth=1, **{"linestyle": ":"})
    lower.set_ylim(0, max(1.08, lower.get_ylim()[1]))
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for panel in (upper, lower):
        panel.set_xscale("log", base=2)
        style.grid(panel, "both")
    lower.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    lower.xaxis.set_minor_locator(NullLocator())
    lower.set_xlabel("devices")


def _legend(figure: Figure, series: Sequence[style.Series], curves: Sequence[tuple[str, style.Series, Any]]) -> None:
    handles = [Line2D([], [], color=line.color, marker=line.marker, markersize=6) for line in series]
    texts = [line.name for line in series]
    handles.append(Line2D([], [], color=style.INK, **IDEAL))
    texts.append("ideal: that of one device, times the devices")
    if curves:
        handles.append(Line2D([], [], color=style.INK, **PROJECTED))
        texts.append("projected: from one device and the all-reduce")
    style.legend(figure, handles, texts)
