"""What a user asked for: options to Cases, Protocol and WorkerSettings, each mistake a UsageError in one line."""

import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import impls
from bench import UsageError
from bench.cases.arm import AXES, Ab, parse_ab, resolve_interpreter
from bench.cases.axes import Axes, has_lrn
from bench.cases.case import LABELS, LRNS, PRECISIONS, PRESETS, Case
from bench.cases.parse import (
    is_variable,
    parse_choice,
    parse_choices,
    parse_count,
    parse_device,
    parse_layouts,
    parse_modes,
    parse_percent,
    parse_seconds,
)
from bench.cases.passes import PASSES
from bench.cases.protocol import CLASSIC, Protocol
from bench.controller.settings import GivenWeights, WorkerSettings
from bench.machine import host
from bench.worker.guest import Guest, read_nets
from impls import FRAMEWORKS, PEERS
from impls.variants import VARIANTS
from impls.weights import WeightsError, load

MOST_ROUNDS = 30  # of a Run that stops at --target-ci


def frameworks(asked: dict[str, Any]) -> list[str]:
    """Those named, or those installed; UsageError for one that is named and missing, with the extra that brings it."""
    known = pythons(asked)
    if (asked.get("ab") or "").startswith("net=") and asked["framework"] is None:
        first = parse_ab(asked["ab"]).guest(LABELS[0])
        return [first.framework] if first else []
    if (asked.get("ab") or "").startswith("python="):  # both sides have an interpreter of their own
        wanted = asked["framework"] or ",".join(name for name, it in FRAMEWORKS.items() if it.in_default_run)
        return parse_choices(
            "framework", wanted, [name for name, it in FRAMEWORKS.items() if it.peer or wanted == name]
        )
    theirs = [
        one.framework for one in guests(asked, (asked["framework"] or "").split(",")) if FRAMEWORKS[one.framework].peer
    ]
    if asked["framework"] is None and theirs:  # a user's own net stands beside ours of its framework
        asked = {**asked, "framework": ",".join(theirs)}
    if asked["framework"] is None:
        found = [name for name in impls.available() if name not in known] + list(known)
        if not found:
            raise UsageError(f"no framework is installed: pip install {impls.requirement()}")
        return [name for name in FRAMEWORKS if name in found]
    named = parse_choices(
        "framework", asked["framework"], list(PEERS) if asked["framework"] == "all" else list(FRAMEWORKS)
    )
    for name in named:
        if name not in known and importlib.util.find_spec(FRAMEWORKS[name].package) is None:
            raise UsageError(f"framework {name!r} is not installed: pip install {impls.requirement(name)}")
    return named


def cases(asked: dict[str, Any], given: GivenWeights | None = None) -> list[Case]:
    """The grid of `run`, both Arms of each where there is an --ab."""
    sides, found = ab(asked), axes(asked, given).cases()
    if sides and sides.key == "lrn":
        for variant in dict.fromkeys(one.variant for one in found if not has_lrn(one.variant)):
            raise UsageError(f"--ab lrn: {variant} has no LRN; choose another --variant")
    return sides.cases(found) if sides else found


def axes(asked: dict[str, Any], given: GivenWeights | None = None) -> Axes:
    """The axes of a grid."""
    names = frameworks(asked)
    own = guests(asked, names)
    beside = [one.framework for one in own if one.framework not in names]
    batch = asked["batch"] or ("32" if asked["protocol"] == "classic" else "8" if "cpu" in devices(asked) else "128")
    return Axes(
        variants=parse_choices("variant", asked["variant"], list(VARIANTS)),
        ours=names,
        guests=[(one.framework, one.label) for one in own],
        modes=parse_modes(names, asked["mode"], devices(asked)) | parse_modes(beside, None),
        layouts=parse_layouts(names, asked["layout"]) | parse_layouts(beside, None),
        lrns=parse_choices("LRN", asked["lrn"], LRNS),
        presets=parse_choices("preset", asked["preset"], PRESETS),
        devices=devices(asked),
        precisions=precisions(asked),
        batches=list(dict.fromkeys(parse_count("--batch", word.strip()) for word in batch.split(","))),
        passes=parse_choices("pass", asked["pass"], list(PASSES)),
        threads=threads(asked),
        size=size(asked),
        dropout=asked["dropout"],
        seed=parse_count("--seed", asked["seed"], least=0),
        weights=given.digest if given else None,
    )


def guests(asked: dict[str, Any], frameworks: Sequence[str]) -> list[Guest]:
    """Users' own nets; UsageError where two would have one name."""
    found = [net.guest(frameworks) for net in read_nets(asked.get("net") or ())]
    for one in found:
        if sum(other.label == one.label for other in found) > 1:
            raise UsageError(f"--net: two nets are named {one.label}; rename a file or a function")
    return found


