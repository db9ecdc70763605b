"""Spread: how far apart A/A Runs of this machine came out, one Case against itself; what is nearer is no difference."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import UsageError, events, pairs, rows, stats
from bench.case import Case
from bench.ratio import LEAST_RUNS, MIN_ROUNDS
from bench.results import Run


class Spread:
    """Of stored A/A Runs: the largest ratio that should have been 1, and how Runs of one Case differ, each for the same
    work under the same conditions. One that noise spoilt, or of fewer Rounds than decide anything, is left out."""

    def __init__(self, runs: Sequence[Run]):
        self.furthest: dict[str, float] = {}
        centers: dict[str, list[float]] = defaultdict(list)
        for run in runs:
            by_id = {case.id: case for case in run.cases}
            for pair in pairs.within(run):
                if pair.ratio and not pair.differs and not pair.why and pair.ratio.rounds >= MIN_ROUNDS:
                    case = by_id[pair.candidate]
                    off = math.expm1(abs(math.log(pair.ratio.value.center)))
                    key = self._key(run, case)
                    self.furthest[key] = max(off, self.furthest.get(key, 0.0))
                    summary = run.summary(by_id[pair.baseline])
                    if summary:
                        centers[key].append(math.log(summary.center.center))
        self.centers = dict(centers)

    @staticmethod
    def _key(run: Run, case: Case) -> str:
        """The same for one Case in an A/A Run and in any other: its id without its Arm, work and conditions."""
        plain = dataclasses.replace(case, arm=None).id
        return rows.digest([plain, rows.work(case), rows.conditions(run, case)])

    def margin(self, run: Run, case: Case) -> float:
        """The furthest from 1 that an A/A of this Case came out; 0 where there is none."""
        return self.furthest.get(self._key(run, case), 0.0)

    def between_runs(self, run: Run, case: Case) -> tuple[float, int] | None:
        """(sd of the log centres over A/A Runs, how many), None below 3."""
        found = self.centers.get(self._key(run, case), ())
        return (stats.stddev(found), len(found)) if len(found) >= LEAST_RUNS else None


def find(folders: Iterable[Path], but: Iterable[Path] = ()) -> Spread:
    """The A/A Runs in these folders, by the first line of their run.jsonl; a folder that is none of ours is passed
    over, and so are those in ``but``."""
    skipped = {path.resolve() for path in but}
    runs = []
    for folder in {folder.resolve() for folder in folders}:
        for path in sorted(folder.glob("*/run.jsonl")):
            if path.parent in skipped or not is_aa(path):
                continue
            try:
                runs.append(Run(path.parent))
            except UsageError:
                continue
    return Spread(runs)


def is_aa(path: Path) -> bool:
    """Whether the Run of a run.jsonl has two equal Arms."""
    try:
        with path.open("rb") as file:
            head = events.parsed(file.readline())
    except (OSError, events.Foreign):
        return False
    return head["event"] == "run" and head["schema"] == events.SCHEMA and bool((head["ab"] or {}).get("identical"))
