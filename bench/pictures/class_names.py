"""Names of a net's classes, in the order of its outputs, and which of them the folder of a picture means."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from bench import UsageError
from bench.pictures.listing import escaped
from impls.text import quoted

#: Of the challenge that AlexNet won, whose 1,000 classes are those of most weights.
ILSVRC2012 = "ilsvrc2012.csv"
WITH_BACKGROUND = 1001  # outputs of some programs' nets, whose first one is "background"


@dataclass(frozen=True)
class ClassNames:
    """Classes in the order of the outputs; ``source`` says where the names are from.

    shown : one per class, different from each other
    also : other names of a class that a folder may have, such as its synset id
    """

    shown: tuple[str, ...]
    source: str
    also: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.shown)

    def place(self, truth: str) -> int | None:
        """The class that a folder of this name means, exactly; None for another name, or that of several classes."""
        return self._places.get(truth)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for names in (self.also, self.shown) for place, name in enumerate(names)}


def distinct(names: Sequence[str], marks: Sequence[str]) -> tuple[str, ...]:
    """Names that several classes have, each followed by its mark in parentheses."""
    counts = Counter(names)
    return tuple(f"{name} ({mark})" if counts[name] > 1 else name for name, mark in zip(names, marks, strict=True))


def ilsvrc2012() -> ClassNames:
    """Of its names two are those of two classes each, crane and maillot: these are shown with the synset."""
    text = resources.files("bench.pictures").joinpath(ILSVRC2012).read_text("utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    ids = tuple(row["synset"] for row in rows)
    return ClassNames(distinct([row["name"] for row in rows], ids), "ILSVRC-2012", ids)


def numbered(count: int) -> ClassNames:
    return ClassNames(tuple(f"class {place}" for place in range(count)), "number")


def read_labels(path: Path) -> ClassNames:
    """Read a file with the name of a class per line. UsageError."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"--labels: cannot read {quoted(str(path))}: {why}") from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise UsageError(f"--labels: line {number}: expected the name of a class, found {quoted(name)}")
    return ClassNames(distinct(names, [f"class {place}" for place in range(len(names))]), escaped(path.name))


def classes_of(outputs: int, known: Sequence[str] | None, labels: Path | None) -> ClassNames:
    """Names of a net's classes: what its weights say, else of a file of ``labels``, else those of ILSVRC-2012 for as
    many outputs. UsageError where they are not as many."""
    if known is not None:
        if labels is not None:
            raise UsageError("--labels: the weights name their classes; leave it out")
        found = ClassNames(tuple(map(escaped, known)), "the weights", tuple(known))
        what = f"--weights: they name {len(found):,} classes, found {outputs:,} outputs"
    elif labels is not None:
        found = read_labels(labels)
        what = f"--labels: expected a name for each of {outputs:,} outputs, found {len(found):,}"
    else:
        found = numbered(outputs)
        if outputs == len(usual := ilsvrc2012()):
            return usual
    if len(found) != outputs:
        raise UsageError(what)
    return found
