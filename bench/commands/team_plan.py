"""The plan of a Run over several devices: its Cases on one and on Teams of more, and where each device is."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import UsageError
from bench.cases.case import Case
from bench.cases.teams import teams_of
from bench.commands.plan import Plan, plan_run
from bench.commands.requests import RunRequest
from bench.controller import devices, nodes
from bench.machine.node import Node
from impls import FRAMEWORKS, accelerator_of
from impls.splits import DATA

LAUNCH = "ssh {node}"
NO_EFFICIENCY = "without one device in the same Run there is no efficiency: --devices 1,2 has it"


def plan_with_devices(request: RunRequest) -> Plan:
    """The plan of `run --devices`: every Case on each number of devices, all of a group, with the witnesses of Teams.

    Raises UsageError.
    """
    refuse(request)
    counts, on_gpu = sorted(request.devices or ()), request.device[0] != "cpu"
    plan = plan_run(request)
    cases = list(teams_of(plan.cases, counts, request.scaling == "strong", request.split))
    if counts[-1] == 1 and request.split != (DATA,):
        raise UsageError(f"--split {','.join(request.split)}: expected several --devices, found 1")
    if counts[-1] > 1:
        refuse_cases(plan.cases, request.split, plan.settings.ab.key if plan.settings.ab else "")
    if request.nodes:
        found = reached_nodes(request)
        nodes.refuse_loopback_names(found, [case.framework for case in cases])
        found_devices = devices.devices_on(found, counts[-1], on_gpu, request.oversubscribe)
    else:
        found_devices = devices.devices_here(counts[-1], on_gpu, request.oversubscribe)
    threads = plan.settings.threads if on_gpu else min(len(device.cores) for device in found_devices)
    if not on_gpu and request.threads not in (None, threads):
        raise UsageError(f"--threads: each of {counts[-1]} devices has {threads}; leave it out")
    note = plan.note or ("" if counts[0] == 1 else NO_EFFICIENCY)
    return Plan(cases, plan.protocol, dataclasses.replace(plan.settings, threads=threads, devices=found_devices), note)


def reached_nodes(request: RunRequest) -> list[Node]:
    """The nodes of --nodes, each described. Raises UsageError."""
    with tempfile.NamedTemporaryFile(prefix="alexnet-bench-") as seen:  # where the weights of the proof will be
        return nodes.reached(request.nodes or (), request.launch or LAUNCH, nodes.PYTHON, Path(seen.name))


def refuse_cases(cases: Sequence[Case], splits: Sequence[str], ab: str) -> None:
    """UsageError for a Case that no Team can compute."""
    for case in cases:
        if case.mode not in (modes := FRAMEWORKS[case.framework].teams):
            raise UsageError(
                f"--devices: {case.framework} computes on several in mode {', '.join(modes) or 'none'}, found "
                f"{case.mode}; choose another --mode or --framework"
            )
        if set(splits) != {DATA} and case.mode != modes[0]:
            raise UsageError(f"--split: {case.framework} shares a net in mode {modes[0]}, found {case.mode}")
    if ab in ("threads", "net"):
        why = "each device has its own cores" if ab == "threads" else "only our nets are reduced over devices"
        raise UsageError(f"--ab {ab}: {why}; leave it or --devices out")


def refuse(request: RunRequest) -> None:
    """UsageError for an option that cannot be combined with --devices."""
    for option, given in {
        "--net": request.net,
        "--loaders": request.loaders,
        "--dropout": request.dropout,
        "--protocol classic": request.protocol == "classic",
    }.items():
        if given:
            raise UsageError(f"{option}: --devices times our nets in alternating turns; leave it or --devices out")
    others = [option for option, given in (("--python", request.python), ("--ab", request.ab)) if given]
    if others and request.nodes:
        raise UsageError(
            f"{others[0]}: every node has the interpreter and code of this command; leave it or --nodes out"
        )
    if len(request.device) > 1 or ":" in request.device[0]:
        raise UsageError(
            f"--device: expected one kind, without a number, with --devices, found {', '.join(request.device)}"
        )
    if not (accelerator := accelerator_of(request.device[0])).indexed and accelerator.kind != "cpu":
        raise UsageError(f"--devices: there is one {accelerator.kind} per machine; leave it out")
