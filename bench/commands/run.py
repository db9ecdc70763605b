"""`run`: verify, time, write the Run folder and print the results."""

import contextlib
import dataclasses
from collections.abc import Iterator

from bench import UsageError
from bench.cases.case import groups
from bench.commands import resume
from bench.commands.loader_plan import plan_with_loaders
from bench.commands.options import refuse_others
from bench.commands.plan import Plan, one_shard, plan_run
from bench.commands.requests import RunRequest
from bench.commands.results import measure, show
from bench.commands.team_plan import plan_with_devices
from bench.controller import estimate
from bench.controller.pool import preflight
from bench.machine.scratch import scratch_folder
from bench.output import console, run_table
from bench.output.labels import describe_shard
from bench.record.run import Run
from impls.splits import DATA


def main(request: RunRequest) -> int:
    if request.resume is not None:
        refuse_others(resume.OPTIONS, "--resume: the Run has its own settings")
        return resume.main(request.resume, request)
    for option, given in {
        "--nodes": request.nodes,
        "--launch": request.launch,
        "--oversubscribe": request.oversubscribe,
        "--split": request.split != (DATA,),
    }.items():
        if given and request.devices is None:
            raise UsageError(f"{option}: it is of several devices: pass --devices 1,2 too")
    with planned(request) as plan:
        return measured(plan, request)


@contextlib.contextmanager
def planned(request: RunRequest) -> Iterator[Plan]:
    """The plan of a Run; drawn pictures last as long as the context. Raises UsageError."""
    if request.loaders is None and request.preprocessing:
        raise UsageError("--preprocessing: pictures are for loaders: pass --loaders 0,2 too")
    if request.devices is not None:
        yield plan_with_devices(request)
    elif request.loaders is None:
        yield plan_run(request)
    else:
        with scratch_folder() as scratch:
            yield plan_with_loaders(request, scratch)


def measured(plan: Plan, request: RunRequest) -> int:
    if plan.note:
        console.tell(plan.note)
    if request.shard:
        plan = one_shard(plan, *request.shard)
        assert plan.shard
        console.tell(f"--shard {describe_shard(plan.shard)}")
    if request.dry_run:
        return dry_run(plan, request.as_json)
    if not plan.cases:
        if request.as_json:
            console.print_json({"run": None, "cases": [], "ratios": []})
        return 0
    preflight(plan.cases, plan.settings)
    variants = "-".join(request.variant)
    name = request.name or (variants if len(variants) < 60 else "grid")
    if request.shard:  # machines that begin in the same second make Runs of different names
        name += "-shard-{}-of-{}".format(*request.shard)
    folder, reason = measure(plan, request.out, name)
    return show(Run(folder), reason, request.as_json)


def dry_run(plan: Plan, as_json: bool) -> int:
    if plan.settings.source and plan.cases:
        console.tell("the expected time is without that of the loaders")
    unknown = [case for case in plan.cases if plan.settings.of_unknown_cost(case)]
    expected = estimate.expect(plan.cases, plan.protocol, unknown, plan.settings.sharing)
    names = sorted({case.guest for case in unknown if case.guest})
    known = [each.seconds for each in expected if each.seconds is not None]
    if as_json:
        console.print_json(
            {
                "cases": [case.id for case in plan.cases],
                "groups": [each._asdict() for each in expected],
                "expected_s": sum(known) if len(known) == len(expected) else None,
                "unknown": names,
                "shard": plan.shard and {"shard": plan.shard.number, "grid": plan.shard.grid},
            }
        )
        return 0
    if not plan.cases:
        return 0
    others_s = None
    if unknown and (others := [case for case in plan.cases if case not in unknown]):
        alone = dataclasses.replace(plan.protocol, max_time_s=None)
        others_s = sum(each.seconds or 0.0 for each in estimate.expect(others, alone))
    run_table.case_list(groups(plan.cases), plan.protocol, expected, names, others_s)
    return 0
