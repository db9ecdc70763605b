"""Requests: what each command can be asked, one frozen record per command, of parsed values.

``cli`` makes of a field ``burn_in`` the option ``--burn-in`` and the variable ``ALEXNET_BENCH_BURN_IN``; other code
makes a record with keyword arguments. What a value means beside others (modes of which frameworks, a user's file) is
for ``plan``.
"""

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.parse import (
    is_variable,
    parse_choice,
    parse_choices,
    parse_count,
    parse_device,
    parse_percent,
    parse_seconds,
    resolve_interpreter,
    split_list,
)
from bench.cases.passes import PASSES
from bench.commands.options import Parser, argument, flag, option, parse_path
from bench.output.plots.kinds import KINDS
from impls import FRAMEWORKS, PEERS


def _one_of(kind: str, choices: Iterable[str]) -> Parser:
    return lambda what, text: parse_choice(kind, text, choices)


def _some_of(kind: str, choices: Callable[[], Iterable[str]]) -> Parser:
    return lambda what, text: tuple(parse_choices(kind, text, choices()))


def _variants() -> Iterable[str]:
    from impls.variants import VARIANTS  # every layer of every net: --help does without

    return VARIANTS


def _lrns() -> Iterable[str]:
    from bench.cases.case import LRNS

    return LRNS


def _presets() -> Iterable[str]:
    from bench.cases.case import PRESETS

    return PRESETS


def _parse_devices(what: str, text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(parse_device, split_list(text))))


def _parse_counts(what: str, text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(parse_count(what, word) for word in split_list(text)))


def _parse_interpreter(what: str, text: str) -> tuple[str, str]:
    """(framework, absolute path)"""
    framework, equals, path = text.partition("=")
    if not equals or not path:
        raise UsageError(f"{what}: expected FRAMEWORK=PATH, found {text!r}")
    return parse_choice("framework", framework, FRAMEWORKS), resolve_interpreter(path)


def _parse_variable(what: str, text: str) -> tuple[str, str]:
    """(name, value), the value from the environment where none is written."""
    name, equals, value = text.partition("=")
    if not is_variable(name):
        raise UsageError(f"{what}: expected NAME or NAME=VALUE, found {text!r}")
    if not equals and name not in os.environ:
        raise UsageError(f"{what} {name}: not set here; pass {what} {name}=VALUE")
    return name, value if equals else os.environ[name]


_parse_seed = functools.partial(parse_count, least=0)
_VARIANTS = _some_of("variant", _variants)
_VARIANT_HELP = "a variant, several, or all"
_IN_DEFAULT_RUN = ", ".join(name for name, framework in PEERS.items() if framework.in_default_run)
_TRAINING = " and ".join(each.name for each in PASSES.values() if each.training)
_MODES = "; ".join(f"{name}: {', '.join(framework.modes)}" for name, framework in PEERS.items())
_LAYOUTS = "; ".join(f"{name}: {', '.join(framework.layouts)}" for name, framework in PEERS.items())


def _json(help: str = "on stdout as JSON") -> Any:
    return flag(help, environment=False)


# The fields of the last base stand first, in a record and in --help.


@dataclass(frozen=True)
class VariantOption:
    variant: tuple[str, ...] = option("LIST", _VARIANT_HELP, _VARIANTS, "tutorial")


@dataclass(frozen=True)
class WorkerOptions:
    """Which Workers, and what they are given."""

    framework: str | None = option("LIST", f"{', '.join(PEERS)}, or all; default: {_IN_DEFAULT_RUN}, if installed")
    mode: str | None = option("LIST", _MODES)
    device: tuple[str, ...] = option("DEVICE", "cpu, cuda, or cuda:1", _parse_devices, "cpu")
    size: int | None = option("PIXELS", "input size; default: the variant's own", parse_count)
    threads: int | None = option("N", "default: all cores this process may use", parse_count)
    seed: int = option("N", "of weights, images and the order of turns", _parse_seed, "0")
    python: tuple[tuple[str, str], ...] = option(
        "FRAMEWORK=PATH", "another interpreter for one framework", _parse_interpreter, repeated=True
    )
    env: tuple[tuple[str, str], ...] = option(
        "NAME[=VALUE]", "let one more variable through to the Workers", _parse_variable, repeated=True
    )
    worker_limit_s: float | None = option("SECONDS", "longest that one request may take; default 600", parse_seconds)


