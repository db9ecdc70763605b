"""Adapters in this process, and helpers to compare small nets with the float64 reference."""

import functools
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import impls
from bench.controller import parity
from impls import reference
from impls.layers import Conv
from impls.net import Build, Settings
from impls.variants import Variant
from impls.weights import Weights

PEERS = list(impls.PEERS)


@functools.cache
def configured(framework: str) -> ModuleType:
    """The adapter of a framework, configured once, since threads can be set only before the first operation."""
    pytest.importorskip(impls.FRAMEWORKS[framework].package)
    adapter = impls.load(framework)
    adapter.configure(Settings("cpu", 2, "fp32"))
    return adapter


def how(framework: str, batch: int = 2, precision: str = "fp32", **changes: Any) -> Build:
    """A Build in the framework's default mode and layout."""
    record = impls.FRAMEWORKS[framework]
    return Build(batch, "cpu", precision, record.modes[0], record.layouts[0], **changes)


#: A 1x1 convolution with more channels than the window of an LRN, some of them negative.
MANY = Conv("many", 13, 1)


def far_from_ties(variant: Variant, weights: Weights, scale: float = 1.0) -> np.ndarray | None:
    """The first of 100 batches of two in which float32 cannot flip a ReLU or a pool, or None."""
    for draw in range(100):
        images = np.float32(scale) * parity.images(variant, 0, draw, 2)
        if reference.margin(variant, reference.forward(variant, weights, images, training=True)) > 1e-4:
            return images
    return None


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative L2 error; huge if 0 is expected (a dead ReLU) and not found."""
    assert np.shape(found) == np.shape(expected)
    return float(np.linalg.norm(np.subtract(found, expected)) / max(np.linalg.norm(expected), 1e-30))
