"""The reference: slow, obvious NumPy float64 forward pass and gradients of any layers.

Arrays are (n, h, w, c). One pair of functions for each kind of row, forward and backward; no framework's words, no
shared code with the adapters. ``margin`` says how near a batch comes to a tie, where a gradient may jump.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Layer, Lrn, Pad, Pool, Relu
from impls.net import Sgd
from impls.variants import Variant
from impls.weights import Weights

Array = np.ndarray
Arrays = dict[str, Array]


@dataclass
class Trace:
    """One forward pass: the input of every row and the last output, in float64."""

    inputs: list[Array] = field(default_factory=list)
    statistics: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    """Of each BatchNorm in training form: the batch's mean and biased variance, of shape (c,)."""
    output: Array = field(default_factory=lambda: np.empty(0))
    logits: Array = field(default_factory=lambda: np.empty(0))
    """The output, flat."""


#: Significand bits, including the hidden one, of the operands of a convolution or dense layer in each precision.
BITS = {"fp32": 24, "tf32": 11, "bf16": 8}


def forward(
    variant: Variant, weights: Weights, images: Array, *, training: bool = False, precision: str | None = None
) -> Trace:
    """Every intermediate of a forward pass, dropout off.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, c)
    training : bool
        BatchNorm with the batch's own statistics instead of the moving ones.
    precision : str, optional
        fp32, tf32 or bf16: operands of convolutions and dense layers are rounded to it first, the sums are float64.
    """
    trace = Trace()
    for _ in _walk(trace, variant, weights, images, training, precision):
        pass
    return trace


def _walk(
    trace: Trace, variant: Variant, weights: Weights, images: Array, training: bool, precision: str | None
) -> Iterator[tuple[Layer, Array]]:
    """Yield each layer with its input, before it is computed; results are in the trace."""
    x = images.astype(np.float64)
    for layer in variant.layers:
        arrays = _float64(weights.get(layer.name, {}))
        if isinstance(layer, Conv | Fc):
            x, arrays["kernel"] = rounded(x, precision), rounded(arrays["kernel"], precision)
        yield layer, x
        trace.inputs.append(x)
        if training and isinstance(layer, BatchNorm):
            arrays |= {"moving_mean": x.mean((0, 1, 2)), "moving_variance": x.var((0, 1, 2))}
            trace.statistics[layer.name] = arrays["moving_mean"], arrays["moving_variance"]
        x = OPS[type(layer)][0](layer, x, arrays)
    trace.output, trace.logits = x, x.reshape(len(x), -1)


