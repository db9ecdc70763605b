"""LRN of faster parts in TensorFlow (``--lrn fast``): its gradient written out.

Mirrors torch_lrn and jax_lrn: fast_lrn, the sum over neighboring channels, power.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from impls.layers import Lrn


def fast_lrn(x: tf.Tensor, layer: Lrn, xla: bool) -> tf.Tensor:
    """On the CPU the gradient of tf.nn.lrn takes seven times its forward pass."""
    total = shifted_sum if xla else banded_sum

    @tf.custom_gradient
    def normalized(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        scale = total(tf.square(x), layer.radius, layer.alpha, layer.k)
        factor = power(scale, layer.beta)
        y = x * factor

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            return dy * factor - 2 * layer.beta * x * total(dy * y / scale, layer.radius, layer.alpha, 0.0)

        return y, gradient

    return normalized(x)


def banded_sum(x: tf.Tensor, radius: int, alpha: float, k: float) -> tf.Tensor:
    """k + alpha * the sum over channels c - radius .. c + radius, as a matrix product.

    The CPU's is exact; on a GPU the TF32 switch of the process holds for it as for every other, and has no exception.
    """
    channel = np.arange(x.shape[-1])
    band = alpha * (np.abs(channel[:, None] - channel) <= radius)
    total = tf.nn.conv2d(x, tf.constant(band[None, None], tf.float32), 1, "VALID")
    return tf.nn.bias_add(total, tf.fill([x.shape[-1]], k)) if k else total


def shifted_sum(x: tf.Tensor, radius: int, alpha: float, k: float) -> tf.Tensor:
    """The same as a sum of slices, which XLA makes one loop of: half the time of its matrix product."""
    wide = tf.pad(x, [[0, 0]] * 3 + [[radius] * 2])
    return k + alpha * tf.add_n([wide[..., i : i + x.shape[-1]] for i in range(2 * radius + 1)])


def power(scale: tf.Tensor, beta: float) -> tf.Tensor:
    """scale ** -beta; tf.pow takes three times as long as these roots."""
    root = tf.math.rsqrt(scale)
    return root * tf.sqrt(root) if beta == 0.75 else tf.pow(scale, -beta)