@dataclass(frozen=True)
class NetOptions(WorkerOptions, VariantOption):
    """Which nets, in which arithmetic."""

    precision: str = option("LIST", "fp32, bf16, or on a GPU tf32", default="fp32")
    layout: str | None = option("LIST", _LAYOUTS)
    lrn: tuple[str, ...] = option("LIST", "native: the framework's own; fast", _some_of("LRN", _lrns), "native")


@dataclass(frozen=True)
class RunRequest(NetOptions):
    net: tuple[str, ...] = option("FILE.py:FUNCTION", "a net of your own beside ours; see examples/", repeated=True)
    preset: tuple[str, ...] = option(
        "LIST", "equal (all pinned alike), default (nothing set)", _some_of("preset", _presets), "equal"
    )
    batch: tuple[int, ...] | None = option("LIST", "default: 8 on a CPU, 128 on a GPU", _parse_counts)
    pass_: tuple[str, ...] = option("LIST", f"{', '.join(PASSES)}, or all", _some_of("pass", lambda: PASSES), "all")
    rounds: int | None = option("N", "fresh Workers each; default 5", parse_count)
    burn_in: int | None = option("N", "the fewest; default 10, more until times are steady", parse_count)
    iterations: int | None = option("N", "samples of a case in a Round; default 10, on a GPU 20", parse_count)
    no_gate: bool = flag("burn in exactly as often as asked")
    max_time_s: float | None = option(
        "SECONDS", "for the whole Run; each first Round is run all the same", parse_seconds
    )
    target_ci: float | None = option(
        "PERCENT", "stop when 95 % intervals are that narrow (from 8 Rounds, at most 30)", parse_percent
    )
    ab: str | None = option(
        "KEY=A,B", "two sides, turn by turn; KEY: impls, python, net, threads, mode, layout, lrn ..."
    )
    dropout: bool = flag(f"dropout on in {_TRAINING}")
    protocol: str = option(
        "NAME", "rounds, or classic (the article's)", _one_of("protocol", ("rounds", "classic")), "rounds"
    )
    weights: Path | None = option("FILE", "Caffe's .npy or a .safetensors; default: drawn from --seed", parse_path)
    out: Path = option("DIR", "where the Run folder is made", parse_path, "results")
    name: str | None = option("NAME", "end of the Run folder's name; default: the variants")
    resume: Path | None = option(
        "FOLDER", "go on with a Run that was cut off; shapes nothing new", parse_path, environment=False
    )
    dry_run: bool = flag("print the cases and the time they are expected to take", environment=False)
    as_json: bool = _json("the results on stdout as JSON, nothing else there")


@dataclass(frozen=True, kw_only=True)
class ResumeRequest:
    """What `run` can be asked beside --resume: where to find what a Run does not store, and what shapes no sample."""

    resume: Path
    python: tuple[tuple[str, str], ...] = ()
    net: tuple[str, ...] = ()
    weights: Path | None = None
    ab: str | None = None
    max_time_s: float | None = None
    worker_limit_s: float | None = None
    as_json: bool = False


@dataclass(frozen=True)
class LayersRequest(WorkerOptions, VariantOption):
    variant: tuple[str, ...] = option("LIST", _VARIANT_HELP, _VARIANTS, "all")
    as_json: bool = _json()


@dataclass(frozen=True)
class VerifyRequest(NetOptions):
    batch: int | None = option("N", "images the net is built for; default 2, or those of --against", parse_count)
    weights: Path | None = option("FILE", "Caffe's .npy or a .safetensors; default: drawn from --seed", parse_path)
    dump: Path | None = option("FILE.npz", "keep input, weights and what one framework made of them", parse_path)
    against: Path | None = option(
        "FILE.npz", "hold against another implementation's values instead of float64", parse_path
    )
    save_weights: Path | None = option(
        "FILE.safetensors", "keep one variant's weights: the seed's, or a .npy's", parse_path
    )
    as_json: bool = _json()


