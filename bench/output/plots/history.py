"""History plot: a decade of published AlexNet timings, and a user's rows next to those of the same net."""

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from bench.output.plots import frames, style
from bench.output.plots.published import (
    BVLC,
    FILE,
    NOT_STATED,
    PUBLISHED_PASSES,
    SHARED,
    UNSIZED,
    choose_names,
    cut,
    format_speed,
    marks_of_rows,
    marks_of_timings,
    read_timings,
    reasons_left_out,
)
from impls.variants import VARIANTS

COLORS = {"fp32": style.INK, "fp16": "#CC79A7", "int8": "#56B4E9", NOT_STATED: "#999933"}
GRAY = "#B5B5B5"
CONTEXT, TRAIN = "another or unknown net: not comparable", "full training step of such a net"
MARKERS = dict(zip((*SHARED, *(name for name in VARIANTS if name not in SHARED)), "osD^vph<>", strict=True))
OTHER_NET, UNSIZED_NET = "P", "X"
SLOWER = {"markersize": 4.5, "alpha": 0.4}
RULE = "Numbered: the fastest published of each year, by net, processor, precision and pass; a line joins them."
OWN_PASS = "Large marks: forward + backward includes a loss, but no optimizer and no gradient of the images."
CAFFES = f"{BVLC}: Caffe's bvlc_alexnet, whose own input is 227 px. No published timing is of our original."
WIDTH, PANELS = 10.0, 6.2  # inches: the figure, and the height of its panels
SMALL = 7.5  # points
LINE = SMALL * 1.3 / 72  # inches
COLUMN, PAGE = 82, 160  # characters per line of small print


def draw_files(paths: Sequence[Path], target: Path) -> None:
    draw(frames.read(paths) if paths else None, target, read_timings())


def draw(rows: pd.DataFrame | None, target: Path, timings: pd.DataFrame) -> Figure:
    """Draw images per second against the date, log scale, one panel per published pass; below them the source and
    caveat of each number.

    Published marks of one net in SHARED, processor and precision form a series; all others are gray. ``rows`` are from
    ``frames.read``, drawn at the date of their run_id or at the right edge; if None or empty, only published timings
    are drawn. Raises UsageError if no row is a valid forward or forward_backward of a whole net.
    """
    old = marks_of_timings(timings)
    new = marks_of_rows(rows, old["year"].max() + 0.5)
    style.refuse_many(new["net"].nunique(), "nets", 8)
    style.refuse_many(len(new), "rows", 240)
    columns = _halves([_entry(part) for _, part in old.dropna(subset="number").groupby("number")])
    steps = rows is not None and bool((rows["pass"] == "train_step").any())
    teams = rows is not None and "world" in rows and bool((rows["world"] > 1).any())
    notes = [line for note in _notes(timings, old, new, steps, teams) for line in textwrap.wrap(note, PAGE)]
    names = {pass_: choose_names(new, pass_) for pass_ in PUBLISHED_PASSES}
    side = 0.2 + 0.071 * max(
        (len(line) for part in names.values() for name in part for line in name.split("\n")), default=-3
    )  # inches
    handles = list(_handles(old, new))
    ncols = _fitting([str(handle.get_label()) for handle in handles])
    small = max(map(_count_lines, columns)) + len(notes) + 2 * math.ceil(len(handles) / ncols) + 2
    height = PANELS + small * LINE
    low = 1 - PANELS / height
    with style.figure(WIDTH, height, target) as figure:
        engine: Any = figure.get_layout_engine()
        engine.set(rect=(0.008, low, 0.984 - side / WIDTH, 1 - low))
        panels = figure.subplots(len(PUBLISHED_PASSES), 1, sharex=True)
        for panel, (pass_, about) in zip(panels, PUBLISHED_PASSES.items(), strict=True):
            _published(panel, old[old["pass"].isin(about.marks)])
            _ours(panel, new[new["pass"] == pass_])
            panel.set(yscale="log", ylabel="images/s")
            panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            panel.minorticks_off()
            panel.set_ylim(panel.get_ylim()[0], panel.get_ylim()[1] * 1.5)  # room for a number
            panel.set_title(about.title, loc="left", fontsize=11)
            style.grid(panel, "both")
        years = [*old["year"], *new["year"]]
        first, last = min(years) - 0.3, max(years) + 0.3
        panels[-1].set_xlim(first, last)
        panels[-1].set_xticks(range(math.ceil(first), math.floor(last) + 1, 1 if last - first < 11 else 2))
        figure.suptitle(_title(old, new), fontsize=13)
        look: dict[str, Any] = {"ncols": ncols, "frameon": False, "fontsize": 9, "columnspacing": 1.4}
        figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, low), **look)
        style.settle(figure)  # what follows is placed by pixels
        _print(figure, columns, notes)
        for panel, pass_ in zip(panels, PUBLISHED_PASSES, strict=True):
            drawn = [place for part in (old, new) for place in _places(panel, part[part["pass"] == pass_])]
            taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in drawn]
            _place_numbers(panel, old[old["fastest"] & (old["pass"] == pass_)], taken)
            _place_names(panel, new.loc[list(names[pass_].values())], list(names[pass_]))
    return figure