def ab(asked: dict[str, Any]) -> Ab | None:
    """The two Arms of --ab; UsageError where the axis they differ in is asked for by its own option too."""
    if asked.get("ab") is None:
        return None
    found = parse_ab(asked["ab"])
    found.check(frameworks(asked), devices(asked))
    usual = {"lrn": LRNS[0], "preset": PRESETS[0]}
    if found.key in (*AXES, "threads", "python", "net") and asked[found.key] not in (None, (), usual.get(found.key)):
        raise UsageError(f"--ab {found.key} and --{found.key}: expected one of them")
    if found.key.startswith("env:") and any(word.partition("=")[0] == found.key[4:] for word in asked["env"]):
        raise UsageError(f"--ab {found.key} and --env {found.key[4:]}: expected one of them")
    if asked.get("net") and found.key != "net":
        raise UsageError("--ab and --net: compare two nets with --ab net=A.py:f,B.py:f, or leave --ab out")
    if asked.get("protocol") == "classic":
        raise UsageError("--ab: the classic protocol takes no turns; leave --protocol out")
    return found


def devices(asked: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(parse_device(word.strip()) for word in asked["device"].split(",")))


def precisions(asked: dict[str, Any]) -> list[str]:
    """Those named; ``all`` means all that the devices have."""
    every = [name for name in PRECISIONS if name != "tf32" or "cpu" not in devices(asked)]
    return every if asked["precision"] == "all" else parse_choices("precision", asked["precision"], PRECISIONS)


def plain_cases(
    variants: Sequence[str], asked: dict[str, Any], *, batch: int, precisions: Sequence[str] = ("fp32",)
) -> list[Case]:
    """One Case a variant, framework, mode and precision, for commands that time nothing."""
    names, where = frameworks(asked), devices(asked)
    if len(where) > 1:
        raise UsageError(f"--device: expected one, found {', '.join(where)}")
    return Axes(
        variants=variants,
        modes=parse_modes(names, asked["mode"], where),
        layouts=parse_layouts(names, asked.get("layout")),
        lrns=parse_choices("LRN", asked.get("lrn") or LRNS[0], LRNS),
        devices=where,
        precisions=precisions,
        batches=[batch],
        passes=list(PASSES)[:1],
        threads=threads(asked),
        size=size(asked),
        seed=parse_count("--seed", asked["seed"], least=0),
    ).cases()


def protocol(asked: dict[str, Any]) -> Protocol:
    """The Protocol by name, with what was asked for in its place."""
    name = parse_choice("protocol", asked["protocol"], ("rounds", "classic"))
    base = CLASSIC if name == "classic" else Protocol(iterations=10 if "cpu" in devices(asked) else 20)
    changes: dict[str, Any] = {"seed": parse_count("--seed", asked["seed"], least=0)}
    for field in ("rounds", "burn_in", "iterations"):
        if asked[field] is not None:
            changes[field] = parse_count(f"--{field.replace('_', '-')}", asked[field])
    if name == "classic" and changes.get("rounds", 1) != 1:
        raise UsageError("--rounds: the classic protocol has one Round; leave it out, or use --protocol rounds")
    if asked["no_gate"]:
        changes["gate"] = False
    if asked["max_time"] is not None:
        changes["max_time_s"] = parse_seconds("--max-time", asked["max_time"])
    if asked["target_ci"] is not None:
        if name == "classic":
            raise UsageError("--target-ci: the classic protocol has one Round; leave it out, or use --protocol rounds")
        changes["target_ci"] = parse_percent("--target-ci", asked["target_ci"])
        changes.setdefault("rounds", MOST_ROUNDS)
    return dataclasses.replace(base, worker_limit_s=parse_seconds("--worker-limit", asked["worker_limit"]), **changes)


def given(asked: dict[str, Any], variants: Sequence[str], pixels: int | None = None) -> GivenWeights | None:
    """The file of --weights, read and held against every variant; UsageError says which layer is wrong."""
    if asked["weights"] is None:
        return None
    path = Path(asked["weights"])
    try:
        (weights, *_) = [load(path, VARIANTS[name].resized(pixels or size(asked))) for name in variants]
        with open(path, "rb") as file:
            return GivenWeights(path.name, hashlib.file_digest(file, "sha256").hexdigest(), weights)
    except (WeightsError, OSError) as error:
        raise UsageError(f"--weights: {error}") from error


def conditions(asked: dict[str, Any], given: GivenWeights | None = None) -> WorkerSettings:
    env = {}
    for word in asked["env"]:
        name, equals, value = word.partition("=")
        if not is_variable(name):
            raise UsageError(f"--env: expected NAME or NAME=VALUE, found {word!r}")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name}: not set here; pass --env {name}=VALUE")
        env[name] = value if equals else os.environ[name]
    limit_s = parse_seconds("--worker-limit", asked["worker_limit"])
    own = {one.label: one for one in guests(asked, frameworks(asked) if asked.get("net") else ())}
    return WorkerSettings(threads(asked) or host.usable_cores(), limit_s, pythons(asked), env, given, ab(asked), own)


def pythons(asked: dict[str, Any]) -> dict[str, str]:
    found = {}
    for word in asked["python"]:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise UsageError(f"--python: expected FRAMEWORK=PATH, found {word!r}")
        parse_choice("framework", name, FRAMEWORKS)
        found[name] = resolve_interpreter(path)
    return found


def threads(asked: dict[str, Any]) -> int | None:
    return None if asked["threads"] is None else parse_count("--threads", asked["threads"])


def size(asked: dict[str, Any]) -> int | None:
    return None if asked["size"] is None else parse_count("--size", asked["size"])
