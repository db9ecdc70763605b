"""Plan: the Cases, Protocol and Worker settings that a request asks for. Each user file is read once."""

import dataclasses
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import impls
from bench import UsageError
from bench.cases.arm import CASE_FIELDS, Ab, parse_ab
from bench.cases.axes import Axes, has_lrn
from bench.cases.case import OWN_INPUT, PRECISIONS, Case, check_size
from bench.cases.parse import (
    computes_on,
    lacking,
    parse_choices,
    parse_input,
    parse_layouts,
    parse_modes,
    refuse_device,
)
from bench.cases.passes import PASSES
from bench.cases.protocol import CLASSIC, Protocol
from bench.cases.shard import Shard
from bench.commands.options import convert
from bench.commands.requests import NetOptions, ProfileRequest, RunRequest, VerifyRequest, WorkerOptions
from bench.controller.settings import GivenWeights, WorkerSettings
from bench.machine import host
from bench.pictures import flowers
from bench.record import grid
from bench.worker.guest import Guest
from bench.worker.net_file import NetFile, read_nets
from impls import FRAMEWORKS, PEERS
from impls.text import quoted
from impls.variants import VARIANTS
from impls.weights import WeightsError, load_all

MOST_ROUNDS = 30  # with --target-ci
ALONE = "only the models of --net are timed, not our nets, which take other inputs"
BURN_IN_LATER = 4  # in later Rounds only the first iteration is slow (docs/decisions/0015)
LEAST_ITERATIONS = 4  # of two mirrored cycles, if a turn has one iteration


@dataclass(frozen=True)
class Plan:
    """Cases to measure, how, and the settings of their Workers; ``note`` says what a user may not expect of them.

    With ``shard`` they are those of one shard of a grid, and may be none.
    """

    cases: list[Case]
    protocol: Protocol
    settings: WorkerSettings
    note: str = ""
    shard: Shard | None = None


def plan_run(request: RunRequest) -> Plan:
    """The grid of `run`; with --ab, both Arms of each Case. Raises UsageError."""
    protocol = run_protocol(request)
    ab, nets = (
        parse_ab(request.ab) if request.ab is not None else None,
        read_nets(request.net, [path for _, path in request.python]),
    )
    frameworks = choose_frameworks(request, ab, nets)
    guests = name_guests(nets, frameworks)
    if ab:
        ab.check(frameworks, request.device)
        refuse_with_ab(request, ab)
    inputs = inputs_of(request, list(guests.values()), ab)
    alone = not ab and bool(inputs) and inputs.keys() == guests.keys()
    cases = axes_of(request, frameworks, guests, alone=alone).cases()
    if ab:
        for case in (case for case in cases if ab.key == "lrn" and not has_lrn(case.variant)):
            raise UsageError(f"--ab lrn: {case.variant} has no LRN; choose another --variant")
        cases = ab.cases(cases)
    cases = [dataclasses.replace(case, input=inputs.get(case.guest or "")) for case in cases]
    weights = read_weights(request.weights, request.variant, request.size, dict(request.python))
    if weights:
        cases = [dataclasses.replace(case, weights=weights.sha256[:8]) for case in cases]
    return Plan(cases, protocol, worker_settings(request, weights, ab, guests), ALONE if alone else "")


def one_shard(plan: Plan, index: int, count: int) -> Plan:
    """The plan of one shard of the grid that is planned."""
    shard = Shard(index, count, grid.digest_of(plan.cases, plan.protocol), plan.cases)
    return dataclasses.replace(plan, cases=shard.own, shard=shard)


def run_protocol(request: RunRequest) -> Protocol:
    classic = request.protocol == "classic"
    base = (
        CLASSIC if classic else Protocol(iterations=20, burn_in_later=BURN_IN_LATER, least_iterations=LEAST_ITERATIONS)
    )
    beyond_one = {"--rounds": request.rounds not in (None, 1), "--target-ci": request.target_ci is not None}
    for option in (option for option, given in beyond_one.items() if classic and given):
        raise UsageError(f"{option}: the classic protocol has one Round; leave it out, or use --protocol rounds")
    if request.no_gate:
        base = dataclasses.replace(base, gate=False)
    if request.target_ci is not None:
        base = dataclasses.replace(base, rounds=MOST_ROUNDS)
    if request.burn_in is not None:
        base = dataclasses.replace(base, burn_in_later=None)
    if request.iterations is not None:
        base = dataclasses.replace(base, least_iterations=None)
    return change_protocol(base, request)


