"""Splits: how the ranks of a Team share a net's work, as the rows that one rank computes.

``data``: every rank has the whole net and its own images, and gradients are summed over ranks. ``towers``: every rank
has a part of each row's filters or units, for the images of all ranks; source: Krizhevsky et al. 2012, figure 2.
``hybrid``: convolutions as in ``data``, dense rows as in ``towers``; source: https://arxiv.org/abs/1404.5997, scheme a.

Weights, output and gradients are those of the whole net in each: a rank has its own images' logits, and the gradients
of its part of the arrays are sums over the images of all ranks. What the ranks exchange are rows of their own.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from impls.layers import BatchNorm, Conv, Fc, Flatten, Layer, Lrn, Shape
from impls.variants import VARIANTS, Variant

if TYPE_CHECKING:  # they import numpy, which the command line does not need
    import numpy as np

    from impls.weights import Weights

DATA, TOWERS, HYBRID = "data", "towers", "hybrid"
SPLITS = (DATA, TOWERS, HYBRID)


@dataclass(frozen=True, slots=True)
class Exchange(Layer):
    """A row in which ranks send each other values; ``sent`` counts those that one rank sends in a forward pass, per
    image of all ranks. A backward pass sends as many the other way."""

    world: int

    def sent(self, shape: Shape) -> float:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Gather(Exchange):
    """The channels of all ranks next to each other; the gradient is the sum over ranks of that for this rank's."""

    kind: ClassVar[str] = "gather"

    def output(self, shape: Shape) -> Shape:
        height, width, channels = shape
        return height, width, channels * self.world

    def sent(self, shape: Shape) -> float:
        return (self.world - 1) * math.prod(shape)


@dataclass(frozen=True, slots=True)
class Halo(Exchange):
    """``radius`` channels of each neighbor around this rank's: zeros, which add nothing to an LRN, where there is none.

    So every rank has the same rows.
    """

    kind: ClassVar[str] = "halo"
    radius: int

    def output(self, shape: Shape) -> Shape:
        height, width, channels = shape
        return height, width, channels + 2 * self.radius

    def sent(self, shape: Shape) -> float:
        """Of a rank with the most neighbors."""
        height, width, _ = shape
        return min(2, self.world - 1) * self.radius * height * width


@dataclass(frozen=True, slots=True)
class Trim(Layer):
    """Without the channels that a Halo put around."""

    kind: ClassVar[str] = "trim"
    radius: int

    def output(self, shape: Shape) -> Shape:
        height, width, channels = shape
        return height, width, channels - 2 * self.radius


@dataclass(frozen=True, slots=True)
class GatherImages(Exchange):
    """The images of all ranks after each other, by rank; its input are those of this rank."""

    kind: ClassVar[str] = "gather_images"

    def sent(self, shape: Shape) -> float:
        return (self.world - 1) * math.prod(shape) / self.world


@dataclass(frozen=True, slots=True)
class OwnImages(Exchange):
    """Of this rank's images the units of all ranks; its input are this rank's units of all images."""

    kind: ClassVar[str] = "own_images"

    def output(self, shape: Shape) -> Shape:
        return 1, 1, shape[2] * self.world

    def sent(self, shape: Shape) -> float:
        return (self.world - 1) * math.prod(shape) / self.world


class NoSuchSplit(ValueError):
    """A net that cannot be split so; the message says over how many ranks which could."""


@dataclass(frozen=True, slots=True)
class Part:
    """What each of ``world`` ranks computes of a net that they share.

    ``variant`` are its rows. In those that are ``divided`` it has the filters or units of its number.
    """

    variant: Variant
    divided: frozenset[str]
    world: int

    @property
    def all_images(self) -> bool:
        """Whether its first row takes the images of all ranks."""
        return not any(isinstance(layer, GatherImages) for layer in self.variant.layers)

    def first_filter(self, rank: int) -> int:
        """The place, along the last axis of the first kernel, of the first value that a rank has."""
        row = next(layer for layer in self.variant.layers if isinstance(layer, Conv | Fc))
        return rank * _width(row) if row.name in self.divided else 0

    @property
    def sent(self) -> float:
        """Values that a rank sends in one forward_backward, per image of all ranks, besides sums of gradients."""
        return 2 * sum(
            placed.layer.sent(placed.input) for placed in self.variant.placed() if isinstance(placed.layer, Exchange)
        )

    @property
    def summed(self) -> int:
        """Parameters whose gradients are summed over ranks: those that every rank has."""
        return sum(placed.params for placed in self.variant.placed() if placed.layer.name not in self.divided)

    def weights(self, whole: "Weights", rank: int) -> "Weights":
        """Views of a rank's part of canonical arrays."""
        return {
            layer: {name: self._slice(layer, array, rank) for name, array in arrays.items()}
            for layer, arrays in whole.items()
        }

    def _slice(self, layer: str, array: "np.ndarray", rank: int) -> "np.ndarray":
        if layer not in self.divided:
            return array
        width = array.shape[-1] // self.world
        return array[..., rank * width : (rank + 1) * width]


