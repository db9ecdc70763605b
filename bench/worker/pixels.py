"""Stored pictures, which the controller prepares and Workers map."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

PICTURES, LABELS, HELD_OUT = "pictures.npy", "labels.npy", "held_out.npy"


@dataclass(frozen=True, eq=False)
class Stored:
    """Prepared pictures of a labeled folder.

    pictures : ndarray of shape (n, side, side, 3), uint8, mapped read-only
    labels : ndarray of shape (n,), int64, places in the sorted classes
    held_out : ndarray of shape (n,), bool
    """

    pictures: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray


def map_stored(folder: Path) -> Stored:
    """Map what ``bench.pictures.preparer.store`` wrote, so Workers of one machine share one copy in memory."""
    return Stored(map_pictures(folder), np.load(folder / LABELS), np.load(folder / HELD_OUT))


def map_pictures(folder: Path) -> np.ndarray:
    """Their pictures alone, which may have no labels."""
    pictures: np.ndarray = np.load(folder / PICTURES, mmap_mode="r")
    return pictures