def _published(panel: Any, old: pd.DataFrame) -> None:
    """Draw gray context first, then each series: a line through the fastest of its years, and its marks."""
    context = old["series"] == ""
    for (cpu, train), part in old[context].groupby(["cpu", old["pass"] == "train"]):
        panel.plot(part["year"], part["images_per_s"], gid="context", **_context_look(bool(cpu), bool(train)))
    for name, part in old[~context].groupby("series"):
        look = _look(*part.iloc[0][["net", "cpu", "look"]])
        best = part[part["fastest"]].sort_values("day")
        line = {"color": look["markeredgecolor"], "linewidth": 1, "alpha": 0.5}
        panel.plot(best["year"], best["images_per_s"], gid=f"line {name}", **line)
        rest = part[~part["fastest"]]
        panel.plot(rest["year"], rest["images_per_s"], gid=f"published {name}", zorder=3, **look | SLOWER)
        panel.plot(best["year"], best["images_per_s"], gid=f"published {name}", zorder=4, **look)


def _context_look(cpu: bool, train: bool) -> dict[str, Any]:
    look = {"marker": "x" if train else "o", "markersize": 4, "linestyle": "", "color": GRAY}
    return look | {"markerfacecolor": style.PAPER if cpu else GRAY}


def _look(net: str, cpu: bool, precision: str) -> dict[str, Any]:
    color = COLORS.get(precision, COLORS[NOT_STATED])
    look = {"marker": _marker(net), "linestyle": "", "markersize": 7, "markeredgecolor": color}
    return look | {"markerfacecolor": style.PAPER if cpu else color}


def _marker(net: str) -> str:
    return MARKERS.get(net, UNSIZED_NET if UNSIZED in net else OTHER_NET)


def _ours(panel: Any, new: pd.DataFrame) -> None:
    """Draw a user's marks: larger, in the framework's color, hollow for a CPU."""
    for _, row in new.iterrows():
        color = style.COLORS.get(row["framework"], style.OTHER)
        look = {"marker": _marker(row["net"]), "markersize": 11, "linestyle": "", "color": color}
        look |= {"markerfacecolor": style.PAPER if row["device"] == "cpu" else color, "markeredgewidth": 2.5}
        panel.plot(row["year"], row["images_per_s"], zorder=5, gid=f"ours {row['net']}", **look)


