"""Layers plot: time of each row of a net per pass, next to the whole net's."""

import csv
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench import UsageError
from bench.cases.passes import PASSES, pass_title
from bench.output import console
from bench.output.plots import frames, style
from bench.record.layer_times import SUM, WHOLE

NEEDED = ("layer", "kind", "framework", "mode", "pass", "center_ms")
#: The colors of Okabe and Ito that no framework has, and darker ones.
COLORS = {
    "conv": "#56B4E9",
    "relu": "#F0E442",
    "lrn": "#882255",
    "bn": "#555555",
    "pool": "#CC79A7",
    "fc": "#E69F00",
    "dropout": "#BBBBBB",
    "flatten": "#DDDDDD",
}
OTHER_KIND, OTHER = "other", "#C9C3A5"
#: The kinds of modules of users' models, by what the names of their classes have in them; the first that fits.
IN_CLASS = {
    "responsenorm": "lrn",
    "conv": "conv",
    "norm": "bn",
    "pool": "pool",
    "linear": "fc",
    "dense": "fc",
    "relu": "relu",
    "dropout": "dropout",
}
DARK = ("lrn", "bn")
#: Identified as owt by the total of the same log, which is in bench/output/plots/published.csv.
PUBLISHED = "owt, Caffe + cuDNN, Titan X, batch 128 (2016)"
PUBLISHED_NOTE = " (Caffe's backward of conv1 has the gradient of the images in it)"
BAR, OUTLINE = 0.56, 0.2  # heights; the outline is right below the bar


def read_published() -> pd.DataFrame:
    """Return the only known published times per row: owt on a Titan X, columns as ``draw`` needs them.

    Source: soumith/convnet-benchmarks, caffe/output_alexnet.log, 2016.
    """
    with resources.files("bench.output.plots").joinpath("published_layers.csv").open(encoding="utf-8") as file:
        rows = [
            {"layer": row["layer"], "kind": re.sub(r"\d+$", "", row["layer"]), "pass": pass_, "center_ms": float(ms)}
            for row in csv.DictReader(file)
            for pass_, ms in (("forward", row["forward_ms"]), ("backward", row["backward_ms"]))
        ]
    return pd.DataFrame(rows)


def draw_files(paths: Sequence[Path], target: Path) -> None:
    rows = pd.concat([frames.profile(path) for path in paths], ignore_index=True)
    known = set(rows["pass"])  # a pass whose difference is known is drawn as its two parts
    split = [each.name for each in PASSES.values() if each.difference and each.difference.name in known]
    ours = "net" not in rows or rows["net"].isna().any()
    draw(rows[~rows["pass"].isin(split)], target, read_published() if ours else None)


def family(kind: Any) -> str:
    """The kind of layer of ours that a module's class is; ``other`` if it is none of those."""
    name = str(kind).lower()
    return name if name in COLORS else next((ours for sign, ours in IN_CLASS.items() if sign in name), OTHER_KIND)


