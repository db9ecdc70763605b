"""Recording: the events of a Run read back from its run.jsonl, and the samples that count."""

import functools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from bench import UsageError
from bench.cases.case import Case, checked, groups
from bench.machine import noise
from bench.record import events
from bench.record.events import (
    Control,
    Event,
    Failed,
    Header,
    OfRound,
    Phase,
    Place,
    Resume,
    RoundEnd,
    Stop,
    StopReason,
    Timed,
    Turn,
    Void,
    Worker,
)
from bench.record.parse import OLDEST, Foreign, parse_event, schema_of
from bench.stats import descriptive

T = TypeVar("T")
E = TypeVar("E", bound=Event)
P = TypeVar("P", bound=OfRound)
R = TypeVar("R", bound="Recording")


def once(method: Callable[[R, Case], T]) -> Callable[[R, Case], T]:
    """Worked out once for each Case: a Run that was read does not change, and may hold 100,000 samples."""

    @functools.wraps(method)
    def kept(run: R, case: Case) -> T:
        known: dict[str, T] = run.known.setdefault(method.__name__, {})
        if case.id not in known:
            known[case.id] = method(run, case)
        return known[case.id]

    return kept


class Recording:
    """What run.jsonl of a folder holds. ``problems`` are lines that were left out, each with its number."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []
        self.events = list(self._read())
        heads = self.events_of(Header)
        if not heads:
            raise UsageError(f"{folder}: no Run there, run.jsonl has no header{self._but()}")
        if len(heads) > 1:
            raise UsageError(
                f"{folder}: run.jsonl has {len(heads)} headers, expected one: a Run has a folder of its own"
            )
        self.head = heads[0]
        try:
            self.cases = checked(self.head.cases)
        except UsageError as error:
            raise UsageError(f"{folder}: the header of run.jsonl is not that of a Run: {error}") from error
        self.protocol = self.head.protocol
        self.group_of = {case.id: number for number, group in enumerate(groups(self.cases)) for case in group}
        self.voided = {event.place for event in self.events_of(Void)}
        ends = self.counted(RoundEnd)
        self.disturbed = {(event.group, event.round): event.disturbed for event in ends if event.disturbed}
        self.turns = [turn for turn in self.counted(Turn) if self.group_of.get(turn.case_id) == turn.group]
        self.failed = {event.case_id: event.reason for event in reversed(self.events_of(Failed))}

    def _read(self) -> Iterator[Event]:
        try:
            *lines, torn = (self.folder / "run.jsonl").read_bytes().split(b"\n")
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot read run.jsonl: {error.strerror}") from error
        file = self.folder / "run.jsonl"
        schemas = (schema for schema in map(schema_of, lines) if schema is not None)
        schema = next(schemas, events.SCHEMA)
        self._check_schema(schema)
        for number, line in enumerate(lines, 1):
            try:
                yield parse_event(line, schema)
            except Foreign as error:
                self.problems.append(f"{file}, line {number}: {error}; left out")
        if torn:  # even a whole event without its end of line: ``add`` did not return, and --resume cuts it off
            self.problems.append(f"{self.folder / 'run.jsonl'}, line {len(lines) + 1}: cut off; left out")

    def _check_schema(self, schema: int) -> None:
        if schema > events.SCHEMA:
            what = f"newer than {events.SCHEMA}: update alexnet-bench"
        elif schema < OLDEST:
            what = f"older than {OLDEST}: measure again, or plot its CSVs"
        else:
            return
        raise UsageError(f"{self.folder}: schema {schema} is {what}")

    def _but(self) -> str:
        return f" ({self.problems[0]})" if self.problems else ""

    def events_of(self, kind: type[E]) -> list[E]:
        """Events of one class, in the order written."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> dict[type[Event], list[Any]]:
        found = defaultdict(list)
        for event in self.events:
            found[type(event)].append(event)
        return found

    def counted(self, kind: type[P]) -> list[P]:
        """Events of Rounds that were not repeated."""
        return [event for event in self.events_of(kind) if event.place not in self.voided]

    @cached_property
    def finished_rounds(self) -> set[tuple[int, int]]:
        return {(event.group, event.round) for event in self.counted(RoundEnd)}

    def finished(self, group: int) -> set[int]:
        """Rounds of a group that came to their end."""
        return {round_ for number, round_ in self.finished_rounds if number == group}

    @property
    def unfinished(self) -> set[Place]:
        """Rounds that were begun and neither finished nor voided."""
        begun = {event.place for kind in events.OF_A_ROUND for event in self.counted(kind)}
        return {place for place in begun if place[:2] not in self.finished_rounds}

    def next_attempt(self, group: int, round: int) -> int:
        begun = (event.place for kind in events.OF_A_ROUND for event in self.events_of(kind))
        return max((place.attempt for place in begun if place[:2] == (group, round)), default=-1) + 1

    @cached_property
    def _turns_of(self) -> dict[str, list[Turn]]:
        found = defaultdict(list)
        for turn in self.turns:
            found[turn.case_id].append(turn)
        return found

    def turns_of(self, case: Case) -> list[Turn]:
        """A Case's turns that count, in the order taken."""
        return self._turns_of.get(case.id, [])

    @once
    def measured(self, case: Case) -> set[int]:
        """Rounds that a Case came to the end of; the one it was cut off in where there is no other."""
        group = self.group_of[case.id]
        begun = {turn.round for turn in self.turns_of(case)}
        return {round_ for round_ in begun if (group, round_) in self.finished_rounds} or begun

    def cut_off(self, case: Case) -> bool:
        """Whether all there is of a Case is a Round that did not come to its end."""
        return bool(self.measured(case)) and not self.measured(case) & self.finished(self.group_of[case.id])

    def usable(self, case: Case) -> set[int]:
        """Rounds that count for a Case: those that noise did not disturb, or all where it disturbed every one."""
        group, there = self.group_of[case.id], self.measured(case)
        return {round_ for round_ in there if (group, round_) not in self.disturbed} or there

    def disturbed_share(self, case: Case) -> float:
        """The share of a Case's Rounds that noise disturbed."""
        group, there = self.group_of[case.id], self.measured(case)
        return sum((group, round_) in self.disturbed for round_ in there) / len(there) if there else 0.0

    @cached_property
    def bad_samples(self) -> dict[int, set[int]]:
        """By the id of a turn: samples that are no duration, or in which another Worker was computing too."""
        return bad_samples(self.turns)

    def valid_ns(self, turn: Turn) -> list[int]:
        """A turn's samples without its lead iteration and without what is no sample."""
        bad = self.bad_samples.get(id(turn), ())
        return [ns for i, ns in enumerate(turn.ns) if i >= turn.lead and i not in bad]

    @cached_property
    def _counted(self) -> set[int]:
        """The ids of turns that count for their Cases' figures."""
        usable = {case.id: self.usable(case) for case in self.cases}
        return {id(turn) for turn in self.turns if turn.round in usable[turn.case_id]}

    def phases(self, event: Timed) -> list[tuple[Phase, bool]]:
        """The phase of each iteration of a burn-in or a turn, and whether it is a valid sample."""
        if not isinstance(event, Turn):
            return [(Phase.BURN_IN, False)] * len(event.ns)
        counts, bad = id(event) in self._counted, self.bad_samples.get(id(event), ())
        samples = [(Phase.SAMPLE, counts and i not in bad) for i in range(event.lead, len(event.ns))]
        return [(Phase.LEAD, False)] * min(event.lead, len(event.ns)) + samples

    @once
    def samples_by_round(self, case: Case) -> dict[int, list[int]]:
        """Valid samples of each usable Round, ns; lead iterations are stored and left out."""
        found: dict[int, list[int]] = {}
        usable = self.usable(case)
        for turn in self.turns_of(case):
            if turn.round in usable:
                found.setdefault(turn.round, []).extend(self.valid_ns(turn))
        return {key: found[key] for key in sorted(found) if found[key]}

    def samples(self, case: Case) -> list[list[int]]:
        return [list(ns) for ns in self.samples_by_round(case).values()]

    @once
    def round_medians_ns(self, case: Case) -> dict[int, float]:
        return {round_: statistics.median(ns) for round_, ns in self.samples_by_round(case).items()}

    @once
    def summary(self, case: Case) -> descriptive.Summary | None:
        samples = self.samples(case)
        return descriptive.Summary.of(*samples) if samples else None

    def unsteady_machine(self, case: Case) -> bool:
        """Whether the controller's own fixed computation, before and after the cycles of a Case's Rounds, took another
        time than in most of the Run, in more than a fifth of them."""
        controls = self.counted(Control)
        off = noise.control_off([control.reading for control in controls])
        mine = [number for number, control in enumerate(controls) if control.group == self.group_of[case.id]]
        return sum(number in off for number in mine) > len(mine) / 5

    def workers(self, case: Case) -> list[Worker]:
        """What the Case's counted Workers recorded: their proof, their conditions."""
        return [worker for worker in self.counted(Worker) if case.id in worker.case_ids]

    def stop_reason(self, case: Case) -> StopReason:
        """Why its Rounds ended; a group that never came to an end was interrupted."""
        resumed = max((number for number, event in enumerate(self.events) if isinstance(event, Resume)), default=0)
        stops = [event for event in self.events[resumed:] if isinstance(event, Stop)]
        mine = [stop.reason for stop in stops if stop.group == self.group_of[case.id]]
        return mine[-1] if mine else StopReason.INTERRUPTED


