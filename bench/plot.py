"""Plots from result CSVs: ours, or any with the same columns. matplotlib without global state."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench import UsageError
from bench.case import LABELS
from bench.results import Run

NEEDED = ("case_id", "variant", "framework", "mode", "device", "batch", "pass", "mean_ms")
#: Okabe and Ito's colours, told apart by colour-blind readers; one framework, one colour, everywhere.
COLORS = {"torch": "#D55E00", "tensorflow": "#0072B2", "jax": "#009E73"}
OTHER = "#7F7F7F"


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


def bars(rows: pd.DataFrame, target: Path) -> None:
    """Mean of each Case with its stddev as error bar; one panel a pass, one group of bars a net and batch."""
    passes = list(dict.fromkeys(rows["pass"]))
    labels = _labels(rows)
    nets = list(dict.fromkeys(labels))
    series = list(dict.fromkeys(zip(rows["framework"], rows["mode"], rows["arm"], strict=True)))
    with matplotlib.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        width = max(4.0, 1.5 + 0.9 * len(nets) * len(series))
        figure = Figure(figsize=(min(width * len(passes), 24), 4.6), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(passes), squeeze=False)[0]
        for panel, pass_ in zip(panels, passes, strict=True):
            for number, one in enumerate(series):
                chosen = rows["pass"] == pass_
                for column, value in zip(("framework", "mode", "arm"), one, strict=True):
                    chosen &= rows[column] == value
                _bars(panel, rows[chosen], labels[chosen], nets, number, len(series), " ".join(one).strip())
            panel.set_title(str(pass_).replace("_", " + "))
            panel.set_xticks(range(len(nets)), nets)
            panel.set_ylim(0, panel.get_ylim()[1] * 1.08)
            panel.grid(axis="y", color="#DDDDDD", linewidth=0.8)
            panel.set_axisbelow(True)
        panels[0].set_ylabel("ms a pass: mean ± stddev (less is faster)")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(series), frameon=False)
        figure.suptitle(_title(rows), fontsize=12)
        try:
            figure.savefig(target)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write {target}: {error}; choose another file with --output") from error


def _bars(
    panel: Any, rows: pd.DataFrame, labels: pd.Series, nets: list[str], number: int, count: int, name: str
) -> None:
    width = 0.8 / count
    at = [nets.index(label) + (number - (count - 1) / 2) * width for label in labels]
    errors = rows["stddev_ms"].fillna(0.0) if "stddev_ms" in rows else None
    color = COLORS.get(name.split()[0], OTHER)
    look = {"color": color, "ecolor": "#333333", "label": name}
    if name.endswith(f" {LABELS[1]}"):  # an Arm keeps its framework's colour
        look |= {"hatch": "//", "edgecolor": "white"}
    drawn = panel.bar(at, rows["mean_ms"], width * 0.92, yerr=errors, capsize=4, **look)
    panel.bar_label(drawn, [f"{value:.4g}" for value in rows["mean_ms"]], padding=3, fontsize=9)


def _labels(rows: pd.DataFrame) -> pd.Series:
    """Net and batch, with every axis that varies, and the Run where one Case is in several."""
    labels = rows["variant"] + "\nbatch " + rows["batch"].astype(str) + ", " + rows["device"]
    for axis, unit in (("size", " px"), ("threads", " threads"), ("precision", ""), ("layout", "")):
        if axis in rows and rows.groupby(["variant", "framework", "mode", "arm"])[axis].nunique().max() > 1:
            labels = labels + "\n" + rows[axis].astype(str) + unit
    drawn = pd.concat([rows[["framework", "mode", "arm", "pass"]], labels.rename("label")], axis=1)
    if drawn.duplicated().any():
        labels = (
            labels
            + "\n"
            + (rows["run_id"] if "run_id" in rows else "row " + pd.Series(range(len(rows)), rows.index).astype(str))
        )
    return labels


def _title(rows: pd.DataFrame) -> str:
    if "device_name" not in rows or rows["device_name"].nunique() != 1:
        return "AlexNet, time a pass"
    threads = f", {rows['threads'].iloc[0]} threads" if "threads" in rows and rows["threads"].nunique() == 1 else ""
    return f"{rows['device_name'].iloc[0]}{threads}"


def latest(results: Path = Path("results")) -> list[Path]:
    """The newest Run that has a summary, for a plot of nothing named."""
    found = sorted(results.glob("*/summary.csv"))
    if not found:
        raise UsageError(f"no summary.csv under {results}/: run `make bench` first, or name a CSV file")
    return found[-1:]