def loss(logits: Array) -> float:
    """0.5 * sum of squares, over the batch."""
    return 0.5 * float(np.sum(logits**2))


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean softmax cross-entropy of a batch, and its gradient of the logits, (n, classes)."""
    shifted = logits - logits.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    chosen = np.arange(len(logits)), labels
    gradient = np.exp(log_softmax)
    gradient[chosen] -= 1
    return -float(log_softmax[chosen].mean()), gradient / len(logits)


def update(weight: Array, velocity: Array, gradient: Array, sgd: Sgd) -> tuple[Array, Array]:
    """Weight and velocity after the update of the 2012 paper (section 5), with decay of every array, biases too."""
    velocity = sgd.momentum * velocity - sgd.lr * (gradient + sgd.decay * weight)
    return weight + velocity, velocity


def gradients(
    variant: Variant, weights: Weights, trace: Trace, precision: str | None = None, start: Array | None = None
) -> dict[str, Arrays]:
    """Gradients of ``loss`` for every trainable array, by layer and name, from a trace in training form and of the same
    precision; that for the input, where the variant asks for it, is ``["input"]["images"]``.

    Of another loss if ``start``, its gradient of the logits, is given.
    """
    found: dict[str, Arrays] = {}
    dy = trace.output if start is None else start.reshape(trace.output.shape)
    for layer, x in zip(reversed(variant.layers), reversed(trace.inputs), strict=True):
        arrays = _float64(weights.get(layer.name, {}))
        if isinstance(layer, Conv | Fc):
            dy, arrays["kernel"] = rounded(dy, precision), rounded(arrays["kernel"], precision)
        dx, grads = OPS[type(layer)][1](layer, x, arrays, dy)
        if grads:
            found[layer.name] = grads
        dy = dx
    if variant.input_gradient:
        found["input"] = {"images": dy}
    return found


def rounded(x: Array, precision: str | None) -> Array:
    """To the nearest value of that precision, ties to even; exponents are not limited. None: as it is."""
    if precision is None:
        return x
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, BITS[precision])), exponent - BITS[precision])


def relative_l2(found: Array, expected: Array) -> float:
    """||found - expected|| / ||expected||, or ||found|| if ``expected`` is all 0."""
    scale = float(np.linalg.norm(np.ravel(expected)))
    return float(np.linalg.norm(np.ravel(found - expected))) / (scale or 1.0)


def difference(found: Array, expected: Array) -> dict[str, float]:
    """``error``: relative L2; ``norm``: relative error of the norm, which tells a wrong scale from rounding."""
    length = float(np.linalg.norm(np.ravel(expected))) or 1.0
    return {
        "error": relative_l2(found, expected),
        "norm": abs(float(np.linalg.norm(np.ravel(found))) / length - 1),
    }


def margin(variant: Variant, trace: Trace) -> float:
    """How near any image of the batch comes to a tie, as a share of the layer's RMS over that image: the smallest
    pre-activation of a ReLU, or gap between a pool window's two largest. Exact ties are left aside: they have equal
    values on both sides, and behind a ReLU no gradient."""
    return min(_margin(layer, x) for layer, x in zip(variant.layers, trace.inputs, strict=True))


def clear_of_ties(variant: Variant, weights: Weights, images: Array, tie: float) -> bool:
    """Whether the margin of these images, in training form, is at least ``tie``; most that are not end in the first
    rows."""
    return all(_margin(layer, x) >= tie for layer, x in _walk(Trace(), variant, weights, images, True, None))


def _margin(layer: Layer, x: Array) -> float:
    if isinstance(layer, Relu):
        distance = np.abs(x)
    elif isinstance(layer, Pool):
        first, second = _two_largest(layer, x)
        distance = first - second
    else:
        return np.inf
    axes = tuple(range(1, x.ndim))
    closest = np.where(distance > 0, distance, np.inf).min(axes)
    return float((closest / np.sqrt(np.mean(x**2, axis=axes))).min())


def float64(weights: Weights) -> Weights:
    """Weights in float64, so that several passes with them convert them once."""
    return {layer: _float64(arrays) for layer, arrays in weights.items()}


def _float64(arrays: Arrays) -> Arrays:
    return {name: np.asarray(array, np.float64) for name, array in arrays.items()}


def _padded(x: Array, pad: Pad, value: float) -> Array:
    return np.pad(x, ((0, 0), pad, pad, (0, 0)), constant_values=value)


def _unpadded(x: Array, pad: Pad) -> Array:
    before, after = pad
    return x[:, before : x.shape[1] - after, before : x.shape[2] - after]


def _windows(x: Array, kernel: int, stride: int) -> Array:
    """(n, oh, ow, c, kernel, kernel) views of a padded input."""
    return sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]


def _groups(layer: Conv, x: Array) -> list[Array]:
    return np.split(x, layer.groups, axis=-1)


def _patches(layer: Conv, x: Array) -> Array:
    """(n * oh * ow, kernel * kernel * c): the rows that a kernel flattened from HWIO multiplies."""
    windows = _windows(x, layer.kernel, layer.stride).transpose(0, 1, 2, 4, 5, 3)
    return windows.reshape(-1, layer.kernel**2 * x.shape[-1])


def _conv(layer: Conv, x: Array, arrays: Arrays) -> Array:
    n, height, width = len(x), *layer.output(x.shape[1:])[:2]
    parts = [
        (_patches(layer, part) @ kernel.reshape(-1, kernel.shape[-1])).reshape(n, height, width, -1)
        for part, kernel in zip(
            _groups(layer, _padded(x, layer.pad, 0.0)), _groups(layer, arrays["kernel"]), strict=True
        )
    ]
    return np.concatenate(parts, axis=-1) + arrays["bias"]


def _conv_backward(layer: Conv, x: Array, arrays: Arrays, dy: Array) -> tuple[Array, Arrays]:
    wide = _padded(x, layer.pad, 0.0)
    dwide, kernels = [], []
    for part, kernel, dpart in zip(
        _groups(layer, wide), _groups(layer, arrays["kernel"]), _groups(layer, dy), strict=True
    ):
        rows = dpart.reshape(-1, dpart.shape[-1])
        kernels.append((_patches(layer, part).T @ rows).reshape(kernel.shape))
        dpatches = (rows @ kernel.reshape(-1, kernel.shape[-1]).T).reshape(*dpart.shape[:3], *kernel.shape[:3])
        dx = np.zeros_like(part)
        for i, j, there in _positions(layer, dpart):
            dx[there] += dpatches[:, :, :, i, j]
        dwide.append(dx)
    grads = {"kernel": np.concatenate(kernels, axis=-1), "bias": dy.sum((0, 1, 2))}
    return _unpadded(np.concatenate(dwide, axis=-1), layer.pad), grads


def _positions(layer: Conv | Pool, y: Array) -> list[tuple[int, int, Any]]:
    """For each place (i, j) in the window, the slice of the padded input that the outputs read there."""
    height, width, stride = y.shape[1], y.shape[2], layer.stride
    return [
        (i, j, np.s_[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride])
        for i in range(layer.kernel)
        for j in range(layer.kernel)
    ]


def _pool(layer: Pool, x: Array, arrays: Arrays) -> Array:
    return _windows(_padded(x, layer.pads(x.shape[1]), -np.inf), layer.kernel, layer.stride).max((-1, -2))


def _pool_backward(layer: Pool, x: Array, arrays: Arrays, dy: Array) -> tuple[Array, Arrays]:
    pads = layer.pads(x.shape[1])
    wide = _padded(x, pads, -np.inf)
    y = _pool(layer, x, arrays)
    dx, taken = np.zeros_like(wide), np.zeros(y.shape, bool)
    for _, _, there in _positions(layer, y):
        winner = (wide[there] == y) & ~taken  # the first of equal values gets the whole gradient
        dx[there] += dy * winner
        taken |= winner
    return _unpadded(dx, pads), {}


def _two_largest(layer: Pool, x: Array) -> tuple[Array, Array]:
    wide = _padded(x, layer.pads(x.shape[1]), -np.inf)
    first = np.full((len(x), *layer.output(x.shape[1:])), -np.inf)
    second = first.copy()
    for _, _, there in _positions(layer, first):
        second = np.maximum(second, np.minimum(first, wide[there]))
        first = np.maximum(first, wide[there])
    return first, second


def _channel_sum(x: Array, radius: int) -> Array:
    """Sum over channels c - radius .. c + radius."""
    channels = x.shape[-1]
    wide = np.pad(x, ((0, 0),) * 3 + ((radius, radius),))
    return np.sum([wide[..., i : i + channels] for i in range(2 * radius + 1)], axis=0)


def _lrn(layer: Lrn, x: Array, arrays: Arrays) -> Array:
    return x * (layer.k + layer.alpha * _channel_sum(x**2, layer.radius)) ** -layer.beta


def _lrn_backward(layer: Lrn, x: Array, arrays: Arrays, dy: Array) -> tuple[Array, Arrays]:
    scale = layer.k + layer.alpha * _channel_sum(x**2, layer.radius)
    shared = _channel_sum(dy * x * scale ** (-layer.beta - 1), layer.radius)
    return dy * scale**-layer.beta - 2 * layer.alpha * layer.beta * x * shared, {}


def _bn(layer: BatchNorm, x: Array, arrays: Arrays) -> Array:
    scale = arrays["gamma"] / np.sqrt(arrays["moving_variance"] + layer.eps)
    return scale * (x - arrays["moving_mean"]) + arrays["beta"]


def _bn_backward(layer: BatchNorm, x: Array, arrays: Arrays, dy: Array) -> tuple[Array, Arrays]:
    axes = (0, 1, 2)
    scale = 1 / np.sqrt(x.var(axes) + layer.eps)
    normal = (x - x.mean(axes)) * scale
    grads = {"gamma": (dy * normal).sum(axes), "beta": dy.sum(axes)}
    dx = arrays["gamma"] * scale * (dy - dy.mean(axes) - normal * (dy * normal).mean(axes))
    return dx, grads


def _fc(layer: Fc, x: Array, arrays: Arrays) -> Array:
    return x.reshape(len(x), -1) @ arrays["kernel"] + arrays["bias"]  # alone, its input is (n, 1, 1, c)


def _fc_backward(layer: Fc, x: Array, arrays: Arrays, dy: Array) -> tuple[Array, Arrays]:
    grads = {"kernel": x.reshape(len(x), -1).T @ dy, "bias": dy.sum(0)}
    return (dy @ arrays["kernel"].T).reshape(x.shape), grads


OPS: dict[type[Layer], tuple[Callable[..., Array], Callable[..., tuple[Array, Arrays]]]] = {
    Conv: (_conv, _conv_backward),
    Relu: (lambda layer, x, arrays: np.maximum(x, 0.0), lambda layer, x, arrays, dy: (dy * (x > 0), {})),
    Lrn: (_lrn, _lrn_backward),
    Pool: (_pool, _pool_backward),
    BatchNorm: (_bn, _bn_backward),
    Flatten: (lambda layer, x, arrays: x.reshape(len(x), -1), lambda layer, x, arrays, dy: (dy.reshape(x.shape), {})),
    Fc: (_fc, _fc_backward),
    Dropout: (lambda layer, x, arrays: x, lambda layer, x, arrays, dy: (dy, {})),
}
