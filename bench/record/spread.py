"""Spread: run-to-run variability of stored A/A Runs; the smallest ratio that `compare` reports as a difference."""

import dataclasses
from collections.abc import Mapping, Sequence

from bench.cases.case import Case
from bench.cases.protocol import digest
from bench.record import conditions
from bench.record.recording import Recording
from bench.stats import descriptive
from bench.stats.ratio import LEAST_RUNS


@dataclasses.dataclass(frozen=True)
class Spread:
    """Variability of A/A Runs, by ``comparison_key``: the same work under the same conditions."""

    furthest: Mapping[str, float]
    """Largest deviation from 1 of a ratio that should have been 1, as a fraction."""
    centers: Mapping[str, Sequence[float]]
    """Logarithms of the centers of Runs of one Case."""

    def margin(self, run: Recording, case: Case) -> float:
        """The largest deviation from 1 of an A/A ratio of this Case; 0 without one."""
        return self.furthest.get(comparison_key(run, case), 0.0)

    def between_runs(self, run: Recording, case: Case) -> tuple[float, int] | None:
        """(stddev of the log centers of A/A Runs, number of Runs); None below LEAST_RUNS."""
        centers = self.centers.get(comparison_key(run, case), ())
        return (descriptive.stddev(centers), len(centers)) if len(centers) >= LEAST_RUNS else None


def comparison_key(run: Recording, case: Case) -> str:
    """Hash of a Case's id without its Arm, its work and its conditions: equal in an A/A Run and in any other."""
    plain = dataclasses.replace(case, arm=None).id
    return digest([plain, conditions.work(case), dataclasses.asdict(conditions.conditions_of(run, case))])
