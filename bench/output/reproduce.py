"""Command lines that measure Cases of a Run again, rebuilt from run.jsonl."""

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from bench.cases.axes import Axes
from bench.cases.case import LABELS, OWN_INPUT, WITNESSED, Case
from bench.cases.parse import option_name, parse_layouts, parse_modes
from bench.cases.passes import FED, LOAD, PASSES, STEP, offered_passes
from bench.cases.protocol import Protocol
from bench.cases.teams import teams_of
from bench.record import scaling
from bench.record.run import Run
from bench.stats.ratio import MIN_ROUNDS
from impls import FRAMEWORKS
from impls.loader import PREPROCESSING
from impls.splits import DATA

PATH = "PATH"  # placeholder for a folder, which a Run does not store
#: Axes whose options are always written; others only if they are not at their default.
REQUIRED_AXES = ("variant", "framework", "batch", "pass")
#: Fields of a Case without an option of that name.
NO_OPTION = ("pass_", "weights", "arm", "guest", "part", "loader", "world", "strong", "split", "foreign")
OPTIONAL_AXES = [field.name for field in dataclasses.fields(Case) if field.name not in (*REQUIRED_AXES, *NO_OPTION)]
AXES = (*REQUIRED_AXES, *OPTIONAL_AXES)
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Case)} | {"device": "cpu", "precision": "fp32"}
#: Axes that a user's net in an --ab determines.
NET_AXES = ("framework", "mode", "layout", "lrn")


def whole(run: Run) -> str:
    """The command that measures all of a Run, ratios included; empty if no single command does. Of a shard it is that
    of its grid, with --shard."""
    every = run.head.shard.cases if run.head.shard else run.cases
    cases = [dataclasses.replace(case, arm=None) for case in every if case.arm in (None, LABELS[0])]
    if run.protocol.shared_workers:  # a profile adds the layers itself
        cases = [case for case in cases if case.whole]
    beyond = any(case.foreign or case.guest for case in cases)
    if not cases or beyond or set(_grid(cases)) != set(cases):
        return ""
    return command_for(run, cases) + (f" --shard {run.head.shard.number}" if run.head.shard else "")


def against_itself(run: Run) -> str:
    """The command that makes an A/A Run of the same Cases, settings and parent folder. Empty for an ingested Run.

    Of a Run with users' nets it is that of our Cases or, without any, of the first net's: --ab takes no --net.
    """
    if run.head.ingested:
        return ""
    ab, protocol = run.head.ab, run.protocol
    shard = run.head.shard if ab or not run.head.guests else None  # without users' nets there may be other groups
    key, side, cases = "slowdown", "0", shard.cases if shard else run.cases
    if run.head.guests and not ab:
        cases = [case for case in run.cases if not case.guest]
        if not cases:
            guest = run.head.guests[0]
            key, side = "net", _net(f"{guest.file}:{guest.function}")
            cases = [case for case in run.cases if case.guest == guest.label]
    if ab and ab.key not in ("impls", "python", "slowdown"):  # side B against itself
        key, side = ab.key, _net(ab.values[1]) if ab.key == "net" else ab.values[1]
    words = ["alexnet-bench", "run", "--ab", f"{key}={side},{side}"]
    words += [*_axes(run, cases), *_loaders(run, cases), *_devices(run, cases), *_surroundings(run)]
    words += ["--rounds", str(max(protocol.rounds, MIN_ROUNDS))]
    words += ["--iterations", str(protocol.iterations)] if protocol.least_iterations is None else []
    words += ["--burn-in", str(protocol.burn_in)] if protocol.burn_in_later is None else []
    words += [] if protocol.gate else ["--no-gate"]
    words += ["--shard", shard.number] if shard else []
    return shlex.join([*words, "--out", str(run.folder.parent)])


