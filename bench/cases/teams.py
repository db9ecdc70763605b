"""The Cases of Teams of devices that are compared with those of one."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from bench import UsageError
from bench.cases.case import SPLITS, Case
from bench.cases.passes import ALL_REDUCE, APART


def teams_of(cases: Iterable[Case], counts: Sequence[int], strong: bool) -> Iterator[Case]:
    """Each Case on each number of devices; the witnesses follow the pass that they split.

    The batch of a Case is per device, or with ``strong`` scaling that of all; UsageError if it cannot be divided.
    """
    for case in cases:
        for world in counts:
            if strong and case.batch % world:
                raise UsageError(f"--batch: expected a multiple of the {world} devices, found {case.batch}")
            batch = case.batch // world if strong else case.batch
            team = dataclasses.replace(case, world=world, batch=batch, strong=strong)
            yield team
            if world > 1 and case.pass_ == SPLITS:
                yield from (dataclasses.replace(team, pass_=witness.name) for witness in (APART, ALL_REDUCE))
