"""`env`: what this machine and each framework on it are made of, and what to do about it before timing anything."""

import dataclasses
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from msgspec import structs
from rich.text import Text

import impls
from bench import UsageError
from bench.cases.case import Case
from bench.commands.plan import choose_frameworks, plain_cases, worker_settings
from bench.commands.requests import EnvRequest
from bench.controller.settings import WorkerSettings, build_of
from bench.controller.worker_process import WorkerDied
from bench.machine import gpu, host, noise
from bench.output import console
from bench.worker.messages import DescribeEnvironment, ProbePrecision
from bench.worker.replies import FaultKind
from impls import FRAMEWORKS, PEERS

#: Variables that change how fast a framework is; a Worker gets none of the caller's unless --env names it.
LIBRARIES = ("OMP", "GOMP", "KMP", "MKL", "OPENBLAS", "ONEDNN", "DNNL", "CUDNN", "NVIDIA", "LD", "MALLOC")
SPEED = re.compile(rf"({'|'.join((*LIBRARIES, *(one for it in FRAMEWORKS.values() for one in it.prefixes)))})_\w+")
#: Variables that make it slow, or other than it is by default, whatever their value.
SWITCHES = re.compile(
    r"CUDA_LAUNCH_BLOCKING|ONEDNN_VERBOSE|DNNL_VERBOSE|(MALLOC|LD|OMP|GOMP|KMP|MKL|OPENBLAS)_\w+"
    r"|PYTHON(DEVMODE|MALLOC|TRACEMALLOC|ASYNCIODEBUG)|"
    + "|".join(switch for framework in FRAMEWORKS.values() for switch in framework.switches)
)
LOAD = 0.5  # a core, above which somebody else is at work
UNSTEADY = 0.2  # of the controls more than 5 % off: a quiet machine has a few
CONTROLS_S = 1.0  # so long, that 10 ms ticks of stolen time say something


#: Rows of the table of frameworks; a dash where nothing was said.
FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "version": lambda one: one["version"] or "-",
    "python": lambda one: one["python"] or "-",
    "state": lambda one: "cannot start" if one["failed"] else "computes",
    "devices": lambda one: ", ".join(one["devices"] or "-"),
    "cuda, cudnn": lambda one: (
        ", ".join(str(one["versions"][it]) for it in ("cuda", "cudnn") if one["versions"].get(it)) or "-"
    ),
    "threads": lambda one: str(one.get("settings", {}).get("threads") or "-"),
    "oneDNN": lambda one: {True: "on", False: "off", None: "-"}[one.get("settings", {}).get("onednn")],
    "fp32 is": lambda one: ", ".join(dict.fromkeys(of["precision"] for of in one.get("precision", {}).values())) or "-",
    "libraries": lambda one: (
        "\n".join(it["name"] + ("" if it["inside"] else " (outside)") for it in one.get("libraries", ())) or "-"
    ),
    "also loaded": lambda one: ", ".join(one.get("other_frameworks", "-")) or "none",
    "owned twice": lambda one: (
        ", ".join(it["file"] for it in one["owned_twice"]) or "none" if "owned_twice" in one else "-"
    ),
}
EVIDENCE = {"steal_s": "stolen time", "busy_s": "others' CPU time", "psi_s": "pressure", "throttled": "quota stops"}
EVIDENCE |= {"suspended_s": "suspension", "mhz": "clock", "temp_c": "temperature"}
UNITS = {"sm_mhz": "MHz", "temp_c": "°C", "watts": "W"}


def main(request: EnvRequest) -> int:
    found = facts(request)
    found["advice"] = list(advice(found))
    if request.as_json:
        console.print_json(found)
    else:
        show(found)
    return 1 if any(one["failed"] for one in found["frameworks"].values()) else 0


