"""`env`: inspect this machine and each framework on it, with advice on what to fix before timing."""

import os
import platform
import re
import time
from dataclasses import replace
from importlib.util import find_spec
from statistics import median

from msgspec import structs, to_builtins

import impls
from bench import UsageError
from bench.cases.case import Case
from bench.commands.env_advice import advice_on
from bench.commands.plan import choose_frameworks, having, plain_cases, worker_settings
from bench.commands.requests import EnvRequest
from bench.controller.settings import WorkerSettings, build_of
from bench.controller.worker_process import WorkerDied
from bench.machine import gpu, host, noise
from bench.machine.noise import Snapshot
from bench.machine.scratch import scratch_folder
from bench.output import console
from bench.output.env_table import EnvReport, FrameworkFacts, Gpus, Machine, NoiseFacts, Shell, show
from bench.worker.messages import DescribeEnvironment, ProbePrecision
from impls import FRAMEWORKS, PEERS, has_never_run

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
    advice = list(advice_on(report))
    if request.as_json:
        console.print_json(to_builtins(report) | {"advice": advice})
    else:
        show(report, advice)
    return 1 if any(facts.failed for facts in report.frameworks.values()) else 0


def inspect(request: EnvRequest) -> EnvReport:
    """The facts by machine, shell, gpu, frameworks and noise; None for a source that is absent."""
    settings = worker_settings(request)
    named = choose_frameworks(request) if request.framework else None
    names = named or having(list(PEERS), request.device)
    here = named or [name for name in names if name in settings.pythons or find_spec(FRAMEWORKS[name].package)]
    cases = plain_cases(request, here, ["tutorial"]) if here else []
    machine = Machine(**structs.asdict(host.fingerprint()), quota=host.cpu_quota())  # before Workers add to the load
    before = noise.snapshot("cpu")
    started = {case.framework: ask(case, settings) for case in {case.framework: case for case in cases}.values()}
    for name in (name for name in names if name not in started):
        started[name] = FrameworkFacts(installed=False, install=f"pip install {impls.requirement(name)}")
    libraries = [facts.versions for facts in started.values()]
    return EnvReport(
        device=",".join(request.device),
        never_run=any(has_never_run(request.device[0], versions) for versions in ({}, *libraries)),
        threads=settings.threads,
        machine=machine,
        shell=Shell(
            let_through=sorted(settings.env),
            ignored=sorted(name for name in os.environ if SPEED.fullmatch(name) and name not in settings.env),
        ),
        gpu=Gpus(gpu.has_gpu(), gpu.driver(), gpu.nvml_available(), gpu.cards()),
        frameworks={name: started[name] for name in names},
        noise=measure_noise(before),
    )


def ask(case: Case, settings: WorkerSettings) -> FrameworkFacts:
    """The facts that a Worker of the framework reports, after a computation, by when all its libraries are loaded."""
    framework, python = case.framework, settings.pythons.get(case.framework)
    facts = FrameworkFacts(
        installed=True,
        pip=f"{python} -m pip" if python else "pip",
        version=None if python else impls.version(framework),
        python=None if python else platform.python_version(),
    )
    console.tell(f"starting a {framework} Worker")
    with scratch_folder() as logs:
        worker = settings.launch(framework, case, logs)
        try:
            ready = worker.wait_until_configured()
            version = str(known) if (known := ready.versions.get(framework)) else facts.version
            facts = replace(facts, **vars(ready), version=version)
            facts = replace(facts, precision=worker.ask(ProbePrecision(build_of(case))))
            facts = replace(facts, **vars(worker.ask(DescribeEnvironment())))
        except (UsageError, WorkerDied) as error:
            died = error if isinstance(error, WorkerDied) else error.__cause__
            stderr = died.tail.strip() if isinstance(died, WorkerDied) else ""
            missing = f"No module named {FRAMEWORKS[framework].package!r}" in stderr
            if python and missing and isinstance(error, UsageError):
                raise  # the interpreter of --python does not have the framework
            last, failed = stderr.splitlines()[-1] if stderr else "", str(error)
            if isinstance(error, WorkerDied):
                failed = error.reason + (f" (it wrote: {last})" if last and last not in error.reason else "")
            facts = replace(facts, failed=failed)
            if isinstance(died, WorkerDied) and died.search and case.device != "cpu":
                without_gpu = ask(replace(case, device="cpu"), settings)  # what else there is to know of its build
                facts = replace(without_gpu, failed=failed)
        finally:
            worker.kill()
    return facts


def measure_noise(before: Snapshot) -> NoiseFacts:
    """The noise since the snapshot ``before``, and during CONTROLS_S of control measurements made now: time is stolen
    only from a process that wants to run."""
    noise.control()  # the first allocates its buffers
    controls, until = [noise.control()], time.monotonic() + CONTROLS_S
    while time.monotonic() < until:
        controls.append(noise.control())
    after = noise.snapshot("cpu")
    ends = after._asdict() | controls[-1]._asdict()
    elapsed = noise.between(before, after, 0.0)
    return NoiseFacts(
        wall_s=elapsed.wall_s,
        steal_pct=noise.percentages([elapsed])["steal_pct"],
        throttled=elapsed.throttled,
        controls=len(controls),
        controls_off=len(noise.control_off(controls)),
        control_cpu_ns=median(control.control_cpu_ns for control in controls),
        control_mem_ns=median(control.control_mem_ns for control in controls),
        evidence={word: ends[name] is not None for name, word in EVIDENCE.items()},
    )
