"""Predictions of one framework, counted by true and predicted class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.stats.binomial import Share, share

TOP = 5  # of the second accuracy of ILSVRC


@dataclass(frozen=True)
class Tally:
    """Counts of pictures whose class is one of the weights'. Memory grows with the classes that occur, not with all.

    counts : by true and predicted class
    among : by true class, how often it was among the first TOP predicted ones
    """

    classes: int
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    among: Counter[int] = field(default_factory=Counter)

    def add(self, truth: int, predicted: Sequence[int]) -> None:
        """``predicted`` are the first TOP classes or more, the most probable first."""
        self.counts[truth, predicted[0]] += 1
        self.among[truth] += truth in predicted[:TOP]

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def top1(self) -> Share | None:
        """Accuracy with its interval, None without a picture."""
        right = sum(count for (truth, predicted), count in self.counts.items() if truth == predicted)
        return share(right, self.total) if self.total else None

    @property
    def top5(self) -> Share | None:
        """None too for a net of TOP classes or fewer, of which none can be missed."""
        return share(self.among.total(), self.total) if self.total and self.classes > TOP else None

    def by_class(self) -> dict[int, Share]:
        """Accuracy by true class, of those that a picture has, in order."""
        totals: Counter[int] = Counter()
        for (truth, _), count in self.counts.items():
            totals[truth] += count
        return {truth: share(self.counts[truth, truth], totals[truth]) for truth in sorted(totals)}

    def matrix(self, places: Sequence[int]) -> np.ndarray:
        """Counts of shape (len(places), len(places)): true classes in rows."""
        found = np.zeros((len(places),) * 2, int)
        row = {place: number for number, place in enumerate(places)}
        for (truth, predicted), count in self.counts.items():
            if truth in row and predicted in row:
                found[row[truth], row[predicted]] = count
        return found


def met(tallies: Sequence[Tally]) -> list[int]:
    """Classes that a picture has or was taken for in any of these, in order."""
    return sorted({place for tally in tallies for pair in tally.counts for place in pair})