def command_for(run: Run, cases: Sequence[Case]) -> str:
    """The command that measures these Cases as their Run did: with the other side of an --ab, with ours for a user's
    net, with the whole net of a profile. PATH replaces folders. Empty if another program measured them."""
    if any(case.foreign for case in cases):
        return ""
    if run.protocol.shared_workers:
        words = [*_axes(run, cases), *_nets(run, cases), *_surroundings(run)]
        return shlex.join(["alexnet-bench", "profile", *words, *_protocol(run)])
    words = [*_axes(run, cases), *_loaders(run, cases), *_devices(run, cases)]
    words += [*_sides(run, cases), *_surroundings(run)]
    return shlex.join(["alexnet-bench", "run", *words, *_protocol(run)])


def _axes(run: Run, cases: Sequence[Case]) -> list[str]:
    """Options of the axes, without those that the --ab determines."""
    key = run.head.ab.key if run.head.ab else ""
    implied = {key, *(NET_AXES if key == "net" else ())} | ({"pass"} if run.protocol.shared_workers else set())
    words = []
    for axis in AXES:
        values = list(dict.fromkeys(_value(case, axis) for case in cases))
        if axis == "pass" and any(case.loader is not None for case in cases):
            values = [name for name in values if name in offered_passes() and name != STEP.name]
            if not values:
                continue
        if axis == "pass":
            values = list(dict.fromkeys(WITNESSED if PASSES[name].witness else name for name in values))
            values = [name for name in values if name in offered_passes()]
        if axis in implied or (axis in OPTIONAL_AXES and _all_default(cases, axis)):
            continue
        words += ["--dropout"] if axis == "dropout" else [f"--{axis}", ",".join(map(str, values))]
    return words


def _loaders(run: Run, cases: Sequence[Case]) -> list[str]:
    """Options of the loaders of these Cases; none without."""
    workers = dict.fromkeys(case.loader for case in cases if case.loader is not None)
    if not workers or not (facts := run.head.pictures):
        return []
    words = [
        "--input",
        f"{PATH}/{facts.folder}" if facts.folder else "flowers",
        "--loaders",
        ",".join(map(str, workers)),
    ]
    return words + ([] if facts.preprocessing.name == PREPROCESSING else ["--preprocessing", facts.preprocessing.name])


def _devices(run: Run, cases: Sequence[Case]) -> list[str]:
    """Options of Teams; none without. They have every number of devices of the Run, by which cores are sliced, and all
    ways in which they share the net: a row comes with those that it is compared with."""
    if not run.head.devices:
        return []
    words = ["--devices", ",".join(map(str, sorted({case.world for case in (*run.cases, *cases)})))]
    nodes = dict.fromkeys(device.node for device in run.head.devices if device.node)
    words += ["--nodes", ",".join(nodes), "--launch", f"{PATH} {{node}}"] if nodes else []
    words += ["--scaling", "strong"] if any(case.strong for case in cases) else []
    words += [] if (splits := _splits((*run.cases, *cases))) == [DATA] else ["--split", ",".join(splits)]
    return words + (["--oversubscribe"] if scaling.shares_cores(run) else [])


def _value(case: Case, axis: str) -> Any:
    """The value of an axis as its option gives it; for a layer alone, its net."""
    value = getattr(case, "pass_" if axis == "pass" else axis)
    if axis == "batch" and case.strong:
        return case.images
    return value.partition(".")[0] if axis == "variant" else value


def _all_default(cases: Sequence[Case], axis: str) -> bool:
    """Whether all Cases have the default of an axis."""
    if axis in ("mode", "layout"):
        return all(_value(case, axis) == getattr(FRAMEWORKS[case.framework], f"{axis}s")[0] for case in cases)
    return all(_value(case, axis) in (DEFAULTS.get(axis), OWN_INPUT) for case in cases)


def _sides(run: Run, cases: Sequence[Case]) -> list[str]:
    """The --ab, or the users' nets."""
    if not (ab := run.head.ab):
        return _nets(run, cases)
    prefix = f"{PATH}/" if ab.key in ("impls", "python") else ""
    sides = [_net(value) if ab.key == "net" else prefix + value for value in ab.values]
    return ["--ab", f"{ab.key}={','.join(sides)}"]


