"""Requests: one frozen record of parsed options per command.

``cli`` turns a field ``burn_in`` into the option ``--burn-in`` and the variable ``ALEXNET_BENCH_BURN_IN``; other code
creates a record with keyword arguments. ``plan`` checks options against each other and reads the users' files.
"""

import importlib
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.parse import (
    MOST_BATCH,
    MOST_RANKS,
    MOST_SHARDS,
    MOST_SIZE,
    MOST_THREADS,
    MOST_WORKERS,
    is_variable,
    parse_choice,
    parse_choices,
    parse_cluster,
    parse_count,
    parse_device,
    parse_input,
    parse_name,
    parse_number,
    parse_path,
    parse_percent,
    parse_rate,
    parse_seconds,
    parse_shard,
    refuse_visible,
    resolve_interpreter,
    split_list,
)
from bench.cases.passes import DEFAULT_PASSES, offered_passes
from bench.commands.options import Parser, argument, flag, option
from bench.output.plots.kinds import KINDS
from impls import ACCELERATORS, FRAMEWORKS, PEERS
from impls.text import quoted


def _one_of(kind: str, choices: Iterable[str]) -> Parser:
    return lambda what, text: parse_choice(kind, text, choices)


def _some_of(kind: str, choices: Callable[[], Iterable[str]]) -> Parser:
    return lambda what, text: tuple(parse_choices(kind, text, choices()))


def _imported(module: str, name: str) -> Callable[[], Iterable[str]]:
    """Choices from a module that is slow to import, since it builds every layer of every net."""
    return lambda: getattr(importlib.import_module(module), name)


def _one_imported(kind: str, choices: Callable[[], Iterable[str]]) -> Parser:
    return lambda what, text: parse_choice(kind, text, choices())


def _parse_layers(what: str, text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, split_list(text))))


def _parse_devices(what: str, text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(parse_device, split_list(text))))


def _parse_one_device(what: str, text: str) -> str:
    return parse_device(text)


def _count(most: int, least: int = 1) -> Parser:
    return lambda what, text: parse_count(what, text, most, least)


def _counts(most: int, least: int = 1) -> Parser:
    """Whole numbers, comma-separated, each once."""
    return lambda what, text: tuple(dict.fromkeys(parse_count(what, word, most, least) for word in split_list(text)))


def _parse_shape_or_folder(what: str, text: str) -> str:
    """A shape as ``parse_input`` writes it; other text, which may be a folder, unchanged."""
    return parse_input(what, text) if re.fullmatch(r"[0-9xX]*", text) else str(parse_path(what, text))


def _parse_latency(what: str, text: str) -> float:
    if not 0 <= (number := parse_number(text)) < math.inf:
        raise UsageError(f"{what}: expected microseconds, 0 or above, found {quoted(text)}")
    return number


def _parse_nodes(what: str, text: str) -> tuple[tuple[str, str], ...]:
    """(name, address) of each; the address is the name without one."""
    named = [word.partition("=") for word in split_list(text)]
    if not all(
        re.fullmatch(NODE, name) and (not equals or re.fullmatch(NODE, address)) for name, equals, address in named
    ):
        raise UsageError(f"{what}: expected NAME or NAME=ADDRESS, comma-separated, found {quoted(text)}")
    if len({name for name, _, _ in named}) < len(named):
        raise UsageError(f"{what}: expected each node once, found {quoted(text)}")
    return tuple((name, address or name) for name, _, address in named)


def _parse_interpreter(what: str, text: str) -> tuple[str, str]:
    """(framework, absolute path)"""
    framework, equals, path = text.partition("=")
    if not equals or not path:
        raise UsageError(f"{what}: expected FRAMEWORK=PATH, found {quoted(text)}")
    return parse_choice("framework", framework, FRAMEWORKS), resolve_interpreter(path)


def _parse_variable(what: str, text: str) -> tuple[str, str]:
    """(name, value); without ``=`` the value is taken from the environment."""
    name, equals, value = text.partition("=")
    if not is_variable(name):
        raise UsageError(f"{what}: expected NAME or NAME=VALUE, found {quoted(text)}")
    refuse_visible(f"{what} {name}", name)
    if not equals and name not in os.environ:
        raise UsageError(f"{what} {name}: not set here; pass {what} {name}=VALUE")
    return name, value if equals else os.environ[name]


