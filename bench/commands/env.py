"""`env`: inspect this machine and each framework on it, with advice on what to fix before timing."""

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

#: Variables that change the speed of a framework; a Worker gets them only through --env.
LIBRARIES = ("OMP", "GOMP", "KMP", "MKL", "OPENBLAS", "ONEDNN", "DNNL", "CUDNN", "NVIDIA", "LD", "MALLOC")
SPEED = re.compile(
    rf"({'|'.join((*LIBRARIES, *(prefix for framework in FRAMEWORKS.values() for prefix in framework.prefixes)))})_\w+"
)
#: Variables that change a framework's behavior whatever their value.
SWITCHES = re.compile(
    r"CUDA_LAUNCH_BLOCKING|ONEDNN_VERBOSE|DNNL_VERBOSE|(MALLOC|LD|OMP|GOMP|KMP|MKL|OPENBLAS)_\w+"
    r"|PYTHON(DEVMODE|MALLOC|TRACEMALLOC|ASYNCIODEBUG)|"
    + "|".join(switch for framework in FRAMEWORKS.values() for switch in framework.switches)
)
LOAD = 0.5  # load average per core above which the machine is busy
UNSTEADY = 0.2  # share of controls that may be more than 5 % off: a quiet machine has a few
CONTROLS_S = 1.0  # long enough to see stolen time, which is counted in ticks of 10 ms

#: Rows of the table of frameworks; a dash for unknown.
FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "version": lambda facts: facts["version"] or "-",
    "python": lambda facts: facts["python"] or "-",
    "state": lambda facts: "cannot start" if facts["failed"] else "computes",
    "devices": lambda facts: ", ".join(facts["devices"] or "-"),
    "cuda, cudnn": lambda facts: (
        ", ".join(str(facts["versions"][name]) for name in ("cuda", "cudnn") if facts["versions"].get(name)) or "-"
    ),
    "threads": lambda facts: str(facts.get("settings", {}).get("threads") or "-"),
    "oneDNN": lambda facts: {True: "on", False: "off", None: "-"}[facts.get("settings", {}).get("onednn")],
    "fp32 is": lambda facts: (
        ", ".join(dict.fromkeys(probe["precision"] for probe in facts.get("precision", {}).values())) or "-"
    ),
    "libraries": lambda facts: (
        "\n".join(
            library["name"] + ("" if library["inside"] else " (outside)") for library in facts.get("libraries", ())
        )
        or "-"
    ),
    "also loaded": lambda facts: ", ".join(facts.get("other_frameworks", "-")) or "none",
    "owned twice": lambda facts: (
        ", ".join(library["file"] for library in facts["owned_twice"]) or "none" if "owned_twice" in facts else "-"
    ),
}
EVIDENCE = {"steal_s": "stolen time", "busy_s": "others' CPU time", "psi_s": "pressure", "throttled": "quota stops"}
EVIDENCE |= {"suspended_s": "suspension", "mhz": "clock", "temp_c": "temperature"}
UNITS = {"sm_mhz": "MHz", "temp_c": "°C", "watts": "W"}


def main(request: EnvRequest) -> int:
    report = inspect(request)
    report["advice"] = list(advice(report))
    if request.as_json:
        console.print_json(report)
    else:
        show(report)
    return 1 if any(facts["failed"] for facts in report["frameworks"].values()) else 0


def inspect(request: EnvRequest) -> dict[str, Any]:
    """The facts by machine, shell, gpu, frameworks and noise; None for a source that is absent."""
    settings = worker_settings(request)
    named = choose_frameworks(request) if request.framework else None
    names = named or list(PEERS)
    here = named or [name for name in names if name in settings.pythons or find_spec(FRAMEWORKS[name].package)]
    cases = plain_cases(request, here, ["tutorial"]) if here else []
    report: dict[str, Any] = {
        "device": ",".join(request.device),
        "threads": settings.threads,
        "machine": structs.asdict(host.fingerprint()) | {"quota": host.cpu_quota()},  # before Workers add to the load
        "shell": {
            "let_through": sorted(settings.env),
            "ignored": sorted(name for name in os.environ if SPEED.fullmatch(name) and name not in settings.env),
        },
        "gpu": {
            "present": gpu.has_gpu(),
            "driver": gpu.driver(),
            "nvml": gpu.nvml_available(),
            "cards": gpu.cards(),
        },
    }
    before = noise.snapshot("cpu")
    started = {case.framework: ask(case, settings) for case in {case.framework: case for case in cases}.values()}
    report["frameworks"] = {name: started.get(name) or absent(name) for name in names}
    report["noise"] = measure_noise(before)
    return report