def _nets(run: Run, cases: Sequence[Case]) -> list[str]:
    """--net for the users' nets among these Cases."""
    labels = {case.guest for case in cases}
    guests = [guest for guest in run.head.guests if guest.label in labels]
    return [word for guest in guests for word in ("--net", _net(f"{guest.file}:{guest.function}"))]


def _net(text: str) -> str:
    """A user's net as ``--net`` takes it: a file after its folder, a module of a package as it is."""
    return f"{PATH}/{text}" if text.partition(":")[0].endswith(".py") else text


def _surroundings(run: Run) -> list[str]:
    """Options for variables, interpreters and weights."""
    head = run.head
    words = [
        word for name, value in head.env.items() for word in ("--env", name if value is None else f"{name}={value}")
    ]
    words += [word for name in head.pythons for word in ("--python", f"{name}={PATH}/python")]
    return words + (["--weights", f"{PATH}/{head.weights.file}"] if head.weights else [])


def _protocol(run: Run) -> list[str]:
    """Options of the Protocol: rounds always, iterations and burn-in if they were given and so hold for each Round,
    others if not at their default."""
    protocol, usual = run.protocol, Protocol().options()
    words = [] if protocol.paired else ["--protocol", "classic"]
    if protocol.paired and not protocol.gate and not protocol.shared_workers:
        words.append("--no-gate")
    for name, text in protocol.options().items():
        always = name in ("rounds", "iterations", "burn_in")
        implied = name == "seed" or (name == "rounds" and not protocol.paired)  # an axis; the classic protocol has one
        implied |= name == "iterations" and protocol.least_iterations is not None
        implied |= name == "burn_in" and protocol.burn_in_later is not None
        if not implied and text and (always or text != usual[name]):
            words += [option_name(name), text]
    return words


def _grid(cases: Sequence[Case]) -> list[Case]:
    """All Cases that the options of these would create."""
    axes = {axis: list(dict.fromkeys(_value(case, axis) for case in cases)) for axis in AXES}
    single = {axis: axes[axis][0] for axis in ("size", "threads", "seed", "dropout")}
    if any(len(axes[axis]) > 1 for axis in single):
        return []
    names = axes["framework"]
    if any(case.loader is not None for case in cases):  # with all slots of each
        return list(cases) if _whole_loaders(cases) else []
    if any(case.world > 1 for case in cases):
        return list(cases) if _whole_teams(cases) else []
    words = {axis: None if _all_default(cases, axis) else ",".join(axes[axis]) for axis in ("mode", "layout")}
    return Axes(
        variant=axes["variant"],
        modes=parse_modes(names, words["mode"], axes["device"]),
        layouts=parse_layouts(names, words["layout"]),
        device=axes["device"],
        precisions=axes["precision"],
        batch=axes["batch"],
        pass_=axes["pass"],
        lrn=axes["lrn"],
        preset=axes["preset"],
        weights=cases[0].weights,
        **single,
    ).cases()


def _whole_teams(cases: Sequence[Case]) -> bool:
    """Whether every Case is there on each number of devices, with the witnesses of its Teams."""
    counts = sorted({case.world for case in cases})
    alone = [scaling.alone_of(case) for case in cases]
    offered = dict.fromkeys(case for case in alone if case.pass_ in offered_passes())
    return set(teams_of(offered, counts, any(case.strong for case in cases), _splits(cases))) == set(cases)


def _splits(cases: Sequence[Case]) -> list[str]:
    """How Teams share the net; data if there are none."""
    return list(dict.fromkeys(case.split for case in cases if case.world > 1)) or [DATA]


def _whole_loaders(cases: Sequence[Case]) -> bool:
    """Whether these are all slots of the same numbers of workers in front of each training step."""
    steps = [case for case in cases if case.pass_ == STEP.name]
    workers = dict.fromkeys(case.loader for case in cases if case.loader is not None)
    slots = {
        dataclasses.replace(step, pass_=timed.name, loader=count)
        for step in steps
        for timed in (LOAD, FED)
        for count in workers
    }
    return slots == {case for case in cases if case.loader is not None}
