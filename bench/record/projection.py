"""What a Run knows for a projection: a pass on one device, its own link, and what it measured on several."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from bench import UsageError
from bench.cases.case import Case
from bench.cases.passes import ALL_REDUCE, BACKWARD, STEP
from bench.record import scaling, validity
from bench.record.recording import Recording
from bench.record.scaling import Scaling
from bench.stats.links import Link
from bench.stats.projection import Step
from impls.splits import DATA

#: Passes that reduce gradients, the one that is preferred first.
REDUCING = (STEP.name, "forward_backward")
OWN = "this Run"


def candidates(run: Recording, wanted: dict[str, Any]) -> list[Case]:
    """Valid Cases of one device whose fields are among the ``wanted`` (None: any), of the preferred pass.

    UsageError if there is none. Nets of users and other programs are left out, whose layers are not known, and so are
    single layers, loaders and the sides of an --ab.
    """
    found = [
        case
        for case in run.cases
        if case.world == 1
        and case.pass_ in REDUCING
        and case.whole
        and not (case.foreign or case.guest or case.arm)
        and not validity.invalid_reason(run, case)
        and all(values is None or getattr(case, field) in values for field, values in wanted.items())
    ]
    if not found:
        asked = [f"{field.strip('_')} {', '.join(map(str, values))}" for field, values in wanted.items() if values]
        what = f" with {', '.join(asked)}" if asked else ""
        raise UsageError(
            f"{run.folder}: expected a valid case of {' or '.join(REDUCING)} of one of our nets on one device{what}, "
            "found none; `alexnet-bench run --pass train_step` times one"
        )
    preferred = next(name for name in REDUCING if any(case.pass_ == name for case in found))
    return [case for case in found if case.pass_ == preferred]


def step_of(run: Recording, case: Case) -> Step:
    """The pass of a Case of one device, with its backward pass by the other passes of the Run that are valid."""
    return Step.of(
        case.net,
        case.pass_,
        case.batch,
        _center_ms(run, case) or 0.0,
        forward_ms=_center_ms(run, dataclasses.replace(case, pass_=BACKWARD.less)),
        forward_backward_ms=_center_ms(run, dataclasses.replace(case, pass_=REDUCING[1])),
    )


def own_link(run: Recording, case: Case) -> Link | None:
    """The link by the all-reduce that the Run measured on most devices, in the framework of a Case of one device.

    It has no latency of its own: the hops are in the measured time. None where there is none, or devices share a core.
    """
    if scaling.shares_cores(run):
        return None
    alike = [
        team
        for team in run.cases
        if team.pass_ == ALL_REDUCE.name
        and dataclasses.replace(team, pass_=case.pass_, world=1, batch=case.batch, strong=case.strong) == case
        and not validity.invalid_reason(run, team)
    ]
    for team in sorted(alike, key=lambda team: team.world, reverse=True):
        if rate := scaling.bus_gb_per_s(run, team):
            return Link(OWN, rate, known="measured", what=f"the all-reduce alone, on {team.world} devices")
    return None


def measured(run: Recording, case: Case) -> Sequence[Scaling]:
    """What the Run measured of a Case of one device on several, each with a whole batch: its efficiency is known."""
    teams = [
        team
        for team in run.cases
        if team.world > 1 and team.split == DATA and not team.strong and scaling.alone_of(team) == case
    ]
    found = (scaling.scaling_of(run, team) for team in teams)
    return sorted((each for each in found if each and each.efficiency), key=lambda each: each.case.world)


def _center_ms(run: Recording, case: Case) -> float | None:
    if case not in run.cases or validity.invalid_reason(run, case):
        return None
    summary = run.summary(case)
    return summary.center.center / 1e6 if summary else None
