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
    hostless: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The key without the host name, by key."""

    def margin(self, run: Recording, case: Case, any_host: bool = False) -> float:
        """The largest deviation from 1 of an A/A ratio of this Case; 0 without one."""
        return max((self.furthest.get(key, 0.0) for key in self._keys(run, case, any_host)), default=0.0)

    def between_runs(self, run: Recording, case: Case, any_host: bool = False) -> tuple[float, int] | None:
        """(stddev of the log centers of A/A Runs, number of Runs); None below LEAST_RUNS."""
        centers = [center for key in self._keys(run, case, any_host) for center in self.centers.get(key, ())]
        return (descriptive.stddev(centers), len(centers)) if len(centers) >= LEAST_RUNS else None

    def _keys(self, run: Recording, case: Case, any_host: bool) -> list[str]:
        if not any_host:
            return [comparison_key(run, case)]
        wanted = comparison_key(run, case, any_host=True)
        return [key for key, plain in self.hostless.items() if plain == wanted]


def comparison_key(run: Recording, case: Case, any_host: bool = False) -> str:
    """Hash of a Case's id without its Arm, its work and its conditions: equal in an A/A Run and in any other.

    With ``any_host`` it lacks the host name, which is new in each container.
    """
    plain, held = dataclasses.replace(case, arm=None).id, dataclasses.asdict(conditions.conditions_of(run, case))
    return digest([plain, conditions.work(case), held | ({"host": None} if any_host else {})])
