"""`run`: prove, time, write the Run folder, and show it; or go on with one that was cut off."""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from bench import UsageError
from bench.cases.case import LABELS, Case, groups
from bench.cases.parse import parse_seconds
from bench.cases.protocol import Protocol
from bench.commands import options
from bench.controller import estimate
from bench.controller.pool import preflight
from bench.controller.rounds import Rounds
from bench.controller.session import interruptible, measure
from bench.controller.settings import WorkerSettings
from bench.controller.worker_process import WorkerDied
from bench.machine import host
from bench.machine.lock import alone
from bench.output import console, run_table, verdicts
from bench.output.plots.kinds import draw_run_folder
from bench.output.progress import Progress
from bench.record import aa_runs
from bench.record.conditions import MACHINE
from bench.record.events import SCHEMA, End, Stop, StopReason, Worker
from bench.record.pairs import within
from bench.record.run import Run

#: What may be said beside --resume: where to find what a Run does not store, and what shapes no sample.
BESIDE_RESUME = {"resume", "python", "net", "weights", "ab", "max_time", "worker_limit", "as_json"}


def main(asked: dict[str, Any], named: Iterable[str] = ()) -> int:
    """``named`` are the options that were written on the command line."""
    if asked["resume"]:
        return resume(asked, set(named))
    protocol, cases = options.protocol(asked), options.cases(asked)
    given = options.given(asked, list(dict.fromkeys(case.variant for case in cases)))
    cases, conditions = options.cases(asked, given), options.conditions(asked, given)
    if asked["dry_run"]:
        return dry_run(cases, protocol, asked["as_json"])
    preflight(cases, conditions)
    name = asked["name"] or "-".join(dict.fromkeys(case.variant for case in cases))
    name = name if len(name) < 60 else "grid"
    with Progress(protocol) as progress:
        out = Path(asked["out"])
        folder, reason = measure(cases, protocol, conditions, out, name, progress=progress, waiting=console.tell)
    return show(Run(folder), reason, asked["as_json"])


def resume(asked: dict[str, Any], named: set[str]) -> int:
    """Go on with a Run: the Rounds it finished stand, the one it was cut off in is measured again."""
    if extra := sorted(named - BESIDE_RESUME):
        raise UsageError(f"--resume: the Run has its own settings; leave out --{extra[0].replace('_', '-')}")
    folder = Path(asked["resume"])
    run = Run(folder)
    if run.schema != SCHEMA:
        raise UsageError(f"--resume: the Run is of schema {run.schema}, expected {SCHEMA}: start anew")
    with interruptible(), alone([case.device for case in run.cases], console.tell):
        run = Run(folder)  # another run may have gone on with it while this one waited
        if reason := ended(run):
            return shown(run, reason, asked["as_json"])
        conditions = as_before(run, asked, named)
        same_machine(run, conditions)
        protocol = run.protocol
        if asked["max_time"] is not None:
            protocol = dataclasses.replace(protocol, max_time_s=parse_seconds("--max-time", asked["max_time"]))
        progress = Progress(protocol)
        rounds = Rounds(run.cases, protocol, conditions, folder, progress, earlier=run)
        if dropped := rounds.go_on():
            console.tell(f"{folder / 'run.jsonl'}: the last line was cut off; its {dropped} bytes are taken away")
        reason = rounds.run()
    progress.done()
    return shown(Run(folder), reason, asked["as_json"])


def shown(run: Run, reason: str, as_json: bool) -> int:
    """As the command that made it shows it."""
    if run.protocol.shared_workers:
        from bench.commands import profile  # which imports this

        return profile.show(run, reason, as_json)
    return show(run, reason, as_json)


def ended(run: Run) -> str:
    """Why a Run ended that has nothing left to measure; empty for one to go on with."""
    stops = {stop.group: stop.reason for stop in run.events_of(Stop)}
    all_stopped = stops.keys() == set(run.group_of.values()) and StopReason.TIME_CAP not in stops.values()
    last = run.events[-1]
    over = all_stopped and isinstance(last, End) and last.reason != StopReason.INTERRUPTED
    return last.reason if over and isinstance(last, End) else ""