NODE = r"[A-Za-z0-9][A-Za-z0-9_.:@-]*"  # no option of a launch prefix
_parse_seed = _count(2**63 - 1, least=0)
_MOST_WORLD = 2**17  # devices of a projection
_ROUNDS, _ITERATIONS = _count(10**4), _count(10**6)
_VARIANT = _one_imported("variant", _imported("impls.variants", "VARIANTS"))
_PREPROCESSING = _one_imported("preprocessing", _imported("impls.preprocessing", "PREPROCESSINGS"))
_INIT = _one_imported("init", _imported("impls.inits", "INITS"))
_VARIANTS = _some_of("variant", _imported("impls.variants", "VARIANTS"))
_LINKS = _some_of("link", _imported("bench.stats.links", "PUBLISHED"))
_REDUCING = _one_imported("pass", _imported("bench.record.projection", "REDUCING"))
_VARIANT_HELP = "variants, comma-separated, or all"
_IN_DEFAULT_RUN = ", ".join(name for name, framework in PEERS.items() if framework.in_default_run)
_TRAINING = " and ".join(each.name for each in offered_passes().values() if each.training)
_MODES = "; ".join(f"{name}: {', '.join(framework.modes)}" for name, framework in PEERS.items())
_LAYOUTS = "; ".join(f"{name}: {', '.join(framework.layouts)}" for name, framework in PEERS.items())
_KINDS = "; ".join(f"{kind.name}: {kind.help}" for kind in KINDS.values())
_LRNS = _some_of("LRN", _imported("bench.cases.case", "LRNS"))
_PRESETS = _some_of("preset", _imported("bench.cases.case", "PRESETS"))
_PRESET = ("LIST", "equal (same settings for all) or default (nothing set)", _PRESETS, "equal")
_WEIGHTS = ("FILE", "Caffe's .npy, a .safetensors, or torchvision's .pth; default: drawn from --seed", parse_path)
_OUT = ("DIR", "parent of the new Run folder", parse_path, "results")


def _json(help: str = "print JSON on stdout") -> Any:
    return flag(help, environment=False)


# The fields of the last base come first, in a record and in --help.


@dataclass(frozen=True)
class VariantOption:
    variant: tuple[str, ...] = option("LIST", _VARIANT_HELP, _VARIANTS, "tutorial")


@dataclass(frozen=True)
class WorkerOptions:
    """The Workers, and what they are started with."""

    framework: str | None = option("LIST", f"{', '.join(PEERS)}, or all; default: {_IN_DEFAULT_RUN}, if installed")
    mode: str | None = option("LIST", _MODES)
    device: tuple[str, ...] = option("DEVICE", f"{', '.join(ACCELERATORS)}, or cuda:1", _parse_devices, "cpu")
    threads: int | None = option("N", "default: all cores this process may use", _count(MOST_THREADS))
    python: tuple[tuple[str, str], ...] = option(
        "FRAMEWORK=PATH", "another interpreter for one framework", _parse_interpreter, repeated=True
    )
    env: tuple[tuple[str, str], ...] = option(
        "NAME[=VALUE]", "pass one more environment variable to the Workers", _parse_variable, repeated=True
    )
    worker_limit_s: float | None = option(
        "SECONDS", "time limit for one request to a Worker; default 600", parse_seconds
    )


@dataclass(frozen=True)
class SizeOption:
    size: int | None = option("PIXELS", "input size; default: the variant's own", _count(MOST_SIZE))


@dataclass(frozen=True)
class SeedOption:
    seed: int = option("N", "for weights, images and the order of turns", _parse_seed, "0")


@dataclass(frozen=True)
class NetOptions(SeedOption, SizeOption, WorkerOptions, VariantOption):
    """The nets, and their arithmetic."""

    precision: str = option("LIST", "fp32, bf16, or on cuda tf32", default="fp32")
    layout: str | None = option("LIST", _LAYOUTS)
    lrn: tuple[str, ...] = option("LIST", "native (the framework's own) or fast", _LRNS, "native")


@dataclass(frozen=True)
class ModelOptions(NetOptions):
    """Users' own nets."""

    net: tuple[str, ...] = option(
        "FILE.py:NAME", "a model of your own, or package.module:NAME, timed with ours; see examples/", repeated=True
    )
    input: str | None = option(
        "SHAPE", "random inputs of this shape for the models of --net, which are timed alone: 3x300x300", parse_input
    )


