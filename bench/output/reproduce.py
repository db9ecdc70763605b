"""Command: the line that measures Cases of a Run once more, rebuilt from what the Run stores."""

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from bench.cases.axes import Axes
from bench.cases.case import LABELS, Case
from bench.cases.parse import option_name, parse_layouts, parse_modes
from bench.cases.protocol import Protocol
from bench.record.run import Run
from bench.stats.ratio import MIN_ROUNDS
from impls import FRAMEWORKS

PATH = "PATH"  # stands for a folder, which no Run stores
#: Axes of a Case whose options are always written; the others only where they are not at their default.
ALWAYS = ("variant", "framework", "batch", "pass")
#: Fields of a Case that have no option of their name.
NO_OPTION = ("pass_", "weights", "arm", "guest", "foreign")
WHERE_SET = [field.name for field in dataclasses.fields(Case) if field.name not in (*ALWAYS, *NO_OPTION)]
USUAL = {field.name: field.default for field in dataclasses.fields(Case)} | {"device": "cpu", "precision": "fp32"}
#: What a user's net on one side of an --ab brings with it.
OF_A_NET = ("framework", "mode", "layout", "lrn")


def reproduce(run: Run, case: Case) -> str:
    """The line that measures a Case as its Run did: with the other side of an --ab, with ours beside a user's net, in a
    profile with its whole net. Empty where another program measured it."""
    return line(run, [case])


def whole(run: Run) -> str:
    """The line that measures all of a Run, ratios too; empty where no single one does."""
    cases = [dataclasses.replace(case, arm=None) for case in run.cases if case.arm in (None, LABELS[0])]
    if run.protocol.shared_workers:  # a profile makes the rows of its nets itself
        cases = [case for case in cases if "." not in case.variant]
    beyond = any(case.foreign or case.guest for case in cases)
    return line(run, cases) if cases and not beyond and set(_grid(cases)) == set(cases) else ""


def against_itself(run: Run) -> str:
    """The line that makes an A/A Run: its Cases against themselves, under its own settings, into the same folder. Empty
    where another program measured it."""
    if run.head.ingested:
        return ""
    ab, protocol = run.head.ab, run.protocol
    key, side = "slowdown", "0"
    if ab and ab.key not in ("impls", "python", "slowdown"):  # the sides of that Run, then, against themselves
        key, side = ab.key, f"{PATH}/{ab.values[1]}" if ab.key == "net" else ab.values[1]
    words = ["alexnet-bench", "run", "--ab", f"{key}={side},{side}"]
    guests = [] if key == "net" else _nets(run, run.cases)
    words += [*_axes(run, run.cases), *guests, *_surroundings(run)]
    words += ["--rounds", str(max(protocol.rounds, MIN_ROUNDS)), "--iterations", str(protocol.iterations)]
    words += ["--burn-in", str(protocol.burn_in)] if protocol.burn_in != Protocol().burn_in else []
    words += [] if protocol.gate else ["--no-gate"]
    return shlex.join([*words, "--out", str(run.folder.parent)])


def line(run: Run, cases: Sequence[Case]) -> str:
    """The line whose grid holds these Cases, under the Run's own settings; PATH stands for folders."""
    if any(case.foreign for case in cases):
        return ""
    if run.protocol.shared_workers:
        return shlex.join(["alexnet-bench", "profile", *_axes(run, cases), *_surroundings(run), *_protocol(run)])
    words = [*_axes(run, cases), *_sides(run, cases), *_surroundings(run)]
    return shlex.join(["alexnet-bench", "run", *words, *_protocol(run)])


def _axes(run: Run, cases: Sequence[Case]) -> list[str]:
    """Options of the axes, but for those that the sides of an --ab say."""
    key = run.head.ab.key if run.head.ab else ""
    said = {key, *(OF_A_NET if key == "net" else ())} | ({"pass"} if run.protocol.shared_workers else set())
    words = []
    for axis in (*ALWAYS, *WHERE_SET):
        values = list(dict.fromkeys(_value(case, axis) for case in cases))
        if axis in said or (axis in WHERE_SET and all(_value(case, axis) == _usual(case, axis) for case in cases)):
            continue
        words += ["--dropout"] if axis == "dropout" else [f"--{axis}", ",".join(map(str, values))]
    return words


def _value(case: Case, axis: str) -> Any:
    """What the option of an axis would say; of a row alone its net."""
    value = getattr(case, "pass_" if axis == "pass" else axis)
    return value.partition(".")[0] if axis == "variant" else value


def _usual(case: Case, axis: str) -> Any:
    """What an option that is left out stands for."""
    if axis in ("mode", "layout"):
        return getattr(FRAMEWORKS[case.framework], f"{axis}s")[0]
    return USUAL.get(axis)


def _sides(run: Run, cases: Sequence[Case]) -> list[str]:
    """What is compared: the two sides of an --ab, users' nets."""
    ab, words = run.head.ab, []
    if ab:
        files = ab.key in ("impls", "python", "net")
        words += ["--ab", f"{ab.key}={','.join(f'{PATH}/{one}' if files else one for one in ab.values)}"]
    return words if ab else _nets(run, cases)


def _nets(run: Run, cases: Sequence[Case]) -> list[str]:
    """Users' own nets among these Cases."""
    labels = {case.guest for case in cases}
    known = [one for one in run.head.guests if one.label in labels]
    return [word for one in known for word in ("--net", f"{PATH}/{one.file}:{one.function}")]


def _surroundings(run: Run) -> list[str]:
    """What Workers were given from outside: variables, interpreters, weights."""
    head = run.head
    words = [
        word for name, value in head.env.items() for word in ("--env", name if value is None else f"{name}={value}")
    ]
    words += [word for name in head.pythons for word in ("--python", f"{name}={PATH}/python")]
    return words + (["--weights", f"{PATH}/{head.weights.file}"] if head.weights else [])


def _protocol(run: Run) -> list[str]:
    """How it was measured: rounds, iterations and burn-in always, the rest where it was asked for."""
    protocol, usual = run.protocol, Protocol().options()
    words = [] if protocol.paired else ["--protocol", "classic"]
    if protocol.paired and not protocol.gate and not protocol.shared_workers:
        words.append("--no-gate")
    for name, text in protocol.options().items():
        always = name in ("rounds", "iterations", "burn_in")
        implied = name == "seed" or (name == "rounds" and not protocol.paired)  # an axis; the classic protocol has one
        if not implied and text and (always or text != usual[name]):
            words += [option_name(name), text]
    return words


def _grid(cases: Sequence[Case]) -> list[Case]:
    """All Cases that the options of these would make."""
    axes = {axis: list(dict.fromkeys(_value(case, axis) for case in cases)) for axis in (*ALWAYS, *WHERE_SET)}
    one = {axis: axes[axis][0] for axis in ("size", "threads", "seed", "dropout")}
    if any(len(axes[axis]) > 1 for axis in one):
        return []
    names = axes["framework"]
    said = {axis: None if all(_value(case, axis) == _usual(case, axis) for case in cases) else ",".join(axes[axis])
            for axis in ("mode", "layout")}  # fmt: skip
    return Axes(
        variants=axes["variant"],
        modes=parse_modes(names, said["mode"], axes["device"]),
        layouts=parse_layouts(names, said["layout"]),
        devices=axes["device"],
        precisions=axes["precision"],
        batches=axes["batch"],
        passes=axes["pass"],
        lrns=axes["lrn"],
        presets=axes["preset"],
        weights=cases[0].weights,
        **one,
    ).cases()