def facts(request: EnvRequest) -> dict[str, Any]:
    """Machine, shell, gpu, frameworks and noise; None where a source is absent."""
    conditions = worker_settings(request)
    named = choose_frameworks(request) if request.framework else None
    names = named or list(PEERS)
    here = named or [name for name in names if name in conditions.pythons or find_spec(FRAMEWORKS[name].package)]
    cases = plain_cases(request, here, ["tutorial"]) if here else []
    found: dict[str, Any] = {
        "device": ",".join(request.device),
        "threads": conditions.threads,
        "machine": structs.asdict(host.fingerprint())
        | {"quota": host.cpu_quota()},  # before a Worker makes a load of its own
        "shell": {
            "let_through": sorted(conditions.env),
            "ignored": sorted(name for name in os.environ if SPEED.fullmatch(name) and name not in conditions.env),
        },
        "gpu": {
            "present": gpu.has_gpu(),
            "driver": gpu.driver(),
            "nvml": gpu.nvml_available(),
            "cards": gpu.cards(),
        },
    }
    before = noise.snapshot("cpu")
    started = {case.framework: ask(case, conditions) for case in {case.framework: case for case in cases}.values()}
    found["frameworks"] = {name: started.get(name) or absent(name) for name in names}
    found["noise"] = quiet(before)
    return found


def absent(framework: str) -> dict[str, Any]:
    return {"installed": False, "failed": None, "install": f"pip install {impls.requirement(framework)}"}


def ask(case: Case, conditions: WorkerSettings) -> dict[str, Any]:
    """What a Worker of the framework says of its process, once it has computed something: a library that is loaded late
    is loaded then. ``failed`` is why it could not, with the last line that it wrote."""
    framework, python = case.framework, conditions.pythons.get(case.framework)
    found: dict[str, Any] = {"installed": True, "failed": None, "versions": {}, "devices": None}
    found |= {"version": None if python else impls.version(framework), "pip": f"{python} -m pip" if python else "pip"}
    found["python"] = None if python else platform.python_version()
    console.tell(f"asking {framework}")
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as logs:
        running = conditions.launch(framework, case, Path(logs))
        try:
            found |= dataclasses.asdict(running.wait_until_configured())
            found["version"] = found["versions"].get(framework, found["version"])
            probes = running.ask(ProbePrecision(build_of(case)))
            found["precision"] = {what: dataclasses.asdict(probe) for what, probe in probes.items()}
            found |= dataclasses.asdict(running.ask(DescribeEnvironment()))
        except (UsageError, WorkerDied) as error:
            died = error if isinstance(error, WorkerDied) else error.__cause__
            said = died.tail.strip() if isinstance(died, WorkerDied) else ""
            if (
                python
                and isinstance(error, UsageError)
                and f"No module named {FRAMEWORKS[framework].package!r}" in said
            ):
                raise  # an interpreter that was named, and lacks what it was named for: the user's to mend
            last = said.splitlines()[-1] if said else ""
            if isinstance(died, WorkerDied) and died.kind != FaultKind.DEVICE:
                found["failed"] = died.reason + (f" (it wrote: {last})" if last and last not in died.reason else "")
            else:
                found["failed"] = str(error)
        finally:
            running.kill()
    return found


def quiet(before: dict[str, Any]) -> dict[str, Any]:
    """How quiet it has been since ``before``, at the end of which controls run for a second: stolen time shows only
    where something wants to run."""
    noise.control()  # the first one makes its buffers
    controls, until = [noise.control()], time.monotonic() + CONTROLS_S
    while time.monotonic() < until:
        controls.append(noise.control())
    after = noise.snapshot("cpu")
    ends = after | controls[-1]._asdict()
    told = {word: ends[name] is not None for name, word in EVIDENCE.items()}
    elapsed = noise.between(before, after, 0.0)
    return {
        "wall_s": elapsed.wall_s,
        "steal_pct": noise.percentages([elapsed])["steal_pct"],
        "throttled": elapsed.throttled,
        "controls": len(controls),
        "controls_off": len(noise.control_off(controls)),
        **{name: median(getattr(one, name) for one in controls) for name in noise.CONTROLS},
        "told": [name for name, there in told.items() if there],
        "not_told": [name for name, there in told.items() if not there],
    }


