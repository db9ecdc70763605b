"""The digest of a grid: equal on every machine for the same Cases, work and Protocol, and otherwise not."""

import dataclasses

import pytest
from fleets import GRID
from runs import make

from bench.cases.passes import PASSES
from bench.cases.protocol import Protocol
from bench.record.grid import digest_of, digest_of_run

RULES = Protocol()


def test_a_run_that_is_no_shard_has_the_digest_of_its_cases_and_protocol(tmp_path):
    run = make(tmp_path, GRID, rounds=1)
    assert digest_of_run(run) == digest_of(GRID, run.protocol)


@pytest.mark.parametrize(
    ("cases", "protocol"),
    [
        (GRID[:-1], RULES),
        (GRID[::-1], RULES),
        ([dataclasses.replace(GRID[0], threads=1), *GRID[1:]], RULES),
        ([dataclasses.replace(GRID[0], weights="01234567"), *GRID[1:]], RULES),
        (GRID, dataclasses.replace(RULES, rounds=6)),
        (GRID, dataclasses.replace(RULES, max_time_s=60.0)),
    ],
)
def test_other_cases_another_order_or_protocol_have_another(cases, protocol):
    assert digest_of(cases, protocol) != digest_of(GRID, RULES)


def test_other_work_under_the_same_ids_has_another(monkeypatch):
    """As of another version of this program."""
    before = digest_of(GRID, RULES)
    monkeypatch.setitem(PASSES, "forward", dataclasses.replace(PASSES["forward"], inside="more than it was"))
    assert digest_of(GRID, RULES) != before