@dataclass(frozen=True)
class ProfileRequest(NetOptions):
    run: Path | None = argument("[RUN]")
    preset: tuple[str, ...] = option(
        "LIST", "equal (all pinned alike), default (nothing set)", _some_of("preset", _presets), "equal"
    )
    batch: tuple[int, ...] | None = option("LIST", "default: 32 on a CPU, 128 on a GPU", _parse_counts)
    rounds: int | None = option("N", "fresh Workers each; default 3", parse_count)
    burn_in: int | None = option("N", "default 3", parse_count)
    iterations: int | None = option("N", "samples of a row in a Round; default 6", parse_count)
    max_time_s: float | None = option(
        "SECONDS", "for the whole Run; the first Round is run all the same", parse_seconds
    )
    out: Path = option("DIR", "where the Run folder is made", parse_path, "results")
    as_json: bool = _json()


@dataclass(frozen=True)
class CompareRequest:
    base: Path = argument("BASE", required=True)
    candidate: Path | None = argument("[CANDIDATE]")
    margin: float = option("PERCENT", "less than this is the same", parse_percent, "2")
    allow: str | None = option("LIST", "conditions that may differ, being what is compared: versions, python, env ...")
    spread: Path | None = option(
        "DIR", "where A/A Runs are, beside the folders that BASE and CANDIDATE are in", parse_path
    )
    strict: bool = flag("exit 3 where a case is inconclusive")
    as_json: bool = _json()
    markdown: bool = flag("a table for a pull request", environment=False)


@dataclass(frozen=True)
class SelftestRequest(WorkerOptions, VariantOption):
    runs: tuple[Path, ...] = argument("[RUN...]", repeated=True)
    aa: bool = flag("time one case as if it were two: nothing may be found")
    power: float | None = option("PERCENT", "slow one of the two by this much: it must be found", parse_percent)
    repeat: int = option("N", "Runs of --aa or --power", parse_count, "1")
    thorough: bool = flag("the whole grid of simulations, about 2 minutes")
    variant: tuple[str, ...] = option("LIST", "of --aa and --power", _VARIANTS, "half_width")
    batch: tuple[int, ...] = option("LIST", "of --aa and --power", _parse_counts, "4")
    pass_: tuple[str, ...] = option("LIST", "of --aa and --power", _some_of("pass", lambda: PASSES), "all")
    rounds: int = option("N", "of --aa and --power", parse_count, "10")
    iterations: int | None = option("N", "of --aa and --power", parse_count)
    out: Path = option("DIR", "where results are kept", parse_path, "results")
    as_json: bool = _json()


@dataclass(frozen=True)
class EnvRequest(WorkerOptions):
    as_json: bool = _json()


@dataclass(frozen=True)
class PlotRequest:
    results: tuple[Path, ...] = argument("[CSV_OR_RUN...]", repeated=True)
    kind: str = option("KIND", f"one of {', '.join(KINDS)}", _one_of("kind", KINDS), "times")
    output: Path | None = option("FILE", "PNG, SVG or PDF by its ending; default: KIND.png", parse_path)


@dataclass(frozen=True)
class ReportRequest:
    runs: tuple[Path, ...] = argument("[RUN...]", repeated=True)
    output: Path | None = option("FILE.html", "default: report.html in the Run's folder", parse_path)
    margin: float = option("PERCENT", "as `compare` was given it", parse_percent, "2")


@dataclass(frozen=True)
class ExportRequest:
    run: Path = argument("RUN", required=True)
    format: str = option(
        "FORMAT", "pytest-benchmark, bencher, github-action-benchmark, trace or markdown", required=True
    )
    output: Path | None = option("FILE", "default: stdout", parse_path)


@dataclass(frozen=True)
class IngestRequest:
    files: tuple[Path, ...] = argument("FILE...", repeated=True, required=True)
    out: Path = option("DIR", "where the Run folder is made", parse_path, "results")
    name: str | None = option("NAME", "end of the Run folder's name; default: the file's")
    as_json: bool = _json()
