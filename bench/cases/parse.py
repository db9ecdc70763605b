"""Parse values that a user writes. Each function returns the value or raises a one-line UsageError.

``what`` names the option or the kind of value in the message.
"""

import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bench import UsageError
from impls import ACCELERATORS, FRAMEWORKS, PEERS, Accelerator, accelerator_of
from impls.text import quoted

#: The largest counts. A larger number is a slip, and its bytes or its time would fit no machine.
MOST_BATCH, MOST_SIZE, MOST_THREADS = 2**16, 2**11, 2**12
MOST_WORKERS = 256  # of a loader
MOST_RANKS = 2**10  # of a Team
MOST_SHARDS = 10**5
CLIENT_PORT = 10001  # of Ray's server for clients
MOST_VALUES = 2**28  # of one input: 1 GiB
YEAR_S = 31_536_000
LONGEST_NAME = 200  # bytes; a file system allows 255, of which a Run's time takes 17


def parse_choice(what: str, text: str, choices: Iterable[str]) -> str:
    """``text`` if it is one of ``choices``, else UsageError listing them."""
    choices = list(choices)
    if text in choices:
        return text
    raise UsageError(f"unknown {what} {quoted(text)}: choose {join_or(choices)}")


def parse_choices(what: str, text: str, choices: Iterable[str]) -> list[str]:
    """A comma-separated list of choices, or ``all``; without duplicates, in the order given."""
    choices = list(choices)
    if text == "all":
        return choices
    return list(dict.fromkeys(parse_choice(what, word, choices) for word in split_list(text)))


def parse_count(what: str, text: str | int, most: int, least: int = 1) -> int:
    """A whole number from ``least`` to ``most``."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise UsageError(f"{what}: expected a whole number from {least} to {most:,}, found {quoted(text)}")
    return number


def parse_number(text: str) -> float:
    """A float; NaN, which fails every range check, for other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_seconds(what: str, text: str) -> float:
    if not 0 < (number := parse_number(text)) <= YEAR_S:
        raise UsageError(f"{what}: expected seconds, above 0 and at most {YEAR_S:,}, found {quoted(text)}")
    return number


def parse_percent(what: str, text: str) -> float:
    """A fraction, from percent."""
    if not 0 < (number := parse_number(text.removesuffix("%"))) < 100:
        raise UsageError(f"{what}: expected percent, above 0 and below 100, found {quoted(text)}")
    return number / 100


def parse_rate(what: str, text: str) -> float:
    if not 0 < (number := parse_number(text)) < math.inf:
        raise UsageError(f"{what}: expected a number above 0, found {quoted(text)}")
    return number


def parse_device(text: str) -> str:
    """A kind of device or, where there can be several, with the number of one."""
    kind, colon, number = text.partition(":")
    if kind in ACCELERATORS and (not colon or (ACCELERATORS[kind].indexed and re.fullmatch("[0-9]{1,3}", number))):
        return text
    raise UsageError(f"unknown device {quoted(text)}: choose {', '.join(ACCELERATORS)}, or one GPU such as cuda:1")


def lacking(devices: Sequence[str], has: Callable[[Accelerator], bool]) -> str:
    """The first of these devices whose kind does not have it, as in a sentence; empty if all have it."""
    return next((kind.title for kind in map(accelerator_of, devices) if not has(kind)), "")


def computes_on(framework: str, device: str) -> bool:
    """Whether the framework has this kind of device."""
    return accelerator_of(device).kind in ("cpu", *FRAMEWORKS[framework].accelerators)


def refuse_device(framework: str, device: str) -> None:
    """UsageError for a framework that does not have this kind of device, with those that have it."""
    if not computes_on(framework, device):
        having = join_or([name for name in PEERS if computes_on(name, device)])
        raise UsageError(f"{framework} has no {accelerator_of(device).kind}: choose --framework {having}")


def parse_modes(frameworks: Sequence[str], text: str | None, devices: Sequence[str] = ("cpu",)) -> dict[str, list[str]]:
    """The modes of each framework: its default, or those in the list that it has on these devices.

    Raises UsageError for a mode that no framework has, or a framework without any.
    """
    if text is None:
        return {name: [FRAMEWORKS[name].modes[0]] for name in frameworks}
    elsewhere = lacking(devices, lambda accelerator: accelerator.kind == "cuda")
    choices = {
        name: [mode for mode in FRAMEWORKS[name].modes if mode not in FRAMEWORKS[name].cuda_only or not elsewhere]
        for name in frameworks
    }
    for name, modes in choices.items():
        for word in split_list(text):
            if word in FRAMEWORKS[name].cuda_only and word not in modes:
                raise UsageError(f"{name}'s mode {quoted(word)} needs cuda: choose {join_or(modes)} on {elsewhere}")
    return _choices_per_framework("mode", text, choices)


