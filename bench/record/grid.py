"""Grid: the digest by which Runs of the same Cases and Protocol are known, on whatever machine."""

from collections.abc import Sequence

from bench.cases.case import Case
from bench.cases.protocol import Protocol, digest
from bench.record.conditions import work
from bench.record.recording import Recording


def digest_of(cases: Sequence[Case], protocol: Protocol) -> str:
    """A hash of the Cases in their order, of the work inside their clock, and of the Protocol."""
    return digest([protocol.hash, [(case.id, work(case)) for case in cases]])


def grid_of(run: Recording) -> list[Case]:
    """All Cases of the grid that a Run, or the Run of a shard, is of."""
    return run.head.shard.cases if run.head.shard else run.head.cases


def digest_of_run(run: Recording) -> str:
    """The digest as the machine that measured computed it; of a Run that is no shard as this code does."""
    return run.head.shard.grid if run.head.shard else digest_of(run.head.cases, run.protocol)
