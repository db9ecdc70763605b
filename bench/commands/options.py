"""What a user asked for: options to Cases, Protocol and WorkerSettings, each mistake a UsageError in one line."""

import dataclasses
import hashlib
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import impls
from bench import UsageError
from bench.cases import arm, case
from bench.cases.arm import AXES, Ab
from bench.cases.case import LABELS, LRNS, PASSES, PRECISIONS, PRESETS, Case, positive, several
from bench.cases.protocol import CLASSIC, Protocol
from bench.controller.pool import GivenWeights, WorkerSettings
from bench.machine import host
from bench.worker import guest
from bench.worker.guest import Guest
from impls import FRAMEWORKS, PEERS
from impls.variants import VARIANTS
from impls.weights import WeightsError, load

MOST_ROUNDS = 30  # of a Run that stops at --target-ci

__all__ = ["cases", "conditions", "given", "plain_cases", "positive", "precisions", "protocol", "several", "size"]


def frameworks(asked: dict[str, Any]) -> list[str]:
    """Those named, or those installed; UsageError for one that is named and missing, with the extra that brings it."""
    known = pythons(asked)
    if (asked.get("ab") or "").startswith("net=") and asked["framework"] is None:
        first = arm.parsed(asked["ab"], ()).guest(LABELS[0])
        return [first.framework] if first else []
    if (asked.get("ab") or "").startswith("python="):  # both sides have an interpreter of their own
        wanted = asked["framework"] or ",".join(name for name, it in FRAMEWORKS.items() if it.in_default_run)
        return several("framework", wanted, [name for name, it in FRAMEWORKS.items() if it.peer or wanted == name])
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
    named = several("framework", asked["framework"], list(PEERS) if asked["framework"] == "all" else list(FRAMEWORKS))
    for name in named:
        if name not in known and importlib.util.find_spec(FRAMEWORKS[name].package) is None:
            raise UsageError(f"framework {name!r} is not installed: pip install {impls.requirement(name)}")
    return named


def cases(asked: dict[str, Any], given: GivenWeights | None = None) -> list[Case]:
    """The grid of `run`, both Arms of each where there is an --ab."""
    sides, found = ab(asked), case.grid(**axes(asked, given))
    if sides and sides.key == "lrn":
        for variant in dict.fromkeys(one.variant for one in found if not case.has_lrn(one.variant)):
            raise UsageError(f"--ab lrn: {variant} has no LRN; choose another --variant")
    return sides.cases(found) if sides else found


def axes(asked: dict[str, Any], given: GivenWeights | None = None) -> dict[str, Any]:
    """What ``case.grid`` spreads."""
    names = frameworks(asked)
    own = guests(asked, names)
    beside = [one.framework for one in own if one.framework not in names]
    batch = asked["batch"] or ("32" if asked["protocol"] == "classic" else "8" if "cpu" in devices(asked) else "128")
    return {
        "variants": several("variant", asked["variant"], list(VARIANTS)),
        "ours": names,
        "guests": [(one.framework, one.label) for one in own],
        "modes": case.modes(names, asked["mode"], devices(asked)) | case.modes(beside, None),
        "layouts": case.layouts(names, asked["layout"]) | case.layouts(beside, None),
        "lrns": several("LRN", asked["lrn"], LRNS),
        "presets": several("preset", asked["preset"], PRESETS),
        "devices": devices(asked),
        "precisions": precisions(asked),
        "batches": list(dict.fromkeys(positive("--batch", word.strip()) for word in batch.split(","))),
        "passes": several("pass", asked["pass"], PASSES),
        "threads": threads(asked),
        "size": size(asked),
        "dropout": asked["dropout"],
        "seed": positive("--seed", asked["seed"], least=0),
        "weights": given.digest if given else None,
    }


def guests(asked: dict[str, Any], frameworks: Sequence[str]) -> list[Guest]:
    """Users' own nets; UsageError where two would have one name."""
    found = [guest.parsed(text, frameworks) for text in asked.get("net") or ()]
    for one in found:
        if sum(other.label == one.label for other in found) > 1:
            raise UsageError(f"--net: two nets are named {one.label}; rename a file or a function")
    return found


