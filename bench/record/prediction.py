"""What `predict` writes to its folder: a row per file and framework, counts, and what was run.

``record.csv`` grows as pictures are predicted; ``predict.json`` has the settings from the start, and what came out at
the end. ``per_class.csv`` and ``confusion.csv`` count pictures whose class folder is a class of the weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench import UsageError
from bench.record import csvfile
from bench.record.events import WeightsFile
from bench.record.tally import Tally
from bench.stats.binomial import Share
from impls.files import open_whole
from impls.preprocessing import Preprocessing
from impls.text import one_line

SETTINGS, RECORD, PER_CLASS, CONFUSION = "predict.json", "record.csv", "per_class.csv", "confusion.csv"
#: Plots: the confusion matrix, and the worst mistakes as a contact sheet.
MATRIX, MISTAKES = "confusion.png", "mistakes.png"
SCHEMA = 1


class Settings(Struct, frozen=True):
    """What predictions depend on; ``versions`` are those of each framework's Worker, ``pictures`` what was named."""

    schema: int
    alexnet_bench: str
    weights: WeightsFile
    variant: str
    size: int
    preprocessing: Preprocessing
    classes: list[str]
    classes_from: str
    frameworks: list[str]
    device: str
    batch: int
    pictures: list[str]
    held_out: bool
    versions: dict[str, dict[str, str]]


class Rate(Struct, frozen=True):
    """An accuracy with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, share: Share | None) -> "Rate | None":
        return share and cls(share.value, share.low, share.high)


class Accuracy(Struct, frozen=True):
    """None where it says nothing: without a picture whose class is known, of the first five of five classes."""

    pictures: int
    top1: Rate | None
    top5: Rate | None


class Outcome(Struct, frozen=True):
    """Counts of files, ``not_finite`` by framework; ``done`` is false of a prediction that was interrupted or failed.

    ``other_entries`` of folders are no readable files: dead links, pipes, folders without permission.
    """

    done: bool
    files: int
    predicted: int
    unreadable: int
    other_entries: int
    not_finite: dict[str, int]
    accuracy: dict[str, Accuracy]
    notes: dict[str, int]


class Guess(Struct, frozen=True):
    """A class and its probability."""

    name: str
    probability: float


class Row(Struct, frozen=True):
    """Of a file that cannot be read the framework is empty; of one with an ``error`` there are no guesses."""

    file: str
    framework: str
    truth: str | None
    guesses: list[Guess]
    note: str
    error: str

    def cells(self) -> dict[str, Any]:
        cells: dict[str, Any] = {name: getattr(self, name) for name in ("file", "framework", "truth", "note", "error")}
        for number, guess in enumerate(self.guesses, 1):
            cells |= {f"class_{number}": guess.name, f"probability_{number}": guess.probability}
        return cells


def columns(top: int) -> list[str]:
    """Of record.csv, with this many classes."""
    guesses = [f"{what}_{number}" for number in range(1, top + 1) for what in ("class", "probability")]
    return ["file", "framework", "truth", *guesses, "note", "error"]


class Whole(Struct, frozen=True):
    """What predict.json holds; no ``outcome`` before the end."""

    settings: Settings
    outcome: Outcome | None


def read(folder: Path) -> Whole:
    """Read predict.json of a folder; UsageError if it is none of `predict`, or of another version."""
    try:
        found = msgspec.json.decode((folder / SETTINGS).read_bytes(), type=Whole)
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(one_line(f"{folder}: cannot read what `predict` wrote: {why}", 300)) from error
    if found.settings.schema != SCHEMA:
        raise UsageError(f"{folder}: its {SETTINGS} is of schema {found.settings.schema}, expected {SCHEMA}")
    return found


def write_settings(folder: Path, settings: Settings, outcome: Outcome | None = None) -> None:
    """What was run and, at its end, what came out."""
    whole = Whole(settings, outcome)
    with open_whole(folder / SETTINGS) as file:
        file.write(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")


def write_counts(folder: Path, classes: Sequence[str], tallies: Mapping[str, Tally]) -> None:
    """per_class.csv and confusion.csv, the latter without counts that are 0."""
    by_class = (
        (framework, classes[truth], right.total, round(right.value * right.total), right.value, right.low, right.high)
        for framework, tally in tallies.items()
        for truth, right in tally.by_class().items()
    )
    names = ("framework", "class", "pictures", "right", "accuracy", "ci95_low", "ci95_high")
    csvfile.lines(folder / PER_CLASS, names, by_class)
    pairs = (
        (framework, classes[truth], classes[predicted], count)
        for framework, tally in tallies.items()
        for (truth, predicted), count in sorted(tally.counts.items())
    )
    csvfile.lines(folder / CONFUSION, ("framework", "truth", "predicted", "count"), pairs)
