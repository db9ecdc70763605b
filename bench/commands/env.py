"""`env`: inspect this machine and each framework on it, with advice on what to fix before timing."""

import dataclasses
import os
import platform
import re
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from msgspec import structs

import impls
from bench import UsageError
from bench.cases.case import Case
from bench.commands.env_advice import advice
from bench.commands.plan import choose_frameworks, plain_cases, worker_settings
from bench.commands.requests import EnvRequest
from bench.controller.settings import WorkerSettings, build_of
from bench.controller.worker_process import WorkerDied
from bench.machine import gpu, host, noise
from bench.output import console
from bench.output.env_table import show
from bench.worker.messages import DescribeEnvironment, ProbePrecision
from bench.worker.replies import FaultKind
from impls import FRAMEWORKS, PEERS

#: Variables that change the speed of a framework; a Worker gets them only through --env.
LIBRARIES = ("OMP", "GOMP", "KMP", "MKL", "OPENBLAS", "ONEDNN", "DNNL", "CUDNN", "NVIDIA", "LD", "MALLOC")
SPEED = re.compile(
    rf"({'|'.join((*LIBRARIES, *(prefix for framework in FRAMEWORKS.values() for prefix in framework.prefixes)))})_\w+"
)
CONTROLS_S = 1.0  # long enough to see stolen time, which is counted in ticks of 10 ms

EVIDENCE = {"steal_s": "stolen time", "busy_s": "others' CPU time", "psi_s": "pressure", "throttled": "quota stops"}
EVIDENCE |= {"suspended_s": "suspension", "mhz": "clock", "temp_c": "temperature"}


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
