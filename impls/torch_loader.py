"""torch's loader: a DataLoader whose worker processes decode and resize with Pillow, as torchvision's folders do."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from impls import pictures
from impls.loader import PREFETCH, Batch, Feed


class Pictures(Dataset[tuple[np.ndarray, int, int]]):
    """Crops for evaluation: uint8, label and place."""

    def __init__(self, feed: Feed):
        self.paths, self.labels = feed.files
        self.preprocessing = feed.preprocessing

    def __getitem__(self, row: int) -> tuple[np.ndarray, int, int]:
        return pictures.crop(Path(self.paths[row]), self.preprocessing), int(self.labels[row]), row


class Rows(Sampler[int]):
    def __init__(self, feed: Feed):
        if feed.workers and len(folder := tempfile.gettempdir()) > LONGEST:  # else batches are lost, and it waits
            raise ValueError(
                f"expected a TMPDIR of at most {LONGEST} characters for the sockets of DataLoader's workers, found "
                f"{len(folder)}: set a shorter one"
            )
        self.feed = feed

    def __iter__(self) -> Iterator[int]:
        return self.feed.rows()


#: Characters of a folder for pymp-xxxxxxxx/listener-xxxxxxxx, of the 107 that the path of a socket may have.
LONGEST = 75


class Loader:
    """Implements impls.loader.Loader; its images are (n, c, h, w)."""

    def __init__(self, feed: Feed):
        self.feed = feed
        self.iterator: Any = None
        self.batches = DataLoader(
            Pictures(feed),
            feed.batch,
            sampler=Rows(feed),
            num_workers=feed.workers,
            collate_fn=self.collate,
            prefetch_factor=PREFETCH if feed.workers else None,
            pin_memory=feed.pinned,
        )

    def collate(self, items: Sequence[tuple[np.ndarray, int, int]]) -> tuple[torch.Tensor, ...]:
        """Runs in a worker, as do decoding and resizing."""
        crops, labels, rows = zip(*items, strict=True)
        images = torch.from_numpy(self.feed.preprocessing.normalized(np.stack(crops)))
        return images.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels), torch.tensor(rows)

    def start(self) -> None:
        self.iterator = iter(self.batches)

    def next(self) -> Batch:
        return Batch(*next(self.iterator))

    def stop(self) -> None:
        self.iterator = None  # joins its worker processes

    def arrays(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return batch.images.permute(0, 2, 3, 1).numpy(), batch.labels.numpy(), batch.rows.numpy()
