"""The plan of a Run over several devices: its Cases on one and on Teams of more, and the cores of each device."""

import dataclasses

from bench import UsageError
from bench.cases.teams import spread
from bench.commands.plan import Plan, plan_run
from bench.commands.requests import RunRequest
from bench.machine import host
from impls import FRAMEWORKS


def plan_with_devices(request: RunRequest) -> Plan:
    """The plan of `run --devices`: every Case on each number of devices, all of a group, with the witnesses of Teams.

    Raises UsageError.
    """
    refuse(request)
    counts = sorted(request.devices or ())
    plan = plan_run(request)
    for case in plan.cases:
        modes = FRAMEWORKS[case.framework].teams
        if case.mode not in modes and counts[-1] > 1:
            raise UsageError(
                f"--devices: {case.framework} computes on several in mode {', '.join(modes)}, found {case.mode}"
            )
    slices = slices_of(counts[-1], request.oversubscribe) if "cpu" in request.device else ()
    threads = len(slices[0]) if slices else plan.settings.threads
    if slices and request.threads not in (None, threads):
        raise UsageError(f"--threads: each of {counts[-1]} devices has {threads}; leave it out")
    settings = dataclasses.replace(plan.settings, threads=threads, slices=slices)
    return Plan(list(spread(plan.cases, counts, request.scaling == "strong")), plan.protocol, settings, plan.note)


def slices_of(count: int, oversubscribe: bool = False) -> tuple[tuple[int, ...], ...]:
    """Equal slices of the cores that this process may use, a device each; if ``oversubscribe``, a core for several."""
    cores = host.core_numbers()
    if count > len(cores):
        if not oversubscribe:
            raise UsageError(
                f"--devices: expected at most {len(cores)}, a core for each, found {count}; with --oversubscribe they "
                "share cores, and give no efficiency"
            )
        return tuple((cores[number % len(cores)],) for number in range(count))
    each = len(cores) // count
    return tuple(tuple(cores[number * each : (number + 1) * each]) for number in range(count))


def refuse(request: RunRequest) -> None:
    """UsageError for an option that cannot be combined with --devices."""
    for option, given in {
        "--net": request.net,
        "--ab": request.ab,
        "--loaders": request.loaders,
        "--dropout": request.dropout,
        "--protocol classic": request.protocol == "classic",
        "--device": len(request.device) > 1,
    }.items():
        if given:
            raise UsageError(f"{option}: --devices times our nets in alternating turns; leave it or --devices out")
