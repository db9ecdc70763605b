"""A Run folder: run.jsonl is the truth, appended and synced after every Turn; all else is derived from it.

One line is one event, a JSON object with ``event``: run, parity, worker, layers, burn_in, turn, block, void, fault,
failed, end.
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench import UsageError, gate, rows, stats
from bench.case import Case
from bench.protocol import Protocol

SCHEMA = 2


class Journal:
    """Appends to run.jsonl. An event is on the disk when ``add`` returns; called only outside the clock."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = (folder / "run.jsonl").open("ab", buffering=0)

    def add(self, event: str, **fields: Any) -> None:
        self.file.write(msgspec.json.encode({"event": event, **fields}) + b"\n")
        os.fsync(self.file.fileno())


def new_folder(out: Path, name: str) -> Path:
    """results/<UTC time>-<name>/; UsageError where it cannot be written."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(f"--name: expected letters, digits, '.', '_' and '-', found {name!r}")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = out / f"{stamp}-{name}"
    try:
        count = 1
        while folder.exists():
            count += 1
            folder = out / f"{stamp}-{name}-{count}"
        folder.mkdir(parents=True)
        (folder / "run.jsonl").touch()
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    return folder


class Run:
    """A Run read back from its folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.events = list(self._read())
        heads = [event for event in self.events if event["event"] == "run"]
        if not heads:
            raise UsageError(f"{folder}: no Run there, run.jsonl has no header")
        self.head = heads[0]
        if self.head["schema"] != SCHEMA:
            newer = self.head["schema"] > SCHEMA
            what = "newer than {}: update alexnet-bench" if newer else "older than {}: measure again, or plot its CSVs"
            raise UsageError(f"{folder}: schema {self.head['schema']} is {what.format(SCHEMA)}")
        self.cases = [msgspec.convert(case, Case) for case in self.head["cases"]]
        self.protocol = msgspec.convert(self.head["protocol"], Protocol)
        self.voided = {(event["group"], event["round"], event["attempt"]) for event in self.of("void")}
        self.turns = self.counted("turn")

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            lines = (self.folder / "run.jsonl").read_bytes().splitlines()
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot read run.jsonl: {error.strerror}") from error
        for number, line in enumerate(lines, 1):
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError as error:
                if number < len(lines):  # a torn last line is a Run that was killed; nothing acknowledged is in it
                    raise UsageError(f"{self.folder / 'run.jsonl'}, line {number}: {error}") from error

    def of(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]

    def counted(self, event: str) -> list[dict[str, Any]]:
        """Events of Rounds that were not repeated."""
        return [one for one in self.of(event) if (one["group"], one["round"], one["attempt"]) not in self.voided]

    def samples(self, case: Case) -> list[list[int]]:
        """Valid samples of each Round, ns; lead iterations are stored and left out."""
        found: dict[int, list[int]] = {}
        for turn in self.turns:
            if turn["case_id"] == case.id:
                found.setdefault(turn["round"], []).extend(turn["ns"][turn["lead"] :])
        return [found[key] for key in sorted(found) if found[key]]

    def summary(self, case: Case) -> stats.Summary | None:
        samples = self.samples(case)
        return stats.Summary.of(*samples) if samples else None

    def invalid_reason(self, case: Case) -> str:
        """Why a Case has no valid row; empty for a valid one."""
        for event in self.of("failed"):
            if event["case_id"] == case.id:
                return event["reason"]
        for event in self.counted("block"):
            if event["case_id"] == case.id and event["fault"]:
                return f"after it was timed it {event['fault']}"
            if event["case_id"] == case.id and event["changed"]:
                changes = "; ".join(f"{what} {before} -> {after}" for what, (before, after) in event["changed"].items())
                return f"conditions changed while it was timed: {changes}"
        summary = self.summary(case)
        if summary is None:
            return "not measured"
        return gate.pruned_fault(rows.over_gemm_rate(self, case, summary))

    def workers(self, case: Case) -> list[dict[str, Any]]:
        """What the Case's counted Workers recorded: their proof, their conditions."""
        return [e for e in self.counted("worker") if case.id in e["case_ids"]]

    def ratios(self) -> list[dict[str, Any]]:
        """Each Case against the first framework's of its group and pass, from Rounds that both completed."""
        if not self.protocol.paired:
            return []
        found = []
        baselines: dict[tuple, Case] = {}
        for case in self.cases:
            if self.invalid_reason(case):
                continue
            baseline = baselines.setdefault((case.group, case.pass_), case)
            if baseline is case:
                continue
            paired = self._cycles(baseline, case)
            if not paired:
                continue
            ratio = stats.Ratio.of(paired)
            differs = gate.differing(self.workers(baseline), self.workers(case))
            found.append(
                {
                    "pass": case.pass_,
                    "baseline": baseline.id,
                    "candidate": case.id,
                    "ratio": ratio.value.center,
                    "ci95_low": ratio.value.low,
                    "ci95_high": ratio.value.high,
                    "verdict": "INCOMPARABLE" if differs else ratio.verdict,
                    "differs": differs,
                }
            )
        return found

    def _cycles(self, baseline: Case, candidate: Case) -> list[list[tuple[list[int], list[int]]]]:
        cells: dict[tuple[int, int], dict[str, list[list[int]]]] = {}
        for turn in self.turns:
            if turn["case_id"] in (baseline.id, candidate.id):
                cell = cells.setdefault((turn["round"], turn["cycle"]), {})
                cell.setdefault(turn["case_id"], []).append(turn["ns"][turn["lead"] :])
        rounds: dict[int, list[tuple[list[int], list[int]]]] = {}
        for (round_, _), cell in sorted(cells.items()):
            both = [cell.get(case.id, []) for case in (baseline, candidate)]
            if all(len(turns) == 2 for turns in both):  # a cycle cut short is not mirrored
                rounds.setdefault(round_, []).append((both[0][0] + both[0][1], both[1][0] + both[1][1]))
        return [rounds[key] for key in sorted(rounds)]

    @property
    def stop_reason(self) -> str:
        ends = self.of("end")
        return ends[-1]["reason"] if ends else "interrupted"

    def row(self, case: Case) -> dict[str, Any]:
        """One row of summary.csv: unrounded, empty where there is nothing to say."""
        return rows.row(self, case)

    def rows(self) -> list[dict[str, Any]]:
        return [self.row(case) for case in self.cases]

    def write(self) -> None:
        """Derive summary.csv, samples.csv and layers.csv from run.jsonl."""
        _csv(self.folder / "summary.csv", rows.COLUMNS, self.rows())
        _csv(self.folder / "samples.csv", SAMPLE_COLUMNS, self._sample_rows())
        layers = [row for event in self.of("layers") for row in event["rows"]]
        _csv(self.folder / "layers.csv", LAYER_COLUMNS, layers)

    def _sample_rows(self) -> Iterator[dict[str, Any]]:
        valid = {id(turn) for turn in self.turns}
        for event in self.events:
            if event["event"] not in ("burn_in", "turn"):
                continue
            for i, (start_ns, ns) in enumerate(zip(event["start_ns"], event["ns"], strict=True)):
                yield {
                    "case_id": event["case_id"],
                    "round": event["round"],
                    "attempt": event["attempt"],
                    "phase": event["event"]
                    if event["event"] == "burn_in"
                    else "lead"
                    if i < event["lead"]
                    else "sample",
                    "cycle": event.get("cycle"),
                    "start_ns": start_ns,
                    "duration_ns": ns,
                    "valid": event["event"] == "turn" and id(event) in valid and i >= event["lead"],
                }


SAMPLE_COLUMNS = "case_id round attempt phase cycle start_ns duration_ns valid".split()
LAYER_COLUMNS = (
    "variant layer kind height width channels params state macs framework reported_height reported_width "
    "reported_channels reported_params reported_state"
).split()


def _csv(path: Path, columns: Sequence[str], rows: Any) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
