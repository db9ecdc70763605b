"""Shards of a grid: whole groups, each in exactly one, the same on every machine, and of like cost."""

import dataclasses
import itertools

import pytest
from fleets import GRID
from runs import AA, A

from bench.cases.case import groups
from bench.cases.shard import Shard, assign


def shard(index, count, cases=GRID):
    return Shard(index, count, "0", list(cases))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 12])
def test_every_group_is_in_exactly_one_shard_whole_and_in_the_order_of_the_grid(count):
    parts = [shard(index, count).own for index in reversed(range(count))]
    held = [group for part in parts for group in groups(part)]
    assert sorted(map(GRID.index, itertools.chain(*parts))) == list(range(len(GRID)))
    assert all(group in groups(GRID) for group in held)
    assert all([case for case in GRID if case in part] == part for part in parts)
    assert {len(groups(part)) for part in parts} <= {8 // count, 8 // count + 1}


def test_both_arms_stay_together():
    cases = AA.cases(GRID)
    assert all(
        {case.arm for case in group} == {"A", "B"} for index in range(5) for group in groups(shard(index, 5, cases).own)
    )


def test_shards_beyond_the_groups_are_empty_and_no_earlier_one_is():
    assert [bool(shard(index, 12).own) for index in range(12)] == [True] * 8 + [False] * 4


def test_expensive_groups_are_dealt_apart():
    """One after the other, each second shard of this grid would have every large batch."""
    cost = [sum(case.macs * case.batch for case in shard(index, 4).own) for index in range(4)]
    by_turns = [sum(case.macs * case.batch for group in groups(GRID)[index::4] for case in group) for index in range(4)]
    largest = max(sum(case.macs * case.batch for case in group) for group in groups(GRID))
    assert max(cost) < 1.02 * largest
    assert max(by_turns) > 1.8 * largest


def test_the_assignment_is_this_one():
    """Machines of a fleet may have two versions of this program; another assignment would lose groups."""
    assert assign(groups(GRID), 4) == [0, 2, 3, 1, 1, 3, 2, 0]
    assert assign(groups(GRID), 3) == [1, 0, 2, 1, 0, 1, 2, 0]


def test_groups_of_equal_cost_are_in_the_order_of_the_grid():
    seeds = [dataclasses.replace(A, seed=seed) for seed in range(5)]
    assert assign(groups(seeds), 2) == [0, 1, 1, 0, 0]


@pytest.mark.parametrize(("index", "count"), [(1, 1), (-1, 2), (0, 0), (3, -4)])
def test_there_is_no_shard_outside(index, count):
    with pytest.raises(ValueError, match=f"no shard {index} of {count}"):
        shard(index, count)
