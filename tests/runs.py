"""Synthetic Runs: a run.jsonl as the controller writes it, with durations chosen by a test. Nothing is timed."""

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.cases.arm import Ab
from bench.cases.case import Case, groups
from bench.cases.protocol import Protocol
from bench.record.events import EVENTS, SCHEMA, Event
from bench.record.journal import Journal
from bench.record.run import Run

A = Case("owt", "torch", "eager", "cpu", "fp32", "nchw", 8, "forward")
B = dataclasses.replace(A, framework="tensorflow", mode="graph", layout="nhwc")
QUIET = {"wall_s": 1.0, "steal_s": 0.0, "foreign_s": 0.0, "psi_s": 0.0, "throttled": None, "suspended_s": 0.0}
HOST = {"host": "0123456789ab", "cpu": "a CPU", "system": "Linux 6 x86_64", "usable_cores": 2, "memory_mib": 2048}
AA = Ab("slowdown", ("0", "0"))
LEAD_NS = 10**9


def worker(
    case: Case, rate: float | None = None, *, parity: float = 1e-7, matmul: str = "fp32", **changes: Any
) -> dict:
    """The fields of a worker event with these changes; names that are not fields change its conditions."""
    conditions = {"threads": 2, "onednn": True, "tf32": False, "bf16": None, "device": "cpu", "layout": case.layout}
    conditions |= {"switches": {}, "traces": {}, "filled": [], "libraries": [], "other_frameworks": []}
    event = {
        "worker": case.worker,
        "case_ids": [case.id],
        "versions": {case.framework: "1.0"},
        "python": "3.11.9",
        "identity": {"hash": "0123", "params": 1 if case.foreign else case.net.params, "macs": 1},
        "gradients": None,
        "parity_fp32": {},
        "parity": {"logits": parity, "loss": parity, "gradient": parity},
        "precision": {
            what: {"error": 3e-7, "precision": shown} for what, shown in (("matmul", matmul), ("conv", "fp32"))
        },
        "proven": True,
        "numpy_gflop_per_s": rate,
        "compile_cache": None,
        "conditions": conditions,
        "first_call_ns": {},
        "overhead_ns": 0.1,
        "overhead_p99_ns": 0.2,
        "proof_s": None,
    }
    for name, value in changes.items():
        if name in event:
            event[name] = value
        else:
            event["conditions"][name] = value
    return event


def event(name: str, /, **fields: Any) -> Event:
    """The event with these fields."""
    return msgspec.convert({"event": name} | fields, EVENTS[name])


def head(cases: Sequence[Case], protocol: Protocol, ab: Ab | None = None, **changes: Any) -> dict:
    """The fields of a Run's header."""
    return {
        "run_id": "r",
        "name": "n",
        "schema": SCHEMA,
        "threads": 2,
        "env": {},
        "pythons": [],
        "weights": None,
        "guests": [],
        "ab": ab and dataclasses.asdict(ab.recorded()),
        "cases": [dataclasses.asdict(case) for case in cases],
        "protocol": dataclasses.asdict(protocol),
        "fingerprint": HOST,
    } | changes


def turn(case: Case, ns: Sequence[int], start: int = 1, **changes: Any) -> dict:
    """The fields of a turn whose first iteration starts at ``start`` and whose others follow without a gap."""
    starts = [start + sum(ns[:i]) for i in range(len(ns))]
    place = {"group": 0, "round": 0, "attempt": 0}
    fields = {
        "case_id": case.id,
        "cycle": 0,
        "lead": 0,
        "start_ns": starts,
        "ns": list(ns),
        "cpu_s": 1.5,
        "allocator_peak": None,
        "process_peak": 2**20,
        "noise": QUIET,
    }
    return place | fields | changes


