"""Synthetic Runs of the shards of one grid, each on a machine of its own."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import HOST, A, B, make

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.cases.shard import Shard
from bench.record import grid
from bench.record.run import Run

#: Eight groups of two Cases.
GRID = [
    dataclasses.replace(case, variant=variant, batch=batch)
    for variant in ("owt", "half_width")
    for batch in (1, 8, 32, 128)
    for case in (A, B)
]


def shard(
    folder: Path, index: int, count: int, cases: Sequence[Case] = GRID, machine: str | None = None, **settings: Any
) -> Run:
    """A Run of one shard, by default on a machine of its own."""
    protocol = settings.pop("protocol", Protocol(rounds=3, iterations=4))
    mine = Shard(index, count, grid.digest_of(cases, protocol), list(cases))
    names = {"run_id": folder.name, "fingerprint": HOST | {"host": machine or f"node{index}"}}
    rules = {"rounds": 3, "protocol": protocol, "shard": dataclasses.asdict(mine)}
    return make(folder, mine.own, **rules | names | settings)


def shards(folder: Path, count: int, *indices: int, **settings: Any) -> list[Run]:
    """Runs of these shards, or of all that have a group."""
    some = indices or range(min(count, len(GRID) // 2))
    return [shard(folder / f"shard-{index}-of-{count}", index, count, **settings) for index in some]
