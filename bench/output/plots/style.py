"""Shared by all plots: series and their looks, and a Figure without global state that is saved to a file."""

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib
import pandas as pd
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench import UsageError
from bench.output.labels import counted
from impls import FRAMEWORKS
from impls.files import open_target

#: Colors of Okabe and Ito, distinct for color-blind readers; one per framework in all plots.
COLORS = {name: framework.color for name, framework in FRAMEWORKS.items() if framework.color}
OTHER = "#7F7F7F"
#: Colors of other frameworks, in the order of their names; any further ones are OTHER.
OTHERS = (OTHER, "#CC79A7", "#E69F00", "#56B4E9")
#: Columns added to a series label when they vary, and how to format them.
SERIES_COLUMNS = ("net", "layout", "lrn", "preset", "loader", "split", "world", "arm")
COUNTS = {"threads": "thread", "loader": "worker", "world": "device"}
FORMATS = {
    "lrn": "{} LRN",
    "preset": "{} preset",
    "size": "{} px",
    "input": "input {}",
    "batch": "batch {}",
}
#: Looks of series that are not compiled, then compiled, by their number among those of one color.
HATCHES = (("", "//", "..", "oo"), ("\\\\", "xx", "++", "**"))
MARKERS = (("o", "v", "P", "X"), ("s", "^", "D", "*"))
#: Once the looks repeat: how much white (above 0) or black is mixed into the color.
SHADES = (0.0, -0.45, 0.45, -0.75)
MOST = 24  # series in one plot; the names of more leave no room for it
PAGE = 24.0  # inches, the highest plot
FEWER = "keep fewer rows"  # of one CSV, or of one of several
PIXELS = 150  # per inch
#: Colors of everything but data; a page in dark mode replaces exactly these.
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
    "figure.autolayout": False,  # of a matplotlibrc; `figure` has its own layout
    "figure.constrained_layout.use": False,
    "svg.hashsalt": "alexnet-bench",  # one Run, one file
}
#: Metadata without the time of writing, by file suffix: one Run, one file.
UNDATED: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@dataclass(frozen=True, slots=True)
class Series:
    """Rows that are drawn alike: their name in the legend and their look."""

    name: str
    framework: str
    compiled: bool
    number: int  # among those of its hue and ``compiled``
    hue: str = OTHER

    @property
    def color(self) -> str:
        """The hue, in another shade from the fifth series on, so that no two look the same."""
        shade = SHADES[self.number // len(MARKERS[0]) % len(SHADES)]
        if not shade:
            return self.hue
        red, green, blue = (part + abs(shade) * ((shade > 0) - part) for part in colors.to_rgb(self.hue))
        return colors.to_hex((red, green, blue))

    @property
    def hatch(self) -> str:
        looks = HATCHES[self.compiled]
        return looks[self.number % len(looks)]

    @property
    def marker(self) -> str:
        looks = MARKERS[self.compiled]
        return looks[self.number % len(looks)]


def label_series(rows: pd.DataFrame, apart: Sequence[str] = SERIES_COLUMNS) -> pd.Series:
    """Return each row's series: framework, mode, and the columns of ``apart`` that exist and vary; a layout must vary
    within a framework, since each framework has its own."""
    names = rows["framework"].astype(str) + " " + rows["mode"].astype(str)
    for column in apart:
        if column not in rows:
            continue
        values = rows[column].map(lambda value, column=column: describe_value(column, value))
        if column == "layout":
            vary = values.groupby(rows["framework"]).transform("nunique") > 1
        else:
            vary = pd.Series(values.nunique() > 1, rows.index)
        words = pd.Series([f" {text}" if text else "" for text in values], rows.index)
        names = names + words.where(vary, "")
    return names


def list_series(rows: pd.DataFrame, names: pd.Series) -> list[Series]:
    """List the series of rows in their order, those that are not compiled first.

    Raises UsageError for more than MOST, or for so many of one hue that two would look the same.
    """
    series: list[Series] = []
    foreign = sorted(set(rows["framework"].astype(str)) - set(COLORS))
    hues = COLORS | dict(zip(foreign, OTHERS, strict=False))
    firsts = rows.assign(series=names).drop_duplicates("series")
    refuse_many(len(firsts), "series")
    for name, framework, mode in zip(firsts["series"], firsts["framework"], firsts["mode"], strict=True):
        compiled = framework in FRAMEWORKS and mode in FRAMEWORKS[framework].compiled
        hue = hues.get(framework, OTHER)
        number = sum((known.hue, known.compiled) == (hue, compiled) for known in series)
        series.append(Series(name, framework, compiled, number, hue))
    for line in series:
        if line.number >= (alike := len(MARKERS[0]) * len(SHADES)):
            raise UsageError(f"nothing to draw: expected at most {alike} series of one color; {FEWER}")
    return sorted(series, key=lambda line: line.compiled)


def refuse_many(count: int, what: str, most: int = MOST) -> None:
    """UsageError for more than fit in a plot that can be read."""
    if count > most:
        raise UsageError(f"nothing to draw: expected at most {most} {what}, found {count}; {FEWER}")


def format_value(value: Any) -> str:
    """Return a cell as text: empty for NaN or None, 2 for 2.0."""
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_value(column: str, value: Any) -> str:
    """Return a cell in words, empty for NaN or None: 1 thread, batch 8, 224 px."""
    text = format_value(value)
    if column in COUNTS and text:
        return counted(float(text), COUNTS[column])
    return FORMATS.get(column, "{}").format(text) if text else ""


def title(rows: pd.DataFrame, otherwise: str, columns: Sequence[str] = ("device_name", "threads")) -> str:
    """Return the values of these columns that all rows share (threads only of one machine), else ``otherwise``."""
    known = {name: rows[name].dropna().unique() for name in columns if name in rows}
    shared = {name: describe_value(name, values[0]) for name, values in known.items() if len(values) == 1}
    if "device_name" not in shared:
        shared.pop("threads", None)
    return ", ".join(filter(None, shared.values())) or otherwise


@contextmanager
def figure(width: float, height: float, target: Path) -> Iterator[Figure]:
    """Provide a Figure of this size in inches and save it on exit; UsageError if it cannot be drawn or written."""
    with matplotlib.rc_context(LOOKS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sign that the font lacks is drawn as a box
        warnings.filterwarnings("error", message="constrained_layout not applied")
        drawn = Figure(figsize=(width, height), dpi=PIXELS, layout="constrained")
        FigureCanvasAgg(drawn)
        suffix = target.suffix.lower()
        try:
            yield drawn
            settle(drawn)
            with _writing(target) as file:
                drawn.savefig(file, format=suffix[1:], metadata=UNDATED.get(suffix))
        except UserWarning as error:
            why = f"names leave no room for the panels; {FEWER}, or shorter names"
            raise UsageError(f"nothing to draw: {why}") from error
        except ValueError as error:
            if not _by_formula(error):
                raise
            raise UsageError("nothing to draw: a text in it looks like a formula but is not one") from error


def _by_formula(error: Exception) -> bool:
    """Whether matplotlib's parser of formulas raised it."""
    return type(error.__context__).__module__.partition(".")[0] == "pyparsing"


@contextmanager
def _writing(target: Path) -> Iterator[IO[Any]]:
    try:
        with open_target(target) as file:
            yield file
    except (OSError, ValueError) as error:
        if _by_formula(error):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot write {target}: {why}; check the folder and its disk") from error


def grid(panel: Any, axis: str = "y") -> None:
    panel.grid(axis=axis, color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Place a legend below the panels, in as few lines as possible of about equal length; a long one adds height."""
    letters = int((figure.get_figwidth() - 0.65) / 0.09)
    names = [textwrap.fill(name.replace(r"\$", "$"), letters).replace("$", r"\$") for name in names]
    inches = 0.65 + 0.09 * max((len(line) for name in names for line in name.split("\n")), default=1)
    lines = math.ceil(len(names) / max(1, int(figure.get_figwidth() / inches)))
    look = {"ncols": math.ceil(len(names) / max(1, lines)), "frameon": False, "columnspacing": 1.4}
    figure.legend(handles, names, loc="outside lower center", **look)
    tall = lines * max((name.count("\n") + 1 for name in names), default=1)
    figure.set_figheight(figure.get_figheight() + max(0, tall - 3) * 0.24)


def settle(figure: Figure) -> None:
    """Lay out the panels once and fix them, so that items can be placed by pixels. Saving would lay them out twice more
    and draw them twice."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)