def advice(found: dict[str, Any]) -> Iterator[str]:
    """A line for each thing that is to be done."""
    yield from _of_the_machine(found["machine"], found["noise"], found["threads"])
    yield from _of_the_gpu(found["gpu"], found["device"])
    if switches := [name for name in found["shell"]["let_through"] if SWITCHES.fullmatch(name)]:
        yield f"--env lets {', '.join(switches)} through, which can change every time: leave out what is not under test"
    if not any(one["installed"] for one in found["frameworks"].values()):
        yield f"no framework is installed: pip install {impls.requirement()}"
    for name, one in found["frameworks"].items():
        if one["failed"]:
            yield f"{name} cannot start: {one['failed']}"
        yield from _of_a_framework(name, one, found)


def _of_the_machine(machine: dict[str, Any], seen: dict[str, Any], threads: int) -> Iterator[str]:
    cores, usable = machine["cores"], machine["usable_cores"]
    if machine["load_1min"] > LOAD * cores:
        yield f"load {machine['load_1min']:.1f} on {cores} cores: let what runs here end first, see `top`"
    if machine["governor"] not in (None, "performance"):
        yield f"governor {machine['governor']!r} lets clocks wander: sudo cpupower frequency-set -g performance"
    if (seen["steal_pct"] or 0) > noise.NOISY["steal_pct"]:
        steal = f"other virtual machines took {seen['steal_pct']:.1f} % of the CPU time"
        yield f"{steal}: take more Rounds (--rounds 20), or a quieter host"
    if seen["throttled"]:
        yield f"the CPU quota stopped a process {seen['throttled']:.0f} times: raise the container's limit"
    if seen["controls_off"] > UNSTEADY * seen["controls"]:
        off = f"{seen['controls_off']} of {seen['controls']} controls were more than 5 % off their median"
        yield f"{off}: the speed is not steady; end other work, or take more Rounds (--rounds 20)"
    if usable < cores:
        quota = machine["quota"]
        why = f"a CPU quota of {quota:g}" if quota is not None and quota < cores else f"affinity {machine['affinity']}"
        yield f"{usable} of {cores} cores usable ({why}): lift it, unless these are the cores to be timed"
    if threads > usable:
        yield f"--threads {threads} on {usable} usable cores: they would wait for each other; pass {usable} or fewer"


def _of_the_gpu(it: dict[str, Any], device: str) -> Iterator[str]:
    if it["present"] and not it["nvml"]:
        yield "a GPU is here and NVML does not answer, so nothing tells of its clocks: pip install nvidia-ml-py"
    for card in it["cards"]:
        if card["pids"]:
            yield f"GPU {card['index']}: {len(card['pids'])} others compute on it, see `nvidia-smi`: end them first"
        if slow := gpu.reason_names((card["reasons"] or 0) & gpu.SLOWDOWN):
            yield f"GPU {card['index']} runs slowed down ({', '.join(slow)}): see to its cooling and power first"
    if it["present"] and device == "cpu":
        yield "a GPU is here, and a Worker for the CPU does not see it: `alexnet-bench env --device cuda` does"


