"""Steps of the check, most telling first: one record each, with the commands that it runs."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.cases.parse import MOST_BATCH
from bench.commands.gpu_check import figures
from bench.commands.gpu_check.child import Ended, grace_of
from bench.commands.gpu_check.settings import Settings
from bench.machine import gpu, host
from bench.machine.fresh import ROOT
from bench.record.memory_use import uses_of
from bench.record.run import Run
from bench.stats.footprint import footprint
from impls.variants import VARIANTS

#: An own net of torchvision's layers, in torch's own modules, and torchvision's.
MODULES = Path(ROOT) / "examples/torchvision_alexnet.py"
TORCHVISION = "torchvision.models:alexnet"
OWN_END = 0.85  # of a step's time, after which a Run begins no further Round
HOST_COPIES = 4  # of a batch in the host's memory, while it is made and sent
SWEPT = "forward_backward"
GROWTH = 8  # of the batch, at most, from one command of the sweep to the next
FAR_BELOW = 0.25  # of the device's memory
TIME_OVER = "its time was over before the memory was full"
ASK_S = 10.0  # for an interpreter to say what it has
HAS_TORCHVISION = "import sys, importlib.util as util; sys.exit(0 if util.find_spec('torchvision') else 3)"


class Skipped(Exception):
    """The step has nothing to do here; the reason."""


@dataclass(frozen=True)
class Check:
    """What every step is given: ``passed_on`` are the options that every command that starts Workers gets, ``folder``
    is that of the results."""

    settings: Settings
    device: str
    frameworks: Sequence[str]
    passed_on: Sequence[str]
    folder: Path

    @property
    def runs(self) -> Path:
        """The folder of all Runs."""
        return self.folder / "runs"

    def made(self, step: str = "") -> list[Path]:
        """The folders of the Runs made so far, of one step or of all."""
        found = sorted(path.parent for path in self.runs.glob("*/run.jsonl"))
        return [path for path in found if not step or path.name.partition("-")[2].split("-")[0] == step]

    def workers(self, *frameworks: str) -> list[str]:
        """Options for the Workers of these frameworks, or of all."""
        names = ",".join(frameworks or self.frameworks)
        return [f"--device={self.device}", f"--framework={names}", *self.passed_on]

    def timed(self, seconds: float, *, rounds: int | None = None, iterations: int | None = None) -> list[str]:
        """Options of a Run that ends by itself within ``seconds``."""
        iterations = iterations or self.settings.iterations
        words = [f"--out={self.runs}", f"--max-time={max(1.0, OWN_END * seconds):g}"]
        words += [f"--rounds={rounds or self.settings.rounds}"]
        return words + ([f"--iterations={iterations}"] if iterations else [])

    def python_of(self, framework: str) -> str:
        """The interpreter of a framework's Workers."""
        start = f"--python={framework}="
        named = [word.removeprefix(start) for word in self.passed_on if word.startswith(start)]
        return named[-1] if named else sys.executable

    def sized(self) -> list[str]:
        return [f"--size={self.settings.size}"] if self.settings.size else []


@dataclass(frozen=True)
class Made:
    """A command that has ended, and the Runs that it made."""

    ended: Ended
    runs: Sequence[Run]


Lines = Generator[list[str], Made, None]
Remarking = Generator[list[str], Made, str]
#: The commands of a step that has so many seconds: each is run, and what it made sent, before the next is asked for. At
#: the end a remark is returned, which is told with the step's figure, or nothing. Raises Skipped.
Commands = Callable[[Check, float], Lines | Remarking]


@dataclass(frozen=True)
class Step:
    """``figure`` is a telling figure of the step's Runs, or of what it printed; empty if there is none. ``ends_full``:
    that the device's memory is full is what it looks for, and no failure."""

    name: str
    what: str
    commands: Commands
    figure: figures.Figure = figures.nothing
    ends_full: bool = False


def env(check: Check, seconds: float) -> Remarking:
    yield ["env", *check.workers()]
    return named(check.device)


def named(device: str) -> str:
    """The product that a device is and its driver, as far as NVML knows."""
    if device == "cpu":
        return host.fingerprint().cpu
    return ", ".join(filter(None, [gpu.name(device), f"driver {driver}" if (driver := gpu.driver()) else ""]))


def verify(check: Check, seconds: float) -> Lines:
    settings = check.settings
    size = [f"--size={settings.verified_size}"] if settings.verified_size else []
    others = [name for name in VARIANTS if name not in settings.variants]
    # `verify` says nothing before all that it was asked for is compared
    for names, precisions in ((settings.variants, settings.verified), (others, settings.verified_others)):
        how = [f"--variant={','.join(names)}", f"--precision={','.join(precisions)}"]
        yield ["verify", *check.workers(), *how, *size]


def run(check: Check, seconds: float) -> Lines:
    yield grid_of(check, seconds, check.settings.variants, "--mode=all", "--name=run")


def grid_of(check: Check, seconds: float, variants: Sequence[str], *more: str) -> list[str]:
    """A Run of these nets in every framework and in the precisions that are timed."""
    settings = check.settings
    how = [f"--variant={','.join(variants)}", f"--precision={','.join(settings.timed)}", f"--batch={settings.batch}"]
    return ["run", *check.workers(), *how, *check.sized(), *check.timed(seconds), *more]


def peers(check: Check, seconds: float) -> Remarking:
    if "torch" not in check.frameworks:
        raise Skipped("the other program is in torch, which is not among the frameworks")
    if not MODULES.is_file():
        raise Skipped("examples/ is not there: run it in a checkout")
    settings = check.settings
    lacks = lacks_torchvision(check.python_of("torch"))
    nets = [f"--net={MODULES}:build", *([] if lacks else [f"--net={TORCHVISION}"])]
    how = [f"--mode={settings.peer_mode}", f"--layout={settings.peer_layout}", f"--precision={settings.peer_precision}"]
    how += ["--variant=owt", f"--batch={settings.peer_batch}"]
    yield ["run", *check.workers("torch"), *how, *nets, *check.timed(seconds), "--name=peers"]
    return f"only the own net of torchvision's layers: {lacks}" if lacks else "torchvision's own module was timed too"