@dataclass(frozen=True)
class GridOptions(ModelOptions):
    """A grid of Cases, and how each is measured."""

    input: str | None = option(
        "SHAPE|FOLDER",
        "random inputs of this shape for the models of --net, which are timed alone: 3x300x300; with --loaders "
        "a folder of pictures, or flowers",
        _parse_shape_or_folder,
    )
    loaders: tuple[int, ...] | None = option(
        "LIST",
        "time the loader of each framework with so many workers, alone and in front of the training step: 0,2",
        _counts(MOST_WORKERS, least=0),
    )
    preprocessing: str | None = option(
        "NAME", "with --loaders: torchvision, caffe, 2012 or plain; default torchvision", _PREPROCESSING
    )
    devices: tuple[int, ...] | None = option(
        "LIST",
        "so many devices compute one pass together: 1,2,4; on a CPU equal slices of its cores",
        _counts(MOST_RANKS),
    )
    scaling: str = option(
        "NAME",
        "with --devices: weak (--batch is per device) or strong (of all devices)",
        _one_of("scaling", ("weak", "strong")),
        "weak",
    )
    split: tuple[str, ...] = option(
        "LIST",
        "with --devices: how they share the net: data (gradients are summed), towers (2012) or hybrid (2014)",
        _some_of("split", _imported("impls.splits", "SPLITS")),
        "data",
    )
    oversubscribe: bool = flag("with --devices: allow more than there are cores; gives no efficiency")
    preset: tuple[str, ...] = option(*_PRESET)
    batch: tuple[int, ...] | None = option("LIST", "default: 8 on a CPU, 128 on a GPU", _counts(MOST_BATCH))
    pass_: tuple[str, ...] = option(
        "LIST", f"{', '.join(offered_passes())}, or all", _some_of("pass", offered_passes), ",".join(DEFAULT_PASSES)
    )
    rounds: int | None = option("N", "Rounds, each with fresh Workers; default 5", _ROUNDS)
    burn_in: int | None = option(
        "N", "minimum burn-in; default 10, in later Rounds 4, extended until times are steady", _ITERATIONS
    )
    iterations: int | None = option(
        "N", "samples per case and Round; default 20, fewer where --max-time needs it", _ITERATIONS
    )
    no_gate: bool = flag("never extend burn-in")
    max_time_s: float | None = option(
        "SECONDS", "limit for the whole Run; the first Round of each group always runs", parse_seconds
    )
    target_ci: float | None = option(
        "PERCENT", "stop when all 95 % intervals are this narrow (8 to 30 Rounds)", parse_percent
    )
    ab: str | None = option(
        "KEY=A,B", "compare two sides in alternating turns; KEY: impls, python, net, threads, mode, layout, lrn ..."
    )
    dropout: bool = flag(f"dropout on in {_TRAINING}")
    protocol: str = option(
        "NAME", "rounds, or classic (the article's)", _one_of("protocol", ("rounds", "classic")), "rounds"
    )
    weights: Path | None = option(*_WEIGHTS)
    out: Path = option(*_OUT)
    name: str | None = option("NAME", "suffix of the Run folder's name; default: the variants", parse_name)


@dataclass(frozen=True)
class RunRequest(GridOptions):
    """Verify that the nets are equal, time them in alternating turns, and write a Run folder.

    Exit 1 if a case failed; with --ab the exit code is that of `compare`.
    """

    nodes: tuple[tuple[str, str], ...] | None = option(
        "LIST", "with --devices: machines that they are on, NAME or NAME=ADDRESS: n1,n2", _parse_nodes
    )
    launch: str | None = option("PREFIX", "with --nodes: what starts a program on one; default 'ssh {node}'")
    shard: tuple[int, int] | None = option(
        "I/N",
        "only shard I of N of the grid, counted from 0: 0/8 to 7/8; `merge` puts their Runs together",
        parse_shard,
    )
    resume: Path | None = option(
        "FOLDER", "continue an interrupted Run with its own settings", parse_path, environment=False
    )
    dry_run: bool = flag("print the cases and their expected duration", environment=False)
    as_json: bool = _json("print the results as JSON, and nothing else, on stdout")


