"""What `env` advises to fix before timing."""

import re
from collections.abc import Iterable, Iterator

import impls
from bench.machine import gpu, noise
from bench.output.env_table import EnvReport, FrameworkFacts, Gpus, Machine, NoiseFacts
from bench.worker.replies import Library
from impls import FRAMEWORKS

#: Variables that change a framework's behavior whatever their value.
SWITCHES = re.compile(
    r"CUDA_LAUNCH_BLOCKING|ONEDNN_VERBOSE|DNNL_VERBOSE|(MALLOC|LD|OMP|GOMP|KMP|MKL|OPENBLAS)_\w+"
    r"|PYTHON(DEVMODE|MALLOC|TRACEMALLOC|ASYNCIODEBUG)|"
    + "|".join(switch for framework in FRAMEWORKS.values() for switch in framework.switches)
)
LOAD = 0.5  # load average per core above which the machine is busy
UNSTEADY = 0.2  # share of controls that may be more than 5 % off: a quiet machine has a few


def advice_on(report: EnvReport) -> Iterator[str]:
    """One line per problem, with what to do about it."""
    yield from _machine_advice(report.machine, report.noise, report.threads)
    yield from _gpu_advice(report.gpu, report.device)
    if switches := [name for name in report.shell.let_through if SWITCHES.fullmatch(name)]:
        yield f"--env passes {', '.join(switches)}, which can change every time: leave out what is not under test"
    if not any(facts.installed for facts in report.frameworks.values()):
        yield f"no framework is installed: pip install {impls.requirement()}"
    for name, facts in report.frameworks.items():
        if facts.failed:
            yield f"{name} cannot start: {facts.failed}"
        yield from _framework_advice(name, facts, report)


def _machine_advice(machine: Machine, measured: NoiseFacts, threads: int) -> Iterator[str]:
    cores, usable = machine.cores or 1, machine.usable_cores or 1
    if (machine.load_1min or 0) > LOAD * cores:
        yield f"load {machine.load_1min:.1f} on {cores} cores: stop other processes first, see `top`"
    if machine.governor not in (None, "performance"):
        yield f"governor {machine.governor!r} lets the clock vary: sudo cpupower frequency-set -g performance"
    if (measured.steal_pct or 0) > noise.NOISY["steal_pct"]:
        steal = f"other virtual machines took {measured.steal_pct:.1f} % of the CPU time"
        yield f"{steal}: take more Rounds (--rounds 20), or a quieter host"
    if measured.throttled:
        yield f"the CPU quota stopped a process {measured.throttled:.0f} times: raise the container's limit"
    if measured.controls_off > UNSTEADY * measured.controls:
        off = f"{measured.controls_off} of {measured.controls} controls were more than 5 % off their median"
        yield f"{off}: the speed is not steady; stop other work, or take more Rounds (--rounds 20)"
    if usable < cores:
        quota = machine.quota
        why = f"a CPU quota of {quota:g}" if quota is not None and quota < cores else f"affinity {machine.affinity}"
        yield f"{usable} of {cores} cores usable ({why}): lift the limit, unless it is intended"
    if threads > usable:
        yield f"--threads {threads} on {usable} usable cores: threads would wait for each other; pass {usable} or fewer"


def _gpu_advice(gpus: Gpus, device: str) -> Iterator[str]:
    if gpus.present and not gpus.nvml:
        yield "GPU clocks are not monitored, since NVML does not answer: pip install nvidia-ml-py"
    for card in gpus.cards:
        if card["pids"]:
            yield f"GPU {card['index']}: {len(card['pids'])} other processes use it, see `nvidia-smi`: stop them first"
        if slow := gpu.reason_names((card["reasons"] or 0) & gpu.SLOWDOWN):
            yield f"GPU {card['index']} is throttled ({', '.join(slow)}): check its cooling and power first"
    if gpus.present and device == "cpu":
        yield "this machine has a GPU, which a CPU Worker does not see: use `alexnet-bench env --device cuda`"


def _framework_advice(name: str, facts: FrameworkFacts, report: EnvReport) -> Iterator[str]:
    """Advice from the facts that its Worker reported before it failed, if it did."""
    apart = f"give it an environment of its own, --python {name}=PATH"
    if facts.versions.get("cuda") and not report.gpu.present and report.device == "cpu":
        how = f": {facts.pip} install {build}" if (build := FRAMEWORKS[name].cpu_build) else ""
        yield f"{name} {facts.version} is a CUDA build on a machine without a GPU; the CPU build is smaller{how}"
    files: dict[tuple[str, ...], list[str]] = {}
    for twice in facts.owned_twice or ():
        files.setdefault(tuple(twice.owners), []).append(twice.file)
    for owners, paths in files.items():
        which = paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        mend = f"{facts.pip} uninstall -y {' '.join(owners)}, then {facts.pip} install {impls.requirement(name)}"
        yield f"{name}: {which} belong to {' and to '.join(owners)}, whichever was installed last: {mend}"
    for kind, names in runtimes(facts.libraries).items():
        if len(names) > 1:
            why = "their threads compete for the same cores"
            yield f"{name}: {len(names)} {kind} runtimes in one process ({', '.join(names)}), {why}: {apart}"
    if strangers := facts.other_frameworks:
        yield f"{name}: {', '.join(strangers)} also loaded in its process, with threads and memory: {apart}"
    settings = facts.settings
    if settings and settings.threads not in (None, 0, report.threads):
        yield f"{name} runs {settings.threads} threads, {report.threads} were requested: find out what sets them"
    if settings and settings.onednn is False and report.device == "cpu":
        usual = f"{facts.pip} install {impls.requirement(name)}"
        yield f"{name} computes without oneDNN, which its usual build has: {usual}"
    for what, probe in facts.precision.items():
        if probe.precision != "fp32":
            yield f"{name}: an fp32 {what} was computed in {probe.precision}: a Run would flag it; see --env"


def runtimes(libraries: Iterable[Library]) -> dict[str, list[str]]:
    """The OpenMP and BLAS runtimes in the process, by kind; the parts of one library (MKL) count once."""
    names = [library.name for library in libraries]
    openmp = sorted({name for name in names if re.match(r"lib(gomp|iomp|omp)\d*\b", name)})
    blas = sorted({match.group(1) for name in names if (match := re.match(r"lib(mkl|openblas)", name))})
    return {"OpenMP": openmp, "BLAS": blas}
