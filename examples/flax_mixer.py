"""MLP-Mixer S/16 in flax.linen: run --net examples/flax_mixer.py:MlpMixer; needs `pip install flax`.

Patches of 16, 8 blocks of width 512, token MLPs of 256, channel MLPs of 2048, 1000 classes.
Source: Tolstikhin et al. 2021, table 1 and section 2, https://arxiv.org/abs/2105.01601.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn


class Mlp(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.gelu(nn.Dense(self.width)(x))
        return nn.Dense(x.shape[-1])(hidden)


class MixerBlock(nn.Module):
    tokens: int
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        mixed = Mlp(self.tokens)(jnp.swapaxes(nn.LayerNorm()(x), 1, 2))
        x = x + jnp.swapaxes(mixed, 1, 2)
        return x + Mlp(self.channels)(nn.LayerNorm()(x))


class MlpMixer(nn.Module):
    patch: int = 16
    blocks: int = 8
    width: int = 512
    tokens: int = 256
    channels: int = 2048
    classes: int = 1000

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:  # (n, h, w, c) -> (n, classes)
        x = nn.Conv(self.width, (self.patch, self.patch), strides=self.patch, padding="VALID")(images)
        x = x.reshape(len(x), -1, self.width)
        for _ in range(self.blocks):
            x = MixerBlock(self.tokens, self.channels)(x)
        return nn.Dense(self.classes)(nn.LayerNorm()(x).mean(1))
