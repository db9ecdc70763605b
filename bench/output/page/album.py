"""Chapters of the report on folders of `train` and `predict`: a table, and their plots as they are."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import UsageError
from bench.output import prediction_table, training_table
from bench.output.console import number
from bench.output.tables import Table
from bench.record import prediction, training
from impls.preprocessing import Preprocessing


@dataclass(frozen=True)
class Plate:
    """A PNG of the folder, in base64; ``text`` is its alternative for readers who cannot see it."""

    title: str
    caption: str
    text: str
    data: str


@dataclass(frozen=True)
class Album:
    """The template's values for one folder; ``id`` is the prefix of its HTML ids."""

    id: str
    name: str
    lead: str
    facts: Sequence[tuple[str, str]]
    table: Table
    notes: Sequence[str]
    plates: Sequence[Plate]


BATCH = "The first batch of the training, as the net sees it: cropped, flipped, normalized and turned back to pixels."
CURVES = "Loss and held-out accuracy. Frameworks part after the first rounding that decides a ReLU differently."
CONFUSION = "Which class was taken for which; the diagonal is right."
MISTAKES = "The mistakes that were most certain, as the net sees them: the true class, and what it was taken for."


def is_album(folder: Path) -> bool:
    """Whether `train` or `predict` wrote a folder."""
    return any((folder / name).is_file() for name in (training.SETTINGS, prediction.SETTINGS))


def album_of(folder: Path, id_: str) -> Album:
    """The chapter of a folder of `train` or `predict`. UsageError if it cannot be read."""
    return _trained(folder, id_) if (folder / training.SETTINGS).is_file() else _predicted(folder, id_)


def _trained(folder: Path, id_: str) -> Album:
    trained = training.read(folder)
    settings = trained.settings
    facts = [
        ("net", f"{settings.variant} at {settings.size} px"),
        ("pictures", settings.pictures or "drawn flowers"),
        ("classes", ", ".join(settings.classes[:10]) + (" ..." if len(settings.classes) > 10 else "")),
        ("pixels", pixels(settings.preprocessing)),
        ("begun with", settings.weights.file if settings.weights else f"init {settings.init}"),
    ]
    table = training_table.table(trained)
    about = "; ".join(f"{row[0].text} {row[1].text}" for row in table.rows)
    plates = _plates(
        folder,
        about,
        (training.BATCH, "A batch", BATCH),
        (training.CURVES, "Curves", CURVES),
        (training.MATRIX, "Confusion", CONFUSION),
    )
    done = max((epoch.epoch for epoch in trained.epochs), default=0)
    lead = f"A training of {done} of {settings.epochs} epochs; nothing in it is timed."
    notes = [note for note in training_table.remarks(trained) if str(folder) not in note]  # no path of this machine
    return Album(id_, folder.resolve().name, lead, facts, table, notes, plates)


def _predicted(folder: Path, id_: str) -> Album:
    whole = prediction.read(folder)
    settings, outcome = whole.settings, whole.outcome
    facts = [
        ("net", f"{settings.variant} at {settings.size} px"),
        ("weights", f"{settings.weights.file} (sha256 {settings.weights.sha256[:8]})"),
        ("pixels", pixels(settings.preprocessing)),
        ("frameworks", ", ".join(settings.frameworks)),
        ("pictures", ", ".join(settings.pictures[:5]) + (" ..." if len(settings.pictures) > 5 else "")),
    ]
    table = prediction_table.accuracy_table(outcome.accuracy if outcome else {})
    about = "; ".join(f"{row[0].text} {row[2].text}" for row in table.rows)
    plates = _plates(
        folder,
        about,
        (prediction.MATRIX, "Confusion", CONFUSION),
        (prediction.MISTAKES, "Worst mistakes", MISTAKES),
    )
    notes = [f"{count:,} pictures: {note}" for note, count in outcome.notes.items()] if outcome else []
    if outcome is None:
        lead = "A prediction that was cut off; record.csv has its rows."
    else:
        lead = f"{outcome.predicted:,} of {outcome.files:,} pictures were predicted; nothing in it is timed."
    return Album(id_, folder.resolve().name, lead, facts, table, notes, plates)


def pixels(preprocessing: Preprocessing) -> str:
    """A preprocessing in a few words."""
    values = ", ".join(map(number, preprocessing.subtract))
    return f"{preprocessing.name}: {preprocessing.resize} to {preprocessing.side}, {preprocessing.colors} less {values}"


def _plates(folder: Path, text: str, *named: tuple[str, str, str]) -> list[Plate]:
    """The PNGs of these names, titles and captions that the folder has; ``text`` is what they show."""
    plates = []
    for file, title, caption in named:
        try:
            data = (folder / file).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"cannot read {folder / file}: {error.strerror}") from error
        plates.append(Plate(title, caption, f"{title}. {text}", base64.b64encode(data).decode("ascii")))
    return plates
