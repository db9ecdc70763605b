"""ConvMixer in plain JAX, a function and its parameters: run --net examples/jax_convmixer.py:build.

256 channels, 8 blocks, kernels of 9, patches of 7, and no normalization.
Source: Trockman and Kolter 2022, figures 2 and 3, https://arxiv.org/abs/2201.09792, whose blocks have BatchNorm.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, DEPTH, KERNEL, PATCH, CLASSES = 256, 8, 9, 7, 1000


def build() -> tuple[Any, Any]:
    draw = np.random.default_rng(0)

    def kernel(*shape: int) -> jax.Array:  # (h, w, in, out), He et al. 2015
        return jnp.asarray(draw.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape), jnp.float32)

    blocks = [(kernel(KERNEL, KERNEL, 1, WIDTH), kernel(1, 1, WIDTH, WIDTH)) for _ in range(DEPTH)]
    return apply, {"patches": kernel(PATCH, PATCH, 3, WIDTH), "blocks": blocks, "head": kernel(WIDTH, CLASSES)}


def conv(x: jax.Array, kernel: jax.Array, **more: Any) -> jax.Array:
    more = {"window_strides": (1, 1), "padding": "SAME"} | more
    return jax.nn.gelu(jax.lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **more))


def apply(params: Any, images: jax.Array) -> jax.Array:
    x = conv(images, params["patches"], window_strides=(PATCH, PATCH), padding="VALID")
    for spatial, pointwise in params["blocks"]:
        x = x + conv(x, spatial, feature_group_count=WIDTH)
        x = conv(x, pointwise)
    return x.mean((1, 2)) @ params["head"]
