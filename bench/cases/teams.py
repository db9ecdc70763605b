"""The Cases of Teams of devices that are compared with those of one."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from bench import UsageError
from bench.cases.case import WITNESSED, Case, check_split
from bench.cases.passes import ALL_REDUCE, APART
from impls.splits import DATA


def teams_of(
    cases: Iterable[Case], counts: Sequence[int], strong: bool, splits: Sequence[str] = (DATA,)
) -> Iterator[Case]:
    """Each Case on each number of devices, which share it in each way; the witnesses follow the pass that they are of.

    The batch of a Case is per device, or with ``strong`` scaling that of all. UsageError if it, or the net, cannot be
    divided so.
    """
    for case in cases:
        for world in counts:
            if strong and case.batch % world:
                raise UsageError(f"--batch: expected a multiple of the {world} devices, found {case.batch}")
            batch = case.batch // world if strong else case.batch
            team = dataclasses.replace(case, world=world, batch=batch, strong=strong)
            for split in splits if world > 1 else (DATA,):
                check_split(team.net, split, world)
                yield dataclasses.replace(team, split=split)
                if split == DATA and world > 1 and case.pass_ == WITNESSED:
                    yield from (dataclasses.replace(team, pass_=witness.name) for witness in (APART, ALL_REDUCE))
