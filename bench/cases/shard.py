"""Shard: the groups of a grid that one machine of a fleet measures."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cases.case import Case, groups


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard ``index`` of ``count``, counted from 0, of the grid of these Cases.

    ``grid`` is the digest of all its Cases and their Protocol, by which the shards of one grid are known. All Cases of
    the grid are there, so that each Run of a shard tells which other groups there are.
    """

    index: int
    count: int
    grid: str
    cases: list[Case]

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"no shard {self.index} of {self.count}")

    @property
    def number(self) -> str:
        """As ``--shard`` takes it."""
        return f"{self.index}/{self.count}"

    @property
    def own(self) -> list[Case]:
        """The Cases of this shard, in the order of the grid: whole groups; none, if there are more shards than
        groups."""
        every = groups(self.cases)
        shards = assign(every, self.count)
        return [case for group, index in zip(every, shards, strict=True) if index == self.index for case in group]


def assign(every: Sequence[Sequence[Case]], count: int) -> list[int]:
    """The shard of each group: the most expensive groups are dealt first, to shards 0, 1, ... and then back again.

    So each shard has as many groups as any other, or one more or less. The cost is a whole number, counted from the
    layers: no rate of a machine and no float, since all machines must agree.
    """
    order = sorted(range(len(every)), key=lambda number: -sum(case.macs * case.batch for case in every[number]))
    found = [0] * len(every)
    for place, number in enumerate(order):
        turn, at = divmod(place, count)
        found[number] = at if turn % 2 == 0 else count - 1 - at
    return found
