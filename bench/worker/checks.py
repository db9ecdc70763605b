"""Compare an array that a Net computed with the expected one. The controller judges the errors, in parity.py."""

import math
from collections.abc import Sequence

import numpy as np

from bench.worker.replies import Check, CheckKind
from impls.net import Gradients
from impls.reference import difference

SAMPLED = 4096  # values compared per array in a Run; `verify` compares all
INFINITE = " is not finite"
INPUT_GRADIENT = "gradient.input.images"


def check(kind: CheckKind, what: str, found: np.ndarray, expected: np.ndarray) -> Check:
    """Compare ``found`` with ``expected``, value by value."""
    if fault := malformed(found, expected.shape):
        return Check(kind, what + fault, None)
    off = difference(found, expected)
    return Check(kind, what, off["error"], off["norm"])


def malformed(found: np.ndarray, shape: tuple[int, ...]) -> str:
    """Another shape, or a value that is not finite; empty if neither."""
    return misshapen(found.shape, shape) or ("" if is_finite(found) else INFINITE)


def misshapen(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    return "" if found == shape else f": expected {shape}, found {found}"


def is_finite(found: np.ndarray) -> bool:
    return bool(np.isfinite(found.sum()))  # a NaN or an infinity anywhere is one in the sum


def sampled(array: np.ndarray) -> np.ndarray:
    """SAMPLED random values of a larger array, flat; a smaller one whole."""
    if array.size <= SAMPLED:
        return array
    values: np.ndarray = array[np.unravel_index(sampled_places(array.size), array.shape)]
    return values


def sampled_places(size: int) -> np.ndarray:
    """The places, in a flat array of ``size`` values, of those that are sampled."""
    if size <= SAMPLED:
        return np.arange(size)
    return np.random.Generator(np.random.PCG64(7)).integers(0, size, SAMPLED)


def picked(array: np.ndarray, count: int) -> np.ndarray:
    """All values of an array that has ``count``, else those that are sampled; flat."""
    return array.reshape(-1) if array.size == count else sampled(array).reshape(-1)


def canonical_shape(found: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """``found``; flattened, if it is that of a view of a dense kernel with unflattened rows, (h, w, c, out)."""
    rows = len(found) == 4 and len(shape) == 2 and math.prod(found[:3]) == shape[0]
    return (shape[0], found[3]) if rows else found


def distance(checks: Sequence[Check]) -> float:
    """The mean error of these checks; infinite without any."""
    errors = [each.error for each in checks if each.error is not None]
    return float(np.mean(errors)) if errors else np.inf


def flat(gradients: Gradients) -> dict[str, np.ndarray]:
    """Gradients by the names of their files."""
    return {f"gradient.{layer}.{name}": array for layer, arrays in gradients.items() for name, array in arrays.items()}
