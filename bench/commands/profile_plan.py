"""The plan of a profile: whole nets and their layers, or users' models and their modules."""

import dataclasses

from bench import UsageError
from bench.cases.passes import PASSES
from bench.cases.protocol import Protocol
from bench.commands.options import convert
from bench.commands.plan import (
    Plan,
    axes_of,
    change_protocol,
    choose_frameworks,
    inputs_of,
    name_guests,
    worker_settings,
)
from bench.commands.requests import ProfileRequest, RunRequest
from bench.controller.model_parts import parts_of
from bench.output import run_notes
from bench.record import net_parts
from bench.worker.net_file import read_nets
from bench.worker.replies import ModelParts
from impls import FRAMEWORKS
from impls.variants import VARIANTS

#: Fewer Rounds and iterations than `run` has by default: a net has about twenty layers.
RULES = Protocol(name="profile", iterations=6, burn_in=3, gate=False, rounds=3, shared_workers=True)


def plan_profile(request: ProfileRequest) -> Plan:
    """The whole net and each of its layers alone, except dropout, which is off."""
    if request.input:
        raise UsageError("--input: our nets take the images of --variant; expected a model, --net FILE.py:NAME")
    axes, cases = axes_of(whole_nets(request), choose_frameworks(request)), []
    for variant in request.variant:
        parts = [part.name for part in VARIANTS[variant].parts() if not net_parts.idle(part)]
        grid = dataclasses.replace(axes, variant=[variant, *parts]).cases()
        cases += [case for case in grid if case.net.params or not PASSES[case.pass_].updates]
    return Plan(cases, change_protocol(RULES, request), worker_settings(request))


def plan_models(request: ProfileRequest) -> Plan:
    """Users' models, and each of their modules alone, which a Worker names. Raises UsageError for one without any."""
    whole = whole_nets(request)
    for name in (name for name in request.pass_ if PASSES[name].updates):
        raise UsageError(f"--pass {name}: a model has no training step of its own; leave it out")
    nets = read_nets(request.net, [path for _, path in request.python])
    frameworks = choose_frameworks(request, nets=nets)
    guests = name_guests(nets, frameworks)
    for guest in guests.values():
        if not guest.model:
            raise UsageError(
                f"--net: {guest.source}:{guest.call} is a Net, whose layers are not known: expected a model"
            )
    if len(request.variant) > 1:
        raise UsageError(f"--variant: models are timed on one size of images, found {', '.join(request.variant)}")
    given = inputs_of(whole, list(guests.values()), None)
    size, cases = request.size or VARIANTS[request.variant[0]].input_size, []
    modules: dict[str, ModelParts] = {}
    settings = worker_settings(request, guests=guests)
    whole = dataclasses.replace(whole, size=None)  # only that of the images, which no variant gets
    for case in axes_of(whole, frameworks, guests, alone=True).cases():
        guest = guests[case.guest or ""]
        images = f"3x{size}x{size}" if FRAMEWORKS[case.framework].layouts[0] == "nchw" else f"{size}x{size}x3"
        case = dataclasses.replace(case, input=given.get(guest.label, images))
        if guest.label not in modules:
            modules[guest.label] = parts_of(case, settings)
        parts = [dataclasses.replace(case, part=part.name) for part in modules[guest.label].parts]
        cases += [case, *parts]
    note = "; ".join(run_notes.modules(guest.label, modules[guest.label]) for guest in guests.values())
    settings = dataclasses.replace(settings, modules=modules)
    return Plan(cases, change_protocol(RULES, request), settings, note)


def whole_nets(request: ProfileRequest) -> RunRequest:
    """The request of a Run of the whole nets."""
    usual = (32,) if "cpu" in request.device else (128,)
    return convert(request, RunRequest, batch=request.batch or usual)
