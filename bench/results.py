"""A Run read back from its folder: run.jsonl is the truth, all else is derived from it."""

import functools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench import UsageError, ceiling, events, gate, noise, rows, sheet, stats
from bench.case import Case, checked, groups
from bench.protocol import Protocol

T = TypeVar("T")


def once(method: Callable[["Run", Case], T]) -> Callable[["Run", Case], T]:
    """Worked out once for each Case: a Run that was read does not change, and may hold 100,000 samples."""

    @functools.wraps(method)
    def kept(run: "Run", case: Case) -> T:
        known = run.known.setdefault(method.__name__, {})
        if case.id not in known:
            known[case.id] = method(run, case)
        return known[case.id]

    return kept


class Run:
    """A Run read back from its folder. ``problems`` are lines of run.jsonl that were left out, each with its number."""

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
        return gate.bad_samples(self.turns)

    def valid_ns(self, turn: dict[str, Any]) -> list[int]:
        """A turn's samples without its lead iteration and without what is no sample."""
        bad = self.bad_samples.get(id(turn), ())
        return [ns for i, ns in enumerate(turn["ns"]) if i >= turn["lead"] and i not in bad]

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
    def summary(self, case: Case) -> stats.Summary | None:
        samples = self.samples(case)
        return stats.Summary.of(*samples) if samples else None

    @once
    def invalid_reason(self, case: Case) -> str:
        """Why a Case has no valid row; empty for a valid one."""
        if case.id in self.failed:
            return self.failed[case.id]
        for event in self.counted("block"):
            if event["case_id"] == case.id and event["fault"]:
                return f"after it was timed it {event['fault']}"
            if event["case_id"] == case.id and event["changed"]:
                changes = "; ".join(f"{what} {before} -> {after}" for what, (before, after) in event["changed"].items())
                return f"conditions changed while it was timed: {changes}"
        summary = self.summary(case)
        if summary is None:
            return "not measured"
        return gate.pruned_fault(ceiling.over_witness(self, case, summary))

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

    def row(self, case: Case) -> dict[str, Any]:
        """One row of summary.csv: unrounded, empty where there is nothing to say. The caller's own, to change."""
        return dict(self._row(case))

    @once
    def _row(self, case: Case) -> dict[str, Any]:
        return rows.row(self, case)

    def rows(self) -> list[dict[str, Any]]:
        return [self.row(case) for case in self.cases]

    def write(self) -> None:
        """Derive summary.csv, samples.csv and layers.csv from run.jsonl."""
        sheet.write(self.folder / "summary.csv", rows.COLUMNS, self.rows())
        sheet.lines(self.folder / "samples.csv", SAMPLE_COLUMNS, self._sample_rows())
        layers = [row for event in self.of("layers") for row in event["rows"]]
        once = {tuple(row.get(name) for name in LAYER_COLUMNS): row for row in layers}  # two Arms, one net
        sheet.write(self.folder / "layers.csv", LAYER_COLUMNS, once.values())

    def _sample_rows(self) -> Iterator[Sequence[Any]]:
        """In the order of SAMPLE_COLUMNS."""
        usable = {case.id: self.usable(case) for case in self.cases}
        counted = {id(turn) for turn in self.turns}
        for event in self.events:
            if event["event"] not in ("burn_in", "turn"):
                continue
            case_id, round_, cycle = event["case_id"], event["round"], event.get("cycle")
            counts = id(event) in counted and round_ in usable[case_id]
            bad, leads = self.bad_samples.get(id(event), ()), event.get("lead", 0)
            phase = "sample" if event["event"] == "turn" else "burn_in"
            for i, (start_ns, ns) in enumerate(zip(event["start_ns"], event["ns"], strict=True)):
                valid = counts and i >= leads and i not in bad
                yield (
                    *(case_id, round_, event["attempt"], "lead" if i < leads else phase, cycle),
                    *(start_ns, ns, valid),
                )


SAMPLE_COLUMNS = "case_id round attempt phase cycle start_ns duration_ns valid".split()
LAYER_COLUMNS = (
    "variant layer kind height width channels params state macs framework reported_height reported_width "
    "reported_channels reported_params reported_state"
).split()


def _place(event: dict[str, Any]) -> tuple[int, int, int]:
    return event["group"], event["round"], event["attempt"]
