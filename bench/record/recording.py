"""Recording: the events of a Run, read from its run.jsonl, and the samples that count."""

import functools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from bench import UsageError
from bench.cases.case import Case, check_cases, groups
from bench.machine import noise
from bench.record import events
from bench.record.account import Line, account
from bench.record.events import (
    Absent,
    Block,
    Control,
    Event,
    Failed,
    Header,
    Iterations,
    OfCase,
    OfRound,
    Place,
    Resume,
    RoundEnd,
    Stop,
    Turn,
    Void,
    Worker,
)
from bench.record.parse import OLDEST, Foreign, parse_event, schema_of
from bench.record.reasons import BlockStop, StopReason
from bench.stats import descriptive

T = TypeVar("T")
E = TypeVar("E", bound=Event)
P = TypeVar("P", bound=OfRound)
C = TypeVar("C", bound=OfCase)
R = TypeVar("R", bound="Recording")


class Phase(StrEnum):
    """What an iteration is: burn-in, the first one after another Worker's turn, or a sample."""

    BURN_IN = "burn_in"
    LEAD = "lead"
    SAMPLE = "sample"


def cached_per_case(method: Callable[[R, Case], T]) -> Callable[[R, Case], T]:
    """Cache the result per Case; a loaded Run is immutable."""

    @functools.wraps(method)
    def cached(run: R, case: Case) -> T:
        results: dict[str, T] = run.cache.setdefault(method, {})
        if case.id not in results:
            results[case.id] = method(run, case)
        return results[case.id]

    return cached