def part_of(variant: Variant, split: str, world: int) -> Part:
    """The part of every rank. Raises NoSuchSplit."""
    if world < 2:
        raise NoSuchSplit(f"expected 2 ranks or more for a split by {split}, found {world}")
    _refuse(variant, split, world)
    rows = list(_towers(variant, world) if split == TOWERS else _hybrid(variant, world))
    divided = frozenset(row.name for row in rows if isinstance(row, Conv | Fc) and row not in variant.layers)
    return Part(dataclasses.replace(variant, name=f"{variant.name}_{split}", layers=tuple(rows)), divided, world)


def _refuse(variant: Variant, split: str, world: int) -> None:
    groups = {layer.groups for layer in variant.layers if isinstance(layer, Conv)} - {1}
    if split == TOWERS and groups != {world}:
        having = [name for name, net in VARIANTS.items() if any(_grouped(layer, world) for layer in net.layers)]
        raise NoSuchSplit(
            f"towers: expected a net with convolutions in {world} groups, a tower per device"
            f"{': ' + ', '.join(having) if having else ''}; found {variant.name} on {world} devices"
        )
    for placed in variant.placed() if split == TOWERS else ():
        if isinstance(placed.layer, Lrn) and not 0 < placed.layer.radius <= placed.input[2] // world:
            raise NoSuchSplit(
                f"towers: expected an LRN that reads one neighbor, found radius {placed.layer.radius} of "
                f"{placed.layer.name} with {placed.input[2] // world} channels per device"
            )
    rows = variant.layers if split == TOWERS else variant.layers[_first_dense(variant) :]
    if any(isinstance(layer, BatchNorm) for layer in rows):
        raise NoSuchSplit(f"{split}: expected no BatchNorm in a row that is divided, found {variant.name}")
    for layer in rows:
        if isinstance(layer, Conv | Fc) and _width(layer) % world:
            raise NoSuchSplit(
                f"{split}: expected widths that {world} devices divide, found {_width(layer)} of {layer.name} "
                f"in {variant.name}"
            )


def _grouped(layer: Layer, groups: int) -> bool:
    return isinstance(layer, Conv) and layer.groups == groups > 1


def _first_dense(variant: Variant) -> int:
    return next(number for number, layer in enumerate(variant.layers) if isinstance(layer, Fc))


def _towers(variant: Variant, world: int) -> Iterator[Layer]:
    divided = False  # whether the row's input is this rank's channels alone
    for layer in variant.layers:
        if divided and (isinstance(layer, Flatten | Fc) or (isinstance(layer, Conv) and layer.groups == 1)):
            yield Gather(f"gather_{layer.name}", world)
            divided = False
        if isinstance(layer, Lrn) and divided:
            around = Halo(f"halo_{layer.name}", world, layer.radius)
            yield from (around, layer, Trim(f"trim_{layer.name}", layer.radius))
            continue
        if isinstance(layer, Conv | Fc):
            layer, divided = _share(layer, world), True
        yield layer
    yield OwnImages("own_images", world)


def _hybrid(variant: Variant, world: int) -> Iterator[Layer]:
    first, divided = _first_dense(variant), False
    for number, layer in enumerate(variant.layers):
        if number == first:
            yield GatherImages("gather_images", world)
        if isinstance(layer, Fc):
            if divided:
                yield Gather(f"gather_{layer.name}", world)
            layer, divided = _share(layer, world), True
        yield layer
    yield OwnImages("own_images", world)


def _share(layer: Conv | Fc, world: int) -> Conv | Fc:
    """The row with this rank's filters or units."""
    if isinstance(layer, Fc):
        return dataclasses.replace(layer, units=layer.units // world)
    return dataclasses.replace(layer, filters=layer.filters // world, groups=max(1, layer.groups // world))


def _width(layer: Conv | Fc) -> int:
    return layer.units if isinstance(layer, Fc) else layer.filters