@dataclass(frozen=True)
class SweepRequest(GridOptions):
    """Measure a grid shard by shard, here or on the nodes of a Ray cluster, and `merge` their Runs.

    Options are those of `run`, on every node. Exit 1 if a shard is missing or a case failed.
    """

    shards: int | None = option(
        "N", "into how many Runs the groups are dealt; default: one per group", _count(MOST_SHARDS)
    )
    on: str | None = option(
        "ADDRESS", "ray://HOST or ray://HOST:PORT, the head of a cluster; default: this machine", parse_cluster
    )
    insecure: bool = flag("with --on: a cluster that takes programs from anyone who reaches it", environment=False)
    as_json: bool = _json("print index and rows as JSON, and nothing else, on stdout")


@dataclass(frozen=True)
class LayersRequest(SizeOption, WorkerOptions, VariantOption):
    """Print every layer's shape, params, state and MACs.

    With --framework, add what each framework reports; exit 1 if they differ.
    """

    variant: tuple[str, ...] = option("LIST", _VARIANT_HELP, _VARIANTS, "all")
    as_json: bool = _json()


@dataclass(frozen=True)
class VerifyRequest(NetOptions):
    """Compare logits, loss and every gradient of each framework with a float64 reference.

    With two --net, compare these models with each other. Exit 1 if any differs.
    """

    batch: int | None = option("N", "batch size; default 2, or that of --against", _count(MOST_BATCH))
    weights: Path | None = option(*_WEIGHTS)
    dump: Path | None = option("FILE.npz", "write the input, weights and one framework's results", parse_path)
    against: Path | None = option(
        "FILE.npz", "compare with another implementation's values instead of float64", parse_path
    )
    save_weights: Path | None = option(
        "FILE.safetensors", "write one variant's weights, from --seed or --weights", parse_path
    )
    net: tuple[str, ...] = option(
        "FRAMEWORK=FILE.py:NAME",
        "a model and its port, by two of these: do they agree, and at which layer do they part",
        repeated=True,
        environment=False,
    )
    input: str | None = option(
        "SHAPE",
        "with --net: random inputs of this shape, in the order of the first model's framework: 3x64x64",
        parse_input,
        environment=False,
    )
    map: Path | None = option(
        "FILE", "with --net: lines `NAME = NAME` of parameters that are the same", parse_path, environment=False
    )
    save_map: Path | None = option(
        "FILE", "with --net: write the pairs of parameters that are used", parse_path, environment=False
    )
    as_json: bool = _json()


@dataclass(frozen=True)
class ProfileRequest(ModelOptions):
    """Time each layer of a net as a net of its own, next to the whole net and the measured peak.

    With --net, each module of that model, and none of our nets. RUN shows an existing profile. Exit 1 if a case failed.
    """

    run: Path | None = argument("[RUN]")
    net: tuple[str, ...] = option(
        "FILE.py:NAME", "a model of your own, or package.module:NAME, whose modules are timed", repeated=True
    )
    input: str | None = option(
        "SHAPE", "random inputs of this shape for the models of --net: 3x300x300; default: images", parse_input
    )
    preset: tuple[str, ...] = option(*_PRESET)
    batch: tuple[int, ...] | None = option("LIST", "default: 32 on a CPU, 128 on a GPU", _counts(MOST_BATCH))
    pass_: tuple[str, ...] = option(
        "LIST", f"{', '.join(offered_passes())}, or all", _some_of("pass", offered_passes), ",".join(DEFAULT_PASSES)
    )
    rounds: int | None = option("N", "Rounds, each with fresh Workers; default 3", _ROUNDS)
    burn_in: int | None = option("N", "default 3", _ITERATIONS)
    iterations: int | None = option("N", "samples per layer and Round; default 6", _ITERATIONS)
    max_time_s: float | None = option("SECONDS", "limit for the whole Run; the first Round always runs", parse_seconds)
    out: Path = option(*_OUT)
    as_json: bool = _json()