class Recording:
    """The events in run.jsonl of a folder. ``problems`` are lines that were left out, each with its number."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cache: dict[Callable[..., Any], dict[str, Any]] = {}
        self.problems: list[str] = []
        file = folder / "run.jsonl"
        self.events, problems, gaps = account(list(self._read(file)))
        self.problems += [f"{file}: {problem}" for problem in problems]
        heads = self.events_of(Header)
        if not heads:
            why = f" ({self.problems[0]})" if self.problems else ""
            raise UsageError(f"{folder}: no Run there, run.jsonl has no header{why}")
        if len(heads) > 1:
            raise UsageError(
                f"{folder}: run.jsonl has {len(heads)} headers, expected one: a Run has a folder of its own"
            )
        self.head = heads[0]
        try:
            planned = check_cases(self.head.cases)
            if self.head.shard and set(planned) != set(planned).intersection(check_cases(self.head.shard.cases)):
                raise UsageError("a case that is not in the grid of its shard")
        except UsageError as error:
            raise UsageError(f"{folder}: invalid header in run.jsonl: {error}") from error
        self.protocol = self.head.protocol
        absent = {event.case_id for event in self.events_of(Absent)}
        self.cases = [case for case in planned if case.id not in absent]
        self.group_of = {case.id: number for number, group in enumerate(groups(planned)) for case in group}
        self.voided = {event.place for event in self.events_of(Void)}
        self._counted_by_kind: dict[type[Event], list[Any]] = {}
        self._counted_by_case: dict[type[Event], dict[str, list[Any]]] = {}
        ends = self.counted(RoundEnd)
        self.disturbed = {(event.group, event.round): event.disturbed for event in ends if event.disturbed}
        turns = [turn for turn in self.counted(Turn) if self.group_of.get(turn.case_id) == turn.group]
        self.lacking = self._lacking(turns, gaps)
        self.turns = [turn for turn in turns if (turn.case_id, turn.round) not in self.lacking]
        unexplained = "it failed and did not say why"
        self.failed = {event.case_id: event.reason or unexplained for event in reversed(self.events_of(Failed))}

    def _read(self, file: Path) -> Iterator[Line]:
        if file.exists() and not file.is_file():  # a pipe would be waited for, a device has no end
            raise UsageError(f"{self.folder}: cannot read run.jsonl: it is not a file")
        try:
            *lines, torn = file.read_bytes().split(b"\n")
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot read run.jsonl: {error.strerror}") from error
        schemas = (schema for schema in map(schema_of, lines) if schema is not None)
        schema = next(schemas, events.SCHEMA)
        self._check_schema(schema)
        for number, line in enumerate(lines, 1):
            try:
                yield Line(number, line, parse_event(line, schema))
            except Foreign as error:
                self.problems.append(f"{file}, line {number}: {error}; left out")
        if torn:  # even if it is a whole event: ``add`` did not return, and --resume removes it
            self.problems.append(f"{file}, line {len(lines) + 1}: cut off; left out")

    def _lacking(self, turns: Sequence[Turn], gaps: set[tuple[int, int]]) -> set[tuple[str, int]]:
        """Cases and completed Rounds that lack events, which do not count; adds a problem for each.

        Where events have no numbers, as in schema 4, samples are counted.
        """
        samples: dict[tuple[str, int], int] = {}
        for turn in turns:
            key = turn.case_id, turn.round
            samples[key] = samples.get(key, 0) + max(0, len(turn.ns) - turn.lead)
        short = {(block.case_id, block.round) for block in self.counted(Block) if block.stop == BlockStop.TIME_CAP}
        foreign = {case.id for case in self.cases if case.foreign}
        lacking = set()
        for (case_id, round_), count in samples.items():
            place = self.group_of[case_id], round_
            if place not in self.finished_rounds or case_id in foreign:
                continue
            planned = self.protocol.iterations if self.head.number is None and (case_id, round_) not in short else 0
            if place in gaps or count < planned:
                lacking.add((case_id, round_))
                found = f"has {count} of {planned} samples" if count < planned else "lacks events"
                self.problems.append(f"{self.folder}: Round {round_ + 1} of {case_id} {found}: not counted")
        return lacking

    def _check_schema(self, schema: int) -> None:
        if schema > events.SCHEMA:
            what = f"newer than {events.SCHEMA}: update alexnet-bench"
        elif schema < OLDEST:
            what = f"older than {OLDEST}: measure again, or plot its CSVs"
        else:
            return
        raise UsageError(f"{self.folder}: schema {schema} is {what}")

    def events_of(self, kind: type[E]) -> list[E]:
        """Events of one class, in the order written."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> dict[type[Event], list[Any]]:
        by_kind = defaultdict(list)
        for event in self.events:
            by_kind[type(event)].append(event)
        return by_kind

    def counted(self, kind: type[P]) -> list[P]:
        """Events of Rounds that were not repeated."""
        if kind not in self._counted_by_kind:
            self._counted_by_kind[kind] = [event for event in self.events_of(kind) if event.place not in self.voided]
        return self._counted_by_kind[kind]

    def of_case(self, kind: type[C], case: Case) -> list[C]:
        """Events of a Case in Rounds that were not repeated."""
        if kind not in self._counted_by_case:
            by_case = self._counted_by_case[kind] = defaultdict(list)
            for event in self.counted(kind):
                by_case[event.case_id].append(event)
        return self._counted_by_case[kind].get(case.id, [])

    @cached_property
    def finished_rounds(self) -> set[tuple[int, int]]:
        return {(event.group, event.round) for event in self.counted(RoundEnd)}

    def finished(self, group: int) -> set[int]:
        """Completed Rounds of a group."""
        return {round_ for number, round_ in self.finished_rounds if number == group}

    @property
    def unfinished(self) -> set[Place]:
        """Attempts that were begun and neither finished nor voided."""
        begun = {event.place for kind in events.OF_A_ROUND for event in self.counted(kind)}
        return {place for place in begun if place[:2] not in self.finished_rounds}

    def next_attempt(self, group: int, round: int) -> int:
        begun = (event.place for kind in events.OF_A_ROUND for event in self.events_of(kind))
        return max((place.attempt for place in begun if place[:2] == (group, round)), default=-1) + 1

    @cached_property
    def _turns_of(self) -> dict[str, list[Turn]]:
        by_case = defaultdict(list)
        for turn in self.turns:
            by_case[turn.case_id].append(turn)
        return by_case

    def turns_of(self, case: Case) -> list[Turn]:
        """A Case's turns that count, in the order taken."""
        return self._turns_of.get(case.id, [])

    @cached_per_case
    def measured(self, case: Case) -> set[int]:
        """Rounds that a Case completed; if there is none, the Round in which it was cut off."""
        group = self.group_of[case.id]
        begun = {turn.round for turn in self.turns_of(case)}
        return {round_ for round_ in begun if (group, round_) in self.finished_rounds} or begun

    def cut_off(self, case: Case) -> bool:
        """Whether the only Round of a Case was cut off."""
        return bool(self.measured(case)) and not self.measured(case) & self.finished(self.group_of[case.id])

    def usable(self, case: Case) -> set[int]:
        """Rounds that count for a Case: those that noise did not disturb, or all if it disturbed every one."""
        group, there = self.group_of[case.id], self.measured(case)
        return {round_ for round_ in there if (group, round_) not in self.disturbed} or there

    def disturbed_share(self, case: Case) -> float:
        """The share of a Case's Rounds that noise disturbed."""
        group, there = self.group_of[case.id], self.measured(case)
        return sum((group, round_) in self.disturbed for round_ in there) / len(there) if there else 0.0

    @cached_property
    def bad_samples(self) -> dict[int, set[int]]:
        """``bad_samples`` of all turns."""
        return bad_samples(self.turns)

    def valid_ns(self, turn: Turn) -> list[float]:
        """A turn's samples in ns, without lead iterations and bad samples; of a loader their mean alone."""
        bad = self.bad_samples.get(id(turn), ())
        samples = [ns for i, ns in enumerate(turn.durations_ns) if i >= turn.lead and i not in bad]
        return samples if turn.first_batch_ns is None or not samples else [statistics.fmean(samples)]

    @cached_property
    def _counted(self) -> set[int]:
        """The ids of turns that count for their Cases' figures."""
        usable = {case.id: self.usable(case) for case in self.cases}
        return {id(turn) for turn in self.turns if turn.round in usable[turn.case_id]}

    def phases(self, event: Iterations) -> list[tuple[Phase, bool]]:
        """The phase of each iteration of a burn-in or a turn, and whether it is a valid sample."""
        if not isinstance(event, Turn):
            return [(Phase.BURN_IN, False)] * len(event.ns)
        counts, bad = id(event) in self._counted, self.bad_samples.get(id(event), ())
        samples = [(Phase.SAMPLE, counts and i not in bad) for i in range(event.lead, len(event.ns))]
        return [(Phase.LEAD, False)] * min(event.lead, len(event.ns)) + samples

    @cached_per_case
    def samples_by_round(self, case: Case) -> dict[int, list[float]]:
        """Valid samples in ns by usable Round, in the order of Rounds; lead iterations are left out."""
        by_round: dict[int, list[float]] = {}
        usable = self.usable(case)
        for turn in self.turns_of(case):
            if turn.round in usable:
                by_round.setdefault(turn.round, []).extend(self.valid_ns(turn))
        return {number: by_round[number] for number in sorted(by_round) if by_round[number]}

    def samples(self, case: Case) -> list[list[float]]:
        """Durations of the valid samples of a Case.

        Returns
        -------
        list of list of float
            Nanoseconds; one list per Round that counts, in the order of Rounds, each in the order taken. Lead
            iterations and samples that overlap another Worker's are left out. Empty if nothing was measured.
        """
        return [list(ns) for ns in self.samples_by_round(case).values()]

    @cached_per_case
    def round_medians_ns(self, case: Case) -> dict[int, float]:
        """Median of the valid samples in ns, by usable Round."""
        return {round_: statistics.median(ns) for round_, ns in self.samples_by_round(case).items()}

    @cached_per_case
    def summary(self, case: Case) -> descriptive.Summary | None:
        """Statistics of ``samples(case)``, in ns; None if there is no valid sample."""
        samples = self.samples(case)
        return descriptive.Summary.of(*samples) if samples else None

    def unsteady_machine(self, case: Case) -> bool:
        """Whether over a fifth of the control computations around a Case's Rounds deviate from the Run's median."""
        group = self.group_of[case.id]
        own = [number for number, control in enumerate(self.counted(Control)) if control.group == group]
        return sum(number in self._controls_off for number in own) > len(own) / 5

    @cached_property
    def _controls_off(self) -> set[int]:
        return set(noise.control_off(self.counted(Control)))

    def workers(self, case: Case) -> list[Worker]:
        """Events of the Case's Workers, with their proof and conditions, without those of repeated Rounds."""
        return self._workers_of.get(case.id, [])

    @cached_property
    def _workers_of(self) -> dict[str, list[Worker]]:
        by_case = defaultdict(list)
        for worker in self.counted(Worker):
            for case_id in worker.case_ids:
                by_case[case_id].append(worker)
        return by_case

    def stop_reason(self, case: Case) -> StopReason:
        """Why the Rounds of a Case ended; INTERRUPTED if its group has not ended."""
        return self._stop_reasons.get(self.group_of[case.id], StopReason.INTERRUPTED)

    @cached_property
    def _stop_reasons(self) -> dict[int, StopReason]:
        """The last one of each group since the last ``--resume``."""
        resumed = max((number for number, event in enumerate(self.events) if isinstance(event, Resume)), default=0)
        return {event.group: event.reason for event in self.events[resumed:] if isinstance(event, Stop)}


def bad_samples(turns: Sequence[Turn]) -> dict[int, set[int]]:
    """By ``id`` of a turn, the indices of its bad samples: not above 0 ns, or overlapping another Worker's. No sample
    is bad because of how long it took."""
    bad: dict[int, set[int]] = {}

    def mark(turn: Turn, which: set[int]) -> None:
        if which:
            bad.setdefault(id(turn), set()).update(which)

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
    return bad