def bad_samples(turns: Sequence[Turn]) -> dict[int, set[int]]:
    """By the id of a turn, the samples that are none: no duration, or taken while another Worker was computing too.
    No sample is bad because of how long it took."""
    found: dict[int, set[int]] = {}

    def mark(turn: Turn, which: set[int]) -> None:
        if which:
            found.setdefault(id(turn), set()).update(which)

    rounds: dict[Place, list[Turn]] = {}
    for turn in turns:
        mark(turn, {i for i, ns in enumerate(turn.ns) if ns <= 0})
        if turn.ns:
            rounds.setdefault(turn.place, []).append(turn)
    for together in rounds.values():  # one Round, one boot of the machine, one clock
        together.sort(key=lambda turn: turn.start_ns[0])
        last, end = together[0], together[0].start_ns[-1] + together[0].ns[-1]
        for turn in together[1:]:
            begun = turn.start_ns[0]
            if begun < end:
                spans = enumerate(zip(last.start_ns, last.ns, strict=True))
                mark(last, {i for i, (start, ns) in spans if start + ns > begun})
                mark(turn, {i for i, start in enumerate(turn.start_ns) if start < end})
            if turn.start_ns[-1] + turn.ns[-1] > end:
                last, end = turn, turn.start_ns[-1] + turn.ns[-1]
    return found
