"""Layer records and their arithmetic: output shape, params, state and MACs, with no framework installed.

A shape is (height, width, channels) of one image; numbers are pixels, never framework words. A window that does not
divide its input drops the rest, as all three frameworks do.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

Shape = tuple[int, int, int]
Pad = tuple[int, int]  # pixels before and after, the same for height and width


class LayerError(ValueError):
    """A row that cannot stand where it is put."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A row with no parameters that keeps its input's shape; the others override what differs."""

    name: str
    kind: ClassVar[str] = ""

    def output(self, shape: Shape) -> Shape:
        return shape

    def trainable(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Canonical array shapes of what a gradient is taken for, by name."""
        return {}

    def moving(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Canonical array shapes of the moving statistics, by name."""
        return {}

    def macs(self, shape: Shape) -> int:
        """Multiply-adds of one image's forward pass; convolution and dense only."""
        return 0


@dataclass(frozen=True, slots=True)
class Conv(Layer):
    """Convolution with bias. Kernel (kernel, kernel, channels / groups, filters): HWIO."""

    kind: ClassVar[str] = "conv"
    filters: int
    kernel: int
    stride: int = 1
    pad: Pad = (0, 0)
    groups: int = 1

    def output(self, shape: Shape) -> Shape:
        height, width, channels = shape
        for what, count in (("in_channels", channels), ("filters", self.filters)):
            if count % self.groups:
                raise LayerError(
                    f"{self.name}: {what} (={count}) must be divisible by groups (={self.groups}); "
                    "check the row in impls/variants.py"
                )
        return _window(self, height), _window(self, width), self.filters

    def trainable(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"kernel": (self.kernel, self.kernel, shape[2] // self.groups, self.filters), "bias": (self.filters,)}

    def macs(self, shape: Shape) -> int:
        height, width, filters = self.output(shape)
        return height * width * filters * self.kernel**2 * shape[2] // self.groups


@dataclass(frozen=True, slots=True)
class Relu(Layer):
    kind: ClassVar[str] = "relu"


@dataclass(frozen=True, slots=True)
class Lrn(Layer):
    """x / (k + alpha * sum of squares over channels c-radius..c+radius) ** beta; alpha is on the plain sum.

    Source: Krizhevsky et al. 2012, section 3.3.
    """

    kind: ClassVar[str] = "lrn"
    radius: int
    alpha: float
    beta: float
    k: float


@dataclass(frozen=True, slots=True)
class Pool(Layer):
    """Maximum over a window; the padding never wins."""

    kind: ClassVar[str] = "pool"
    kernel: int
    stride: int
    pad: Pad = (0, 0)

    def output(self, shape: Shape) -> Shape:
        return _window(self, shape[0]), _window(self, shape[1]), shape[2]


@dataclass(frozen=True, slots=True)
class BatchNorm(Layer):
    """gamma * (x - mean) / sqrt(variance + eps) + beta.

    In training form mean and (biased) variance are the batch's, and the moving statistics take ``momentum`` of the
    batch's mean and unbiased variance; in inference form the moving statistics are used and left alone.
    """

    kind: ClassVar[str] = "bn"
    eps: float
    momentum: float

    def trainable(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"gamma": (shape[2],), "beta": (shape[2],)}

    def moving(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"moving_mean": (shape[2],), "moving_variance": (shape[2],)}


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """(height, width, channels) to one row in that order."""

    kind: ClassVar[str] = "flatten"

    def output(self, shape: Shape) -> Shape:
        return 1, 1, math.prod(shape)


@dataclass(frozen=True, slots=True)
class Fc(Layer):
    """Dense with bias. Kernel (in, out); after a Flatten its rows are in (h, w, c) order."""

    kind: ClassVar[str] = "fc"
    units: int

    def output(self, shape: Shape) -> Shape:
        if shape[:2] != (1, 1):
            raise LayerError(f"{self.name}: expected a flat input, found {shape}; put a Flatten row before it")
        return 1, 1, self.units

    def trainable(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"kernel": (shape[2], self.units), "bias": (self.units,)}

    def macs(self, shape: Shape) -> int:
        return shape[2] * self.units


@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """Zero a share ``rate`` of the input and scale the rest by 1 / (1 - rate), in training mode and when asked for."""

    kind: ClassVar[str] = "dropout"
    rate: float


class Placed(NamedTuple):
    """A layer with the shapes it has in its net."""

    layer: Layer
    input: Shape
    output: Shape

    @property
    def params(self) -> int:
        return sum(math.prod(shape) for shape in self.layer.trainable(self.input).values())

    @property
    def state(self) -> int:
        return sum(math.prod(shape) for shape in self.layer.moving(self.input).values())

    @property
    def macs(self) -> int:
        return self.layer.macs(self.input)


def place(layers: Iterable[Layer], shape: Shape) -> tuple[Placed, ...]:
    """Walk the rows from an input shape; LayerError where one does not fit."""
    placed = []
    for layer in layers:
        placed.append(Placed(layer, shape, layer.output(shape)))
        shape = placed[-1].output
    return tuple(placed)


def _window(layer: Conv | Pool, pixels: int) -> int:
    span = pixels + sum(layer.pad)
    if span < layer.kernel:
        raise LayerError(
            f"{layer.name}: a {layer.kernel}x{layer.kernel} window needs at least {layer.kernel} pixels, "
            f"found {span}; choose a larger input size"
        )
    return (span - layer.kernel) // layer.stride + 1
