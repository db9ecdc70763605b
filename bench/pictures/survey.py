"""What is in a folder of pictures: counts, sizes, formats, copies and colors, gathered picture by picture.

Per picture some 25 bytes are kept, so that a million of them fit in memory.
"""

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from bench.pictures.folder import is_held_out
from bench.pictures.listing import Listing
from bench.pictures.preparer import Prepared
from impls.pictures import PictureError
from impls.preprocessing import ColorSums, Preprocessing
from impls.text import one_line

DIGEST = 16  # bytes; two of a million different pictures are equal with a probability of 1e-27


class State(IntEnum):
    """What an entry of a listing turned out to be; UNLABELED: a readable one outside of classes."""

    UNREAD, BROKEN, UNLABELED, TRAINING, HELD_OUT = range(5)


LABELED = (State.TRAINING, State.HELD_OUT)


@dataclass(frozen=True)
class ClassCounts:
    """Pictures of a class that can be read, to train on and held out, and broken files; ``name`` is None outside of
    classes."""

    name: str | None
    pictures: int
    training: int
    held_out: int
    broken: int


@dataclass(frozen=True)
class Sizes:
    """Width and height, in pixels, of the picture with the fewest pixels, the median one and the one with the most;
    ``enlarged``: pictures with a side that is shorter than that of the square they become."""

    least: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    enlarged: int


@dataclass(frozen=True)
class Copies:
    """Pictures with equal pixels: their places in the listing, whether some are trained on and some held out, and
    whether they are of several classes."""

    places: tuple[int, ...]
    split: bool
    classes: bool

    @property
    def harmful(self) -> bool:
        """Whether they falsify an accuracy."""
        return self.split or self.classes


class Survey:
    """Figures of the pictures of a listing that were added so far, in its order.

    broken : one line per file that cannot be read, with its name and why
    formats : pictures by format and mode, such as ("JPEG", "RGB")
    notes : pictures by what was done to them beyond decoding
    colors : of the squares that pictures to train on become, or all pictures where there are no classes
    """

    def __init__(self, listing: Listing, preprocessing: Preprocessing):
        self.listing, self.preprocessing = listing, preprocessing
        self.labeled = any(entry.truth is not None for entry in listing.entries[-1:])  # those outside of classes first
        self.states = bytearray(len(listing.entries))  # State.UNREAD
        self.done = 0
        self.broken: list[str] = []
        self.formats, self.notes = Counter[tuple[str, str]](), Counter[str]()
        self.colors = ColorSums()
        self._widths, self._heights, self._digests = array("I"), array("I"), bytearray()

    def add(self, found: Prepared | PictureError) -> None:
        """Add what the next entry of the listing was found to be."""
        entry = self.listing.entries[self.done]
        if isinstance(found, PictureError):
            self.broken.append(one_line(f"{entry.name}: {found.why}"))
            self.states[self.done] = State.BROKEN
            self.done += 1
            return
        state = State.HELD_OUT if is_held_out(entry.file) else State.TRAINING
        if entry.truth is None:
            state = State.UNLABELED
        self._widths.append(found.width)
        self._heights.append(found.height)
        # of the square: files may differ, in format or metadata, where a net sees the same
        self._digests += hashlib.blake2b(found.square.data, digest_size=DIGEST).digest()
        self.formats[found.format, found.mode] += 1
        self.notes.update(found.notes)
        if state == (State.TRAINING if self.labeled else State.UNLABELED):
            self.colors.add(found.square)
        # the state last: what a Ctrl-C before it leaves behind is cut off, as ``readable`` does not count it
        self.states[self.done] = state
        self.done += 1

    @property
    def readable(self) -> np.ndarray:
        """Places in the listing of the pictures that can be read."""
        return np.flatnonzero(self._states >= State.UNLABELED)

    @property
    def _states(self) -> np.ndarray:
        return np.frombuffer(bytes(self.states), np.uint8)

    def rows(self) -> list[ClassCounts]:
        """Counts of every class, those outside of classes first if there are any."""
        counts = Counter(zip((entry.truth for entry in self.listing.entries), self.states, strict=True))
        names = [None] if any(name is None for name, _ in counts) else []
        return [self._row(name, counts) for name in (*names, *self.listing.classes)]

    def _row(self, name: str | None, counts: Counter[tuple[str | None, int]]) -> ClassCounts:
        broken, unlabeled, training, held_out = (counts[name, state] for state in list(State)[1:])
        return ClassCounts(name, unlabeled + training + held_out, training, held_out, broken)

    def sizes(self) -> Sizes:
        """Of one or more pictures."""
        count = len(self.readable)
        widths, heights = np.array(self._widths)[:count], np.array(self._heights)[:count]
        order = np.argsort(widths.astype(np.int64) * heights, kind="stable")
        least, median, largest = (
            (int(widths[place]), int(heights[place])) for place in order[[0, (len(order) - 1) // 2, -1]]
        )
        enlarged = np.minimum(widths, heights) < self.preprocessing.side
        return Sizes(least, median, largest, int(enlarged.sum()))

    @cached_property
    def copies(self) -> list[Copies]:
        """Groups of pictures with equal pixels, those that falsify an accuracy first; of the pictures so far."""
        digests = np.frombuffer(bytes(self._digests), np.uint64).reshape(-1, 2)[: len(self.readable)]
        order = np.lexsort(digests.T)  # stable: places within a group ascend
        same = (digests[order][1:] == digests[order][:-1]).all(1)
        parts = np.split(self.readable[order], np.flatnonzero(~same) + 1) if same.any() else []
        return sorted(
            (self._copies(places.tolist()) for places in parts if len(places) > 1),
            key=lambda group: (not group.harmful, group.places),
        )

    def _copies(self, places: list[int]) -> Copies:
        truths = {self.listing.entries[place].truth for place in places} - {None}
        states = {self.states[place] for place in places}
        return Copies(tuple(places), split=states.issuperset(LABELED), classes=len(truths) > 1)
