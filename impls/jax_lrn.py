"""LRN of faster parts in JAX (``--lrn fast``): sums of slices, which XLA makes one loop of; its gradient written out.

Mirrors torch_lrn and tf_lrn: fast_lrn, the sum over neighboring channels, power.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from impls.layers import Lrn


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def fast_lrn(x: jax.Array, layer: Lrn) -> jax.Array:
    return lrn_forward(x, layer)[0]


def lrn_forward(x: jax.Array, layer: Lrn) -> tuple[jax.Array, Any]:
    scale = layer.k + layer.alpha * shifted_sum(jnp.square(x), layer.radius)
    return x * power(scale, layer.beta), (x, scale)


def lrn_backward(layer: Lrn, kept: Any, dy: jax.Array) -> tuple[jax.Array]:
    x, scale = kept
    factor = power(scale, layer.beta)
    shared = shifted_sum(dy * x * factor / scale, layer.radius)
    return (dy * factor - 2 * layer.alpha * layer.beta * x * shared,)


fast_lrn.defvjp(lrn_forward, lrn_backward)


def shifted_sum(x: jax.Array, radius: int) -> jax.Array:
    """Over channels c - radius .. c + radius."""
    wide = jnp.pad(x, ((0, 0),) * 3 + ((radius, radius),))
    return sum((wide[..., i : i + x.shape[-1]] for i in range(1, 2 * radius + 1)), wide[..., : x.shape[-1]])


def power(scale: jax.Array, beta: float) -> jax.Array:
    """scale ** -beta; lax.pow takes far longer than these roots."""
    root = lax.rsqrt(scale)
    return root * lax.sqrt(root) if beta == 0.75 else lax.pow(scale, -beta)
