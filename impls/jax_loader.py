"""JAX's loader: it has none of its own, so threads over Pillow, as its users write it.

Grain, Google's loader, needed 1.4 to 2.2 s to its first batch where these need 0.2, and its processes failed outside of
absl's ``app.run`` (version 0.2.18).
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from impls import pictures
from impls.loader import Batch, Feed


class Loader:
    """Implements impls.loader.Loader; its images are NumPy's, (n, h, w, c)."""

    def __init__(self, feed: Feed):
        self.feed, (self.paths, self.labels) = feed, feed.files
        self.pool: ThreadPoolExecutor | None = None

    def start(self) -> None:
        self.rows = self.feed.rows()
        self.ahead: deque[tuple[list[int], list[Future[np.ndarray]]]] = deque()
        if self.feed.workers:
            self.pool = ThreadPoolExecutor(self.feed.workers)
            for _ in range(self.feed.prefetch + 1):
                self.submit()

    def submit(self) -> None:
        assert self.pool
        rows = self.draw()
        self.ahead.append((rows, [self.pool.submit(self.crop, row) for row in rows]))

    def draw(self) -> list[int]:
        return [next(self.rows) for _ in range(self.feed.batch)]

    def crop(self, row: int) -> np.ndarray:
        return pictures.crop(Path(self.paths[row]), self.feed.preprocessing)

    def next(self) -> Batch:
        if self.pool:
            rows, futures = self.ahead.popleft()
            crops = [future.result() for future in futures]
            self.submit()
        else:
            rows = self.draw()
            crops = [self.crop(row) for row in rows]
        images = self.feed.preprocessing.normalized(np.stack(crops))
        return Batch(images, self.labels[rows].astype(np.int32), np.array(rows))

    def stop(self) -> None:
        if self.pool:
            self.pool.shutdown(wait=True, cancel_futures=True)
            self.pool = None

    def arrays(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return batch