def absent(framework: str) -> dict[str, Any]:
    return {"installed": False, "failed": None, "install": f"pip install {impls.requirement(framework)}"}


def ask(case: Case, settings: WorkerSettings) -> dict[str, Any]:
    """The facts that a Worker of the framework reports, after a computation, by when all its libraries are loaded.

    ``failed`` is None, or why it could not start, with the last line that it wrote.
    """
    framework, python = case.framework, settings.pythons.get(case.framework)
    facts: dict[str, Any] = {"installed": True, "failed": None, "versions": {}, "devices": None}
    facts |= {"version": None if python else impls.version(framework), "pip": f"{python} -m pip" if python else "pip"}
    facts["python"] = None if python else platform.python_version()
    console.tell(f"asking {framework}")
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as logs:
        worker = settings.launch(framework, case, Path(logs))
        try:
            facts |= dataclasses.asdict(worker.wait_until_configured())
            facts["version"] = facts["versions"].get(framework, facts["version"])
            probes = worker.ask(ProbePrecision(build_of(case)))
            facts["precision"] = {what: dataclasses.asdict(probe) for what, probe in probes.items()}
            facts |= dataclasses.asdict(worker.ask(DescribeEnvironment()))
        except (UsageError, WorkerDied) as error:
            died = error if isinstance(error, WorkerDied) else error.__cause__
            stderr = died.tail.strip() if isinstance(died, WorkerDied) else ""
            missing = f"No module named {FRAMEWORKS[framework].package!r}" in stderr
            if python and missing and isinstance(error, UsageError):
                raise  # the interpreter of --python does not have the framework
            last = stderr.splitlines()[-1] if stderr else ""
            if isinstance(died, WorkerDied) and died.kind != FaultKind.DEVICE:
                facts["failed"] = died.reason + (f" (it wrote: {last})" if last and last not in died.reason else "")
            else:
                facts["failed"] = str(error)
        finally:
            worker.kill()
    return facts


def measure_noise(before: dict[str, Any]) -> dict[str, Any]:
    """The noise since the snapshot ``before``, and during CONTROLS_S of control measurements made now: time is stolen
    only from a process that wants to run."""
    noise.control()  # the first allocates its buffers
    controls, until = [noise.control()], time.monotonic() + CONTROLS_S
    while time.monotonic() < until:
        controls.append(noise.control())
    after = noise.snapshot("cpu")
    ends = after | controls[-1]._asdict()
    known = {word: ends[name] is not None for name, word in EVIDENCE.items()}
    elapsed = noise.between(before, after, 0.0)
    return {
        "wall_s": elapsed.wall_s,
        "steal_pct": noise.percentages([elapsed])["steal_pct"],
        "throttled": elapsed.throttled,
        "controls": len(controls),
        "controls_off": len(noise.control_off(controls)),
        **{name: median(getattr(control, name) for control in controls) for name in noise.CONTROLS},
        "told": [name for name, available in known.items() if available],
        "not_told": [name for name, available in known.items() if not available],
    }


def advice(report: dict[str, Any]) -> Iterator[str]:
    """One line per problem, with what to do about it."""
    yield from _machine_advice(report["machine"], report["noise"], report["threads"])
    yield from _gpu_advice(report["gpu"], report["device"])
    if switches := [name for name in report["shell"]["let_through"] if SWITCHES.fullmatch(name)]:
        yield f"--env passes {', '.join(switches)}, which can change every time: leave out what is not under test"
    if not any(facts["installed"] for facts in report["frameworks"].values()):
        yield f"no framework is installed: pip install {impls.requirement()}"
    for name, facts in report["frameworks"].items():
        if facts["failed"]:
            yield f"{name} cannot start: {facts['failed']}"
        yield from _framework_advice(name, facts, report)


