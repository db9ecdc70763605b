"""A net of PyTorch that the ranks of a Team share by ``impls.splits``: what they exchange, with its gradients.

Mirrors the other splits: SplitNet, one function per kind of exchange. What every rank has of a hybrid is in
DistributedDataParallel, as in ``torch_team``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel

from impls import torch_alexnet, torch_team
from impls.net import Build, Gradients, refuse_for_team
from impls.splits import Gather, GatherImages, Halo, OwnImages, Trim, part_of
from impls.torch_alexnet import BuiltLayer
from impls.variants import Variant
from impls.weights import Weights


class SplitNet(torch_alexnet.Net):
    """Implements impls.net.SplitNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        refuse_for_team(variant, how)
        assert how.split is not None
        self.part = part_of(variant, how.split, dist.get_world_size())
        super().__init__(self.part.variant, self.part.weights(weights, dist.get_rank()), how)
        self.first_filter = self.part.first_filter(dist.get_rank())
        self.begin: torch.Tensor | None = None  # gradient of the loss, 1 by default
        self.share = torch.tensor(1 / self.part.world, device=self.target)
        if not self.part.all_images:
            rows = list(self.training)
            at = next(number for number, row in enumerate(rows) if isinstance(row.layer, GatherImages))
            ids = None if self.target.type == "cpu" else [self.target]
            alike = DistributedDataParallel(self.training[:at], device_ids=ids, broadcast_buffers=False)
            alike.register_comm_hook(None, total)
            self.trainee = nn.Sequential(alike, *rows[at:])

    def load(self, batches: Sequence[np.ndarray]) -> None:
        """Each rank's own batches; where the first row takes the images of all ranks, they are exchanged here."""
        super().load(batches)
        if self.part.all_images:
            self.batches = [by_axis(gathered, batch, 0, self.how.layout) for batch in self.batches]

    def train_step(self) -> Any:
        self.begin = self.share  # the loss that is updated by is the mean over ranks
        try:
            return super().train_step()
        finally:
            self.begin = None

    def differentiate(self, end: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch_team.differentiate(end, self.parameters, self.begin)

    def named_views(self, values: Sequence[torch.Tensor]) -> Gradients:
        """Of the whole net: filters and units are torch's first axis."""
        divided = [path.partition(".")[0] in self.part.divided for path in self.paths]
        return super().named_views(
            [gathered(value, 0) if each else value for each, value in zip(divided, values, strict=True)]
        )


def total(_: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """The sum over ranks, not the average: of the divided arrays there are sums already."""
    reduced = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return reduced.then(lambda done: done.value()[0])


def gathered(x: torch.Tensor, axis: int) -> torch.Tensor:
    """The values of all ranks, one after the other along an axis."""
    own = x.contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.cat(parts, axis)


def scattered(x: torch.Tensor, axis: int) -> torch.Tensor:
    """This rank's part, along an axis, of the sum over ranks."""
    return exchanged(torch.stack(x.chunk(dist.get_world_size(), axis))).sum(0, dtype=torch.float32).to(x.dtype)


def exchanged(parts: torch.Tensor) -> torch.Tensor:
    """Of every rank its part for this rank, (world, ...), where ``parts`` are those of this rank for every rank."""
    received = torch.empty_like(parts)
    dist.all_to_all_single(received, parts)
    return received


def swapped(previous: torch.Tensor, following: torch.Tensor) -> list[torch.Tensor]:
    """What the neighbors sent, of the same shape, in exchange for what is for each; zeros where there is none."""
    rank, world = dist.get_rank(), dist.get_world_size()
    for_rank = {number: part for number, part in ((rank - 1, previous), (rank + 1, following)) if 0 <= number < world}
    sizes = [previous.numel() * (number in for_rank) for number in range(world)]
    sent = torch.cat([part.reshape(-1) for part in for_rank.values()])
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, sizes, sizes)
    found = dict(zip(for_rank, received.chunk(len(for_rank)), strict=True))
    return [
        found[number].reshape(previous.shape) if number in found else torch.zeros_like(previous)
        for number in (rank - 1, rank + 1)
    ]


class Gathered(Function):
    """``gathered``, whose gradient is ``scattered``."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, axis: int) -> torch.Tensor:
        ctx.axis = axis
        return gathered(x, axis)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return scattered(gradients[0], ctx.axis), None


class Surrounded(Function):
    """With the edge of each neighbor around; the gradient of that goes back to it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, axis: int, radius: int) -> torch.Tensor:
        ctx.axis, ctx.radius = axis, radius
        before, after = swapped(x.narrow(axis, 0, radius), x.narrow(axis, x.shape[axis] - radius, radius))
        return torch.cat([before, x, after], axis)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        axis, radius, (gradient,) = ctx.axis, ctx.radius, gradients
        width = gradient.shape[axis] - 2 * radius
        before, own, after = gradient.split([radius, width, radius], axis)
        own, (first, last) = own.clone(), swapped(before, after)
        own.narrow(axis, 0, radius).add_(first)
        own.narrow(axis, width - radius, radius).add_(last)
        return own, None, None


class Owned(Function):
    """Units of all images to all units of this rank's."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        parts = exchanged(x.reshape(dist.get_world_size(), -1, x.shape[1]))
        return torch.cat(list(parts), 1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        parts = torch.stack(gradients[0].chunk(dist.get_world_size(), 1))
        return exchanged(parts).flatten(0, 1)


def by_axis(run: Any, x: torch.Tensor, axis: int, layout: str, *arguments: Any) -> torch.Tensor:
    """``run`` along an axis of (n, c, h, w), in the layout that x has."""
    if layout == "nchw" or x.ndim < 4:
        return run(x, axis, *arguments)
    y = run(x.permute(0, 2, 3, 1), 3 if axis == 1 else axis, *arguments)  # as it lies in memory
    return y.permute(0, 3, 1, 2)


def gather(x: torch.Tensor, layer: Gather, built: BuiltLayer) -> torch.Tensor:
    return by_axis(Gathered.apply, x, 1, built.how.layout)


def halo(x: torch.Tensor, layer: Halo, built: BuiltLayer) -> torch.Tensor:
    return by_axis(Surrounded.apply, x, 1, built.how.layout, layer.radius)


def trim(x: torch.Tensor, layer: Trim, built: BuiltLayer) -> torch.Tensor:
    return x[:, layer.radius : x.shape[1] - layer.radius]


def gather_images(x: torch.Tensor, layer: GatherImages, built: BuiltLayer) -> torch.Tensor:
    return Gathered.apply(x, 0)


def own_images(x: torch.Tensor, layer: OwnImages, built: BuiltLayer) -> torch.Tensor:
    return Owned.apply(x)


torch_alexnet.OPS.update({Gather: gather, Halo: halo, Trim: trim, GatherImages: gather_images, OwnImages: own_images})
