"""A Run as a Chrome trace, for ui.perfetto.dev or chrome://tracing."""

from collections.abc import Iterator
from typing import Any

from bench.record.events import Iterations, Place, Resume, Turn
from bench.record.run import Run

RUN = 0  # process id of the Rounds; Workers count from 1
TURNS, ITERATIONS = 1, 2  # tracks of a Worker
GAP_NS = 10**9  # between sessions whose clocks cannot be related


def trace_of(run: Run) -> dict[str, Any]:
    """The trace, for JSON; ``ts`` and ``dur`` in microseconds since the first iteration, to the nanosecond.

    One process per Worker, with turns and iterations on separate tracks, since viewers drop a slice that rounding makes
    exceed its parent. The process ``Run`` has one track of Rounds per group.
    """
    workers = {name: pid for pid, name in enumerate(dict.fromkeys(case.worker for case in run.cases), 1)}
    cases = {case.id: case for case in run.cases}
    slices: list[dict[str, Any]] = []
    rounds: dict[Place, tuple[int, int]] = {}
    for event, starts in _since_the_first(run):
        case, kind = cases[event.case_id], "turn" if isinstance(event, Turn) else "burn_in"
        pid = workers[case.worker]
        begin, end = starts[0], max(start + max(ns, 0) for start, ns in zip(starts, event.ns, strict=True))
        facts = {name: getattr(event, name, None) for name in ("case_id", "round", "attempt", "cycle")}
        slices.append(_slice(f"{case.pass_} {kind}", kind, (pid, TURNS), begin, end - begin, facts))
        for (phase, valid), start, ns in zip(run.phases(event), starts, event.ns, strict=True):
            args = {**facts, "phase": phase, "valid": valid}
            slices.append(_slice(f"{case.pass_} {phase}", phase, (pid, ITERATIONS), start, ns, args))
        since, until = rounds.get(event.place, (begin, end))
        rounds[event.place] = min(since, begin), max(until, end)
    for (group, round_, attempt), (begin, end) in rounds.items():
        counts = (group, round_, attempt) not in run.voided
        args = {"group": group, "round": round_, "attempt": attempt, "counts": counts}
        name = f"Round {round_ + 1}" if counts else f"Round {round_ + 1}, repeated"
        slices.append(_slice(name, "round", (RUN, group + 1), begin, end - begin, args))
    about = {"run_id": run.head.run_id, "made_by": "alexnet-bench export --format trace"}
    return {"displayTimeUnit": "ms", "traceEvents": [*_names(run, workers), *slices], "otherData": about}


def _since_the_first(run: Run) -> Iterator[tuple[Iterations, list[int]]]:
    """Each burn-in and turn of the Run's Cases, with its start times in ns since the very first.

    A reboot before a `--resume` resets the clock; later turns are then drawn ``GAP_NS`` after the last one.
    """
    known, shift, latest, resumed = {case.id for case in run.cases}, None, 0, False
    for event in run.events:
        resumed = resumed or isinstance(event, Resume)
        if not isinstance(event, Iterations) or event.case_id not in known or not event.ns:
            continue
        begin = event.start_ns[0]
        if shift is None:
            shift = -begin
        elif resumed and begin + shift < latest:
            shift = latest + GAP_NS - begin
        resumed = False
        starts = [start + shift for start in event.start_ns]
        latest = max(latest, starts[-1] + event.ns[-1])
        yield event, starts


def _names(run: Run, workers: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Names of the processes and tracks, the Run first."""
    for name, pid in {"Run": RUN, **workers}.items():
        yield _metadata("process_name", (pid, 0), {"name": name})
        yield _metadata("process_sort_index", (pid, 0), {"sort_index": pid})
    for pid in workers.values():
        yield _metadata("thread_name", (pid, TURNS), {"name": "turns"})
        yield _metadata("thread_name", (pid, ITERATIONS), {"name": "iterations"})
    firsts = {run.group_of[case.id]: case for case in reversed(run.cases)}
    for group, case in firsts.items():
        name = case.foreign or f"{case.variant} b{case.batch} {case.device} {case.precision}"
        yield _metadata("thread_name", (RUN, group + 1), {"name": f"Rounds of {name}"})


def _metadata(name: str, track: tuple[int, int], args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": track[0], "tid": track[1], "args": args}


def _slice(name: str, kind: str, track: tuple[int, int], at_ns: int, ns: int, args: dict[str, Any]) -> dict[str, Any]:
    times = {"ts": at_ns / 1e3, "dur": max(ns, 0) / 1e3}
    return {"name": name, "cat": kind, "ph": "X", **times, "pid": track[0], "tid": track[1], "args": args}