def _handles(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[Line2D]:
    """Yield a legend entry per shape, filling and color in use."""
    drawn = old[old["series"] != ""]
    marked: dict[str, list[str]] = {}
    for net in dict.fromkeys([*(name for name in SHARED if name in set(drawn["net"])), *new["net"]]):
        marked.setdefault(_marker(net), []).append(net)
    for net, *others in marked.values():
        name = "other nets: nothing published of them" if others else f"{net}: nothing published of it"
        yield Line2D([], [], label=net if net in set(drawn["net"]) else name, **_look(net, False, "fp32"))
    for cpu in (False, True):
        yield Line2D([], [], label="hollow: CPU" if cpu else "filled: GPU", **_look(SHARED[0], cpu, "fp32"))
    for precision in (name for name in COLORS if name in set(drawn["look"])):
        yield Line2D([], [], label=precision, color=COLORS[precision], linewidth=5)
    yield Line2D([], [], label=CONTEXT, **_context_look(False, False))
    yield Line2D([], [], label=TRAIN, **_context_look(False, True))


def _fitting(names: Sequence[str]) -> int:
    """Return how many legend columns (at most 4) fit the page's width."""
    for ncols in range(4, 1, -1):
        tall = math.ceil(len(names) / ncols)
        columns = [names[at : at + tall] for at in range(0, len(names), tall)]
        if sum(0.55 + 0.064 * max(map(len, column)) for column in columns) < WIDTH:  # inches, at 9 points
            return ncols
    return 1


def _title(old: pd.DataFrame, new: pd.DataFrame) -> str:
    first, last = (math.floor(year) for year in (old["year"].min(), old["year"].max()))
    machines = {name for name in new["device_name"] if name} if len(new) else set()
    others = "" if set(new["variant"]) <= {*VARIANTS} else "other nets "
    machine = f", and {others}on {cut(machines.pop(), 50)}" if len(machines) == 1 else ""
    return f"AlexNet as published from {first} to {last}{machine}"


def _entry(part: pd.DataFrame) -> list[str]:
    """Return a number and its lines of small print; ``part`` are its marks."""
    row = part.iloc[0]
    part = part.sort_values("pass")
    rates = zip(part["pass"], part["images_per_s"], strict=True)
    speeds = [f"{PUBLISHED_PASSES[pass_].words} {format_speed(rate)}" for pass_, rate in rates]
    facts = [row["net"], row["hardware"], row["library"], row["look"], f"batch {row['batch']:g}", row["date"]]
    text = f"{', '.join([*facts, *speeds])}. [{_source_name(row['source'])}] {row['caveat']}"
    return [str(row["number"]), *textwrap.wrap(text, COLUMN, break_on_hyphens=False)]


def _source_name(source: str) -> str:
    """Return owner and repository, or an address without its scheme."""
    return source.partition("://")[2] if "://" in source else source.partition(":")[0]


def _count_lines(column: Sequence[list[str]]) -> int:
    """Lines of small print of a column's entries, without the numbers."""
    return sum(len(entry) - 1 for entry in column)


def _halves(entries: Sequence[list[str]]) -> tuple[Sequence[list[str]], Sequence[list[str]]]:
    """Split into two columns of about equal height, keeping the order."""
    splits = [(entries[:at], entries[at:]) for at in range(len(entries) + 1)]
    return min(splits, key=lambda split: max(map(_count_lines, split)))


def _notes(timings: pd.DataFrame, old: pd.DataFrame, new: pd.DataFrame, steps: bool, teams: bool) -> Iterator[str]:
    """Yield the notes on the whole chart; ``steps``, ``teams``: whether there are rows of train_step, of Teams."""
    yield RULE
    if len(new):
        yield from _measured(new)
        yield OWN_PASS
    drawn = set(old[old["series"] != ""]["net"])
    for net in dict.fromkeys(net for net in new["net"] if net not in drawn):
        count = int((timings["net"] == net).sum())
        why = (
            f"none of the {count} published timings of {net} can be drawn"
            if count
            else f"no published timing is of {net}"
        )
        if UNSIZED in net:
            why = f"nothing published is comparable with {net}"
        yield f"{why[0].upper()}{why[1:]}: compare its marks only with each other."
    if BVLC in drawn:
        yield CAFFES
    yield "A full training step, with optimizer, is not forward + backward: a gray cross, in no series."
    if steps:
        yield "Not drawn: your rows of train_step, since no published training step with a date is of these nets."
    if teams:
        yield "Not drawn: your rows of several devices; the scaling plot has them."
    why_not = reasons_left_out(timings)
    counts = why_not[why_not != ""].value_counts(sort=False)
    omitted = ", ".join(f"{count} {why}" for why, count in counts.items()) or "none"
    yield f"Not drawn of {len(timings)} published: {omitted}. All, with full sources: bench/output/plots/{FILE}"


def _measured(new: pd.DataFrame) -> Iterator[str]:
    """Yield one line per machine and date on which a user's rows were measured."""
    dates = new["day"].dt.strftime("%Y-%m-%d").where(new["dated"], "at a date not stated (right edge)")
    machine = new["device_name"].where(new["device_name"] != "", "machine not named")
    groups = new.assign(when=dates, machine=machine).groupby(["when", "machine", "device"], sort=False)
    for (when, name, device), part in groups:
        nets = ", ".join(dict.fromkeys(part["net"]))
        facts = [nets, f"{cut(str(name), 80)} ({device})"]
        facts += [style.describe_value("threads", n) for n in dict.fromkeys(part["threads"]) if n and device == "cpu"]
        facts += filter(None, dict.fromkeys(part["precision"]))
        facts += ["batch " + ", ".join(f"{batch:g}" for batch in sorted(set(part["batch"])))]
        yield f"Large marks, measured {when}: {', '.join(facts)}."


def _print(figure: Figure, columns: Sequence[Sequence[list[str]]], notes: Sequence[str]) -> None:
    """Print the key in two columns, and below them the notes, at the bottom of the page."""
    line = LINE / figure.get_figheight()
    look: dict[str, Any] = {"fontsize": SMALL, "va": "top", "linespacing": 1.3, "color": style.INK}
    bottom = line * (len(notes) + 0.6)
    top = bottom + line * (max(map(_count_lines, columns)) + 0.5)
    for column, x in zip(columns, (0.012, 0.506), strict=True):
        at = top
        for number, *lines in column:
            figure.text(x + 0.014, at, number, weight="bold", ha="right", **look)
            figure.text(x + 0.02, at, "\n".join(lines), **look)
            at -= line * len(lines)
    figure.text(0.012, bottom, "\n".join(notes), **look)


def _places(panel: Any, drawn: pd.DataFrame) -> list[tuple[float, float]]:
    """Positions of marks in pixels."""
    return list(panel.transData.transform(drawn[["year", "images_per_s"]].to_numpy(float)))


def _place_numbers(panel: Any, old: pd.DataFrame, taken: list[Bbox]) -> None:
    """Place each number as near to its mark as there is room, the fastest first, with a line if far."""
    inside = panel.get_window_extent()
    facts = old.sort_values("images_per_s", ascending=False)[["number", "year", "images_per_s", "look"]]
    for number, year, rate, precision in facts.itertuples(index=False):
        look = {"fontsize": 9, "weight": "bold", "ha": "center", "va": "center", "zorder": 6, "gid": "number"}
        look["color"] = COLORS.get(precision, COLORS[NOT_STATED])
        label = panel.annotate(str(number), (year, rate), (0, 0), textcoords="offset points", **look)
        label.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground=style.PAPER)])
        for away, degrees in itertools.product(range(9, 60, 4), range(0, 360, 30)):
            angle = math.radians(90 + degrees)
            label.set_position((away * math.cos(angle), away * math.sin(angle)))
            box = label.get_window_extent()
            if inside.y0 < box.y0 and box.y1 < inside.y1 and not box.count_overlaps(taken):
                break
        taken.append(box)
        if away > 12:
            at = panel.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
            panel.plot([year, at[0]], [rate, at[1]], color=style.FAINT, linewidth=0.6, zorder=3, gid="leader")


