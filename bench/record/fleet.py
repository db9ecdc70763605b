"""Fleet: Runs of one grid on several machines, next to each other; nothing is pooled over Runs or machines."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from msgspec import structs

from bench import UsageError
from bench.cases.case import Case, groups
from bench.cases.protocol import digest
from bench.cases.shard import assign
from bench.machine.host import Fingerprint
from bench.record.columns import COLUMNS, CsvColumn
from bench.record.events import End
from bench.record.grid import digest_of_run, grid_of
from bench.record.reasons import StopReason
from bench.record.run import Run

#: Facts of a fingerprint that may change between two Runs of one machine and its software.
PASSING = ("load_1min", "commit")
FOLDER = "the folder of its Run, from the folder of this file"
MACHINE = "digest of the machine and its software, as in index.json; figures of different machines are not comparable"
MERGED_COLUMNS: Sequence[CsvColumn] = (
    CsvColumn("run", str, FOLDER),
    CsvColumn("machine", str, MACHINE),
    *COLUMNS,
)


def machine_of(fingerprint: Fingerprint) -> str:
    """A short digest of a machine and its software, the same for all its Runs."""
    facts = structs.asdict(fingerprint)
    return digest({name: value for name, value in facts.items() if name not in PASSING})[:8]


@dataclass(frozen=True)
class Member:
    """A Run of the fleet: on which ``machine``, and its Cases by the number of their group in the grid."""

    run: Run
    machine: str
    groups: Mapping[int, Sequence[Case]]

    @property
    def began(self) -> tuple[datetime, str]:
        """Sort key: when it began; Runs of schema 4 have it in their id only."""
        return self.run.head.time or datetime.min.replace(tzinfo=UTC), self.run.head.run_id

    @property
    def finished(self) -> bool:
        """Whether it ended by itself; if not it can be resumed."""
        last = self.run.events[-1]
        return isinstance(last, End) and last.reason != StopReason.INTERRUPTED

    def measured(self, group: int) -> bool:
        """Whether it has a valid row of a group."""
        return any(not self.run.invalid_reason(case) for case in self.groups.get(group, ()))


class Fleet:
    """Runs of one grid. Raises UsageError for Runs that are not, and for a Run that is given twice.

    Attributes
    ----------
    grid : str
        The digest of all Cases and the Protocol.
    groups : list of list of Case
        The whole grid, also where no Run has it.
    members : list of Member
        The Runs in the order in which they began.
    machines : dict of str to Fingerprint
        By ``machine_of``, in the order of their first Runs.
    """

    def __init__(self, runs: Sequence[Run]):
        _refuse_twice(runs)
        _refuse_unlike(runs)
        self.grid, self.groups = digest_of_run(runs[0]), groups(grid_of(runs[0]))
        numbers = {case.id: number for number, group in enumerate(self.groups) for case in group}
        self.members = sorted((_member(run, numbers) for run in runs), key=lambda member: member.began)
        self.machines = {member.machine: member.run.head.fingerprint for member in self.members}

    def shown(self, group: int) -> dict[str, Member]:
        """By machine, the Run whose figures of a group are shown: the newest that has a valid row of it, else the
        newest."""
        found: dict[str, Member] = {}
        for member in (member for member in self.members if group in member.groups):
            if member.measured(group) or member.machine not in found or not found[member.machine].measured(group):
                found[member.machine] = member
        return {machine: found[machine] for machine in self.machines if machine in found}

    @cached_property
    def missing(self) -> list[int]:
        """The groups that no Run has."""
        there = {number for member in self.members for number in member.groups}
        return [number for number in range(len(self.groups)) if number not in there]

    @property
    def missing_shards(self) -> list[str]:
        """The shards with the missing groups, as ``--shard`` takes them, of as many as the first Run is one of."""
        count = next((member.run.head.shard.count for member in self.members if member.run.head.shard), 1)
        shards = assign(self.groups, count)
        return [f"{index}/{count}" for index in sorted({shards[number] for number in self.missing})]

    @property
    def unfinished(self) -> list[Member]:
        return [member for member in self.members if not member.finished]


def _member(run: Run, numbers: Mapping[str, int]) -> Member:
    mine: dict[int, list[Case]] = {numbers[case.id]: [] for case in run.head.cases}
    for case in run.cases:  # without those that are absent
        mine[numbers[case.id]].append(case)
    return Member(run, machine_of(run.head.fingerprint), mine)


def _refuse_twice(runs: Sequence[Run]) -> None:
    known: dict[tuple[str, str], Run] = {}
    for run in runs:
        name = run.head.run_id, machine_of(run.head.fingerprint)
        if name in known:
            raise UsageError(f"{known[name].folder} and {run.folder} are both Run {name[0]}: expected each Run once")
        known[name] = run


def _refuse_unlike(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for what, now, then in _differences(run, first):
            raise UsageError(
                f"incompatible Runs: {run.folder} has {what} {now}, {first.folder} has {then}; expected Runs of one "
                "grid, made with the same options but for --shard"
            )


def _differences(run: Run, first: Run) -> Iterator[tuple[str, str, str]]:
    """What differs between two Runs that ought to be of one grid, with its value in either, the most telling first."""
    facts: tuple[tuple[str, Callable[[Run], Mapping[str, Any]]], ...] = (
        ("protocol ", lambda each: asdict(each.protocol)),
        ("", _nets),
        ("", lambda each: {"--ab": each.head.ab and "=".join((each.head.ab.key, ",".join(each.head.ab.values)))}),
        ("", lambda each: {"pictures": each.head.pictures and each.head.pictures.names[:8]}),
        ("", lambda each: {"preprocessing": each.head.pictures and each.head.pictures.preprocessing.name}),
    )
    for prefix, of in facts:
        now, then = of(run), of(first)
        for name in (name for name in now if name in then and now[name] != then[name]):
            yield f"{prefix}{name}", str(now[name]), str(then[name])
    if digest_of_run(run) != digest_of_run(first):
        yield "grid", _grid_beyond(run, first), _grid_beyond(first, run)


def _grid_beyond(run: Run, other: Run) -> str:
    """The digest of a Run's grid, with a Case that the other's has not, if there is one; else the code or the order of
    the Cases differs."""
    others = {case.id for case in grid_of(other)}
    more = [case.id for case in grid_of(run) if case.id not in others]
    return (
        f"{digest_of_run(run)} with {more[0]}" if more else f"{digest_of_run(run)} (code {run.head.fingerprint.code})"
    )


def _nets(run: Run) -> dict[str, str]:
    """Digests of users' nets; a shard has those of its groups only."""
    return {f"--net {guest.file}:{guest.function}": guest.sha256[:8] for guest in run.head.guests}