def _machine_advice(machine: dict[str, Any], measured: dict[str, Any], threads: int) -> Iterator[str]:
    cores, usable = machine["cores"], machine["usable_cores"]
    if machine["load_1min"] > LOAD * cores:
        yield f"load {machine['load_1min']:.1f} on {cores} cores: stop other processes first, see `top`"
    if machine["governor"] not in (None, "performance"):
        yield f"governor {machine['governor']!r} lets the clock vary: sudo cpupower frequency-set -g performance"
    if (measured["steal_pct"] or 0) > noise.NOISY["steal_pct"]:
        steal = f"other virtual machines took {measured['steal_pct']:.1f} % of the CPU time"
        yield f"{steal}: take more Rounds (--rounds 20), or a quieter host"
    if measured["throttled"]:
        yield f"the CPU quota stopped a process {measured['throttled']:.0f} times: raise the container's limit"
    if measured["controls_off"] > UNSTEADY * measured["controls"]:
        off = f"{measured['controls_off']} of {measured['controls']} controls were more than 5 % off their median"
        yield f"{off}: the speed is not steady; stop other work, or take more Rounds (--rounds 20)"
    if usable < cores:
        quota = machine["quota"]
        why = f"a CPU quota of {quota:g}" if quota is not None and quota < cores else f"affinity {machine['affinity']}"
        yield f"{usable} of {cores} cores usable ({why}): lift the limit, unless it is intended"
    if threads > usable:
        yield f"--threads {threads} on {usable} usable cores: threads would wait for each other; pass {usable} or fewer"


def _gpu_advice(state: dict[str, Any], device: str) -> Iterator[str]:
    if state["present"] and not state["nvml"]:
        yield "GPU clocks are not monitored, since NVML does not answer: pip install nvidia-ml-py"
    for card in state["cards"]:
        if card["pids"]:
            yield f"GPU {card['index']}: {len(card['pids'])} other processes use it, see `nvidia-smi`: stop them first"
        if slow := gpu.reason_names((card["reasons"] or 0) & gpu.SLOWDOWN):
            yield f"GPU {card['index']} is throttled ({', '.join(slow)}): check its cooling and power first"
    if state["present"] and device == "cpu":
        yield "this machine has a GPU, which a CPU Worker does not see: use `alexnet-bench env --device cuda`"


def _framework_advice(name: str, facts: dict[str, Any], report: dict[str, Any]) -> Iterator[str]:
    """Advice from the facts that its Worker reported before it failed, if it did."""
    apart = f"give it an environment of its own, --python {name}=PATH"
    if facts.get("versions", {}).get("cuda") and not report["gpu"]["present"]:
        how = f": {facts['pip']} install {build}" if (build := FRAMEWORKS[name].cpu_build) else ""
        yield f"{name} {facts['version']} is a CUDA build on a machine without a GPU; the CPU build is smaller{how}"
    files: dict[tuple[str, ...], list[str]] = {}
    for twice in facts.get("owned_twice", ()):
        files.setdefault(tuple(twice["owners"]), []).append(twice["file"])
    for owners, paths in files.items():
        which = paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        mend = f"{facts['pip']} uninstall -y {' '.join(owners)}, then {facts['pip']} install {impls.requirement(name)}"
        yield f"{name}: {which} belong to {' and to '.join(owners)}, whichever was installed last: {mend}"
    for kind, names in runtimes(facts).items():
        if len(names) > 1:
            why = "their threads compete for the same cores"
            yield f"{name}: {len(names)} {kind} runtimes in one process ({', '.join(names)}), {why}: {apart}"
    if strangers := facts.get("other_frameworks"):
        yield f"{name}: {', '.join(strangers)} also loaded in its process, with threads and memory: {apart}"
    settings = facts.get("settings", {})
    if settings.get("threads") not in (None, 0, report["threads"]):
        yield f"{name} runs {settings['threads']} threads, {report['threads']} were requested: find out what sets them"
    if settings.get("onednn") is False and report["device"] == "cpu":
        usual = f"{facts['pip']} install {impls.requirement(name)}"
        yield f"{name} computes without oneDNN, which its usual build has: {usual}"
    for what, probe in facts.get("precision", {}).items():
        if probe["precision"] != "fp32":
            yield f"{name}: an fp32 {what} was computed in {probe['precision']}: a Run would flag it; see --env"