def parse_layouts(frameworks: Sequence[str], text: str | None) -> dict[str, list[str]]:
    """The layouts of each framework: its default, or those in the list that it has; a sole layout is always kept."""
    if text is None:
        return {name: [FRAMEWORKS[name].layouts[0]] for name in frameworks}
    choices = {name: FRAMEWORKS[name].layouts for name in frameworks}
    return _choices_per_framework("layout", text, choices, keep_sole=True)


def _choices_per_framework(
    what: str, text: str, choices: Mapping[str, Sequence[str]], keep_sole: bool = False
) -> dict[str, list[str]]:
    """The words of a list that each framework has; with ``keep_sole`` a framework with one choice keeps it."""
    if text == "all":
        return {name: list(own) for name, own in choices.items()}
    words = list(dict.fromkeys(split_list(text)))
    for word in words:
        if not any(word in own for own in choices.values()):
            if len(choices) == 1:
                ((name, own),) = choices.items()
                raise UsageError(f"{name} has no {what} {quoted(word)}: choose {join_or(own)}")
            known = "; ".join(f"{name} has {', '.join(own)}" for name, own in choices.items())
            raise UsageError(f"unknown {what} {quoted(word)}: {known}")
    chosen: dict[str, list[str]] = {}
    for name, own in choices.items():
        chosen[name] = [word for word in words if word in own] or (list(own) if keep_sole and len(own) == 1 else [])
        if not chosen[name]:
            raise UsageError(f"{name} has no {what} {quoted(text)}: choose {join_or(own)}, or leave {name} out")
    return chosen


def parse_shard(what: str, text: str) -> tuple[int, int]:
    """``I/N``: shard I of N, counted from 0."""
    index, _, count = text.partition("/")
    if not re.fullmatch("[0-9]{1,9}/[0-9]{1,9}", text) or not int(index) < int(count) <= MOST_SHARDS:
        raise UsageError(
            f"{what}: expected I/N with N from 1 to {MOST_SHARDS:,} and I from 0 to N - 1, such as 0/8 for the first "
            f"of 8 (SLURM_ARRAY_TASK_ID of --array=0-7, JOB_COMPLETION_INDEX), found {quoted(text)}"
        )
    return int(index), int(count)


def parse_cluster(what: str, text: str) -> str:
    """``ray://HOST`` or ``ray://HOST:PORT``, with the port."""
    found = re.fullmatch(r"ray://([A-Za-z0-9][A-Za-z0-9.-]*)(?::([0-9]{1,5}))?", text)
    if not found or not 0 < int(found[2] or CLIENT_PORT) < 2**16:
        raise UsageError(
            f"{what}: expected ray://HOST or ray://HOST:PORT, the head of a cluster and the port of its server for "
            f"clients (default {CLIENT_PORT}; 6379 is another server's), found {quoted(text)}"
        )
    return f"ray://{found[1]}:{found[2] or CLIENT_PORT}"


def parse_input(what: str, text: str) -> str:
    """The shape of one input of a user's model, ``3x224x224``."""
    numbers = text.lower().split("x")
    if not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
        raise UsageError(
            f"{what}: expected sizes joined by x, without the batch, such as 3x224x224, found {quoted(text)}"
        )
    shape = list(map(int, numbers))
    if not 1 <= math.prod(shape) <= MOST_VALUES:
        raise UsageError(f"{what}: expected 1 to {MOST_VALUES:,} values, found {quoted(text)}")
    return "x".join(map(str, shape))


def resolve_interpreter(text: str) -> str:
    """An absolute path, since a Worker runs in another folder."""
    path = os.path.expanduser(text)
    return os.path.abspath(shutil.which(path) or path)  # keep links: an environment's python is one


def parse_path(what: str, text: str) -> Path:
    """A path; UsageError for the empty one, as of an empty variable in a shell, which would be the current folder."""
    if not text or "\0" in text:
        raise UsageError(f"{what}: expected a path, found {quoted(text)}")
    return Path(text)


def parse_name(what: str, text: str) -> str:
    """A part of a file name."""
    if not re.fullmatch(r"[\w.-]+", text) or len(text.encode()) > LONGEST_NAME:
        raise UsageError(
            f"{what}: expected up to {LONGEST_NAME} letters, digits, '.', '_' and '-', found {quoted(text)}"
        )
    return text


def option_name(field: str) -> str:
    """The option of a field: ``--max-time`` of ``max_time_s``, ``--json`` of ``as_json``, ``--pass`` of ``pass_``."""
    return "--" + field.removeprefix("as_").removesuffix("_s").rstrip("_").replace("_", "-")


def is_variable(name: str) -> bool:
    """Whether an environment variable can have this name."""
    return bool(re.fullmatch(r"[A-Za-z_]\w*", name))


def refuse_visible(what: str, name: str) -> None:
    """UsageError for a variable that selects devices: NVML is read in this process, under its own value."""
    if any(name in accelerator.visible_by for accelerator in ACCELERATORS.values()):
        raise UsageError(f"{what}: set it for the whole command instead: {name}=1 alexnet-bench ...")


def split_list(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in text.split(",")]


def join_or(choices: Sequence[str]) -> str:
    """Format choices: ``a, b or c``."""
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