def as_before(run: Run, asked: dict[str, Any], named: set[str]) -> WorkerSettings:
    """The WorkerSettings of a Run; paths of interpreters and weights, which it does not store, must be given again."""
    head, asked = run.head, {**asked, "framework": ",".join(dict.fromkeys(case.framework for case in run.cases))}
    pythons = options.pythons(asked)
    if sorted(pythons) != head.pythons:
        wanted = " ".join(f"--python {name}=PATH" for name in head.pythons) or "no --python"
        raise UsageError(f"--resume: the Run was made with {wanted}; expected the same, found {sorted(pythons)}")
    sides = options.ab(asked)
    if sides and sides.recorded() != head.ab:
        if head.ab and sides.key == head.ab.key == "impls":
            then, now = (" and ".join(one.values) for one in (head.ab, sides.recorded()))
            raise UsageError(f"--resume: the Run compares impls {then}, found {now}; expected the same two")
        raise UsageError(f"--resume: the Run was not made with --ab {asked['ab']}; leave it out")
    if head.ab and sides is None:
        if (key := head.ab.key) in ("impls", "python", "net"):
            raise UsageError(f"--resume: the Run compares two {key}, by path; expected its --ab {key}=A,B once more")
        sides = head.ab.ab()
    own = {one.label: one for one in options.guests(asked, [case.framework for case in run.cases])}
    given_nets = [one.sha256 for one in own.values()]
    given_nets += [theirs.sha256 for label in LABELS if sides and (theirs := sides.guest(label))]
    if sorted(given_nets) != sorted(one.sha256 for one in head.guests):
        files = " ".join(f"--net {one.file}:{one.function}" for one in head.guests) or "no --net"
        raise UsageError(f"--resume: the Run was made with {files}, by their contents; expected the same")
    given = options.given(asked, list(dict.fromkeys(case.variant for case in run.cases)), run.cases[0].size)
    if (given and given.sha256) != (head.weights and head.weights.sha256):
        wanted = head.weights.file if head.weights else "no file"
        raise UsageError(f"--resume: the Run was made with weights from {wanted}; expected the same with --weights")
    limit_s = run.protocol.worker_limit_s
    if "worker_limit" in named:
        limit_s = parse_seconds("--worker-limit", asked["worker_limit"])
    return WorkerSettings(head.threads, limit_s, pythons, head.env, given, sides, own)


def same_machine(run: Run, conditions: WorkerSettings) -> None:
    """A Run is of one machine and of one version of everything; UsageError names what is another now."""
    then, now = run.head.fingerprint, host.fingerprint()
    for what in (*MACHINE, "memory_mib", "alexnet_bench"):
        before, after = getattr(then, what), getattr(now, what)
        if before != after:
            raise UsageError(f"--resume: the Run was made with {what} {before}, found {after}: start anew")
    known = {worker.worker: worker for worker in run.events_of(Worker)}
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        for case in {case.worker: case for case in run.cases if case.worker in known}.values():
            try:
                worker = conditions.start(case.worker, case, Path(scratch))
            except WorkerDied as died:
                raise UsageError(f"--resume: {died}") from died
            worker.process.kill()
            had = {**known[case.worker].versions, "python": known[case.worker].python}
            has = {**worker.ready().versions, "python": worker.ready().python}
            for what in had:
                if had[what] != has.get(what):
                    raise UsageError(
                        f"--resume: the Run was made with {what} {had[what]} in {case.worker}, found "
                        f"{has.get(what)}: start anew"
                    )


def show(run: Run, reason: str, as_json: bool) -> int:
    """Write what is derived, print the table or the JSON; the exit code: 0, 1 a case failed, 130 interrupted, and with
    an --ab what `compare` says."""
    if any("bf16_emulated" in row["flags"] for row in run.rows()):
        console.tell("bf16 was asked for, and the device has none of its own: what was timed is an emulation")
    aa = aa_runs.find([run.folder.parent], but=[run.folder])
    pairs = within(run, aa)
    console.tell_problems(run)
    try:
        run.write()
        for problem in draw_run_folder(run.folder, run.rows(), profile=False):
            console.tell(f"{problem}; run.jsonl holds all that was measured")
    except OSError as error:
        console.tell(
            f"cannot write the tables to {run.folder}: {error.strerror}; run.jsonl holds all that was measured"
        )
    if as_json:
        ratios = [pair.as_json() for pair in pairs if pair.ratio or run.head.ab]
        console.print_json({"run": to_builtins(run.head), "cases": run.rows(), "ratios": ratios})
    else:
        run_table.run_table(run, pairs)
        if run.head.ab:
            verdicts.show(run, None, pairs)
        console.where(run.folder, [path.name for path in sorted(run.folder.iterdir()) if path.is_file()])
    if reason == "time_cap":
        console.tell("--max-time: another Round would not have ended in time, so there are fewer than asked for")
    if reason == "interrupted":
        console.tell(
            "interrupted: what was measured so far is kept and summarised above; go on with "
            f"`alexnet-bench run --resume {run.folder}`"
        )
        return 130
    if not all(row["valid"] for row in run.rows()):
        return 1
    return verdicts.exit_code(pairs) if run.head.ab else 0


def dry_run(cases: Sequence[Case], protocol: Protocol, as_json: bool) -> int:
    expected_s = min(estimate.seconds(cases, protocol), protocol.max_time_s or float("inf"))
    if as_json:
        console.print_json({"cases": [case.id for case in cases], "expected_s": expected_s})
    else:
        run_table.case_list(groups(cases), protocol, expected_s)
    return 0