@dataclass(frozen=True)
class TrainRequest(SeedOption, SizeOption, WorkerOptions):
    """Train a variant on labeled pictures, FOLDER/CLASS/PICTURE; without FOLDER on drawn flowers.

    One picture in five is held out. Exit 1 if a training ended in values that are not finite.
    """

    pictures: Path | None = argument("[FOLDER]")
    framework: str | None = option("LIST", f"{', '.join(PEERS)}, or all; default: the first that is installed")
    variant: str | None = option("NAME", "default: half_width, or that of --weights", _VARIANT)
    size: int | None = option("PIXELS", "input size; default: 99, or that of --weights", _count(MOST_SIZE))
    epochs: int | None = option("N", "default 20; with --resume, in all", _count(10**6))
    lr: float = option("RATE", "learning rate, constant", parse_rate, "0.005")
    batch: int = option("N", "pictures per step", _count(MOST_BATCH), "32")
    seed: int = option("N", "for initial weights, order, crops and dropout", _parse_seed, "0")
    preprocessing: str | None = option(
        "NAME", "plain, torchvision, caffe or 2012; default: plain, or that of --weights", _PREPROCESSING
    )
    init: str = option("NAME", "initial weights: fan_in, he, paper, torch or timed", _INIT, "fan_in")
    weights: Path | None = option("FILE", "begin with these: a checkpoint, or as for `run`", parse_path)
    freeze: tuple[str, ...] = option("LAYERS", "layers that stay as they are, comma-separated", _parse_layers, "")
    classes: int | None = option("N", "width of the output layer; default: the classes of FOLDER", _count(10**5, 2))
    out: Path = option("DIR", "parent of the new folder", parse_path, "results")
    name: str | None = option("NAME", "suffix of the folder's name; default: train-VARIANT", parse_name)
    resume: Path | None = option(
        "FOLDER", "go on with an interrupted training, with its own settings", parse_path, environment=False
    )
    as_json: bool = _json()


@dataclass(frozen=True)
class DataRequest:
    """Look at the pictures of FOLDER, or at drawn flowers (`data flowers`): counts, sizes, copies, colors, some shown.

    What cannot be read is named, skipped and counted. Exit 1 with --strict if anything was, 2 if nothing could be read.
    """

    pictures: Path = argument("FOLDER", required=True)
    preprocessing: str = option("NAME", "plain, torchvision, caffe or 2012", _PREPROCESSING, "plain")
    size: int | None = option("PIXELS", "input size; default: that of --preprocessing", _count(MOST_SIZE))
    augmented: bool = flag("show the random crops and flips of the first epoch of `train`")
    batch: int = option("N", "pictures on the contact sheet, as many of each class", _count(256), "32")
    seed: int = option("N", "which pictures are on the contact sheet; of --augmented that of `train`", _parse_seed, "0")
    output: Path | None = option("FILE.png", "the contact sheet; default: results/data-FOLDER.png", parse_path)
    save: Path | None = option("FOLDER", "with flowers: keep the drawn pictures in this new folder", parse_path)
    strict: bool = flag("exit 1 if anything was skipped")
    as_json: bool = _json()


@dataclass(frozen=True)
class PredictRequest(SizeOption, WorkerOptions):
    """Name what is in pictures by trained weights; of FOLDER/CLASS/PICTURE also how often that is right.

    `flowers` as FOLDER is the drawn set. --framework all says how far apart the frameworks are. Unreadable files are
    named and left out: exit 1 with --strict, 2 if there is nothing else.
    """

    pictures: tuple[Path, ...] = argument("FILE|FOLDER...", repeated=True, required=True)
    weights: Path = option(
        "FILE",
        "a checkpoint of `train`, Caffe's .npy, a .safetensors, or torchvision's .pth",
        parse_path,
        required=True,
    )
    framework: str | None = option("LIST", f"{', '.join(PEERS)}, or all; default: the first that is installed")
    variant: str | None = option("NAME", "where --weights do not say it", _VARIANT)
    size: int | None = option("PIXELS", "input size, where --weights do not say it", _count(MOST_SIZE))
    preprocessing: str | None = option(
        "NAME", "plain, torchvision, caffe or 2012; where --weights do not say it", _PREPROCESSING
    )
    labels: Path | None = option("FILE", "names of the classes, one per line, where --weights have none", parse_path)
    batch: int = option("N", "pictures per pass", _count(MOST_BATCH), "32")
    top: int = option("N", "classes per picture", _count(1000), "5")
    held_out: bool = flag("only the pictures that `train` holds out, one in five by their names")
    strict: bool = flag("exit 1 if a file cannot be read")
    out: Path = option("DIR", "parent of the new folder", parse_path, "results")
    name: str | None = option("NAME", "suffix of the folder's name; default: predict-VARIANT", parse_name)
    as_json: bool = _json()