def _of_a_framework(name: str, one: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """Of what its Worker said, as far as it came."""
    apart = f"give it an environment of its own, --python {name}=PATH"
    if one.get("versions", {}).get("cuda") and not found["gpu"]["present"]:
        how = f": {one['pip']} install {build}" if (build := FRAMEWORKS[name].cpu_build) else ""
        yield f"{name} {one['version']} is a build for CUDA and no GPU is here; the build for CPUs is smaller{how}"
    files: dict[tuple[str, ...], list[str]] = {}
    for twice in one.get("owned_twice", ()):
        files.setdefault(tuple(twice["owners"]), []).append(twice["file"])
    for owners, names in files.items():
        which = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        mend = f"{one['pip']} uninstall -y {' '.join(owners)}, then {one['pip']} install {impls.requirement(name)}"
        yield f"{name}: {which} belong to {' and to '.join(owners)}, whichever was installed last: {mend}"
    for what, several in runtimes(one).items():
        if len(several) > 1:
            why = "their threads compete for the same cores"
            yield f"{name}: {len(several)} {what} runtimes in one process ({', '.join(several)}), {why}: {apart}"
    if strangers := one.get("other_frameworks"):
        yield f"{name}: {', '.join(strangers)} got into its process, threads and memory and all: {apart}"
    settings = one.get("settings", {})
    if settings.get("threads") not in (None, 0, found["threads"]):
        yield f"{name} runs {settings['threads']} threads, {found['threads']} were asked for: look for what sets them"
    if settings.get("onednn") is False and found["device"] == "cpu":
        usual = f"{one['pip']} install {impls.requirement(name)}"
        yield f"{name} computes without oneDNN, which its usual build has: {usual}"
    for what, shown in one.get("precision", {}).items():
        if shown["precision"] != "fp32":
            yield f"{name}: a {what} asked for in fp32 shows {shown['precision']}: the Run would flag it; see --env"


def runtimes(one: dict[str, Any]) -> dict[str, list[str]]:
    """What brings OpenMP or BLAS threads into the process, by kind: a copy of a library counts, its parts (MKL) not."""
    names = [library["name"] for library in one.get("libraries", ())]
    openmp = sorted({name for name in names if re.match(r"lib(gomp|iomp|omp)\d*\b", name)})
    blas = sorted({match.group(1) for name in names if (match := re.match(r"lib(mkl|openblas)", name))})
    return {"OpenMP": openmp, "BLAS": blas}


def show(found: dict[str, Any]) -> None:
    """Facts in two tables, then the advice."""
    out = console.console()
    machine = console.new_table("machine")
    machine.show_header, machine.box = False, None
    machine.add_column(no_wrap=True)
    machine.add_column()
    for name, value in _machine_rows(found):
        machine.add_row(name, value)
    out.print(machine)
    started = {name: one for name, one in found["frameworks"].items() if one["installed"]}
    if started:
        out.print(f"\nframeworks, each in a Worker of its own for {found['device']}")
        table = console.new_table("")
        for heading in ("", *started):
            table.add_column(heading, overflow="fold", no_wrap=not heading)
        for heading, cell in FACTS.items():
            if set(cells := [cell(one) for one in started.values()]) != {"-"}:
                table.add_row(heading, *cells)
        out.print(table)
    for name, one in found["frameworks"].items():
        if not one["installed"]:
            out.print(f"{name} is not installed: {one['install']}", soft_wrap=True)
    if ignored := ", ".join(found["shell"]["ignored"]):
        out.print(f"set here, and kept from every Worker (--env lets one through): {ignored}", soft_wrap=True)
    out.print("\nAdvice" if found["advice"] else "\nNothing was found that should be done first.")
    for line in found["advice"]:
        out.print(Text(f"- {line}"), soft_wrap=True)


def _machine_rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    it, seen, cards = found["machine"], found["noise"], found["gpu"]
    yield "cpu", it["cpu"]
    yield "cores", f"{it['usable_cores']} of {it['cores']} usable"
    yield "memory", f"{it['memory_mib'] / 1024:.1f} GiB"
    yield "system", it["system"] + {True: ", a virtual machine", False: ", no virtual machine", None: ""}[it["virtual"]]
    yield "governor", it["governor"] or "not told"
    yield "load", f"{it['load_1min']:.2f} over the last minute"
    if seen["steal_pct"] is not None:
        yield "stolen", f"{seen['steal_pct']:.1f} % of the CPU time in {seen['wall_s']:.0f} s"
    yield (
        "control",
        f"loop {seen['control_cpu_ns'] / 1e6:.1f} ms, 64 MiB copy {seen['control_mem_ns'] / 1e6:.1f} ms; "
        f"{seen['controls_off']} of {seen['controls']} more than 5 % off the median",
    )
    yield "evidence", ", ".join(seen["told"]) + (f"; not told: {', '.join(seen['not_told'])}" * bool(seen["not_told"]))
    yield "gpu", f"driver {cards['driver']}" if cards["present"] else "none"
    for card in cards["cards"]:
        facts = [f"{card[key]:.0f} {unit}" for key, unit in UNITS.items() if card[key] is not None]
        yield f"gpu {card['index']}", ", ".join([card["name"] or "?", *facts, *gpu.reason_names(card["reasons"])])
