"""The last steps from stored pictures to what a net is given, the same in every Worker: NumPy without Pillow."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

PICTURES, LABELS, HELD_OUT = "pictures.npy", "labels.npy", "held_out.npy"


@dataclass(frozen=True, eq=False)
class Stored:
    """Prepared pictures of a folder.

    pictures : ndarray of shape (n, s, s, 3), uint8, mapped read-only
    labels : ndarray of shape (n,), int64, places in the sorted classes
    held_out : ndarray of shape (n,), bool
    """

    pictures: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray


def map_stored(folder: Path) -> Stored:
    """Map what ``bench.pictures.preparer.store`` wrote, so Workers of one machine share one copy in memory."""
    pictures = np.load(folder / PICTURES, mmap_mode="r")
    return Stored(pictures, np.load(folder / LABELS), np.load(folder / HELD_OUT))


def stored_size(size: int) -> int:
    """Side of the stored square from which crops of ``size`` are taken: 224 from 256, 99 from 112.

    Source of 224 and 256: Krizhevsky et al. 2012, section 4.1; other sizes have the same ratio, rounded down.
    """
    return max(size, size // 7 * 8)


def augmented(stored: np.ndarray, size: int, seed: int, epoch: int, index: int) -> np.ndarray:
    """Crop a stored picture at random, and flip it left to right every second time.

    Equal (seed, epoch, index) give equal crops with every version of NumPy: raw output of PCG64 is stable, while
    methods of Generator may change (NEP 19). Source: Krizhevsky et al. 2012, section 4.1.

    Parameters
    ----------
    stored : ndarray of shape (s, s, 3), uint8, s >= size
    seed, epoch, index : int, >= 0
        ``index`` is the place of the picture in ``Stored.pictures``, not in a batch.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8; a view
    """
    places = len(stored) - size + 1
    top, left, flip = np.random.PCG64([seed, epoch, index]).random_raw(3).tolist()
    return cropped(stored, size, top % places, left % places)[:, :: -1 if flip >> 63 else 1]


def central(stored: np.ndarray, size: int) -> np.ndarray:
    """The crop for evaluation: (size, size, 3) from the middle of a stored picture; a view."""
    first = (len(stored) - size) // 2
    return cropped(stored, size, first, first)


def cropped(stored: np.ndarray, size: int, top: int, left: int) -> np.ndarray:
    if stored.shape[2:] != (3,) or min(stored.shape[:2]) < size:
        raise ValueError(f"expected a stored picture of at least ({size}, {size}, 3), found {stored.shape}")
    return stored[top : top + size, left : left + size]


def normalized(batch: np.ndarray) -> np.ndarray:
    """``(x - 127.5) / 64``: (n, s, s, 3), uint8 to float32 from -1.992 to 1.992.

    Each value is exact in float32, since it has 8 bits and the divisor is a power of two: pixels are equal bit for bit
    wherever they are computed, and of a standard deviation near 1, as the weights expect of the images.
    """
    if batch.dtype != np.uint8:
        raise TypeError(f"expected pixels of uint8, found {batch.dtype}")
    return (batch - np.float32(127.5)) / np.float32(64)
