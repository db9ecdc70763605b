"""Bars from result CSVs: ours, or any with the same columns; and the rows that every plot is drawn from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench import UsageError, drawing
from bench.results import Run

NEEDED = ("case_id", "variant", "framework", "mode", "device", "batch", "pass", "mean_ms")
WIDEST = 10.0  # inches of panels beside each other that a page still shows legibly


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Summary rows of CSV files or Run folders; UsageError names the file and the column that is missing."""
    frames = []
    for path in paths:
        if path.is_dir() and not (path / "summary.csv").exists() and (path / "run.jsonl").exists():
            Run(path).write()  # of a Run that was killed
        file = path / "summary.csv" if path.is_dir() else path
        try:
            frame = pd.read_csv(file, keep_default_na=False, na_values=[""])  # "null" is a framework
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error).strip()
            raise UsageError(f"{file}: cannot read: {reason}; expected a summary.csv or a Run folder") from error
        missing = [name for name in NEEDED if name not in frame.columns]
        if missing:
            raise UsageError(f"{file}: expected the columns {', '.join(NEEDED)}; missing {', '.join(missing)}")
        frames.append(frame)
    rows = pd.concat(frames, ignore_index=True)
    rows = rows[pd.to_numeric(rows["mean_ms"], errors="coerce").notna()]
    if "valid" in rows:
        rows = rows[rows["valid"].astype(str) != "False"]
    rows["arm"] = rows["arm"].astype(object).fillna("").astype(str) if "arm" in rows else ""
    if rows.empty:
        raise UsageError(f"{', '.join(map(str, paths))}: no valid row with a mean_ms, nothing to draw")
    return rows


def bars(rows: pd.DataFrame, target: Path) -> Figure:
    """Mean of each Case with its stddev as error bar; one panel a pass, one group of bars a net and batch, and in it
    the modes that do not compile before those that do."""
    passes = list(dict.fromkeys(rows["pass"]))
    names = drawing.named(rows)
    labels = _labels(rows)
    nets = list(dict.fromkeys(labels))
    series = drawing.series(rows, names)
    width = max(4.0, 1.5 + 0.8 * len(nets) * len(series))
    beside = width * len(passes) <= WIDEST
    size = (width * len(passes), 4.6) if beside else (min(width, 24.0), 0.8 + 3.8 * len(passes))
    with drawing.figure(*size, target) as figure:
        shape = (1, len(passes)) if beside else (len(passes), 1)
        panels = figure.subplots(*shape, squeeze=False).flatten()
        for panel, pass_ in zip(panels, passes, strict=True):
            for one, at in zip(series, _places(series), strict=True):
                chosen = (rows["pass"] == pass_) & (names == one.name)
                _bars(panel, rows[chosen], [nets.index(label) + at for label in labels[chosen]], one, len(series))
            panel.set_title(str(pass_).replace("_", " + "))
            panel.set_xticks(range(len(nets)), nets)
            panel.set_ylim(0, panel.get_ylim()[1] * 1.08)
            drawing.grid(panel)
        for panel in panels[:1] if beside else panels:
            panel.set_ylabel("ms a pass: mean ± stddev" + (" (less is faster)" if beside else ""))
        drawing.legend(figure, *panels[0].get_legend_handles_labels())
        figure.suptitle(drawing.title(rows, "AlexNet, time a pass"), fontsize=12)
    return figure


def _places(series: Sequence[drawing.Series]) -> list[float]:
    """Where in a group of width 0.8 each series has its bar, with half a bar between the compiled and the rest."""
    gap = 0.5 * (len({one.compiled for one in series}) - 1)
    width = 0.8 / (len(series) + gap)
    return [(number + 0.5 + gap * one.compiled) * width - 0.4 for number, one in enumerate(series)]


def _bars(panel: Any, rows: pd.DataFrame, at: list[float], one: drawing.Series, count: int) -> None:
    errors = rows["stddev_ms"].fillna(0.0) if "stddev_ms" in rows else None
    look = {"color": one.color, "ecolor": "#333333", "label": one.name}
    if one.hatch:  # a framework keeps its colour
        look |= {"hatch": one.hatch, "edgecolor": "white"}
    drawn = panel.bar(at, rows["mean_ms"], 0.74 / (count + 0.5), yerr=errors, capsize=4, **look)
    panel.bar_label(drawn, list(map(drawing.number, rows["mean_ms"])), padding=3, fontsize=9)


def _labels(rows: pd.DataFrame) -> pd.Series:
    """Net and batch, with every axis that varies, and the Run where one Case is in several."""
    names = drawing.named(rows)
    labels = rows["variant"] + "\nbatch " + rows["batch"].astype(str) + ", " + rows["device"]
    for axis, unit in (("size", " px"), ("threads", " threads"), ("precision", "")):
        if axis in rows and rows.groupby([rows["variant"], names])[axis].nunique().max() > 1:
            labels = labels + "\n" + rows[axis].astype(str) + unit
    drawn = pd.DataFrame({"series": names, "pass": rows["pass"], "label": labels})
    if drawn.duplicated().any():
        labels = (
            labels
            + "\n"
            + (rows["run_id"] if "run_id" in rows else "row " + pd.Series(range(len(rows)), rows.index).astype(str))
        )
    return labels


def latest(results: Path = Path("results")) -> list[Path]:
    """The newest Run that has a summary, for a plot of nothing named."""
    found = sorted(results.glob("*/summary.csv"))
    if not found:
        raise UsageError(f"no summary.csv under {results}/: run `make bench` first, or name a CSV file")
    return found[-1:]
