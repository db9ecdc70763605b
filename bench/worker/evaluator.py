"""Logits of stored pictures, by the pass ``forward`` that is timed; nothing is timed here."""

from collections.abc import Iterator, Sequence

import numpy as np

from impls.net import Net
from impls.preprocessing import Preprocessing


def logits(net: Net, batch: int, pictures: np.ndarray, rows: Sequence[int], preprocessing: Preprocessing) -> np.ndarray:
    """Logits of the crops of these rows: (len(rows), crops, classes), float32.

    The last batch is filled up by repeating its last crop, and what is too much is dropped.

    Parameters
    ----------
    net : Net
        Built for ``batch`` images, without dropout in its forward pass.
    pictures : ndarray of shape (n, side, side, 3), uint8
    """
    found = []
    views = (view for row in rows for view in preprocessing.views(pictures[row]))
    for crops in _batches(views, batch):
        missing = batch - len(crops)
        net.load([preprocessing.normalized(np.stack(crops + crops[-1:] * missing))])
        handles = net.forward()
        net.wait(handles)
        found.append(net.logits(handles)[: len(crops)])
    flat = np.concatenate(found)
    return flat.reshape(len(rows), preprocessing.crops, -1)


def _batches(views: Iterator[np.ndarray], batch: int) -> Iterator[list[np.ndarray]]:
    crops: list[np.ndarray] = []
    for view in views:
        crops.append(view)
        if len(crops) == batch:
            yield crops
            crops = []
    if crops:
        yield crops
