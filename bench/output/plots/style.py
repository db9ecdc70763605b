"""What every plot shares: series and how they look, a Figure without global state, and the file it goes to."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench import UsageError
from impls import FRAMEWORKS

#: Okabe and Ito's colours, told apart by colour-blind readers; one framework, one colour, everywhere.
COLORS = {name: framework.color for name, framework in FRAMEWORKS.items() if framework.color}
OTHER = "#7F7F7F"
#: Of frameworks that are not ours, in the order of their names; beyond them all are OTHER.
OTHERS = (OTHER, "#CC79A7", "#E69F00", "#56B4E9")
#: What tells two series of one framework and mode apart, where it varies; and how its values are spoken.
APART = ("net", "layout", "lrn", "preset", "arm")
SPOKEN = {"lrn": "{} LRN", "preset": "{} preset", "size": "{} px", "threads": "{} threads", "batch": "batch {}"}
#: Not compiled and compiled, each with more looks for a second series of the same framework.
HATCHES = (("", "//", "..", "oo"), ("\\\\", "xx", "++", "**"))
MARKERS = (("o", "v", "P", "X"), ("s", "^", "D", "*"))
PIXELS = 150  # an inch
#: What lies on paper, not on a bar: a page that shows a chart on dark paper finds these and turns them.
INK, FAINT, GRID, SHADE, PAPER = "#1F2328", "#59636E", "#DDDEE0", "#EEEFF1", "#FEFEFE"
LOOKS: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "svg.hashsalt": "alexnet-bench",  # one Run, one file
}
#: By ending, what a file would say of when it was made: one Run, one file.
UNDATED: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn alike: its name in the legend and its looks."""

    name: str
    framework: str
    compiled: bool
    number: int  # among those of its framework that are compiled, or are not
    color: str = OTHER

    @property
    def hatch(self) -> str:
        looks = HATCHES[self.compiled]
        return looks[self.number % len(looks)]

    @property
    def marker(self) -> str:
        looks = MARKERS[self.compiled]
        return looks[self.number % len(looks)]


def label_series(rows: pd.DataFrame, apart: Sequence[str] = APART) -> pd.Series:
    """Each row's series: framework, mode, and those of ``apart`` that are there and vary, but a layout only where it
    does within a framework, since each has layouts of its own."""
    names = rows["framework"].astype(str) + " " + rows["mode"].astype(str)
    for column in apart:
        if column not in rows:
            continue
        values = rows[column].map(format_value)
        if column == "layout":
            vary = values.groupby(rows["framework"]).transform("nunique") > 1
        else:
            vary = pd.Series(values.nunique() > 1, rows.index)
        form = " " + SPOKEN.get(column, "{}")
        said = pd.Series([form.format(value) if value else "" for value in values], rows.index)
        names = names + said.where(vary, "")
    return names


def list_series(rows: pd.DataFrame, names: pd.Series) -> list[Series]:
    """The series of rows, those that are not compiled first, then their compiled peers; else as they come."""
    found: list[Series] = []
    foreign = sorted(set(rows["framework"].astype(str)) - set(COLORS))
    colors = COLORS | dict(zip(foreign, OTHERS, strict=False))
    firsts = rows.assign(series=names).drop_duplicates("series")
    for name, framework, mode in zip(firsts["series"], firsts["framework"], firsts["mode"], strict=True):
        compiled = framework in FRAMEWORKS and mode in FRAMEWORKS[framework].compiled
        number = sum((one.framework, one.compiled) == (framework, compiled) for one in found)
        found.append(Series(name, framework, compiled, number, colors.get(framework, OTHER)))
    return sorted(found, key=lambda one: one.compiled)


def format_value(value: Any) -> str:
    """A cell as text: empty for nothing, 2 for 2.0."""
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def title(rows: pd.DataFrame, otherwise: str) -> str:
    """The machine, where all rows name the same one."""
    known = [list(rows[name].dropna().unique()) if name in rows else [] for name in ("device_name", "threads")]
    machine, threads = known
    if len(machine) != 1:
        return otherwise
    return f"{machine[0]}, {threads[0]:g} threads" if len(threads) == 1 else str(machine[0])


@contextmanager
def figure(width: float, height: float, target: Path) -> Iterator[Figure]:
    """A Figure of so many inches, saved on the way out; UsageError where that is not possible."""
    with matplotlib.rc_context(LOOKS):
        drawn = Figure(figsize=(width, height), dpi=PIXELS, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        try:
            drawn.savefig(target, metadata=UNDATED.get(target.suffix.lower()))
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write {target}: {error}; choose another file with --output") from error


def grid(panel: Any, axis: str = "y") -> None:
    panel.grid(axis=axis, color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Below the panels, in as few lines as fit, each about as long as the next."""
    inches = 0.65 + 0.09 * max(map(len, names), default=1)
    lines = math.ceil(len(names) / max(1, int(figure.get_figwidth() / inches)))
    look = {"ncols": math.ceil(len(names) / max(1, lines)), "frameon": False, "columnspacing": 1.4}
    figure.legend(handles, names, loc="outside lower center", **look)


def settle(figure: Figure) -> None:
    """Lay the panels out and leave them there: what is placed by pixels from here on stays right."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
