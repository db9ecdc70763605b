"""Pictures: the kinds there are, what each is drawn from, and those that a Run's folder gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench import UsageError
from bench.cases.case import spoken
from bench.output import console
from bench.output.plots import distribution, frames, history, layers, roofline, series, throughput, times
from bench.record import ceiling
from bench.record.layer_times import BACKWARD, SUM, WHOLE
from bench.record.run import Run
from bench.stats import roofline as work
from impls.layers import LayerError
from impls.variants import VARIANTS, variant_named

ENDINGS = (".png", ".svg", ".pdf")
#: What a roof is of, beside the machine.
UNDER = ("device", "precision", "threads")


def draw_times(paths: Sequence[Path], target: Path) -> None:
    times.bars(whole_nets(frames.read(paths)), target)


def draw_throughput(paths: Sequence[Path], target: Path) -> None:
    throughput.sweep(whole_nets(frames.read(paths)), target)


def draw_distribution(paths: Sequence[Path], target: Path) -> None:
    distribution.distribution(whole_nets(frames.samples(paths)), target)


def draw_series(paths: Sequence[Path], target: Path) -> None:
    series.series(whole_nets(frames.samples(paths)), target)


def whole_nets(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of a profile's nets, one by one, which have a plot of their own: all where there is no other."""
    if "variant" not in rows:
        return rows
    net = rows["variant"].astype(str).str.split(".", n=1).str
    parts = net[0].isin(list(VARIANTS)) & net[1].notna()
    return rows[~parts] if not parts.all() else rows


def draw_history(paths: Sequence[Path], target: Path) -> None:
    history.history(frames.read(paths) if paths else None, target, history.published())


def draw_layers(paths: Sequence[Path], target: Path) -> None:
    frame = pd.concat([frames.profile(path) for path in paths], ignore_index=True)
    layers.layers(frame[frame["pass"] != "forward_backward"], target, layers.published())


def draw_roofline(paths: Sequence[Path], target: Path) -> None:
    """Every row and whole net of a profile, every pass of another Run: those that have the first one's roofs, which are
    of one machine, precision and number of threads; stderr says what is left out."""
    points: list[Mapping[Any, Any]] = []
    for path in paths:
        if path.is_dir() and (path / "profile.csv").exists():
            machine = frames.read([path]).iloc[0][["device_name", "threads"]].to_dict()
            points += [{**point, **machine} for point in of_profile(frames.profile(path).to_dict("records"))]
        else:
            points += of_summary(frames.read([path]).to_dict("records"))
    rows = frames.read(paths)
    if "device_name" in rows and rows["device_name"].nunique() > 1:
        found = " and ".join(sorted(set(rows["device_name"])))
        raise UsageError(f"roofline: expected one device_name, found {found}: roofs differ")
    apart = [what for what in UNDER if what in rows and rows[what].nunique() > 1]
    first = rows.iloc[0]
    under = rows[(rows[apart] == first[apart]).all(axis=1)]
    here = [point for point in points if all(point.get(what) == first[what] for what in apart)]
    if apart and len(here) < len(points):
        said = ", ".join(f"{what} {first[what]}" for what in apart)
        console.tell(f"roofline: under the roofs of {said}; {len(points) - len(here)} of {len(points)} points left out")
    best = under[[name for name in ceiling.RATES if name in rows]].apply(pd.to_numeric, errors="coerce").max()
    roofline.roofline(here, {name: best.get(name) for name in ceiling.RATES}, target)


KINDS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "times": draw_times,
    "throughput": draw_throughput,
    "distribution": draw_distribution,
    "series": draw_series,
    "layers": draw_layers,
    "roofline": draw_roofline,
    "history": draw_history,
}


def target(name: str) -> Path:
    """The file that a picture goes to; UsageError for a name that does not say what it is."""
    path = Path(name)
    if path.suffix.lower() not in ENDINGS or path.is_dir():
        raise UsageError(f"--output: expected a file that ends in {spoken(ENDINGS)}, found {name!r}")
    return path


def unnamed(kind: str) -> list[Path]:
    """What is drawn where nothing is named: the newest Run; what was published needs none."""
    try:
        return frames.latest()
    except UsageError:
        if kind == "history":
            return []
        raise


def of_profile(rows: Sequence[Mapping[Any, Any]]) -> list[Mapping[Any, Any]]:
    """Points of the roofline: rows of the net, and the whole, in forward and both passes."""
    found: list[Mapping[Any, Any]] = []
    for row in rows:
        whole = row["layer"] == WHOLE
        if row["layer"] != SUM and not (whole and row["pass"] == BACKWARD) and not (not whole and "height" not in row):
            name = row["variant"] if whole else f"{row['variant']}.{row['layer']}"
            found.append({**row, "name": name, "kind": "net" if whole else "layer"})
    return found


def of_summary(rows: Sequence[Mapping[Any, Any]]) -> list[Mapping[Any, Any]]:
    """Points of the roofline: a pass each. Work of the rows is counted as in a profile: light rows have theirs."""
    found: list[Mapping[Any, Any]] = []
    for row in rows:
        net, _, part = str(row["variant"]).partition(".")
        if part:
            continue
        try:
            variant = variant_named(net, int(row.get("size", math.nan)))  # ValueError where nobody says on what
            width = work.WIDTHS.get(str(row.get("precision")), work.WIDTH)
            done = work.net_work(variant, int(row["batch"]), row["pass"], width=width)
        except (KeyError, ValueError, LayerError):
            continue  # of another program, or another version's net
        center = row.get("center_ms")
        speed = done.flop / float(row["mean_ms"] if pd.isna(center) else center) / 1e6
        name = f"{net} b{row['batch']}"
        found.append({**row, "name": name, "kind": "net", "intensity": done.intensity, "gflop_per_s": speed})
    return found


def of_run(run: Run) -> None:
    """What a Run's folder gets: times always, throughput where there are several batches, the roofline where the
    ceiling is known. UsageError, once all are tried, or OSError where one cannot be drawn."""
    rows = [row for row in run.rows() if row["valid"]]
    kinds = ["times"] if rows else []
    kinds += ["throughput"] if len({row["batch"] for row in rows}) > 1 else []
    kinds += ["roofline"] if any(row["ceiling_gflop_per_s"] and row["copy_gb_per_s"] for row in rows) else []
    problems = []
    for kind in kinds:
        try:
            KINDS[kind]([run.folder], run.folder / f"{kind}.png")
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("; ".join(problems))
