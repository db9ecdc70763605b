"""What resizing is held to: a triangle filter in float64, written as matrices so that it can be read."""

import numpy as np

from impls.preprocessing import Preprocessing

#: Of 255. A resize that keeps 8 bits between the two directions is off by up to 1.00, sampling without a filter by 74.
MOST = 1.01


def square(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """As ``impls.pictures.square``, in float64 and without rounding: (side, side, 3)."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = preprocessing.box(width, height)
    rows = weights(height, top, bottom, preprocessing.side)
    columns = weights(width, left, right, preprocessing.side)
    resized: np.ndarray = np.einsum("rh,hwc,sw->rsc", rows, pixels.astype(np.float64), columns, optimize=True)
    return resized


def weights(length: int, first: float, last: float, count: int) -> np.ndarray:
    """Weights of ``length`` pixels in each of ``count``, which divide the part from ``first`` to ``last``: (count,
    length).

    A pixel counts by its distance from the center of the result: as a triangle whose half width is the size of a
    result, and at least a pixel. Source: Pillow's BILINEAR, https://pillow.readthedocs.io/en/stable/handbook/concepts.html
    """
    scale = (last - first) / count
    centers = first + (np.arange(count) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centers[:, None])
    triangles: np.ndarray = np.maximum(0, 1 - distance / max(scale, 1))
    triangles /= triangles.sum(1, keepdims=True)
    return triangles
