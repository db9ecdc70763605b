"""Recording: the events of a Run read back from its run.jsonl, and the samples that count."""

import functools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench import UsageError
from bench.cases.case import Case, checked, groups
from bench.cases.protocol import Protocol
from bench.machine import noise
from bench.record import events
from bench.stats import descriptive

T = TypeVar("T")
R = TypeVar("R", bound="Recording")


def once(method: Callable[[R, Case], T]) -> Callable[[R, Case], T]:
    """Worked out once for each Case: a Run that was read does not change, and may hold 100,000 samples."""

    @functools.wraps(method)
    def kept(run: R, case: Case) -> T:
        known = run.known.setdefault(method.__name__, {})
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
        heads = [event for event in self.events if event["event"] == "run"]
        if not heads:
            raise UsageError(f"{folder}: no Run there, run.jsonl has no header{self._but()}")
        if len(heads) > 1:
            raise UsageError(
                f"{folder}: run.jsonl has {len(heads)} headers, expected one: a Run has a folder of its own"
            )
        self.head = heads[0]
        try:
            self.cases = checked([msgspec.convert(case, Case) for case in self.head["cases"]])
            self.protocol = msgspec.convert(self.head["protocol"], Protocol)
        except (msgspec.ValidationError, UsageError) as error:
            raise UsageError(f"{folder}: the header of run.jsonl is not that of a Run: {error}") from error
        self.group_of = {case.id: number for number, group in enumerate(groups(self.cases)) for case in group}
        self.voided = {_place(event) for event in self.of("void")}
        self.spoilt = {(one["group"], one["round"]): one["spoilt"] for one in self.counted("round") if one["spoilt"]}
        self.turns = [one for one in self.counted("turn") if self.group_of.get(one["case_id"]) == one["group"]]
        self.failed = {event["case_id"]: event["reason"] for event in reversed(self.of("failed"))}

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            *lines, torn = (self.folder / "run.jsonl").read_bytes().split(b"\n")
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot read run.jsonl: {error.strerror}") from error
        file = self.folder / "run.jsonl"
        for number, line in enumerate(lines, 1):
            try:
                event = events.parsed(line)
            except events.Foreign as error:
                self.problems.append(f"{file}, line {number}: {error}; left out")
                continue
            if event["event"] == "run":
                self._known_schema(event["schema"])
            yield event
        if torn:  # even a whole event without its end of line: ``add`` did not return, and --resume cuts it off
            self.problems.append(f"{self.folder / 'run.jsonl'}, line {len(lines) + 1}: cut off; left out")

    def _known_schema(self, schema: int) -> None:
        if schema == events.SCHEMA:
            return
        what = (
            "newer than {}: update alexnet-bench"
            if schema > events.SCHEMA
            else "older than {}: measure again, or plot its CSVs"
        )
        raise UsageError(f"{self.folder}: schema {schema} is {what.format(events.SCHEMA)}")

    def _but(self) -> str:
        return f" ({self.problems[0]})" if self.problems else ""

    def of(self, event: str) -> list[dict[str, Any]]:
        return self._by_event.get(event, [])

    @cached_property
    def _by_event(self) -> dict[str, list[dict[str, Any]]]:
        found = defaultdict(list)
        for one in self.events:
            found[one["event"]].append(one)
        return found

    def counted(self, event: str) -> list[dict[str, Any]]:
        """Events of Rounds that were not repeated."""
        return [one for one in self.of(event) if _place(one) not in self.voided]

    @cached_property
    def finished_rounds(self) -> set[tuple[int, int]]:
        return {(one["group"], one["round"]) for one in self.counted("round")}

    def finished(self, group: int) -> set[int]:
        """Rounds of a group that came to their end."""
        return {round_ for number, round_ in self.finished_rounds if number == group}

    @property
    def unfinished(self) -> set[tuple[int, int, int]]:
        """Rounds that were begun and neither finished nor voided: (group, round, attempt)."""
        begun = {_place(one) for name in events.OF_A_ROUND for one in self.counted(name)}
        return {place for place in begun if place[:2] not in self.finished_rounds}

    def next_attempt(self, group: int, round: int) -> int:
        begun = [place[2] for place in map(_place, (one for name in events.OF_A_ROUND for one in self.of(name)))
                 if place[:2] == (group, round)]  # fmt: skip
        return max(begun, default=-1) + 1

    @cached_property
    def _turns_of(self) -> dict[str, list[dict[str, Any]]]:
        found = defaultdict(list)
        for turn in self.turns:
            found[turn["case_id"]].append(turn)
        return found

    def turns_of(self, case: Case) -> list[dict[str, Any]]:
        """A Case's turns that count, in the order taken."""
        return self._turns_of.get(case.id, [])

    @once
    def measured(self, case: Case) -> set[int]:
        """Rounds that a Case came to the end of; the one it was cut off in where there is no other."""
        group = self.group_of[case.id]
        begun = {turn["round"] for turn in self.turns_of(case)}
        return {round_ for round_ in begun if (group, round_) in self.finished_rounds} or begun

    def cut_off(self, case: Case) -> bool:
        """Whether all there is of a Case is a Round that did not come to its end."""
        return bool(self.measured(case)) and not self.measured(case) & self.finished(self.group_of[case.id])

    def usable(self, case: Case) -> set[int]:
        """Rounds that count for a Case: those that noise did not spoil, or all where it spoilt every one."""
        group, there = self.group_of[case.id], self.measured(case)
        return {round_ for round_ in there if (group, round_) not in self.spoilt} or there

    def spoilt_share(self, case: Case) -> float:
        """The share of a Case's Rounds that noise spoilt."""
        group, there = self.group_of[case.id], self.measured(case)
        return sum((group, round_) in self.spoilt for round_ in there) / len(there) if there else 0.0

    @cached_property
    def bad_samples(self) -> dict[int, set[int]]:
        """By the id of a turn: samples that are no duration, or in which another Worker was computing too."""
        return bad_samples(self.turns)

    def valid_ns(self, turn: dict[str, Any]) -> list[int]:
        """A turn's samples without its lead iteration and without what is no sample."""
        bad = self.bad_samples.get(id(turn), ())
        return [ns for i, ns in enumerate(turn["ns"]) if i >= turn["lead"] and i not in bad]

    @cached_property
    def _counted(self) -> set[int]:
        """The ids of turns that count for their Cases' figures."""
        usable = {case.id: self.usable(case) for case in self.cases}
        return {id(turn) for turn in self.turns if turn["round"] in usable[turn["case_id"]]}

    def phases(self, event: dict[str, Any]) -> list[tuple[str, bool]]:
        """The phase of each iteration of a burn-in or a turn, and whether it is a valid sample."""
        if event["event"] == "burn_in":
            return [("burn_in", False)] * len(event["ns"])
        counts, lead, bad = id(event) in self._counted, event["lead"], self.bad_samples.get(id(event), ())
        samples = [("sample", counts and i not in bad) for i in range(lead, len(event["ns"]))]
        return [("lead", False)] * min(lead, len(event["ns"])) + samples

    @once
    def samples_by_round(self, case: Case) -> dict[int, list[int]]:
        """Valid samples of each usable Round, ns; lead iterations are stored and left out."""
        found: dict[int, list[int]] = {}
        usable = self.usable(case)
        for turn in self.turns_of(case):
            if turn["round"] in usable:
                found.setdefault(turn["round"], []).extend(self.valid_ns(turn))
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

    def uneven(self, case: Case) -> bool:
        """Whether the controller's own fixed computation, before and after the cycles of a Case's Rounds, took another
        time than in most of the Run, in more than a fifth of them."""
        controls = self.counted("control")
        off = noise.control_off(controls)
        mine = [number for number, one in enumerate(controls) if one["group"] == self.group_of[case.id]]
        return sum(number in off for number in mine) > len(mine) / 5

    def workers(self, case: Case) -> list[dict[str, Any]]:
        """What the Case's counted Workers recorded: their proof, their conditions."""
        return [e for e in self.counted("worker") if case.id in e["case_ids"]]

    def stop_reason(self, case: Case) -> str:
        """Why its Rounds ended; a group that never came to an end was interrupted."""
        resumed = max((number for number, one in enumerate(self.events) if one["event"] == "resume"), default=0)
        stops = [one for one in self.events[resumed:] if one["event"] == "stop"]
        mine = [one["reason"] for one in stops if one["group"] == self.group_of[case.id]]
        return mine[-1] if mine else "interrupted"