def lacks_torchvision(python: str) -> str:
    """Why an interpreter does not have torchvision; empty if it has."""
    try:
        asked = [python, "-P", "-c", HAS_TORCHVISION]
        code = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_S).returncode
    except (OSError, subprocess.TimeoutExpired):
        code = 1
    return {0: "", 3: "torchvision is not installed"}.get(code, f"{python} did not say whether it has torchvision")


def profile(check: Check, seconds: float) -> Lines:
    settings = check.settings
    words = [f"--variant={settings.variants[-1]}", f"--precision={settings.timed[-1]}", f"--batch={settings.batch}"]
    yield ["profile", *check.workers(check.frameworks[0]), *words, *check.sized(), *check.timed(seconds, rounds=1)]


def sweep(check: Check, seconds: float) -> Remarking:
    settings = check.settings
    if not settings.until_full:
        yield sweep_of(check, seconds, settings.batches)
        return ""
    until, taken = time.monotonic() + seconds, [(0, 0.0)]
    batch = settings.batches[-1]
    while True:
        made = yield sweep_of(check, until - time.monotonic(), (batch,))
        if made.ended.code is None:
            return TIME_OVER
        if not any(row["valid"] for run in made.runs for row in run.rows()):
            return ""
        taken.append((batch, made.ended.wall_s))
        if not (larger := larger_than(batch, check)):
            return f"no larger batch: {MOST_BATCH} is the most, or the host has no room"
        left_s = until - time.monotonic()
        in_time = [each for each in larger if expected_s(taken, each) <= left_s - grace_of(left_s)]
        if not in_time:
            return TIME_OVER
        batch = max(in_time)


def sweep_of(check: Check, seconds: float, batches: Sequence[int]) -> list[str]:
    how = [f"--variant={check.settings.variants[0]}", f"--batch={','.join(map(str, batches))}", f"--pass={SWEPT}"]
    words = [*check.workers(check.frameworks[0]), *how, *check.sized(), *check.timed(seconds, rounds=1, iterations=4)]
    return ["run", *words, f"--name=sweep-{batches[-1]}"]


def larger_than(batch: int, check: Check) -> list[int]:
    """The batches that may follow one that fits: up to GROWTH times it while that is far below the memory by the count
    of its layers, else twice; none for which the host has no room."""
    net = VARIANTS[check.settings.variants[0]].resized(check.settings.size)
    memory = gpu.memory_bytes(check.device) or 0
    room = psutil.virtual_memory().available / (HOST_COPIES * 4 * math.prod(net.placed()[0].input))
    larger, growth = [2 * batch], 4
    while growth <= GROWTH and footprint(net, growth * batch, SWEPT, "fp32").total <= FAR_BELOW * memory:
        larger.append(growth * batch)
        growth *= 2
    return [each for each in larger if each <= min(MOST_BATCH, room)]


def expected_s(taken: Sequence[tuple[int, float]], batch: int) -> float:
    """Seconds of the command of a batch, on the line through the last two batches and their seconds. The first is 0 in
    no time: with one command, all of its time grows with the batch."""
    (smaller, less_s), (last, last_s) = taken[-2:]
    return last_s + max(0.0, last_s - less_s) * (batch - last) / (last - smaller)


def train(check: Check, seconds: float) -> Lines:
    yield grid_of(check, seconds, check.settings.variants[-1:], "--pass=train_step", "--name=train")


def memory(check: Check, seconds: float) -> Lines:
    runs = [folder for step in ("run", "sweep", "train") for folder in check.made(step)]
    if not runs:
        raise Skipped("no Run was made before it, by the steps run, sweep or train")
    if not any(True for folder in runs for _ in uses_of(Run(folder))):
        raise Skipped("no Run of the steps run, sweep and train has a valid row of our nets")
    yield ["memory", *map(str, runs)]


def against_itself(check: Check, seconds: float) -> Lines:
    settings = check.settings
    words = [f"--variant={settings.variants[-1]}", f"--batch={settings.batch}", "--ab=slowdown=0,0"]
    one = check.workers(check.frameworks[0])
    yield ["run", *one, *words, *check.sized(), *check.timed(seconds, rounds=settings.aa_rounds), "--name=aa"]


def report(check: Check, seconds: float) -> Lines:
    if not (runs := check.made()):
        raise Skipped("no Run was made before it")
    yield ["report", *map(str, runs), f"--output={check.folder / 'report.html'}"]


STEPS = (
    Step("env", "the machine, its driver and its devices", env),
    Step("verify", "all variants against float64, in every precision", verify, figures.equal),
    Step("run", "nets in every mode and precision", run, figures.fastest),
    Step("peers", "next to torchvision's net", peers, figures.over_peers),
    Step("profile", "each layer by itself", profile, figures.share_of_peak),
    Step(
        "sweep",
        "larger and larger batches, on a GPU until its memory is full",
        sweep,
        figures.largest_batch,
        ends_full=True,
    ),
    Step("train", "the training step", train, figures.fastest),
    Step("memory", "the allocator's peak, and what the layers need", memory),
    Step("aa", "the first framework against itself", against_itself, figures.largest_ratio),
    Step("report", "a page of all Runs", report),
)
NAMES = tuple(step.name for step in STEPS)


def number_of(step: Step) -> int:
    """From 1, the same whichever steps are chosen."""
    return STEPS.index(step) + 1
