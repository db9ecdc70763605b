"""Whether an array of a model agrees with that of its port: outputs in any layout, gradients, changes of state."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.controller import parity
from bench.controller.pairing import Order
from bench.worker.replies import TracedCall
from impls import reference

DEPTH = 8  # convolutions and dense layers of an AlexNet, for which the limits of parity.py are; rounding adds up
WIDEST = 0.5  # limit of a gradient with all that is allowed
MOVED = 10  # times what rounding moves a gradient by
SHARE = 1e-4  # of the largest gradient's norm: a sum that is 0 but for rounding, as of a bias before BatchNorm
#: Axes that turn channels first into channels last, and back, by number of axes.
TURNS: dict[int, list[tuple[int, ...]]] = {
    3: [(0, 2, 1)],
    4: [(0, 2, 3, 1), (0, 3, 1, 2)],
    5: [(0, 2, 3, 4, 1), (0, 4, 1, 2, 3)],
}
FLATTENED = [(1, 2, 0), (2, 0, 1)]  # (c, h, w) into (h, w, c), and back


@dataclass(frozen=True)
class Point:
    """A comparison. ``error`` is relative L2, None for other shapes or values that are not finite, which ``note``
    says."""

    what: str
    error: float | None
    limit: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error is not None and self.error <= self.limit


def matched(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Places of inputs or outputs: by name, and those whose name the other does not have in their order."""
    found = {place: second.index(name) for place, name in enumerate(first) if name in second}
    left = [place for place in range(len(first)) if place not in found]
    free = [place for place in range(len(second)) if place not in found.values()]
    return sorted((found | dict(zip(left, free, strict=False))).items())


def nearest(found: np.ndarray, expected: np.ndarray) -> float | None:
    """Relative L2 of two arrays, also with channels first and last; None if no layout fits or a value is not finite."""
    turns = [tuple(range(found.ndim)), *TURNS.get(found.ndim, [])]
    turned = [found.transpose(axes) for axes in turns]
    errors = [reference.difference(each, expected)["error"] for each in turned if each.shape == expected.shape]
    finite = [error for error in errors if np.isfinite(error)]
    return min(finite, default=None)


def point(what: str, found: np.ndarray, expected: np.ndarray, limit: float) -> Point:
    """Compare two arrays in any layout."""
    error, note = nearest(found, expected), ""
    if error is None:
        alike = sorted(found.shape) == sorted(expected.shape)
        note = "not finite" if alike else f"shapes {found.shape} and {expected.shape}"
    return Point(what, error, limit, note)


def gradient_point(
    what: str, found: np.ndarray, expected: np.ndarray, depth: float, noise: float, largest: float
) -> Point | None:
    """Compare gradients: relative L2, and the norm, which a flipped ReLU hardly changes. None: not decided.

    ``noise`` is the norm that rounding may move it by, ``largest`` that of the largest gradient of the model.
    """
    limits = {"error": parity.LOOSE["gradient"] * depth, "norm": parity.LOOSE["norm"] * depth}
    if bad := _unlike(what, found, expected, limits["error"]):
        return bad
    gap = float(np.linalg.norm(np.ravel(found - expected)))
    if gap <= SHARE * largest:
        return Point(what, gap / (largest or 1.0), SHARE)
    return _within(what, found, expected, limits, noise)


def change_point(what: str, found: np.ndarray, expected: np.ndarray, depth: float, noise: float) -> Point | None:
    """Compare what a pass in training mode changes state by. None: not decided. ``noise`` as of a gradient."""
    limits = {"error": parity.LOOSE["logits"] * depth}
    return _unlike(what, found, expected, limits["error"]) or _within(what, found, expected, limits, noise)


def _unlike(what: str, found: np.ndarray, expected: np.ndarray, limit: float) -> Point | None:
    """The difference of arrays that have no errors."""
    if found.shape == expected.shape and np.isfinite(found.sum() + expected.sum()):
        return None
    return Point(what, None, limit, "not finite" if found.shape == expected.shape else "other shapes")


def _within(what: str, found: np.ndarray, expected: np.ndarray, limits: dict[str, float], noise: float) -> Point | None:
    """The first error above its limit with ``noise``, which together are at most WIDEST; else the first."""
    off = reference.difference(found, expected)
    noise /= float(np.linalg.norm(np.ravel(expected))) or 1.0
    names = {"error": what, "norm": f"norm of {what}"}
    points = [Point(names[kind], off[kind], min(WIDEST, limit + noise)) for kind, limit in limits.items()]
    worst = next((each for each in points if not each.ok), points[0])
    return worst if worst.ok or noise <= WIDEST else None


def reordered(
    mine: np.ndarray, its: np.ndarray, call: TracedCall, theirs: TracedCall, limit: float
) -> tuple[Point, Order] | None:
    """The order in which flat inputs of a layer agree, channels first in one and last in the other; None if in none."""
    if mine.ndim != 2 or mine.shape != its.shape:
        return None
    orders = [Order(tuple(grid), axes) for grid in call.grids for axes in FLATTENED]
    for grid, axes in itertools.product(theirs.grids, FLATTENED):
        orders.append(Order(tuple(grid[place] for place in np.argsort(axes)), axes))
    for order in dict.fromkeys(orders):
        found = order.applied(mine.T).T
        if (compared := point("input", found, its, limit)).ok:
            return compared, order
    return None
