"""Canonical weights: one seeded set of values for every framework, in one layout, as files that Workers map.

Layout: convolution kernels HWIO (height, width, channels / groups, filters), dense kernels (in, out) with the rows of
the first one in (h, w, c) order; float32. Names: kernel, bias; gamma, beta, moving_mean, moving_variance.
"""

import math
from pathlib import Path

import numpy as np

from impls.variants import Variant

Weights = dict[str, dict[str, np.ndarray]]  # layer -> name -> array


def initial(variant: Variant, seed: int = 0) -> Weights:
    """Seeded values, never a framework's own default (they differ: conv2's spread by a quarter).

    Kernels N(0, 2 / fan_in), biases N(0, 0.05^2), gamma 1 + N(0, 0.1^2), beta and moving mean N(0, 0.1^2), moving
    variance U(0.5, 1.5); drawn row by row from PCG64(seed).
    """
    rng = np.random.Generator(np.random.PCG64(seed))

    def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name == "moving_variance":
            return rng.random(shape, dtype=np.float32) + np.float32(0.5)
        normal = rng.standard_normal(shape, dtype=np.float32)
        if name == "kernel":
            return normal * np.float32(math.sqrt(2 / math.prod(shape[:-1])))
        if name == "bias":
            return normal * np.float32(0.05)
        return normal * np.float32(0.1) + np.float32(name == "gamma")

    return {
        layer.name: {
            name: values(name, array) for name, array in (layer.trainable(shape) | layer.moving(shape)).items()
        }
        for layer, shape, _ in variant.placed()
        if layer.trainable(shape)
    }


def share(weights: Weights, folder: Path) -> None:
    """Write each array as ``<layer>.<name>.npy``, for ``shared`` to map."""
    folder.mkdir(parents=True, exist_ok=True)
    for layer, arrays in weights.items():
        for name, array in arrays.items():
            np.save(folder / f"{layer}.{name}.npy", array)


def shared(folder: Path) -> Weights:
    """Map what ``share`` wrote, read-only: Workers of one machine keep one copy in memory."""
    weights: Weights = {}
    for path in sorted(folder.glob("*.npy")):
        layer, name, _ = path.name.split(".")
        weights.setdefault(layer, {})[name] = np.load(path, mmap_mode="r")
    return weights
