"""Find stored A/A Runs and compute run-to-run variability from them."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import UsageError
from bench.record import pairs
from bench.record.events import SCHEMA, Header
from bench.record.parse import Foreign, parse_event, schema_of
from bench.record.run import Run
from bench.record.spread import Spread, comparison_key
from bench.stats.ratio import MIN_ROUNDS


def find(folders: Iterable[Path], but: Iterable[Path] = ()) -> Spread:
    """Compute the Spread of the A/A Runs in these folders.

    A Run is recognized by the first line of its run.jsonl. Other folders, unreadable Runs and those in ``but`` are
    skipped.
    """
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
    return spread_of(runs)


def is_aa(path: Path) -> bool:
    """Whether the Run of a run.jsonl has two identical Arms."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            line = file.readline()
        head = parse_event(line, schema_of(line) or SCHEMA)
    except (OSError, Foreign):
        return False
    return isinstance(head, Header) and head.ab is not None and head.ab.identical


def spread_of(runs: Sequence[Run]) -> Spread:
    """Compute the Spread of A/A Runs. Runs that noise disturbed, or with fewer than MIN_ROUNDS Rounds, are left out."""
    furthest: dict[str, float] = {}
    hostless: dict[str, str] = {}
    centers: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        by_id = {case.id: case for case in run.cases}
        for pair in pairs.within(run):
            if pair.ratio and not pair.differs and not pair.why and pair.ratio.rounds >= MIN_ROUNDS:
                group = comparison_key(run, by_id[pair.candidate])
                hostless[group] = comparison_key(run, by_id[pair.candidate], any_host=True)
                off = math.expm1(abs(math.log(pair.ratio.value.center)))
                furthest[group] = max(off, furthest.get(group, 0.0))
                if summary := run.summary(by_id[pair.baseline]):
                    centers[group].append(math.log(summary.center.center))
    return Spread(furthest, dict(centers), hostless)
