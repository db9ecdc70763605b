"""A net of TensorFlow that the ranks of a Team share by ``impls.splits``: what they exchange, with its gradients.

Mirrors the other splits: SplitNet, one function per kind of exchange. Everything goes by ``all_gather`` and
``all_reduce``, the public collectives of a replica, which have no bfloat16: a neighbor's channels come with those of
all ranks, and of a sum each rank takes its part. So more is sent than ``impls.splits`` counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impls import tf_alexnet, tf_team
from impls.net import Build, Gradients, LayerReport, refuse_for_team
from impls.splits import Gather, GatherImages, Halo, OwnImages, Trim, part_of
from impls.tf_alexnet import BuiltLayer
from impls.tf_team import SUM, this_rank
from impls.variants import Variant
from impls.weights import Weights


class SplitNet(tf_alexnet.Net):
    """Implements impls.net.SplitNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        refuse_for_team(variant, how)
        assert how.split is not None
        rank = this_rank()
        self.shared = part_of(variant, how.split, rank.world)
        self.first_filter = self.shared.first_filter(rank.number)
        super().__init__(self.shared.variant, self.shared.weights(weights, rank.number), how)
        images = (rank.world * how.batch if self.shared.all_images else how.batch, *self.shape[1:])
        specs = [tf.TensorSpec(images, tf.float32), tf.TensorSpec((how.batch,), tf.int32)]
        traced = {"autograph": False}
        self.infer = tf.function(self._infer, input_signature=specs[:1], **traced)
        self.step = tf.function(self._step, input_signature=specs[:1], **traced)
        self.train = tf.function(self._train, input_signature=[*specs, *[tf.TensorSpec((), tf.float32)] * 3], **traced)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        """Each rank's own batches; where the first row takes the images of all ranks, they are exchanged here."""
        super().load(batches)
        if self.shared.all_images:
            self.batches = [tf_team.gathered(batch, 0) for batch in self.batches]

    def layers(self) -> list[LayerReport]:
        reports: list[LayerReport] = []

        def traced(x: tf.Tensor) -> None:
            tf_team.on_replica(lambda x: reports.extend(self.walk(x)), x)

        tf.function(traced, autograph=False).get_concrete_function(self.batches[0])
        return reports

    def _infer(self, x: tf.Tensor) -> tf.Tensor:
        return tf_team.on_replica(super()._infer, x)

    def _summed(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        def replica(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
            loss, *gradients = self._differentiate(x, loss_of)
            alike = [layer not in self.shared.divided for layer, _ in self.names]
            reduced = iter(all_reduce([value for value, is_alike in zip(gradients, alike, strict=True) if is_alike]))
            return loss, *(
                next(reduced) if is_alike else value for value, is_alike in zip(gradients, alike, strict=True)
            )

        return tf_team.on_replica(replica, x)

    def _averaged(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        loss, *gradients = self._summed(x, loss_of)
        return loss, *(value / self.shared.world for value in gradients)

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        loss, *values = handles
        return super().gradients((loss, *self.whole(values)))

    def named_views(self, values: Sequence[tf.Variable]) -> Gradients:
        return super().named_views(self.whole(values))

    def whole(self, values: Sequence[Any]) -> list[tf.Tensor]:
        """Of the whole net: filters and units are the last axis."""
        named = zip(self.names, values, strict=True)
        return [
            tf_team.gathered(tf.convert_to_tensor(value), -1)
            if layer in self.shared.divided
            else tf.convert_to_tensor(value)
            for (layer, _), value in named
        ]


def all_reduce(values: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    return tf.distribute.get_replica_context().all_reduce(SUM, values) if values else []


def gather_along(x: tf.Tensor, axis: int) -> tf.Tensor:
    """The values of all ranks along an axis; the gradient is this rank's part of the sum."""

    @tf.custom_gradient
    def run(x: tf.Tensor) -> Any:
        def gradient(arrived: tf.Tensor) -> tf.Tensor:
            (total,) = all_reduce([tf.cast(arrived, tf.float32)])
            return tf.cast(tf.split(total, this_rank().world, axis)[this_rank().number], arrived.dtype)

        return tf.cast(tf_team.all_gather(tf.cast(x, tf.float32), axis), x.dtype), gradient

    return run(x)


def gather(x: tf.Tensor, layer: Gather, built: BuiltLayer, training: bool) -> tf.Tensor:
    return gather_along(x, len(x.shape) - 1)


def halo(x: tf.Tensor, layer: Halo, built: BuiltLayer, training: bool) -> tf.Tensor:
    rank, edge = this_rank(), layer.radius
    edges = tf.concat([x[..., :edge], x[..., -edge:]], 3)
    firsts_and_lasts = tf.split(gather_along(edges, 3), 2 * rank.world, 3)
    nothing = tf.zeros_like(x[..., :edge])
    before = firsts_and_lasts[2 * rank.number - 1] if rank.number else nothing
    after = firsts_and_lasts[2 * rank.number + 2] if rank.number < rank.world - 1 else nothing
    return tf.concat([before, x, after], 3)


def trim(x: tf.Tensor, layer: Trim, built: BuiltLayer, training: bool) -> tf.Tensor:
    return x[..., layer.radius : -layer.radius]


def gather_images(x: tf.Tensor, layer: GatherImages, built: BuiltLayer, training: bool) -> tf.Tensor:
    return gather_along(x, 0)


def own_images(x: tf.Tensor, layer: OwnImages, built: BuiltLayer, training: bool) -> tf.Tensor:
    return tf.split(gather_along(x, 1), layer.world, 0)[this_rank().number]


tf_alexnet.OPS.update({Gather: gather, Halo: halo, Trim: trim, GatherImages: gather_images, OwnImages: own_images})
