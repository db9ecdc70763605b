"""What came out of a prediction, gathered chunk by chunk: counts, the first few files, the worst mistakes."""

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.controller.prediction import Answer, probabilities
from bench.pictures.class_names import ClassNames
from bench.pictures.listing import escaped
from bench.pictures.preparer import Prepared
from bench.record.differences import Differences
from bench.record.prediction import Accuracy, Guess, Outcome, Rate, Row
from bench.record.tally import TOP, Tally
from impls.preprocessing import Preprocessing, central
from impls.text import one_line

FEW = 10  # files whose classes are shown one by one
MOST_MISTAKES = 24
NOT_FINITE = "the logits are not finite"


@dataclass(frozen=True, eq=False)
class Mistake:
    """A file that was taken for another class, with the probability of that class.

    pixels : ndarray of shape (size, size, 3), uint8, the middle crop
    """

    name: str
    truth: str
    predicted: str
    probability: float
    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class Shown:
    """One of the first files: its rows, by framework."""

    name: str
    truth: str | None
    rows: tuple[Row, ...]


@dataclass(eq=False)
class Predicted:
    """Everything but the rows, which go to record.csv. Mistakes are those of the first framework."""

    frameworks: Sequence[str]
    classes: ClassNames
    preprocessing: Preprocessing
    top: int
    files: int = 0
    unreadable: int = 0
    problems: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    not_finite: Counter[str] = field(default_factory=Counter)
    shown: list[Shown] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    """How many files each class is the most probable of, in the first framework."""
    differences: Differences = field(default_factory=Differences)

    def __post_init__(self) -> None:
        self.tallies = {framework: Tally(len(self.classes)) for framework in self.frameworks}
        self._worst: list[tuple[float, int, Mistake]] = []
        self._number = itertools.count()

    def add(self, answers: Sequence[Answer]) -> list[Row]:
        """The rows of a chunk."""
        return [row for answer in answers for row in self._rows(answer)]

    def _rows(self, answer: Answer) -> list[Row]:
        name, truth, picture = answer.asked.name, answer.asked.entry.truth, answer.picture
        self.files += 1
        if not isinstance(picture, Prepared):
            self.unreadable += 1
            row = Row(name, "", truth and escaped(truth), [], "", one_line(picture.why))
            if len(self.problems) < FEW:
                self.problems.append(f"{name}: {row.error}")
            return [row]
        self.notes.update(picture.notes)
        found = {framework: logits for framework, logits in answer.logits.items() if np.isfinite(logits).all()}
        shares = {framework: probabilities(logits) for framework, logits in found.items()}
        if len(shares) > 1:
            self.differences.add(name, found, shares)
        place, note = None if truth is None else self.classes.place(truth), "; ".join(picture.notes)
        rows = []
        for framework in answer.logits:
            guesses, error = list[Guess](), NOT_FINITE
            if framework in shares:
                share, error = shares[framework], ""
                order = np.argsort(-share, kind="stable")[: max(self.top, TOP)].tolist()
                if framework == self.frameworks[0]:
                    self.taken[self.classes.shown[order[0]]] += 1
                guesses = [Guess(self.classes.shown[each], float(share[each])) for each in order[: self.top]]
                if place is not None:
                    self.tallies[framework].add(place, order)
                    if framework == self.frameworks[0] and order[0] != place:
                        self._keep_worst(answer, place, order[0], float(share[order[0]]))
            else:
                self.not_finite[framework] += 1
            rows.append(Row(name, framework, truth and escaped(truth), guesses, note, error))
        if len(self.shown) < FEW:
            self.shown.append(Shown(name, rows[0].truth, tuple(rows)))
        return rows

    def _keep_worst(self, answer: Answer, truth: int, predicted: int, probability: float) -> None:
        if len(self._worst) == MOST_MISTAKES and probability <= self._worst[0][0]:
            return
        assert isinstance(answer.picture, Prepared)
        pixels = central(answer.picture.square, self.preprocessing.size).copy()
        names = self.classes.shown
        mistake = Mistake(answer.asked.name, names[truth], names[predicted], probability, pixels)
        heapq.heappush(self._worst, (probability, -next(self._number), mistake))
        if len(self._worst) > MOST_MISTAKES:
            heapq.heappop(self._worst)

    @property
    def mistakes(self) -> list[Mistake]:
        """The wrong classes that were predicted with the highest probability, that one first."""
        return [mistake for _, _, mistake in sorted(self._worst, reverse=True)]

    @property
    def predicted(self) -> int:
        return self.files - self.unreadable

    @property
    def accuracy(self) -> Mapping[str, Accuracy]:
        return {
            framework: Accuracy(tally.total, Rate.of(tally.top1), Rate.of(tally.top5))
            for framework, tally in self.tallies.items()
        }

    def outcome(self, entries: int, *, done: bool) -> Outcome:
        """``entries`` of folders are no files that could be predicted."""
        counts = self.files, self.predicted, self.unreadable, entries, dict(self.not_finite)
        return Outcome(done, *counts, dict(self.accuracy), dict(self.notes))
