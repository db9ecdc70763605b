"""A net of JAX that the ranks of a Team share by ``impls.splits``: what they exchange, which JAX transposes itself.

Mirrors the other splits: SplitNet, one function per kind of exchange. A rank's part of a kernel or bias is
put into an array of all ranks along the first axis, as ``jax_team`` does with images.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from impls import jax_alexnet
from impls.jax_alexnet import BuiltLayer
from impls.jax_team import ALIKE, AXIS, OWN, RankNet, sending_ahead, with_axis
from impls.net import Build, refuse_for_team
from impls.splits import Gather, GatherImages, Halo, OwnImages, Trim, part_of
from impls.variants import Variant
from impls.weights import Weights


class SplitNet(RankNet):
    """Implements impls.net.SplitNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        refuse_for_team(variant, how)
        assert how.split is not None
        rank = jax.process_index()
        self.part = part_of(variant, how.split, jax.process_count())
        self.first_filter = self.part.first_filter(rank)
        super().__init__(self.part.variant, self.part.weights(weights, rank), how)
        parts = {
            layer: dict.fromkeys(arrays, OWN if layer in self.part.divided else ALIKE)
            for layer, arrays in self.parameters.items()
        }
        images = ALIKE if self.part.all_images else OWN
        # with check_vma the gradient of what all ranks have alike would be summed over ranks by itself, always
        mapped = partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        self.forward_specs = {"in_specs": (parts, OWN, images), "out_specs": OWN}
        self.infer = jax.jit(self.over_ranks(self._infer))
        outputs = (OWN, (parts,), OWN, ALIKE)
        self.step = jax.jit(mapped(with_axis(self._step), in_specs=(parts, OWN, ALIKE, images), out_specs=outputs))

        def train(*arguments: Any, optimizer: Any) -> Any:
            step = with_axis(partial(self._train, optimizer=optimizer))
            inputs, outputs = (parts, parts, OWN, ALIKE, images, OWN, ALIKE), (OWN, parts, parts, OWN, ALIKE)
            return mapped(step, in_specs=inputs, out_specs=outputs)(*arguments)

        self.train = jax.jit(train, donate_argnums=(0, 1), static_argnames="optimizer")
        gather = partial(lax.all_gather, axis_name=AXIS, tiled=True)
        self.gather_images = jax.jit(mapped(partial(gather, axis=0), in_specs=OWN, out_specs=ALIKE))
        # all in one program, which is compiled once: alone there would be one for each shape
        every = partial(jax.tree.map, partial(gather, axis=-1))
        self.gather_parts = jax.jit(mapped(every, in_specs=OWN, out_specs=ALIKE))

    def load(self, batches: Sequence[np.ndarray]) -> None:
        """Each rank's own batches; where the first row takes the images of all ranks, they are exchanged here."""
        super().load(batches)
        if self.part.all_images:
            self.batches = [self.gather_images(batch) for batch in self.batches]

    def forward(self) -> Any:
        return self.own(super().forward())

    def on_rank(self) -> Any:
        """The arrays of all ranks, of which ``over_ranks`` takes this rank's."""
        return self.parameters, self.moving, self.batches[0]

    def over_ranks(self, forward: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return jax.shard_map(forward, mesh=self.mesh, check_vma=False, **self.forward_specs)

    def put_part(self, layer: str, array: np.ndarray) -> jax.Array:
        return self.put_own(array) if layer in self.part.divided else self.put(array)

    def whole(self, values: Sequence[jax.Array]) -> Sequence[jax.Array]:
        """Of the whole net: filters and units are the last axis."""
        divided = [layer in self.part.divided for layer, _ in self.names]
        with sending_ahead(for_good=False):  # outside the clock
            parts = self.gather_parts([value for value, it in zip(values, divided, strict=True) if it])
            gathered = iter(jax.block_until_ready(parts))
        return self.own([next(gathered) if it else value for value, it in zip(values, divided, strict=True)])

    def summed(self, gradients: Any) -> Any:
        return {
            layer: arrays if layer in self.part.divided else lax.psum(arrays, AXIS)
            for layer, arrays in gradients.items()
        }

    def averaged(self, gradients: Any) -> Any:
        return jax.tree.map(lambda total: total / self.part.world, self.summed(gradients))


def gather(x: jax.Array, layer: Gather, built: BuiltLayer) -> jax.Array:
    return lax.all_gather(x, AXIS, axis=x.ndim - 1, tiled=True)


def halo(x: jax.Array, layer: Halo, built: BuiltLayer) -> jax.Array:
    first, last = x[..., : layer.radius], x[..., -layer.radius :]
    upward = [(rank, rank + 1) for rank in range(layer.world - 1)]
    before = lax.ppermute(last, AXIS, upward)  # zeros where nothing is received
    after = lax.ppermute(first, AXIS, [(target, source) for source, target in upward])
    return jnp.concatenate([before, x, after], x.ndim - 1)


def trim(x: jax.Array, layer: Trim, built: BuiltLayer) -> jax.Array:
    return x[..., layer.radius : -layer.radius]


def gather_images(x: jax.Array, layer: GatherImages, built: BuiltLayer) -> jax.Array:
    return lax.all_gather(x, AXIS, axis=0, tiled=True)


def own_images(x: jax.Array, layer: OwnImages, built: BuiltLayer) -> jax.Array:
    return lax.all_to_all(x, AXIS, split_axis=0, concat_axis=1, tiled=True)


jax_alexnet.OPS.update({Gather: gather, Halo: halo, Trim: trim, GatherImages: gather_images, OwnImages: own_images})