def runtimes(facts: dict[str, Any]) -> dict[str, list[str]]:
    """The OpenMP and BLAS runtimes in the process, by kind; the parts of one library (MKL) count once."""
    names = [library["name"] for library in facts.get("libraries", ())]
    openmp = sorted({name for name in names if re.match(r"lib(gomp|iomp|omp)\d*\b", name)})
    blas = sorted({match.group(1) for name in names if (match := re.match(r"lib(mkl|openblas)", name))})
    return {"OpenMP": openmp, "BLAS": blas}


def show(report: dict[str, Any]) -> None:
    """Print the facts in two tables, then the advice."""
    out = console.console()
    machine = console.new_table("machine")
    machine.show_header, machine.box = False, None
    machine.add_column(no_wrap=True)
    machine.add_column()
    for name, value in _machine_rows(report):
        machine.add_row(name, value)
    out.print(machine)
    started = {name: facts for name, facts in report["frameworks"].items() if facts["installed"]}
    if started:
        out.print(f"\nframeworks, each in a Worker of its own for {report['device']}")
        table = console.new_table("")
        for heading in ("", *started):
            table.add_column(heading, overflow="fold", no_wrap=not heading)
        for heading, cell in FACTS.items():
            if set(cells := [cell(facts) for facts in started.values()]) != {"-"}:
                table.add_row(heading, *cells)
        out.print(table)
    for name, facts in report["frameworks"].items():
        if not facts["installed"]:
            out.print(f"{name} is not installed: {facts['install']}", soft_wrap=True)
    if ignored := ", ".join(report["shell"]["ignored"]):
        out.print(f"set here, but not passed to Workers (--env passes one): {ignored}", soft_wrap=True)
    out.print("\nAdvice" if report["advice"] else "\nNothing needs to be fixed first.")
    for line in report["advice"]:
        out.print(Text(f"- {line}"), soft_wrap=True)


def _machine_rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    machine, measured, cards = report["machine"], report["noise"], report["gpu"]
    yield "cpu", machine["cpu"]
    yield "cores", f"{machine['usable_cores']} of {machine['cores']} usable"
    yield "memory", f"{machine['memory_mib'] / 1024:.1f} GiB"
    yield (
        "system",
        machine["system"] + {True: ", a virtual machine", False: ", no virtual machine", None: ""}[machine["virtual"]],
    )
    yield "governor", machine["governor"] or "unknown"
    yield "load", f"{machine['load_1min']:.2f} over the last minute"
    if measured["steal_pct"] is not None:
        yield "stolen", f"{measured['steal_pct']:.1f} % of the CPU time in {measured['wall_s']:.0f} s"
    yield (
        "control",
        f"loop {measured['control_cpu_ns'] / 1e6:.1f} ms, 64 MiB copy {measured['control_mem_ns'] / 1e6:.1f} ms; "
        f"{measured['controls_off']} of {measured['controls']} more than 5 % off the median",
    )
    yield (
        "evidence",
        ", ".join(measured["told"]) + (f"; unknown: {', '.join(measured['not_told'])}" * bool(measured["not_told"])),
    )
    yield "gpu", f"driver {cards['driver']}" if cards["present"] else "none"
    for card in cards["cards"]:
        values = [f"{card[key]:.0f} {unit}" for key, unit in UNITS.items() if card[key] is not None]
        yield f"gpu {card['index']}", ", ".join([card["name"] or "?", *values, *gpu.reason_names(card["reasons"])])
