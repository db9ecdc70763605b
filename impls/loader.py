"""Loaders: how each framework brings labeled pictures from files to batches, timed as it is by `run --loaders`.

A module ``impls/<framework>_loader.py`` has a class ``Loader`` of this interface. Its pictures are held to
bench/pictures/judge.py before it is timed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from impls.preprocessing import Preprocessing

PREPROCESSING = "torchvision"  # where none is named
PREFETCH = 2  # batches per worker that are prepared ahead; torch's default


@dataclass(frozen=True)
class Feed:
    """What a loader delivers: pictures in batches, epoch after epoch, each in an order of its own.

    listing : a JSON file of ``{"paths": [...], "labels": [...]}``
    workers : threads or processes that prepare pictures; 0 prepares a batch when it is asked for
    preset : "equal" for pixels as in ``impls.pictures``, "default" for what the framework does if nothing is set
    pinned : page-locked host memory, for copies to a GPU
    """

    listing: str
    preprocessing: Preprocessing
    batch: int
    workers: int
    seed: int = 0
    preset: str = "equal"
    pinned: bool = False

    @cached_property
    def files(self) -> tuple[list[str], np.ndarray]:
        """Paths, and labels of shape (n,), int64."""
        listing = json.loads(Path(self.listing).read_text())
        return listing["paths"], np.array(listing["labels"], np.int64)

    @property
    def prefetch(self) -> int:
        """Batches that may be ready before they are asked for."""
        return PREFETCH * self.workers

    @property
    def lead(self) -> int:
        """Batches after the first that say nothing of the rate: what was ready, or being prepared, when it came."""
        return max(1, self.prefetch + self.workers)

    def rows(self) -> Iterator[int]:
        """Places of pictures, each once per epoch, without end."""
        count = len(self.files[0])
        rng = np.random.Generator(np.random.PCG64(self.seed))
        while True:
            yield from rng.permutation(count).tolist()


class Batch(NamedTuple):
    """A batch as its framework hands it over: images for ``Net.feed``, labels, and the places of its pictures."""

    images: Any
    labels: Any
    rows: Any


class Loader(Protocol):
    """One framework's own loader."""

    def __init__(self, feed: Feed): ...

    def start(self) -> None:
        """Start workers and the preparation of the first batches."""

    def next(self) -> Batch:
        """The next batch, once it is whole."""

    def stop(self) -> None:
        """End all workers; nothing of the loader runs when it returns."""

    def arrays(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images (n, size, size, 3) of float32 as of ``Preprocessing.normalized``, labels and rows, for the proof."""
