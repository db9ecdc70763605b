"""Kinds of plots: one record per kind, without importing the drawing modules.

To add one, write the module ``<name>.py`` with ``draw_files(paths, target)``, and its record here; `plot`, its help,
the report and the plots of a Run folder follow from the record.
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
    batches = {row["batch"] for row in rows if row["images_per_s"]}
    if not batches:
        return "no images were counted"
    return "" if len(batches) > 1 else "there is one batch; `alexnet-bench run --batch 8,32,128` measures several"


def _needs_ceiling(rows: Rows) -> str:
    if not any(row["macs"] for row in rows):
        return "the multiply-adds of these nets are not known"
    known = any(row["ceiling_gflop_per_s"] and row["copy_gb_per_s"] for row in rows)
    return "" if known else "this Run has no ceiling, so there is no roof"


def _needs_loaders(rows: Rows) -> str:
    known = any(row["loader"] is not None for row in rows)
    return "" if known else "this Run has no loaders; `alexnet-bench run --input FOLDER --loaders 0,2` times them"


def _needs_teams(rows: Rows) -> str:
    teams = [row for row in rows if row["world"] > 1]
    if not teams:
        return "this Run has one device; `alexnet-bench run --devices 1,2` times several"
    if all("shared_core" in row["flags"] for row in teams):
        return "its devices share cores, so they have no efficiency"
    if not any(row["efficiency"] and row["pass"] != "forward" for row in teams):
        return "no pass that reduces gradients has an efficiency; it takes one device in the same Run"
    return ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plot; ``name`` is also the name of its module."""

    name: str
    help: str
    """Phrase for `plot --help`."""
    title: str
    caption: str
    """How to read it, printed below it in the report."""
    reads: tuple[str, ...]
    """Tables of a Run that it uses if they exist."""
    in_run_folder: bool = False
    """Whether `run` or `profile` writes it to the Run's folder."""
    needs_run: bool = True
    """Whether `plot` requires a Run or a CSV."""
    unfit: Callable[[Rows], str] = _always
    """Why a Run with these rows has nothing to show; empty if it has."""

    def load(self) -> ModuleType:
        return importlib.import_module(f"bench.output.plots.{self.name}")

    def draw(self, paths: Sequence[Path], target: Path) -> None:
        """Draw Run folders or CSVs; raises UsageError if there is nothing to draw or ``target`` cannot be written."""
        self.load().draw_files(paths, target)

    def why_not(self, rows: Rows, profile: bool) -> str:
        """Return why a report omits it, empty if it is drawn; ``profile`` is True for a Run of `profile`."""
        if self.reads == (PROFILE,) and not profile:
            return "this Run is not a profile; `alexnet-bench profile` times each layer of a net"
        return self.unfit(rows)


_KINDS = (
    Kind(
        "times",
        help="each case, with intervals",
        title="Times",
        caption="Bar: mean of a case; shorter is faster. Whisker: ± one standard deviation of its samples. "
        "Diamond: center of its Rounds with 95 % interval.",
        reads=(SUMMARY,),
        in_run_folder=True,
    ),
    Kind(
        "distribution",
        help="distribution of each case's samples",
        title="Distribution",
        caption="All samples of a case in one strip: one lane per Round with a tick at its median, and below the lanes "
        "quartiles and p95 of all. Rounds that differ from each other mean that the machine changed, not the net.",
        reads=(SAMPLES,),
    ),
    Kind(
        "series",
        help="every iteration in the order taken, burn-in and turns",
        title="Series",
        caption="Every iteration in the order taken, burn-in on gray, and one Round with its turns. A steady case is a "
        "level band; a slope is warming or slowing; a step in all cases comes from the machine.",
        reads=(SAMPLES,),
    ),
    Kind(
        "throughput",
        help="images/s and share of the ceiling against the batch",
        title="Throughput",
        caption="Images per second against the batch, and the share of the device’s best measured rate. Where a line "
        "is flat, a larger batch gains nothing.",
        reads=(SUMMARY,),
        in_run_folder=True,
        unfit=_needs_batches,
    ),
    Kind(
        "roofline",
        help="rates reached against the machine's limits",
        title="Roofline",
        caption="Each point is a pass: FLOP per byte that it must move, and GFLOP/s reached. The line above is the "
        "best of this machine, measured in this Run; the nearer a point is to it, the less there is to gain.",
        reads=(SUMMARY, PROFILE),
        in_run_folder=True,
        unfit=_needs_ceiling,
    ),
    Kind(
        "layers",
        help="the layers of a `profile`",
        title="Layers by time",
        caption="Each segment is a layer of the net, timed as a net of its own; the outline below is the whole net. "
        "A difference in length is fusion, or noise.",
        reads=(PROFILE,),
        in_run_folder=True,
    ),
    Kind(
        "loaders",
        help="loaders of a Run with --loaders, alone and in front of the step",
        title="Loaders",
        caption="Images per second of the loader alone, of the training step on a resident batch, and of both "
        "together; the slower of the first two limits the third. Right: every batch since the start of a loader, whose "
        "workers deliver in bursts that an average hides; those on gray are no samples.",
        reads=(SUMMARY, SAMPLES),
        in_run_folder=True,
        unfit=_needs_loaders,
    ),
    Kind(
        "scaling",
        help="images/s and efficiency over devices of a Run with --devices, and beyond",
        title="Scaling",
        caption="Images per second of all devices, next to the ideal, that of one device times their number. "
        "Below, the share of the ideal that is reached. Dashed: projected from the passes on one device and the "
        "all-reduce alone, without the cores that a reduction takes and without interference, so true figures are "
        "lower.",
        reads=(SUMMARY,),
        in_run_folder=True,
        unfit=_needs_teams,
    ),
    Kind(
        "history",
        help="next to timings published since 2014",
        title="A decade",
        caption="Published timings of such nets since 2014, and this Run’s if it timed the same passes. Hardware, "
        "libraries and clocks differ: this shows a decade, and decides nothing. Sources and caveats are below the "
        "panels.",
        reads=(SUMMARY,),
        needs_run=False,
    ),
)
#: By name, in the order of the report.
KINDS = {kind.name: kind for kind in _KINDS}


def draw_run_folder(folder: Path, rows: Rows, profile: bool) -> list[str]:
    """Draw the plots of a Run folder, for a Run of `profile` only the kinds that read profile.csv.

    ``rows`` are those of its summary.csv. Returns one message per plot that could not be drawn.
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