@dataclass(frozen=True)
class CompareRequest:
    """Compare two Run folders: is any case slower in CANDIDATE than in BASE?

    With BASE alone, compare the pairs within that Run. Exit 1 if a case is slower, 4 if incomparable or missing, 3 if
    inconclusive with --strict.
    """

    base: Path = argument("BASE", required=True)
    candidate: Path | None = argument("[CANDIDATE]")
    margin: float = option("PERCENT", "smallest difference that counts", parse_percent, "2")
    allow: str | None = option("LIST", "conditions that may differ: versions, python, env ...")
    spread: Path | None = option("DIR", "folder with A/A Runs, in addition to those of BASE and CANDIDATE", parse_path)
    strict: bool = flag("exit 3 if a case is inconclusive")
    as_json: bool = _json()
    markdown: bool = flag("print a Markdown table for a pull request", environment=False)


@dataclass(frozen=True)
class ScaleRequest:
    """Project a pass on more devices from its time on one: images/s and efficiency, by link. Nothing is timed.

    Every device has the batch of that one. Without --bandwidth and --link: over the link that the Run measured, if it
    has several devices, and over published ones.
    """

    model: Path = option(
        "RUN", "folder of a Run with train_step or forward_backward on one device", parse_path, required=True
    )
    devices: tuple[int, ...] = option(
        "LIST", "how many devices: 8,64,256", _counts(_MOST_WORLD, least=2), "8,64,256", environment=False
    )
    bandwidth: float | None = option(
        "GB/S", "bus bandwidth of an all-reduce, as nccl-tests has it", parse_rate, environment=False
    )
    latency: float | None = option(
        "US", "of one hop, in microseconds; default: that of the link, else 0", _parse_latency, environment=False
    )
    link: tuple[str, ...] | None = option("LIST", "published links by name, or all", _LINKS, environment=False)
    framework: str | None = option("LIST", "which case, if the Run has several", environment=False)
    mode: str | None = option("LIST", "which case", environment=False)
    variant: tuple[str, ...] | None = option("LIST", "which case", _VARIANTS, environment=False)
    precision: str | None = option("LIST", "which case", environment=False)
    batch: int | None = option("N", "which case", _count(MOST_BATCH), environment=False)
    pass_: str | None = option(
        "NAME", "train_step or forward_backward; default: the former, if it is there", _REDUCING, environment=False
    )
    as_json: bool = _json()


@dataclass(frozen=True)
class MergeRequest:
    """Put the Runs of one grid next to each other, by machine: an index, one CSV, and a table with machines as columns.

    Nothing is pooled, and no verdict compares two machines. A missing shard is named; exit 1 with --strict if any is.
    """

    runs: tuple[Path, ...] = argument("RUN...", repeated=True, required=True)
    out: Path = option("FOLDER", "folder of index.json and merged.csv", parse_path, "results/merged", environment=False)
    strict: bool = flag("exit 1 if a shard is missing or a Run was cut off")
    as_json: bool = _json()


@dataclass(frozen=True)
class SelftestRequest(SeedOption, SizeOption, WorkerOptions, VariantOption):
    """Test the harness itself: clock, known durations, a missing wait, overhead, and statistics by simulation.

    --aa and --power time a real case against itself; RUN... evaluates such Runs again. Exit 1 if a check fails. The
    result is stored in selftest.json under --out.
    """

    runs: tuple[Path, ...] = argument("[RUN...]", repeated=True)
    aa: bool = flag("compare a case with itself: no difference may be found")
    power: float | None = option("PERCENT", "slow one side down by this much: it must be found", parse_percent)
    repeat: int = option("N", "number of Runs with --aa or --power", _count(1000), "1")
    thorough: bool = flag("run the whole grid of simulations, about 2 minutes")
    variant: tuple[str, ...] = option("LIST", "for --aa and --power", _VARIANTS, "half_width")
    batch: tuple[int, ...] = option("LIST", "for --aa and --power", _counts(MOST_BATCH), "4")
    pass_: tuple[str, ...] = option(
        "LIST", "for --aa and --power", _some_of("pass", offered_passes), ",".join(DEFAULT_PASSES)
    )
    rounds: int = option("N", "for --aa and --power", _ROUNDS, "10")
    iterations: int | None = option("N", "for --aa and --power", _ITERATIONS)
    out: Path = option("DIR", "folder of the results", parse_path, "results")
    as_json: bool = _json()


