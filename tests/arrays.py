"""Arrays of weights by name, compared bit for bit."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def flat(weights: Mapping[str, Mapping[str, Any]], separator: str = "/") -> dict[str, Any]:
    """Arrays by ``layer/name``."""
    return {f"{layer}{separator}{name}": array for layer, arrays in weights.items() for name, array in arrays.items()}


def assert_same_bits(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], dtype: str = "") -> None:
    """The same names, shapes and bytes; each array has ``dtype``, or else that of the expected one."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, np.dtype(dtype or array.dtype)), name
        assert found[name].tobytes() == np.asarray(array, found[name].dtype).tobytes(), name
