"""`run --resume`: continue an interrupted Run with its own settings."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bench import UsageError
from bench.cases.arm import Ab, parse_ab
from bench.commands import profile, results
from bench.commands.loader_plan import source_of
from bench.commands.plan import name_guests, read_weights, refuse_with_ab
from bench.commands.requests import RunRequest
from bench.commands.team_plan import reached_nodes
from bench.controller.devices import Device, devices_on
from bench.controller.rounds import Rounds
from bench.controller.settings import WorkerSettings
from bench.controller.source import Source
from bench.controller.worker_process import WorkerDied
from bench.machine import host
from bench.machine.lock import lock_devices
from bench.machine.scratch import scratch_folder
from bench.output import console
from bench.output.bars import progress_of
from bench.pictures import flowers
from bench.record.conditions import MACHINE
from bench.record.events import SCHEMA, End, Stop, Worker
from bench.record.reasons import StopReason
from bench.record.run import Run
from bench.worker.net_file import read_nets

#: Options of `run` that can be given again: paths that a Run does not store, and options that change no sample.
OPTIONS = {
    "resume",
    "python",
    "net",
    "weights",
    "ab",
    "input",
    "max_time_s",
    "worker_limit_s",
    "as_json",
    "nodes",
    "launch",
}


def main(folder: Path, request: RunRequest) -> int:
    """Continue a Run: finished Rounds are kept, the interrupted one is measured again."""
    run = Run(folder)
    if run.head.schema != SCHEMA:
        raise UsageError(f"--resume: the Run is of schema {run.head.schema}, expected {SCHEMA}: start a new Run")
    refuse_links(folder)
    with scratch_folder() as scratch, lock_devices([case.device for case in run.cases], console.tell):
        run = Run(folder)  # another process may have continued it while this one waited
        if reason := ended(run):
            return show(run, reason, request.as_json)
        settings = settings_as_before(run, request)
        settings = dataclasses.replace(settings, source=pictures_as_before(run, request, scratch))
        refuse_other_machine(run, settings)
        protocol = run.protocol
        if request.max_time_s is not None:
            protocol = dataclasses.replace(protocol, max_time_s=request.max_time_s)
        with progress_of(run.cases, protocol) as progress:
            rounds = Rounds(run.cases, protocol, settings, folder, progress, earlier=run)
            if dropped := rounds.resume():
                console.tell(f"{folder / 'run.jsonl'}: the last line was cut off; its {dropped} bytes are removed")
            reason = rounds.run()
    return show(Run(folder), reason, request.as_json)


def refuse_links(folder: Path) -> None:
    """UsageError for a link in a Run folder, which may be someone else's: a Run makes none, and logs and compiled code
    would be written to where it leads."""
    for path in (*folder.iterdir(), *folder.glob("workers/*")):
        if path.is_symlink():
            raise UsageError(f"--resume: {path} is a symbolic link, which no Run makes; expected a file or a folder")


def show(run: Run, reason: StopReason, as_json: bool) -> int:
    """Print the results as the command that made the Run does."""
    if run.protocol.shared_workers:
        return profile.show(run, reason, as_json)
    return results.show(run, reason, as_json)


def ended(run: Run) -> StopReason | None:
    """Why a Run ended, if it has nothing left to measure."""
    stops = {stop.group: stop.reason for stop in run.events_of(Stop)}
    all_stopped = stops.keys() == set(run.group_of.values()) and StopReason.TIME_CAP not in stops.values()
    last = run.events[-1]
    return last.reason if all_stopped and isinstance(last, End) and last.reason != StopReason.INTERRUPTED else None


def settings_as_before(run: Run, request: RunRequest) -> WorkerSettings:
    """The WorkerSettings of a Run. Raises UsageError unless the paths that it does not store are given again."""
    head, pythons = run.head, dict(request.python)
    if sorted(pythons) != head.pythons:
        wanted = " ".join(f"--python {name}=PATH" for name in head.pythons) or "no --python"
        raise UsageError(f"--resume: the Run was made with {wanted}; expected the same, found {sorted(pythons)}")
    ab = ab_as_before(run, request)
    frameworks = list(dict.fromkeys(case.framework for case in run.cases))
    guests = name_guests(read_nets(request.net, [path for _, path in request.python]), frameworks)
    given = [(guest.sha256, guest.call) for guest in (*guests.values(), *(ab.guests if ab else ()))]
    if sorted(given) != sorted((guest.sha256, guest.function) for guest in head.guests):
        files = " ".join(f"--net {guest.file}:{guest.function}" for guest in head.guests) or "no --net"
        raise UsageError(f"--resume: the Run was made with {files}, by their contents; expected the same")
    weights = read_weights(request.weights, [case.variant for case in run.cases], run.cases[0].size, pythons)
    if (weights and weights.sha256) != (head.weights and head.weights.sha256):
        wanted = head.weights.file if head.weights else "no file"
        raise UsageError(f"--resume: the Run was made with weights from {wanted}; expected the same with --weights")
    limit_s = request.worker_limit_s or run.protocol.worker_limit_s
    devices = devices_as_before(run, request)
    return WorkerSettings(head.threads, limit_s, pythons, head.env, weights, ab, guests, devices=devices)


def devices_as_before(run: Run, request: RunRequest) -> Sequence[Device]:
    """The devices of a Run, of which those on nodes are reached again; UsageError unless they are the same."""
    then = run.head.devices
    nodes = list(dict.fromkeys(device.node for device in then if device.node))
    if not nodes:
        return [Device(tuple(device.cores), index) for index, device in enumerate(then)]
    if not request.nodes or [name for name, _ in request.nodes] != nodes:
        raise UsageError(f"--resume: the Run was made with --nodes {','.join(nodes)}; expected the same, and --launch")
    found = devices_on(reached_nodes(request), len(then), not then[0].cores, oversubscribe=True)
    if [device.recorded() for device in found] != then:
        raise UsageError("--resume: the nodes have other cores, or were started anew: start a new Run")
    return found


def pictures_as_before(run: Run, request: RunRequest, scratch: Path) -> Source | None:
    """The pictures of a Run with loaders; UsageError unless their folder is given again."""
    then = run.head.pictures
    if then is None:
        if request.input:
            raise UsageError("--resume: the Run was made without loaders; leave --input out")
        return None
    folder = request.input or (None if then.folder else str(flowers.WORD))
    if folder is None:
        raise UsageError(f"--resume: the Run was made with --input PATH/{then.folder}; expected the same folder")
    source = source_of(Path(folder), then.preprocessing, scratch)
    if (source.facts.names, source.facts.count) != (then.names, then.count):
        found = f"{source.facts.count} others" if source.facts.count != then.count else "other names"
        raise UsageError(f"--resume: the Run was made with {then.count} pictures, found {found}; expected the same")
    return source


def ab_as_before(run: Run, request: RunRequest) -> Ab | None:
    """The Arms of a Run, if any, with the paths of its --ab."""
    then = run.head.ab
    if request.ab is None:
        if then and (key := then.key) in ("impls", "python", "net"):
            raise UsageError(
                f"--resume: the Run compares two {key}, whose paths it does not store; pass its --ab {key}=A,B again"
            )
        return then.ab() if then else None
    ab = parse_ab(request.ab)
    refuse_with_ab(RunRequest(net=request.net), ab)  # variables do not count
    now = ab.recorded()
    if now != then:
        if then and ab.key == then.key == "impls":
            before, after = (" and ".join(sides.values) for sides in (then, now))
            raise UsageError(f"--resume: the Run compares impls {before}, found {after}; expected the same two")
        raise UsageError(f"--resume: the Run was not made with --ab {request.ab}; leave it out")
    return ab


def refuse_other_machine(run: Run, settings: WorkerSettings) -> None:
    """UsageError if the machine or a version differs from that of the Run."""
    then, now = run.head.fingerprint, host.fingerprint()
    for what in (*MACHINE, "memory_mib", "alexnet_bench", "code"):
        before, after = getattr(then, what), getattr(now, what)
        if before != after:
            raise UsageError(f"--resume: the Run was made with {what} {before}, found {after}: start a new Run")
    known = {worker.worker: worker for worker in run.events_of(Worker)}
    with scratch_folder() as scratch:
        for case in {case.worker: case for case in run.cases if case.worker in known}.values():
            try:
                worker = settings.start(case.worker, case, scratch)
            except WorkerDied as died:
                raise UsageError(f"--resume: {died}") from died
            worker.process.kill()
            had = {**known[case.worker].versions, "python": known[case.worker].python}
            has = {**worker.ready().versions, "python": worker.ready().python}
            for what in had:
                if had[what] != has.get(what):
                    raise UsageError(
                        f"--resume: the Run was made with {what} {had[what]} in {case.worker}, found "
                        f"{has.get(what)}: start a new Run"
                    )