@dataclass(frozen=True)
class EnvRequest(WorkerOptions):
    """Inspect this machine: frameworks, devices, libraries, noise; with advice on what to fix."""

    as_json: bool = _json()


@dataclass(frozen=True)
class GpuCheckRequest:
    """Check all that this suite does on a GPU, within 9 minutes, and write one archive of the results.

    Steps, most telling first: 1 env, 2 verify, 3 run, 4 peers, 5 profile, 6 sweep, 7 train, 8 memory, 9 aa, 10 report.
    Each has a limit, and none stops another. Exit 0 if all passed, 2 if there is no such device, else 10 and the number
    of the first step that did not: 12 for verify. --device cpu takes the same steps with small settings.
    """

    device: str = option("DEVICE", f"{', '.join(ACCELERATORS)}, or cuda:1", _parse_one_device, "cuda")
    framework: str | None = option("LIST", f"{', '.join(PEERS)}, or all; default: those installed that see the device")
    step: tuple[str, ...] = option(
        "LIST", "steps to take, or all", _some_of("step", _imported("bench.commands.gpu_check.steps", "NAMES")), "all"
    )
    max_time_s: float = option("SECONDS", "limit for all steps together", parse_seconds, "540")
    python: tuple[tuple[str, str], ...] = option(
        "FRAMEWORK=PATH", "another interpreter for one framework", _parse_interpreter, repeated=True
    )
    env: tuple[tuple[str, str], ...] = option(
        "NAME[=VALUE]", "pass one more environment variable to the Workers", _parse_variable, repeated=True
    )
    out: Path = option("DIR", "parent of the new folder and of the archive", parse_path, "results")


@dataclass(frozen=True)
class MemoryRequest:
    """Compare the peak of the device's memory in each row of a Run with what its layers need. Nothing is timed.

    Default: the newest Run. Exit 1 if a peak is below what the parameters and one batch of images alone take.
    """

    runs: tuple[Path, ...] = argument("[RUN...]", repeated=True)
    as_json: bool = _json()


@dataclass(frozen=True)
class PlotRequest:
    """Plot result CSVs or Run folders; default: the newest Run."""

    results: tuple[Path, ...] = argument("[CSV_OR_RUN...]", repeated=True)
    kind: str = option("KIND", _KINDS, _one_of("kind", KINDS), "times")
    output: Path | None = option("FILE", "PNG, SVG or PDF by suffix; default: KIND.png", parse_path)


@dataclass(frozen=True)
class ReportRequest:
    """Write one self-contained HTML page of a Run: verdict, tables, plots, conditions, raw data.

    Default: the newest Run. Several Runs share one page, with folders of `train` and `predict`. It needs no network
    and no other file.
    """

    runs: tuple[Path, ...] = argument("[RUN...]", repeated=True)
    output: Path | None = option("FILE.html", "default: report.html in the Run's folder", parse_path)
    margin: float = option("PERCENT", "as for `compare`", parse_percent, "2")


@dataclass(frozen=True)
class ExportRequest:
    """Convert a Run to the format of another program: benchmark store, dashboard, trace viewer, Markdown."""

    run: Path = argument("RUN", required=True)
    format: str = option(
        "FORMAT", "pytest-benchmark, bencher, github-action-benchmark, trace or markdown", required=True
    )
    output: Path | None = option("FILE", "default: stdout", parse_path)


@dataclass(frozen=True)
class IngestRequest:
    """Convert pytest-benchmark JSON files to a Run, for compare, plot and report.

    A file of alexnet-bench (`make ci-bench`, `export`) is restored to its Run. Of others each FILE becomes a Round.
    """

    files: tuple[Path, ...] = argument("FILE...", repeated=True, required=True)
    out: Path = option(*_OUT)
    name: str | None = option("NAME", "suffix of the Run folder's name; default: the file's name", parse_name)
    as_json: bool = _json()