def change_protocol(base: Protocol, request: RunRequest | ProfileRequest) -> Protocol:
    """``base`` with the options that were given."""
    asked = {name: getattr(request, name, None) for name in base.options()}
    return dataclasses.replace(base, **{name: value for name, value in asked.items() if value is not None})


def choose_frameworks(request: WorkerOptions, ab: Ab | None = None, nets: Sequence[NetFile] = ()) -> list[str]:
    """The frameworks named; else those of users' nets, else those installed that have the devices.

    Raises UsageError if one is not installed, naming the extra that installs it, or if none has the devices.
    """
    if ab and ab.guests and request.framework is None:
        return [ab.guests[0].framework]
    if ab and ab.key == "python":  # each side has its own interpreter
        default = [name for name, framework in FRAMEWORKS.items() if framework.in_default_run]
        wanted = request.framework or ",".join(having(default, request.device))
        return parse_choices("framework", wanted, PEERS if wanted == "all" else FRAMEWORKS)
    pythons = dict(request.python)
    if request.framework is None:
        own = [guest.framework for guest in (net.guest() for net in nets) if guest.framework in PEERS]
        if not own:  # a user's net is timed with ours of its framework
            usable = {*impls.available(), *pythons}
            if not usable:
                raise UsageError(f"no framework is installed: pip install {impls.requirement()}")
            return having([name for name in FRAMEWORKS if name in usable], request.device)
        names = list(dict.fromkeys(own))
    else:
        every = request.framework == "all"
        names = parse_choices("framework", request.framework, PEERS if every else FRAMEWORKS)
        names = having(names, request.device) if every else names
    for name in names:
        if name not in pythons and importlib.util.find_spec(FRAMEWORKS[name].package) is None:
            raise UsageError(f"framework {name!r} is not installed: pip install {impls.requirement(name)}")
    return names


def having(names: Sequence[str], devices: Sequence[str]) -> list[str]:
    """Those of these frameworks that compute on all of the devices. Raises UsageError if none does."""
    found = [name for name in names if all(computes_on(name, device) for device in devices)]
    for device in devices if not found else ():
        refuse_device(names[0], device)
    return found


def choose_one_framework(request: WorkerOptions) -> list[str]:
    """The frameworks named, else the first of those installed, for commands that need no second one."""
    found = choose_frameworks(request)
    return found if request.framework else found[:1]


def name_guests(nets: Iterable[NetFile], frameworks: Sequence[str]) -> dict[str, Guest]:
    """Users' nets by label; UsageError if two have the same one."""
    guests: dict[str, Guest] = {}
    for guest in (net.guest(frameworks) for net in nets):
        if guest.label in guests:
            raise UsageError(f"--net: two nets are named {guest.label}; rename a file or a function")
        guests[guest.label] = guest
    return guests


def inputs_of(request: RunRequest, guests: Sequence[Guest], ab: Ab | None) -> dict[str, str]:
    """What users' models take instead of the Variant's images, by label: of --input, or of their own ``inputs``.

    Raises UsageError where --input is for no model, or where two Arms take different inputs.
    """
    guests = [*guests, *(ab.guests if ab else ())]
    refuse_input(request, guests)
    if ab and len({guest.inputs for guest in ab.guests}) > 1:
        raise UsageError("--ab net: one side has inputs(batch), the other takes images; expected the same on both")
    inputs = {guest.label: OWN_INPUT if guest.inputs else request.input or "" for guest in guests}
    if any(inputs.values()) and len(request.variant) > 1:
        raise UsageError(f"--variant: the inputs of a model depend on none; expected one, found {len(request.variant)}")
    return {label: own for label, own in inputs.items() if own}


