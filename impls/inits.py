"""Initial weights for training, by name. What is timed has ``weights.initial``, which is not meant to train.

Only ``fan_in`` trains half_width on 480 pictures of five classes, at a rate of 0.01 and a momentum of 0.9: ``he`` and
``timed`` end in NaN within some steps, ``paper`` and ``torch`` stay at chance.
"""

import math
from collections.abc import Callable

import numpy as np

from impls.layers import Conv, Fc
from impls.variants import Variant
from impls.weights import Weights, initial, shapes

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]  # of an array of this shape, in float32


def fan_in(variant: Variant, seed: int) -> Weights:
    """Kernels N(0, 1 / fan_in), biases 0. Source: LeCun et al. 1998, "Efficient BackProp", section 4.6."""
    return _drawn(variant, seed, _normal(1))


def he(variant: Variant, seed: int) -> Weights:
    """Kernels N(0, 2 / fan_in), biases 0. Source: https://arxiv.org/abs/1502.01852"""
    return _drawn(variant, seed, _normal(2))


def paper(variant: Variant, seed: int) -> Weights:
    """Kernels N(0, 0.01^2); biases 1 in the second, fourth and fifth convolution and in hidden dense layers, else 0.

    Source: Krizhevsky et al. 2012, section 5.
    """
    weights = _drawn(variant, seed, lambda rng, shape: rng.standard_normal(shape, dtype=np.float32) * np.float32(0.01))
    convolutions = [layer.name for layer in variant.layers if isinstance(layer, Conv)]
    dense = [layer.name for layer in variant.layers if isinstance(layer, Fc)]
    for layer in (*convolutions[1:2], *convolutions[3:5], *dense[:-1]):
        weights[layer]["bias"][:] = 1
    return weights


def torch(variant: Variant, seed: int) -> Weights:
    """Kernels and biases U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), the default of torch's layers.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html
    """

    def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan: int) -> np.ndarray:
        return (rng.random(shape, dtype=np.float32) * 2 - 1) / np.float32(math.sqrt(fan))

    weights = _drawn(variant, seed, lambda rng, shape: uniform(rng, shape, _fan_in(shape)))
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    for arrays in weights.values():
        if "bias" in arrays:
            arrays["bias"] = uniform(rng, arrays["bias"].shape, _fan_in(arrays["kernel"].shape))
    return weights


#: By the name of --init.
INITS: dict[str, Callable[[Variant, int], Weights]] = {
    "fan_in": fan_in,
    "he": he,
    "paper": paper,
    "torch": torch,
    "timed": initial,
}


def _fan_in(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])


def _normal(gain: float) -> Draw:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(gain / _fan_in(shape)))

    return draw


def _drawn(variant: Variant, seed: int, kernel: Draw) -> Weights:
    """Kernels in the order of the layers; gamma and moving variance 1, all else 0."""
    rng = np.random.Generator(np.random.PCG64([seed, 0]))
    return {
        layer: {
            name: kernel(rng, shape)
            if name == "kernel"
            else np.full(shape, name in ("gamma", "moving_variance"), np.float32)
            for name, shape in arrays.items()
        }
        for layer, arrays in shapes(variant).items()
    }