def ab(asked: dict[str, Any]) -> Ab | None:
    """The two Arms of --ab; UsageError where the axis they differ in is asked for by its own option too."""
    if asked.get("ab") is None:
        return None
    found = arm.parsed(asked["ab"], frameworks(asked), devices(asked))
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
    return list(dict.fromkeys(case.device(word.strip()) for word in asked["device"].split(",")))


def precisions(asked: dict[str, Any]) -> list[str]:
    """Those named; ``all`` means all that the devices have."""
    every = [name for name in PRECISIONS if name != "tf32" or "cpu" not in devices(asked)]
    return every if asked["precision"] == "all" else several("precision", asked["precision"], PRECISIONS)


def plain_cases(
    variants: Sequence[str], asked: dict[str, Any], *, batch: int, precisions: Sequence[str] = ("fp32",)
) -> list[Case]:
    """One Case a variant, framework, mode and precision, for commands that time nothing."""
    names, where = frameworks(asked), devices(asked)
    if len(where) > 1:
        raise UsageError(f"--device: expected one, found {', '.join(where)}")
    return case.grid(
        variants=variants,
        modes=case.modes(names, asked["mode"], where),
        layouts=case.layouts(names, asked.get("layout")),
        lrns=several("LRN", asked.get("lrn") or LRNS[0], LRNS),
        devices=where,
        precisions=precisions,
        batches=[batch],
        passes=["forward_backward"],
        threads=threads(asked),
        size=size(asked),
        seed=positive("--seed", asked["seed"], least=0),
    )


def protocol(asked: dict[str, Any]) -> Protocol:
    """The Protocol by name, with what was asked for in its place."""
    name = case.one_of("protocol", asked["protocol"], ("rounds", "classic"))
    base = CLASSIC if name == "classic" else Protocol(iterations=10 if "cpu" in devices(asked) else 20)
    changes: dict[str, Any] = {"seed": positive("--seed", asked["seed"], least=0)}
    for field in ("rounds", "burn_in", "iterations"):
        if asked[field] is not None:
            changes[field] = positive(f"--{field.replace('_', '-')}", asked[field])
    if name == "classic" and changes.get("rounds", 1) != 1:
        raise UsageError("--rounds: the classic protocol has one Round; leave it out, or use --protocol rounds")
    if asked["no_gate"]:
        changes["gate"] = False
    if asked["max_time"] is not None:
        changes["max_time_s"] = seconds("--max-time", asked["max_time"])
    if asked["target_ci"] is not None:
        if name == "classic":
            raise UsageError("--target-ci: the classic protocol has one Round; leave it out, or use --protocol rounds")
        changes["target_ci"] = percent("--target-ci", asked["target_ci"])
        changes.setdefault("rounds", MOST_ROUNDS)
    return dataclasses.replace(base, worker_limit_s=seconds("--worker-limit", asked["worker_limit"]), **changes)


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
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise UsageError(f"--env: expected NAME or NAME=VALUE, found {word!r}")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name}: not set here; pass --env {name}=VALUE")
        env[name] = value if equals else os.environ[name]
    limit_s = seconds("--worker-limit", asked["worker_limit"])
    own = {one.label: one for one in guests(asked, frameworks(asked) if asked.get("net") else ())}
    return WorkerSettings(threads(asked) or host.usable_cores(), limit_s, pythons(asked), env, given, ab(asked), own)


def pythons(asked: dict[str, Any]) -> dict[str, str]:
    found = {}
    for word in asked["python"]:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise UsageError(f"--python: expected FRAMEWORK=PATH, found {word!r}")
        case.one_of("framework", name, FRAMEWORKS)
        found[name] = arm.interpreter(path)
    return found


def threads(asked: dict[str, Any]) -> int | None:
    return None if asked["threads"] is None else positive("--threads", asked["threads"])


def size(asked: dict[str, Any]) -> int | None:
    return None if asked["size"] is None else positive("--size", asked["size"])


def seconds(what: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UsageError(f"{what}: expected seconds above 0, found {text!r}")
    return number


def percent(what: str, text: str) -> float:
    """A share, from percent."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number < 100:
        raise UsageError(f"{what}: expected percent, above 0 and below 100, found {text!r}")
    return number / 100