def make(
    folder: Path,
    cases: Sequence[Case] = (A, B),
    *,
    rounds: int = 5,
    slower: float | Mapping[str, float] = 1.5,
    base_ns: int = 1000,
    noise_sd: float = 0.0,
    drift: float = 0.0,
    warming: Mapping[str, float] | None = None,
    cycles: int = 1,
    disturbed: Sequence[int] = (),
    ab: Ab | None = None,
    protocol: Protocol | None = None,
    noise: Mapping[str, Any] = QUIET,
    rate: float | None = None,
    unlike: Mapping[str, Any] | None = None,
    seed: int = 0,
    stop: str = "planned",
    **header: Any,
) -> Run:
    """Write a Run and read it back.

    Parameters
    ----------
    slower
        Duration of a Case relative to the first of its group: one number for all but the first, or factors by Case id
        (default 1).
    base_ns
        Duration of an iteration of the first Case in Round 0; iterations of each later Round are 1 ns longer.
    noise_sd
        Standard deviation of the logarithm of a Case's speed over Rounds, independent per Case.
    drift
        Slowdown of the machine from one turn to the next, as a share.
    warming
        By Case id, slowdown at the start of a Round relative to its end, as a share.
    unlike
        Changes to the worker events of all but the first Worker of a group.
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal, dice, clock = Journal(folder), random.Random(seed), itertools.count(1)
    journal.add(event("run", **head(cases, protocol or Protocol(rounds=rounds, iterations=4 * cycles), ab, **header)))
    now = next(clock)
    for number, group in enumerate(groups(cases)):
        first = group[0]
        factors = {case.id: 1.0 for case in group} | (
            dict(slower) if isinstance(slower, Mapping) else {case.id: slower for case in group if case is not first}
        )
        for round_ in range(rounds):
            place = {"group": number, "round": round_, "attempt": 0}
            for name in dict.fromkeys(case.worker for case in group):
                ours = [case for case in group if case.worker == name]
                odd = (unlike or {}) if first not in ours else {}
                fields = worker(ours[0], rate, **{"case_ids": [case.id for case in ours]} | odd)
                journal.add(event("worker", **place, **fields))
            speed = {case.id: math.exp(dice.gauss(0, noise_sd)) for case in group}
            turns = [(cycle, case) for cycle in range(cycles) for case in [*group, *reversed(group)]]
            for position, (cycle, case) in enumerate(turns):
                early = 1 + (warming or {}).get(case.id, 0.0) * (1 - position / len(turns))
                share = factors[case.id] * speed[case.id] * (1 + drift * position) * early
                ns = round((base_ns + round_) * share)
                taken = turn(case, [LEAD_NS, ns, ns], now, **place, cycle=cycle, lead=1, noise=noise)
                journal.add(event("turn", **taken))
                now += sum(taken["ns"]) + 1
            for case in group:
                facts = {"fault": "", "changed": {}, "stop": "count"}
                journal.add(event("block", **place, case_id=case.id, **facts))
            journal.add(event("round", **place, disturbed="the machine was suspended" if round_ in disturbed else ""))
        journal.add(event("stop", group=number, reason=stop))
    journal.add(event("end", reason=stop))
    return Run(folder)


def arms(*cases: Case, ab: Ab = AA) -> list[Case]:
    return ab.cases(cases or [A])


def aa_runs(
    folder: Path, count: int = 3, *cases: Case, sd: float = 0.01, off: float = 0.0, **settings: Any
) -> list[Run]:
    """A/A Runs that differ by about ``sd`` from each other, and by ``off`` between their Arms."""
    runs = []
    for number in range(count):
        both = arms(*cases)
        factors = {case.id: 1 + off for case in both if case.arm == "B"}
        base_ns = round(1_000_000 * (1 + sd * (number - (count - 1) / 2)))
        runs.append(make(folder / f"aa{number}", both, ab=AA, slower=factors, base_ns=base_ns, **settings))
    return runs


def changed(run: Run, *added: dict, without: tuple[str, ...] = ()) -> Run:
    """The Run with events added before its first stop, and without events named in ``without``."""
    events = [
        {name: value for name, value in msgspec.to_builtins(event).items() if name not in ("number", "time")}
        for event in run.events
        if event.__struct_config__.tag not in without
    ]
    at = next((i for i, line in enumerate(events) if line["event"] == "stop"), len(events))
    lines = [json.dumps(line) + "\n" for line in [*events[:at], *added, *events[at:]]]
    (run.folder / "run.jsonl").write_text("".join(lines))
    return Run(run.folder)