def draw(profile_rows: pd.DataFrame, target: Path, published: pd.DataFrame | None = None) -> Figure:
    """Draw stacked bars of rows per pass and series: above in ms, with the whole net (if any) outlined below each bar;
    below in percent of their sum, next to the ``published`` ones.

    Rows without a time are left out. A negative difference of two times has no segment and is named next to its bar.
    Raises UsageError for a missing column, duplicate rows or no row.
    """
    missing = [name for name in NEEDED if name not in profile_rows]
    if missing:
        raise UsageError(f"layers: expected the columns {', '.join(NEEDED)}; missing {', '.join(missing)}")
    measured = pd.to_numeric(profile_rows["center_ms"], errors="coerce")
    rows = profile_rows.assign(center_ms=measured.clip(lower=0), measured_ms=measured)
    rows = rows[rows["center_ms"].notna()]
    rows = rows.assign(kind=rows["kind"].map(family))
    if "net" in rows and rows["net"].notna().all():  # users' models have no variant
        rows = rows.drop(columns="variant", errors="ignore")
    parts = rows[~rows["layer"].isin([WHOLE, SUM])]
    if parts.empty:
        raise UsageError("layers: no layer with a center_ms, nothing to draw; run `alexnet-bench profile` first")
    names = style.label_series(rows, ("variant", "batch", "device", "precision", *style.SERIES_COLUMNS))
    twice = pd.DataFrame({"series": names, "pass": rows["pass"], "layer": rows["layer"]}).duplicated()
    if twice.any():
        name, layer, pass_ = names[twice].iloc[0], rows["layer"][twice].iloc[0], rows["pass"][twice].iloc[0]
        raise UsageError(f"layers: expected one row of {layer}, {pass_} per series, found two of {name}; draw one Run")
    series = style.list_series(parts, names[parts.index])
    passes = list(dict.fromkeys(parts["pass"]))
    known = set() if published is None else set(published["pass"])
    bars = [(pass_, line.name) for pass_ in passes for line in series]
    shares = [
        (pass_, name) for pass_ in passes for name in [PUBLISHED] * (pass_ in known) + [line.name for line in series]
    ]
    inches = 0.42 * (len(bars) + len(shares)) + 2.6
    style.refuse_many(len(bars), "bars", 50)
    with style.figure(10.0, inches, target) as figure:
        above, below = figure.subplots(2, 1, height_ratios=(len(bars), len(shares)))
        stacks: list[tuple[Any, Any, str, str]] = []
        for at, bar in enumerate(bars):
            chosen = (rows["pass"] == bar[0]) & (names == bar[1])
            total = _stack(above, at, parts[chosen[parts.index]], 1.0, stacks)
            _whole(above, at, total, rows[chosen])
        for at, (pass_, name) in enumerate(shares):
            source = published if name == PUBLISHED and published is not None else parts[names[parts.index] == name]
            here = source[source["pass"] == pass_]
            if len(here):
                _stack(below, at, here, 100 / here["center_ms"].sum(), stacks)
        _axis(above, bars)
        _axis(below, shares)
        above.set_xlabel("ms: layers one after the other; outlined: the whole net")
        above.set_xlim(0, above.get_xlim()[1] * 1.2)
        below.set_xlabel("% of the sum of the layers" + (PUBLISHED_NOTE if published is not None else ""))
        below.set_xlim(0, 100)
        seen = set(parts["kind"]) | (set(published["kind"]) if published is not None else set())
        kinds = [kind for kind in (*COLORS, OTHER_KIND) if kind in seen]
        handles = [Patch(facecolor=COLORS.get(kind, OTHER)) for kind in kinds]
        outline = [Patch(facecolor="none", edgecolor=style.INK)]
        style.legend(figure, handles + outline, [*kinds, WHOLE])
        shared = style.title(parts, "Nets", ("variant", "net", "input", "batch", "device_name", "threads"))
        figure.suptitle(f"{shared}, layer by layer", fontsize=12)
        style.settle(figure)  # whether a name fits is known once segments have their width
        for panel, segment, name, kind in stacks:
            _name(panel, segment, name, kind)
    return figure


def _stack(panel: Any, at: int, rows: pd.DataFrame, scale: float, stacks: list[tuple[Any, Any, str, str]]) -> float:
    """Draw one bar with a segment per row; return its length in the panel's unit."""
    left = 0.0
    for layer, kind, ms in zip(rows["layer"], rows["kind"], rows["center_ms"], strict=True):
        look = {"color": COLORS.get(kind, OTHER), "edgecolor": "white", "linewidth": 0.6}
        (segment,) = panel.barh(at, ms * scale, BAR, left=left, **look)
        stacks.append((panel, segment, str(layer), kind))
        left += ms * scale
    return left


def _whole(panel: Any, at: int, total: float, rows: pd.DataFrame) -> None:
    """Draw the whole net's time with its interval, and both times and the negative rows as text."""
    whole, added = (rows[rows["layer"] == name] for name in (WHOLE, SUM))
    text = f"layers {console.number(float(added['measured_ms'].iloc[0]) if len(added) else total)}"
    longest = total
    if len(whole):
        ms = float(whole["center_ms"].iloc[0])
        low, high = (
            float(whole[name].fillna(ms).iloc[0]) if name in whole else ms for name in ("ci95_low_ms", "ci95_high_ms")
        )
        below = at + (BAR + OUTLINE) / 2
        error = [[max(0.0, ms - low)], [max(0.0, high - ms)]]
        panel.barh(below, ms, OUTLINE, facecolor="none", edgecolor=style.INK, xerr=error, ecolor=style.INK, capsize=2)
        text, longest = f"{text}, net {console.number(ms)}", max(total, high)
    lost = list(rows[(rows["measured_ms"] < 0) & ~rows["layer"].isin([WHOLE, SUM])]["layer"])
    if lost:
        text += f"\n{' and '.join(lost) if len(lost) < 3 else f'{lost[0]} and {len(lost) - 1} more'} below 0"
    panel.annotate(text, (longest, at), (4, 0), textcoords="offset points", va="center", fontsize=9)


def _name(panel: Any, segment: Any, name: str, kind: str) -> None:
    box = segment.get_window_extent()
    middle = (segment.get_x() + segment.get_width() / 2, segment.get_y() + segment.get_height() / 2)
    text = panel.text(*middle, name, ha="center", va="center", fontsize=8, color="white" if kind in DARK else "black")
    text.set_in_layout(False)
    if text.get_window_extent().width + 4 > box.width:
        text.remove()


def _axis(panel: Any, bars: Sequence[tuple[str, str]]) -> None:
    names = [f"{name}, {pass_title(pass_)}".replace(", batch", ",\nbatch") for pass_, name in bars]
    panel.set_yticks(range(len(bars)), names)
    panel.set_ylim(len(bars) - 0.3, -0.6)  # the first on top
    style.grid(panel, "x")
