"""Kinds of plots: one record per kind, without importing what draws it.

To add one, write the module ``<name>.py`` with ``draw_files(paths, target)``, and its record here: `plot` and its help,
the report and the pictures of a Run's folder follow from the record.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import UsageError

#: Rows of a Run's summary.csv.
Rows = Sequence[Mapping[str, Any]]
SUMMARY, SAMPLES, PROFILE = "summary.csv", "samples.csv", "profile.csv"


def _always(rows: Rows) -> str:
    return ""


def _needs_batches(rows: Rows) -> str:
    several = len({row["batch"] for row in rows}) > 1
    return "" if several else "there is one batch; `alexnet-bench run --batch 8,32,128` measures several"


def _needs_ceiling(rows: Rows) -> str:
    known = any(row["ceiling_gflop_per_s"] and row["copy_gb_per_s"] for row in rows)
    return "" if known else "this Run has no ceiling, so there is no roof"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plot; its ``name`` is its module's too."""

    name: str
    help: str
    """What it shows, for `plot --help`."""
    title: str
    caption: str
    """How to read it, below it in the report."""
    reads: tuple[str, ...]
    """Tables of a Run, of which it takes those that there are."""
    in_run_folder: bool = False
    """Whether `run` or `profile` leaves it in the Run's folder."""
    needs_run: bool = True
    """Whether `plot` needs a Run or a CSV to draw it."""
    unfit: Callable[[Rows], str] = _always
    """Why it would show nothing of a Run that has these rows; empty where it shows something."""

    def load(self) -> ModuleType:
        return importlib.import_module(f"bench.output.plots.{self.name}")

    def draw(self, paths: Sequence[Path], target: Path) -> None:
        """Draw Run folders or CSVs; UsageError where they hold nothing to draw, or ``target`` cannot be written."""
        self.load().draw_files(paths, target)

    def why_not(self, rows: Rows, profile: bool) -> str:
        """Why a report leaves it out; empty where it is drawn. ``profile``: of a Run of `profile`."""
        if self.reads == (PROFILE,) and not profile:
            return "this Run is no profile; `alexnet-bench profile` times the rows of a net one by one"
        return self.unfit(rows)


_KINDS = (
    Kind(
        "times",
        help="each case, with intervals",
        title="Times",
        caption="Bar: the mean of a case; shorter is faster. Whisker: ± one standard deviation of its samples, how "
        "they scatter. Diamond: the centre of its Rounds and its 95 % interval, how sure it is.",
        reads=(SUMMARY,),
        in_run_folder=True,
    ),
    Kind(
        "distribution",
        help="where the samples of each case lie",
        title="Distribution",
        caption="Every sample of a case in a strip, a lane a Round with a tick at its median; below the lanes "
        "quartiles and p95 of them all. Rounds that lie apart from each other say that the machine changed, "
        "not the net.",
        reads=(SAMPLES,),
    ),
    Kind(
        "series",
        help="every iteration in the order taken, burn-in and turns",
        title="Series",
        caption="Every iteration in the order it was taken, burn-in on grey, and one Round with its turns. A steady "
        "case is a level band; a slope is warming or slowing, a step that all cases share is the machine’s.",
        reads=(SAMPLES,),
    ),
    Kind(
        "throughput",
        help="images/s and share of the ceiling against the batch",
        title="Throughput",
        caption="Images a second against the batch, and the share of what the device does at best. Where a line goes "
        "flat, a larger batch gains nothing.",
        reads=(SUMMARY,),
        in_run_folder=True,
        unfit=_needs_batches,
    ),
    Kind(
        "roofline",
        help="what is reached of what the machine can do",
        title="Roofline",
        caption="Each point is a pass: how much it computes for each byte it must move, and how fast. The line above "
        "is what this machine does at best, measured in this Run; the nearer a point is to it, the less there "
        "is to gain.",
        reads=(SUMMARY, PROFILE),
        in_run_folder=True,
        unfit=_needs_ceiling,
    ),
    Kind(
        "layers",
        help="the rows of a `profile`",
        title="Layers by time",
        caption="Each segment is a row of the net, timed as a net of its own; the outline below is the whole net. "
        "Where the two differ in length, it is fusion, or noise.",
        reads=(PROFILE,),
        in_run_folder=True,
    ),
    Kind(
        "history",
        help="beside what was published since 2014",
        title="A decade",
        caption="Published timings of such nets since 2014, and this Run’s where it timed the same. Hardware, "
        "libraries and clocks differ: this shows a decade, and decides nothing. Sources and caveats stand "
        "below the marks.",
        reads=(SUMMARY,),
        needs_run=False,
    ),
)
#: By name, in the order of the report.
KINDS = {kind.name: kind for kind in _KINDS}


def draw_run_folder(folder: Path, rows: Rows, profile: bool) -> list[str]:
    """Draw the pictures that a Run's folder gets, and say which could not be drawn.

    ``rows`` are those of its summary.csv. Of a Run of `profile` they are the kinds that read its profile.csv.
    """
    valid = [row for row in rows if row["valid"]]
    chosen = [kind for kind in KINDS.values() if kind.in_run_folder and (PROFILE in kind.reads or not profile)]
    problems = []
    for kind in chosen if valid else ():
        if kind.why_not(valid, profile):
            continue
        try:
            kind.draw([folder], folder / f"{kind.name}.png")
        except UsageError as error:
            problems.append(f"no {kind.name}.png: {error}")
    return problems
