"""Roofline plot: speed of each layer and net under the machine's compute and copy rates."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from bench import UsageError
from bench.cases.passes import Difference, pass_title, timed_by_name
from bench.output import console
from bench.output.plots import frames, style
from bench.record import ceiling
from bench.record.layer_times import SUM, WHOLE
from bench.stats import roofline as work
from impls.layers import Conv, Fc, LayerError
from impls.variants import variant_named

NEEDED = ("name", "framework", "mode", "pass", "intensity", "gflop_per_s", "kind")
ROOFS = (("matmul_gflop_per_s", "matrix product", "-"), ("conv_gflop_per_s", "convolution", "--"))
HEAVY = (Conv.kind, Fc.kind)  # rows with MACs have a label each, the other kinds one per kind
EDGE = style.INK
SIZES = {"layer": 5, "net": 9}
MOST = 240  # points; names of more take too long to place
FAR = 22  # points; distance of a name from its point above which a line joins them
SAME = 25  # pixels; rows nearer to each other share a name
#: Columns that a roof depends on, besides the machine.
ROOF_COLUMNS = ("device", "precision", "threads")


def draw_files(paths: Sequence[Path], target: Path) -> None:
    """Draw each layer and net of a profile, and each pass of another Run, under the roofs of the first row.

    Points of another device, precision or thread count than the first row are left out, with a line on stderr. Raises
    UsageError for more than one machine.
    """
    points: list[Mapping[Any, Any]] = []
    tables = [frames.read([path]) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if path.is_dir() and (path / "profile.csv").exists():
            machine = table.iloc[0][["device_name", "threads"]].to_dict()
            points += [{**point, **machine} for point in profile_points(frames.profile(path).to_dict("records"))]
        else:
            points += summary_points(table.to_dict("records"))
    rows = pd.concat(tables, ignore_index=True)
    if "device_name" in rows and rows["device_name"].nunique() > 1:
        machines = " and ".join(sorted(set(rows["device_name"])))
        raise UsageError(f"roofline: expected one device_name, found {machines}; draw each machine by itself")
    apart = [what for what in ROOF_COLUMNS if what in rows and rows[what].nunique() > 1]
    first = rows.iloc[0]
    under = rows[(rows[apart] == first[apart]).all(axis=1)]
    here = [point for point in points if all(point.get(what) == first[what] for what in apart)]
    if apart and len(here) < len(points):
        roofs, others = ", ".join(f"{what} {first[what]}" for what in apart), len(points) - len(here)
        console.tell(f"roofline: under the roofs of {roofs}; {others} of {len(points)} points left out")
    best = under[[name for name in ceiling.RATES if name in rows]].apply(pd.to_numeric, errors="coerce").max()
    draw(here, {name: best.get(name) for name in ceiling.RATES}, target)


def profile_points(rows: Sequence[Mapping[Any, Any]]) -> list[Mapping[Any, Any]]:
    """Return the points of a profile: each layer, and the whole net in each measured pass."""
    points: list[Mapping[Any, Any]] = []
    derived = [name for name, timed in timed_by_name().items() if isinstance(timed, Difference)]
    for row in rows:
        whole = row["layer"] == WHOLE
        if row["layer"] != SUM and not (whole and row["pass"] in derived):
            name = row["variant"] if whole else f"{row['variant']}.{row['layer']}"
            points.append({**row, "name": name, "kind": "net" if whole else "layer"})
    return points


def summary_points(rows: Sequence[Mapping[Any, Any]]) -> list[Mapping[Any, Any]]:
    """Return one point per pass of a whole net. Work includes light layers, as in a profile."""
    points: list[Mapping[Any, Any]] = []
    for row in rows:
        net, _, part = str(row["variant"]).partition(".")
        if part or ("macs" in row and pd.isna(row["macs"])):  # nobody counted the work of an unproven net
            continue
        try:
            variant = variant_named(net, int(row.get("size", math.nan)))  # ValueError if unknown
            width = work.value_bytes(row.get("precision", ""))
            done = work.net_work(variant, int(row["batch"]), row["pass"], width=width)
        except (KeyError, ValueError, LayerError):
            continue  # net of another program or version
        center = row.get("center_ms")
        speed = done.flop / float(row["mean_ms"] if pd.isna(center) else center) / 1e6
        name = f"{net} b{row['batch']}"
        points.append({**row, "name": name, "kind": "net", "intensity": done.intensity, "gflop_per_s": speed})
    return points


def draw(
    points: pd.DataFrame | Iterable[Mapping[str, Any]], ceilings: Mapping[str, float | None], target: Path
) -> Figure:
    """Draw GFLOP/s against FLOP per byte, log-log: one panel for passes without backward, one for those with it.

    ``points`` have the columns NEEDED, ``kind`` is layer or net; those without a speed or an intensity are left out.
    ``ceilings`` are matmul_gflop_per_s, conv_gflop_per_s and copy_gb_per_s; None or NaN gives no roof. Raises
    UsageError for a missing column or no point.
    """
    rows = points if isinstance(points, pd.DataFrame) else pd.DataFrame(list(points))
    missing = [name for name in NEEDED if name not in rows]
    if missing and not rows.empty:
        raise UsageError(f"roofline: expected the columns {', '.join(NEEDED)}; missing {', '.join(missing)}")
    if not rows.empty:
        rows = rows.assign(
            **{name: pd.to_numeric(rows[name], errors="coerce") for name in ("intensity", "gflop_per_s")}
        )
        rows = rows[(rows["intensity"] > 0) & (rows["gflop_per_s"] > 0)]
    if rows.empty:
        raise UsageError(
            "roofline: no point with an intensity and a gflop_per_s, nothing to draw; time layers or a net"
        )
    style.refuse_many(len(rows), "points", MOST)
    names = style.label_series(rows)
    series = style.list_series(rows, names)
    forward = rows["pass"].isin([name for name, timed in timed_by_name().items() if "backward" not in timed.stages])
    halves = [_with_passes(rows[part]) for part in (forward, ~forward) if part.any()]
    ceilings = {name: None if pd.isna(rate) else rate for name, rate in ceilings.items()}
    limits = _limits(rows, ceilings)
    with style.figure(6.2 if len(halves) == 1 else 10.0, 5.4, target) as figure:
        panels = figure.subplots(1, len(halves), squeeze=False, sharey=True)[0]
        for panel, half in zip(panels, halves, strict=True):
            panel.set(xscale="log", yscale="log", xlim=limits[0], ylim=limits[1], xlabel="FLOP per byte moved at least")
            panel.set_title(_passes_title(half))
            panel.minorticks_off()
            style.grid(panel, "both")
            for line in series:
                for kind, part in half[names[half.index] == line.name].groupby("kind"):
                    net = kind == "net"
                    look = {"marker": line.marker, "color": line.color, "zorder": 3 + net}
                    look["markersize"] = SIZES[str(kind)]
                    edge = {"markeredgecolor": style.INK if net else "white", "markeredgewidth": 1.2 if net else 0.5}
                    panel.plot(part["intensity"], part["gflop_per_s"], linestyle="", **look, **edge)
        panels[0].set_ylabel("GFLOP/s reached")
        handles = [Line2D([], [], linestyle="", marker=line.marker, color=line.color) for line in series]
        style.legend(figure, handles, [line.name for line in series])
        figure.suptitle(style.title(rows, "Layers (small) and nets (large) under the machine's roofs"), fontsize=12)
        style.settle(figure)  # names are placed by pixels
        for panel, half in zip(panels, halves, strict=True):
            taken = list(_roofs(panel, ceilings, limits[0]))
            _name_points(panel, half, taken)
    return figure


def _limits(rows: pd.DataFrame, ceilings: Mapping[str, float | None]) -> tuple[tuple[float, float], ...]:
    """Return limits of both axes with every point, the ridge, and room for labels inside."""
    tops = [top for name, _, _ in ROOFS if (top := ceilings.get(name))]
    copy = ceilings.get("copy_gb_per_s")
    xs, ys = list(rows["intensity"]), [*rows["gflop_per_s"], *tops]
    if copy and tops:
        xs += [max(tops) / copy, max(tops) / copy / 12]  # a slope long enough for its name
    return (min(xs) / 2.5, max(xs) * 2.5), (min(ys) / 4, max(ys) * 2)


def _with_passes(rows: pd.DataFrame) -> pd.DataFrame:
    """Points whose names have their pass, for nets in several passes: its work, and so the place, differs."""
    net = rows["kind"] == "net"
    if rows[net]["pass"].nunique() < 2:
        return rows
    passes = rows["pass"].map(lambda pass_: f", {pass_title(str(pass_))}")
    return rows.assign(name=rows["name"] + passes.where(net, ""))


def _passes_title(rows: pd.DataFrame) -> str:
    """Name the passes in a panel, with their kinds of points if those differ."""
    kinds = {pass_title(str(pass_)): sorted(part["kind"].unique()) for pass_, part in rows.groupby("pass")}
    if len({tuple(names) for names in kinds.values()}) == 1:
        return ", ".join(kinds)
    return ", ".join(f"{title} ({' and '.join(f'{kind}s' for kind in names)})" for title, names in kinds.items())


def _roofs(panel: Any, ceilings: Mapping[str, float | None], xlim: tuple[float, float]) -> Iterator[Bbox]:
    """Draw the machine's rates, and yield boxes of the lines and labels in pixels."""
    tops = [(top, title, style) for name, title, style in ROOFS if (top := ceilings.get(name))]
    tops.sort(reverse=True)
    copy = ceilings.get("copy_gb_per_s")
    for number, (top, title, dashes) in enumerate(tops):
        start = top / copy if copy else xlim[0]
        panel.plot([start, xlim[1]], [top, top], color=EDGE, linestyle=dashes, linewidth=1.5)
        if copy:  # dotted to the left edge, where the label has room
            panel.plot([xlim[0], start], [top, top], color=EDGE, linestyle=":", linewidth=0.7)
        up = 3 if number == 0 else -3  # labels above the upper line and below the lower one never touch
        look = {"va": "bottom" if up > 0 else "top", "fontsize": 9, "color": EDGE, "in_layout": False}
        text = f"{title} {console.number(top)} GFLOP/s"
        label = panel.annotate(text, (xlim[0], top), (4, up), textcoords="offset points", **look)
        yield label.get_window_extent()
        yield from _along(panel, [(start, top), (xlim[1], top)])
    if copy:
        low, high = xlim[0], max((top for top, _, _ in tops), default=xlim[1] * copy) / copy
        panel.plot([low, high], [low * copy, high * copy], color=EDGE, linewidth=1.5)
        (x0, y0), (x1, y1) = panel.transData.transform([(low, low * copy), (high, high * copy)])
        box = panel.get_window_extent()
        visible = max(x0, box.x0, x0 + (box.y0 - y0) * (x1 - x0) / (y1 - y0))  # where the slope enters the panel
        along = visible + 0.15 * (x1 - visible)
        at = panel.transData.inverted().transform((along, y0 + (along - x0) * (y1 - y0) / (x1 - x0)))
        degrees = math.degrees(math.atan2(y1 - y0, x1 - x0))
        look = {"va": "bottom", "fontsize": 9, "color": EDGE, "in_layout": False}
        label = panel.annotate(f"copy {console.number(copy)} GB/s", at, (-3, 3), textcoords="offset points", **look)
        label.set(rotation=degrees, rotation_mode="anchor")
        yield from _along(panel, [(low, low * copy), (high, high * copy)])


