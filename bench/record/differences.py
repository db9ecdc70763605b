"""How far apart frameworks' logits of the same pictures are, and where it decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

MOST_KEPT = 20  # files that are named
#: As far as float32 sums of the same products may be apart, relative to the largest logit: the limit of `verify`.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Parted:
    """A file whose most probable class differs; ``classes`` by framework.

    margin : the most by which a framework's first class is ahead of another's, relative to the largest logit
    tie : whether rounding can turn that
    """

    name: str
    classes: Mapping[str, int]
    margin: float
    tie: bool


@dataclass
class Differences:
    """Of all pictures seen so far. ``largest`` is relative to the largest absolute logit, ``scale``."""

    pictures: int = 0
    apart: float = 0.0
    scale: float = 0.0
    differing: int = 0
    ties: int = 0
    parted: list[Parted] = field(default_factory=list)

    @property
    def largest(self) -> float:
        return self.apart / self.scale if self.scale else 0.0

    def add(self, name: str, logits: Mapping[str, np.ndarray], probabilities: Mapping[str, np.ndarray]) -> None:
        """Compare one picture's logits of shape (crops, classes), and the probabilities that follow, (classes,)."""
        stacked = np.stack([each.astype(np.float64) for each in logits.values()])
        scale = float(np.abs(stacked).max())
        self.pictures += 1
        self.apart = max(self.apart, float((stacked.max(0) - stacked.min(0)).max()))
        self.scale = max(self.scale, scale)
        first = {framework: int(each.argmax()) for framework, each in probabilities.items()}
        if all(one == other for one, other in pairwise(first.values())):
            return
        with np.errstate(divide="ignore"):  # a probability may round to 0
            margin = max(
                float(np.log(each[first[framework]]) - np.log(each[place]))
                for framework, each in probabilities.items()
                for place in first.values()
            )
        # a first class of one framework is another's second: their two margins are at most twice the difference
        parted = Parted(name, first, margin / scale, margin <= 2 * ROUNDING * scale)
        self.differing += 1
        self.ties += parted.tie
        if len(self.parted) < MOST_KEPT:
            self.parted.append(parted)
