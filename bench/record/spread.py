"""Spread: how far apart A/A Runs of this machine came out, one Case against itself; what is nearer is no difference."""

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
    """Of stored A/A Runs, each for the same work under the same conditions (``key``)."""

    furthest: Mapping[str, float]
    """The largest ratio that should have been 1, as a fraction above it."""
    centers: Mapping[str, Sequence[float]]
    """Logarithms of the centres of Runs of one Case."""

    def margin(self, run: Recording, case: Case) -> float:
        """The furthest from 1 that an A/A of this Case came out; 0 where there is none."""
        return self.furthest.get(key(run, case), 0.0)

    def between_runs(self, run: Recording, case: Case) -> tuple[float, int] | None:
        """(sd of the log centres over A/A Runs, how many), None below 3."""
        found = self.centers.get(key(run, case), ())
        return (descriptive.stddev(found), len(found)) if len(found) >= LEAST_RUNS else None


def key(run: Recording, case: Case) -> str:
    """The same for one Case in an A/A Run and in any other: its id without its Arm, work and conditions."""
    plain = dataclasses.replace(case, arm=None).id
    return digest([plain, conditions.work(case), conditions.conditions(run, case)])
