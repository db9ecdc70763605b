"""Pictures: the kinds there are, what each is drawn from, and those that a Run's folder gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench import UsageError, ceiling, plot, plot_layers, plot_roofline, plot_sweep, roofline
from bench.layer_times import BACKWARD, SUM, WHOLE
from bench.results import Run
from impls.variants import named


def times(paths: Sequence[Path], target: Path) -> None:
    plot.bars(plot.read(paths), target)


def throughput(paths: Sequence[Path], target: Path) -> None:
    plot_sweep.sweep(plot.read(paths), target)


def layers(paths: Sequence[Path], target: Path) -> None:
    frame = pd.concat([profile(path) for path in paths], ignore_index=True)
    plot_layers.layers(frame[frame["pass"] != "forward_backward"], target, plot_layers.published())


def roofs(paths: Sequence[Path], target: Path) -> None:
    """Every row and whole net of a profile, every pass of another Run."""
    points: list[Mapping[Any, Any]] = []
    for path in paths:
        if path.is_dir() and (path / "profile.csv").exists():
            machine = plot.read([path]).iloc[0][["device_name", "threads"]].to_dict()
            points += [{**point, **machine} for point in of_profile(profile(path).to_dict("records"))]
        else:
            points += of_summary(plot.read([path]).to_dict("records"))
    rows = plot.read(paths)
    for what in (one for one in ("device_name", "precision") if one in rows and rows[one].nunique() > 1):
        raise UsageError(f"roofline: expected one {what}, found {' and '.join(sorted(set(rows[what])))}: roofs differ")
    known = [name for name in ceiling.RATES if name in rows]
    best = rows[known].apply(pd.to_numeric, errors="coerce").max()
    plot_roofline.roofline(points, {name: best.get(name) for name in ceiling.RATES}, target)


KINDS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "times": times,
    "throughput": throughput,
    "roofline": roofs,
    "layers": layers,
}


def profile(path: Path) -> pd.DataFrame:
    """Rows of a profile.csv, named or in a Run's folder."""
    file = path / "profile.csv" if path.is_dir() else path
    try:
        return pd.read_csv(file, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot read: {error}; expected the folder of a `profile`, or its CSV") from error


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
            variant = named(net, int(row["size"]) if row.get("size") else None)
            width = 2 if row.get("precision") == "bf16" else 4
            work = roofline.net_work(variant, int(row["batch"]), row["pass"], width=width)
        except (KeyError, ValueError):
            continue  # of another program, or another version's net
        speed = work.flop / float(row.get("center_ms") or row["mean_ms"]) / 1e6
        name = f"{net} b{row['batch']}"
        found.append({**row, "name": name, "kind": "net", "intensity": work.intensity, "gflop_per_s": speed})
    return found


def of_run(run: Run) -> None:
    """What a Run's folder gets: times always, throughput where there are several batches, the roofline where the
    ceiling is known. UsageError or OSError where a picture cannot be written."""
    rows = [row for row in run.rows() if row["valid"]]
    if not rows:
        return
    folder = run.folder
    times([folder], folder / "times.png")
    if len({row["batch"] for row in rows}) > 1:
        throughput([folder], folder / "throughput.png")
    if any(row["ceiling_gflop_per_s"] and row["copy_gb_per_s"] for row in rows):
        first = next(case for case in run.cases if not run.invalid_reason(case))
        under = [row for row in rows if (row["device"], row["precision"]) == (first.device, first.precision)]
        plot_roofline.roofline(of_summary(under), dataclasses.asdict(ceiling.of(run, first)), folder / "roofline.png")