def refuse_input(request: RunRequest | VerifyRequest, guests: Sequence[Guest]) -> None:
    """UsageError for an --input that is not for every one of these users' nets, or for none."""
    if request.input:  # of `run` it may be a folder
        if flowers.meant(Path(request.input)) or Path(request.input).is_dir():
            raise UsageError(
                f"--input: pictures, as of {quoted(request.input)}, are for loaders: pass --loaders 0,2 too"
            )
        parse_input("--input", request.input)
    if request.input and not guests:
        raise UsageError("--input: our nets take the images of --variant; expected a model, --net FILE.py:NAME")
    if request.input and request.size:
        raise UsageError("--input and --size: give only one of the two")
    for guest in guests if request.input else ():
        if guest.inputs:
            raise UsageError(f"--input: {guest.source} has its own inputs(batch); leave one of them out")
        if not guest.model:
            raise UsageError(f"--input: {guest.source}:{guest.call} is a Net, given images of --variant; leave it out")


def refuse_with_ab(request: RunRequest, ab: Ab) -> None:
    """UsageError for an option that cannot be combined with this --ab."""
    own = ab.key in (*CASE_FIELDS, "threads", "python", "net")
    if own and getattr(request, ab.key) != getattr(RunRequest(), ab.key):
        raise UsageError(f"--ab {ab.key} and --{ab.key}: give only one of the two")
    if ab.key.startswith("env:") and ab.key[4:] in dict(request.env):
        raise UsageError(f"--ab {ab.key} and --env {ab.key[4:]}: give only one of the two")
    if request.net:
        raise UsageError("--ab and --net: compare two nets with --ab net=A.py:f,B.py:f, or leave --ab out")
    if request.protocol == "classic":
        raise UsageError("--ab: the classic protocol takes no turns; leave --protocol out")


def axes_of(
    request: RunRequest,
    frameworks: Sequence[str],
    guests: Mapping[str, Guest] | None = None,
    *,
    alone: bool = False,
) -> Axes:
    """The axes of our nets and users' ones, or of users' ones ``alone``."""
    guests = guests or {}
    guest_frameworks = [guest.framework for guest in guests.values() if guest.framework not in frameworks]
    usual = (32,) if request.protocol == "classic" else (8,) if "cpu" in request.device else (128,)
    return convert(
        request,
        Axes,
        ours=[] if alone else frameworks,
        guests=[(guest.framework, label) for label, guest in guests.items()],
        modes=parse_modes(frameworks, request.mode, request.device) | parse_modes(guest_frameworks, None),
        layouts=parse_layouts(frameworks, request.layout) | parse_layouts(guest_frameworks, None),
        precisions=choose_precisions(request),
        batch=request.batch or usual,
        weights=None,
    )


def choose_precisions(request: NetOptions) -> list[str]:
    """The precisions named; ``all`` means all that the devices support."""
    without = lacking(request.device, lambda accelerator: accelerator.tf32)
    every = [name for name in PRECISIONS if name != "tf32" or not without]
    return every if request.precision == "all" else parse_choices("precision", request.precision, PRECISIONS)


def plain_cases(
    request: WorkerOptions, frameworks: Sequence[str], variants: Sequence[str], batch: int = 1
) -> list[Case]:
    """One Case per variant, framework, mode and precision, for commands that do not time."""
    if len(request.device) > 1:
        raise UsageError(f"--device: expected one, found {', '.join(request.device)}")
    run = convert(request, RunRequest, variant=variants, batch=(batch,), pass_=tuple(PASSES)[:1])
    return axes_of(run, frameworks).cases()


def read_weights(
    path: Path | None, variants: Sequence[str], size: int | None, pythons: Mapping[str, str]
) -> GivenWeights | None:
    """Load --weights and check it against every variant; UsageError names the layer that does not fit.

    ``pythons`` are the interpreters of frameworks, other than this one.
    """
    if path is None:
        return None
    check_size(variants, size)
    try:
        fitted = [VARIANTS[name].resized(size) for name in dict.fromkeys(variants)]
        weights, sha256 = load_all(path, fitted, pythons.get("torch"))
    except (WeightsError, OSError) as error:
        raise UsageError(f"--weights: {error}") from error
    return GivenWeights(path.name, sha256, weights)


def worker_settings(
    request: WorkerOptions,
    weights: GivenWeights | None = None,
    ab: Ab | None = None,
    guests: Mapping[str, Guest] | None = None,
) -> WorkerSettings:
    return WorkerSettings(
        threads=request.threads or host.usable_cores(),
        limit_s=request.worker_limit_s or Protocol().worker_limit_s,
        pythons=dict(request.python),
        env=dict(request.env),
        given=weights,
        ab=ab,
        guests=guests or {},
    )