def _place_names(panel: Any, best: pd.DataFrame, names: Sequence[str]) -> None:
    """Print names to the right of the panel, at the height of their marks as far as the others allow."""
    box, apart = panel.get_window_extent(), 25  # pixels; 9 points are 19
    heights = [y for _, y in _places(panel, best)]
    tall = [apart * (name.count("\n") + 1) for name in names]
    top = box.y1 + apart / 2
    for at in range(1, len(heights)):
        heights[at] = max(heights[at], heights[at - 1] + (tall[at - 1] + tall[at]) / 2)
    for at in range(len(heights) - 1, -1, -1):
        heights[at] = min(heights[at], top - tall[at] / 2)
        top = heights[at] - tall[at] / 2
    for name, height, (_, row) in zip(names, heights, best.iterrows(), strict=True):
        color = style.COLORS.get(row["framework"], style.OTHER)
        arrow = {"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkB": 7, "relpos": (0, 0.5)}
        look: dict[str, Any] = {"fontsize": 9, "color": color, "va": "center", "gid": "name", "arrowprops": arrow}
        mark = (row["year"], row["images_per_s"])
        place = ((box.x1 + 8) * 72 / style.PIXELS, height * 72 / style.PIXELS)  # points: an SVG has other pixels
        panel.annotate(name, mark, place, textcoords="figure points", **look)