def _along(panel: Any, ends: Sequence[tuple[float, float]]) -> Iterator[Bbox]:
    """Cover a straight line with small boxes, in pixels."""
    (x0, y0), (x1, y1) = panel.transData.transform(ends)
    steps = max(1, int(math.dist((x0, y0), (x1, y1)) / 6))
    for step in range(steps + 1):
        yield Bbox.from_bounds(x0 + (x1 - x0) * step / steps - 2, y0 + (y1 - y0) * step / steps - 2, 4, 4)


def _name_points(panel: Any, rows: pd.DataFrame, taken: list[Bbox]) -> None:
    """Print a name below each column of points: nets, rows with MACs (one name per intensity), light kinds.

    All frameworks' points of a row form a column, since the work is the same. Names without room are left out.
    """
    places = panel.transData.transform(rows[["intensity", "gflop_per_s"]].to_numpy())
    taken = taken + [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    inside = panel.get_window_extent()
    for name, net, x, y in _columns(rows.assign(px=places[:, 0])):
        look = {"fontsize": 9, "zorder": 5, "weight": "bold" if net else "normal", "in_layout": False}
        label = panel.annotate(name, (x, y), (0, 0), textcoords="offset points", va="center", **look)
        label.set_path_effects([patheffects.withStroke(linewidth=2, foreground=style.PAPER)])
        for across, dx, dy in _offsets(5 if net else 2):
            label.set(ha=across, position=(dx, dy))
            box = label.get_window_extent()
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not box.count_overlaps(taken):
                taken.append(box)
                if math.hypot(dx, dy) > FAR:
                    at = panel.transData.inverted().transform((box.x0 + box.width / 2, box.y1))
                    panel.plot([x, at[0]], [y, at[1]], color=style.FAINT, linewidth=0.6, zorder=2)
                break
        else:
            label.remove()


def _columns(rows: pd.DataFrame) -> Iterator[tuple[str, bool, float, float]]:
    """Yield each column's name, whether it is a net, and its lowest point; nets first, light kinds last."""
    net = rows["kind"] == "net"
    row = rows["name"].str.rpartition(".")[2]  # without the net's name
    kind = row.str.replace(r"\d+$", "", regex=True).where(~net, "")
    rank = (~net).astype(int) + (~net & ~kind.isin(HEAVY))  # 0: net, 1: row with MACs, 2: light row
    label = rows["name"].where(net, kind.where(rank == 2, row))
    keyed = rows.assign(rank=rank, label=label, family=kind).sort_values(["rank", "family", "px"])
    columns = [part for _, part in keyed.groupby(["rank", "label"], sort=False)]
    while columns:
        part = columns.pop(0)
        first = int(part["rank"].iloc[0])
        while first == 1 and columns and columns[0]["family"].iloc[0] == part["family"].iloc[0]:
            if columns[0]["px"].mean() - part["px"].max() > SAME:
                break
            part = pd.concat([part, columns.pop(0)])
        lowest = part.sort_values("gflop_per_s").iloc[0]
        yield _range(sorted(part["label"].unique())), first == 0, lowest["intensity"], lowest["gflop_per_s"]


def _range(names: Sequence[str]) -> str:
    """Join names with commas, consecutive ones as a range: conv3–5."""
    numbers = [int(digits[0]) if (digits := re.findall(r"\d+$", name)) else 0 for name in names]
    if len(names) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{names[0]}–{numbers[-1]}"
    return ", ".join(names)


def _offsets(radius: float) -> Iterator[tuple[str, float, float]]:
    """Yield alignments and offsets of a name in points, the best first: below, at the sides, farther below."""
    for away in range(12):
        down = -radius - 9 - 6 * away
        yield from (("center", 0, down), ("left", -6, down), ("right", 6, down))
        if not away:
            yield from (("left", radius + 6, 0), ("right", -radius - 6, 0))
