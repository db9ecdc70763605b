"""Synthetic Runs on several devices."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import runs

from bench.cases.case import Case
from bench.cases.teams import teams_of
from bench.record.run import Run
from impls.splits import DATA

PASSES = ("forward", "forward_backward", "train_step")
#: Time of each pass over that of forward, on one device, and on more of them.
ALONE = {"forward": 1.0, "forward_backward": 3.0, "train_step": 3.5}
TEAM = {"forward": 1.0, "forward_backward": 4.0, "train_step": 5.0, "apart": 3.2, "all_reduce": 2.0}
#: Two devices on one core.
SHARED = [{"cores": [0]}] * 2


def make(
    folder: Path,
    *cases: Case,
    worlds: Sequence[int] = (1, 2),
    strong: bool = False,
    passes: Sequence[str] = PASSES,
    slower: Mapping[str, float] = TEAM,
    splits: Sequence[str] = (DATA,),
    **settings: Any,
) -> Run:
    """A Run of these Cases on one device and on several: forward takes 10 ms."""
    grid = [dataclasses.replace(case, pass_=name) for case in cases or (runs.A,) for name in passes]
    spread_ = list(teams_of(grid, list(worlds), strong, splits))
    factors = {each.id: (slower if each.world > 1 else ALONE)[each.pass_] for each in spread_}
    devices = [{"cores": [number]} for number in range(max(worlds))]
    like = {"base_ns": 10**7, "rounds": 3, "devices": devices}
    run = runs.make(folder, spread_, slower=factors, **like | settings)
    run.write()
    return run
