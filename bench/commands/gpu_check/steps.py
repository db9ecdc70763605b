"""Steps of the check, most telling first: one record each, with the commands that it runs."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.cases.parse import MOST_BATCH
from bench.commands.gpu_check import figures
from bench.commands.gpu_check.settings import Settings
from bench.machine import gpu
from bench.machine.fresh import ROOT
from bench.record.run import Run
from bench.stats.footprint import footprint
from impls.variants import VARIANTS

#: An own net of torchvision's layers, in torch's own modules, and torchvision's.
MODULES = Path(ROOT) / "examples/torchvision_alexnet.py"
TORCHVISION = "torchvision.models:alexnet"
OWN_END = 0.85  # of a step's time, after which a Run begins no further Round
HOST_COPIES = 4  # of a batch in the host's memory, while it is made and sent
SWEPT = "forward_backward"


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

    def sized(self) -> list[str]:
        return [f"--size={self.settings.size}"] if self.settings.size else []


#: The commands of a step that has so many seconds; each is run before the next is asked for. Raises Skipped.
Commands = Callable[[Check, float], Iterator[list[str]]]


@dataclass(frozen=True)
class Step:
    """``figure`` is a telling figure of the step's Runs, or of what it printed; empty if there is none. ``ends_full``:
    that the device's memory is full is what it looks for, and no failure."""

    name: str
    what: str
    commands: Commands
    figure: figures.Figure = figures.nothing
    ends_full: bool = False


def env(check: Check, seconds: float) -> Iterator[list[str]]:
    yield ["env", *check.workers()]


def verify(check: Check, seconds: float) -> Iterator[list[str]]:
    settings = check.settings
    size = [f"--size={settings.verified_size}"] if settings.verified_size else []
    others = [name for name in VARIANTS if name not in settings.variants]
    # `verify` says nothing before all that it was asked for is compared
    for names, precisions in ((settings.variants, settings.verified), (others, settings.verified_others)):
        how = [f"--variant={','.join(names)}", f"--precision={','.join(precisions)}"]
        yield ["verify", *check.workers(), *how, *size]


def run(check: Check, seconds: float) -> Iterator[list[str]]:
    yield grid_of(check, seconds, check.settings.variants, "--mode=all", "--name=run")


def grid_of(check: Check, seconds: float, variants: Sequence[str], *more: str) -> list[str]:
    """A Run of these nets in every framework and in the precisions that are timed."""
    settings = check.settings
    how = [f"--variant={','.join(variants)}", f"--precision={','.join(settings.timed)}", f"--batch={settings.batch}"]
    return ["run", *check.workers(), *how, *check.sized(), *check.timed(seconds), *more]


def peers(check: Check, seconds: float) -> Iterator[list[str]]:
    if "torch" not in check.frameworks:
        raise Skipped("the other program is in torch, which is not among the frameworks")
    if not MODULES.is_file():
        raise Skipped("examples/ is not there: run it in a checkout")
    settings = check.settings
    nets = [f"--net={MODULES}:build", *([f"--net={TORCHVISION}"] if importlib.util.find_spec("torchvision") else [])]
    how = [f"--mode={settings.peer_mode}", f"--layout={settings.peer_layout}", f"--precision={settings.peer_precision}"]
    how += ["--variant=owt", f"--batch={settings.peer_batch}"]
    yield ["run", *check.workers("torch"), *how, *nets, *check.timed(seconds), "--name=peers"]


def profile(check: Check, seconds: float) -> Iterator[list[str]]:
    settings = check.settings
    words = [f"--variant={settings.variants[-1]}", f"--precision={settings.timed[-1]}", f"--batch={settings.batch}"]
    yield ["profile", *check.workers(check.frameworks[0]), *words, *check.sized(), *check.timed(seconds, rounds=1)]


def sweep(check: Check, seconds: float) -> Iterator[list[str]]:
    settings = check.settings
    if not settings.until_full:
        yield sweep_of(check, seconds, settings.batches)
        return
    for batch in doubling(check):
        yield sweep_of(check, seconds, (batch,))
        if not any(row["valid"] for row in Run(check.made("sweep")[-1]).rows()):
            return


def sweep_of(check: Check, seconds: float, batches: Sequence[int]) -> list[str]:
    how = [f"--variant={check.settings.variants[0]}", f"--batch={','.join(map(str, batches))}", f"--pass={SWEPT}"]
    words = [*check.workers(check.frameworks[0]), *how, *check.sized(), *check.timed(seconds, rounds=1, iterations=4)]
    return ["run", *words, f"--name=sweep-{batches[-1]}"]


def doubling(check: Check) -> Iterator[int]:
    """Batches, each twice the one before, from an eighth of the first that by the count of its layers cannot fit the
    device, while the host has room for them."""
    net = VARIANTS[check.settings.variants[0]].resized(check.settings.size)
    memory = gpu.memory_bytes(check.device)
    batch = check.settings.batches[-1]
    while memory and batch < MOST_BATCH and footprint(net, 8 * batch, SWEPT, "fp32").total <= memory:
        batch *= 2
    while (
        batch <= MOST_BATCH
        and HOST_COPIES * batch * 4 * math.prod(net.placed()[0].input) <= psutil.virtual_memory().available
    ):
        yield batch
        batch *= 2


def train(check: Check, seconds: float) -> Iterator[list[str]]:
    yield grid_of(check, seconds, check.settings.variants[-1:], "--pass=train_step", "--name=train")


def memory(check: Check, seconds: float) -> Iterator[list[str]]:
    runs = [folder for step in ("run", "sweep", "train") for folder in check.made(step)]
    if not runs:
        raise Skipped("no Run was made before it, by the steps run, sweep or train")
    yield ["memory", *map(str, runs)]


def against_itself(check: Check, seconds: float) -> Iterator[list[str]]:
    settings = check.settings
    words = [f"--variant={settings.variants[-1]}", f"--batch={settings.batch}", "--ab=slowdown=0,0"]
    one = check.workers(check.frameworks[0])
    yield ["run", *one, *words, *check.sized(), *check.timed(seconds, rounds=settings.aa_rounds), "--name=aa"]


def report(check: Check, seconds: float) -> Iterator[list[str]]:
    if not (runs := check.made()):
        raise Skipped("no Run was made before it")
    yield ["report", *map(str, runs), f"--output={check.folder / 'report.html'}"]


STEPS = (
    Step("env", "the machine, its driver and its devices", env, figures.device),
    Step("verify", "all variants against float64, in every precision", verify, figures.equal),
    Step("run", "nets in every mode and precision", run, figures.fastest),
    Step("peers", "next to torchvision's net", peers, figures.over_peers),
    Step("profile", "each layer by itself", profile, figures.share_of_peak),
    Step("sweep", "doubled batches, on a GPU until its memory is full", sweep, figures.largest_batch, ends_full=True),
    Step("train", "the training step", train, figures.fastest),
    Step("memory", "the allocator's peak, and what the layers need", memory),
    Step("aa", "the first framework against itself", against_itself, figures.largest_ratio),
    Step("report", "a page of all Runs", report),
)
NAMES = tuple(step.name for step in STEPS)


def number_of(step: Step) -> int:
    """From 1, the same whichever steps are chosen."""
    return STEPS.index(step) + 1
