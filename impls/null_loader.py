"""A loader for tests of the harness, without threads; what it delivers are the pictures.

With ``NULL_NET=pixels=N`` in the environment they are N steps of 255 too bright, as no right loader's.
"""

import os
from pathlib import Path

import numpy as np

from impls import pictures
from impls.loader import Batch, Feed


class Loader:
    """Implements impls.loader.Loader; its images are NumPy's, (n, h, w, c)."""

    def __init__(self, feed: Feed):
        self.feed, (self.paths, self.labels) = feed, feed.files
        self.known: dict[int, np.ndarray] = {}
        part, _, value = os.environ.get("NULL_NET", "").partition("=")
        self.brighter = np.float32(value if part == "pixels" else 0)

    def start(self) -> None:
        self.rows = self.feed.rows()

    def next(self) -> Batch:
        rows = [next(self.rows) for _ in range(self.feed.batch)]
        for row in rows:
            if row not in self.known:
                self.known[row] = pictures.crop(Path(self.paths[row]), self.feed.preprocessing)
        crops = np.stack([self.known[row] for row in rows])
        images = self.feed.preprocessing.normalized(crops, np.full((len(rows), 3), self.brighter))
        return Batch(images, self.labels[rows].astype(np.int32), np.array(rows))

    def stop(self) -> None:
        self.known = {}

    def arrays(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return batch
