"""What `train` writes to its folder: settings, a row per epoch, counts of predictions, checkpoints.

``train.json`` has the settings, ``history.csv`` a row per framework and epoch, ``confusion.csv`` the predictions of
each framework's best epoch, ``FRAMEWORK/best.safetensors`` the weights of that epoch, ``FRAMEWORK/last.safetensors``
those of the last with the velocity, from which training is resumed. Every file is replaced atomically.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct, structs

from bench import UsageError
from bench.record import csvfile
from bench.record.events import WeightsFile
from bench.stats.binomial import Share, share
from impls import weights
from impls.files import open_whole
from impls.preprocessing import Preprocessing
from impls.text import one_line
from impls.variants import Variant
from impls.weights import Weights, WeightsError

SETTINGS, HISTORY, CONFUSION, BEST, LAST = (
    *("train.json", "history.csv", "confusion.csv"),
    *("best.safetensors", "last.safetensors"),
)
#: Plots: a batch as the net sees it, loss and accuracy by epoch, the confusion matrix.
BATCH, CURVES, MATRIX = "batch.png", "curves.png", "confusion.png"
SCHEMA = 2


class Settings(Struct, frozen=True):
    """What a training depends on; ``pictures`` is the name of their folder, None for the drawn flowers, ``names`` the
    sha256 of their names."""

    schema: int
    alexnet_bench: str
    variant: str
    size: int
    preprocessing: Preprocessing
    classes: list[str]
    frameworks: list[str]
    epochs: int
    lr: float
    momentum: float
    decay: float
    batch: int
    seed: int
    init: str
    freeze: list[str]
    weights: WeightsFile | None
    pictures: str | None
    names: str


class _Schema(Struct, frozen=True):
    """What is read first: another schema has other fields."""

    schema: int


class Epoch(Struct, frozen=True):
    """One epoch of one framework, and accuracy and mean cross-entropy on the held-out pictures after it."""

    framework: str
    epoch: int
    loss: float
    held_out_loss: float
    held_out_accuracy: float
    held_out: int
    images_per_s: float
    seconds: float

    @property
    def accuracy(self) -> Share:
        """On the held-out pictures, with its interval."""
        return share(round(self.held_out_accuracy * self.held_out), self.held_out)


class Result(Struct, frozen=True):
    """An epoch, and counts of its predictions of held-out pictures: true class, predicted class, count."""

    epoch: Epoch
    predictions: list[tuple[int, int, int]]

    def confusion(self, classes: int) -> np.ndarray:
        """Counts of shape (classes, classes): true classes in rows."""
        counts = np.zeros((classes, classes), int)
        for truth, predicted, count in self.predictions:
            counts[truth, predicted] = count
        return counts


@dataclass(frozen=True)
class Checkpoint:
    """Weights and velocity, which is empty at the start, and what they did: None at the start.

    A training is known by its last checkpoint: history, confusion and the best weights follow from it.
    """

    weights: Weights
    velocity: Weights
    result: Result | None = None

    @property
    def epoch(self) -> int:
        return self.result.epoch.epoch if self.result else 0


@dataclass(frozen=True, eq=False)
class Trained:
    """A folder of `train`.

    confusion : by framework, counts of shape (classes, classes), true classes in rows
    """

    folder: Path
    settings: Settings
    epochs: tuple[Epoch, ...]
    confusion: Mapping[str, np.ndarray]

    def of(self, framework: str) -> list[Epoch]:
        return [epoch for epoch in self.epochs if epoch.framework == framework]

    def best(self, framework: str) -> Epoch | None:
        """The epoch of the highest accuracy; of several the one of the lowest held-out loss."""
        return max(self.of(framework), key=rank, default=None)


def rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.held_out_accuracy, -epoch.held_out_loss


def write_settings(folder: Path, settings: Settings) -> None:
    with open_whole(folder / SETTINGS) as file:
        file.write(msgspec.json.format(msgspec.json.encode(settings), indent=1) + b"\n")


def write_history(folder: Path, epochs: Iterable[Epoch]) -> None:
    csvfile.write(folder / HISTORY, Epoch.__struct_fields__, map(structs.asdict, epochs))


def write_confusion(folder: Path, classes: Sequence[str], confusion: Mapping[str, np.ndarray]) -> None:
    """Rows: framework, true class, predicted class, count; without those that are 0."""
    cells = (
        (framework, classes[truth], classes[predicted], int(counts[truth, predicted]))
        for framework, counts in confusion.items()
        for truth, predicted in np.argwhere(counts)
    )
    csvfile.lines(folder / CONFUSION, ("framework", "truth", "predicted", "count"), cells)


def write_checkpoint(path: Path, settings: Settings, framework: str, checkpoint: Checkpoint) -> None:
    """Raises OSError, WeightsError."""
    facts = {
        "alexnet_bench": settings.alexnet_bench,
        "variant": settings.variant,
        "size": str(settings.size),
        "classes": json.dumps(settings.classes),
        "preprocessing": msgspec.json.encode(settings.preprocessing).decode(),
        "pictures": settings.names,
        "framework": framework,
        "init": settings.weights.file if settings.weights else settings.init,
        "epoch": str(checkpoint.epoch),
    }
    if checkpoint.result and checkpoint.velocity:
        facts["result"] = msgspec.json.encode(checkpoint.result).decode()
    path.parent.mkdir(exist_ok=True)
    weights.save(checkpoint.weights, path, checkpoint.velocity, facts)


def read(folder: Path) -> Trained:
    """Read a folder of `train`; UsageError if it is none."""
    try:
        data = (folder / SETTINGS).read_bytes()
        if (schema := msgspec.json.decode(data, type=_Schema).schema) != SCHEMA:
            raise UsageError(f"{folder}: its {SETTINGS} is of schema {schema}, expected {SCHEMA}: train anew")
        settings = msgspec.json.decode(data, type=Settings)
        epochs = tuple(msgspec.convert(row, Epoch, strict=False) for row in _rows(folder / HISTORY))
        place = {name: at for at, name in enumerate(settings.classes)}
        confusion: dict[str, np.ndarray] = {}
        for row in _rows(folder / CONFUSION):
            counts = confusion.setdefault(row["framework"], np.zeros((len(place), len(place)), int))
            counts[place[_own(row["truth"])], place[_own(row["predicted"])]] = int(row["count"])
    except FileNotFoundError as error:
        raise UsageError(f"{folder}: expected a folder of `train`, found no {SETTINGS}") from error
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(one_line(f"{folder}: cannot read what `train` wrote: {why}", 300)) from error
    return Trained(folder, settings, epochs, confusion)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():  # before the first epoch ended
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _own(cell: str) -> str:
    """A class as it is named, without the apostrophe of ``csvfile.inert``."""
    return cell[1:] if cell.startswith("'") and csvfile.inert(cell[1:]) == cell else cell


def last_result(folder: Path, framework: str) -> Result | None:
    """The result of a framework's last checkpoint, None at its start. UsageError if there is none that can be read."""
    path = folder / framework / LAST
    try:
        facts = weights.metadata(path)
        return None if facts["epoch"] == "0" else msgspec.json.decode(facts["result"], type=Result)
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
        raise UsageError(f"cannot read {path}: expected the checkpoint of an epoch; train anew") from error


def read_last(folder: Path, framework: str, net: Variant) -> Checkpoint:
    """A framework's last checkpoint. UsageError if it cannot be read or is not of this net."""
    path = folder / framework / LAST
    try:
        return Checkpoint(weights.load(path, net), weights.load_velocity(path), last_result(folder, framework))
    except (OSError, WeightsError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