def _place(event: dict[str, Any]) -> tuple[int, int, int]:
    return event["group"], event["round"], event["attempt"]


def bad_samples(turns: Sequence[Mapping[str, Any]]) -> dict[int, set[int]]:
    """By the id of a turn, the samples that are none: no duration, or taken while another Worker was computing too.
    No sample is bad because of how long it took."""
    found: dict[int, set[int]] = {}

    def mark(turn: Mapping[str, Any], which: set[int]) -> None:
        if which:
            found.setdefault(id(turn), set()).update(which)

    rounds: dict[tuple, list[Mapping[str, Any]]] = {}
    for turn in turns:
        mark(turn, {i for i, ns in enumerate(turn["ns"]) if ns <= 0})
        if turn["ns"]:
            rounds.setdefault((turn["group"], turn["round"], turn["attempt"]), []).append(turn)
    for together in rounds.values():  # one Round, one boot of the machine, one clock
        together.sort(key=lambda turn: turn["start_ns"][0])
        last, end = together[0], together[0]["start_ns"][-1] + together[0]["ns"][-1]
        for turn in together[1:]:
            begun = turn["start_ns"][0]
            if begun < end:
                spans = enumerate(zip(last["start_ns"], last["ns"], strict=True))
                mark(last, {i for i, (start, ns) in spans if start + ns > begun})
                mark(turn, {i for i, start in enumerate(turn["start_ns"]) if start < end})
            if turn["start_ns"][-1] + turn["ns"][-1] > end:
                last, end = turn, turn["start_ns"][-1] + turn["ns"][-1]
    return found
