"""Layer records and their arithmetic: output shape, params, state, MACs and FLOP, with no framework installed.

A shape is (height, width, channels) of one image; numbers are pixels, never framework words. A window that does not
divide its input drops the rest, as all three frameworks do, except in a Pool that rounds up.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

Shape = tuple[int, int, int]
Pad = tuple[int, int]  # pixels before and after, the same for height and width


class LayerError(ValueError):
    """A layer that does not fit its input."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer without parameters that keeps its input's shape; subclasses override what differs."""

    name: str
    kind: ClassVar[str] = ""

    def output(self, shape: Shape) -> Shape:
        return shape

    def trainable(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Canonical shapes of the trainable arrays, by name."""
        return {}

    def moving(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Canonical shapes of the moving statistics, by name."""
        return {}

    def macs(self, shape: Shape) -> int:
        """Multiply-adds of one image's forward pass; convolution and dense only."""
        return 0

    def flop(self, shape: Shape) -> int:
        """Operations of one image's forward pass: each addition, multiplication, division, comparison and power is one.

        Twice the MACs of a convolution or dense row hold its bias too: the first product needs no addition. A row that
        only hands its input on, as Flatten does and Dropout where it is off, has none.
        """
        return 2 * self.macs(shape)

    def backward_flop(self, shape: Shape, input_gradient: bool = True) -> int:
        """Operations of one image's backward pass: the forward's once for the kernel's gradient and, where it is asked
        for, once for the input's; the bias's, a sum of what arrives, is left out."""
        return (1 + input_gradient) * self.flop(shape)


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
        return _window(self, height, self.pad), _window(self, width, self.pad), self.filters

    def trainable(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"kernel": (self.kernel, self.kernel, shape[2] // self.groups, self.filters), "bias": (self.filters,)}

    def macs(self, shape: Shape) -> int:
        height, width, filters = self.output(shape)
        return height * width * filters * self.kernel**2 * shape[2] // self.groups


@dataclass(frozen=True, slots=True)
class Relu(Layer):
    kind: ClassVar[str] = "relu"

    def flop(self, shape: Shape) -> int:
        return math.prod(shape)

    def backward_flop(self, shape: Shape, input_gradient: bool = True) -> int:
        """One comparison per value."""
        return math.prod(shape) if input_gradient else 0


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

    def flop(self, shape: Shape) -> int:
        """Per value: square, 2 radius additions, times alpha, plus k, power, times x; all windows count as full."""
        return (2 * self.radius + 5) * math.prod(shape)

    def backward_flop(self, shape: Shape, input_gradient: bool = True) -> int:
        """Per value, with s = k + alpha * sum and p = s ** -beta from the forward pass and the arriving gradient g:
        g * p, times x, over s, 2 radius additions of that, times x, times 2 alpha beta, and a subtraction."""
        return (2 * self.radius + 6) * math.prod(shape) if input_gradient else 0


@dataclass(frozen=True, slots=True)
class Pool(Layer):
    """Maximum over a window; the padding never wins.

    With ``ceil``, as in Caffe, pixels that are left over get a window of their own, which extends beyond the input but
    begins inside it or its first pad. Source: caffe/src/caffe/layers/pooling_layer.cpp.
    """

    kind: ClassVar[str] = "pool"
    kernel: int
    stride: int
    pad: Pad = (0, 0)
    ceil: bool = field(default=False, repr=False)  # a net's hash has the pads that follow from it

    def pads(self, pixels: int) -> Pad:
        """The pad with the pixels after it that the last window of ``ceil`` needs, for an input of this height."""
        before, after = self.pad
        if not self.ceil:
            return before, after
        windows = -(-(before + pixels + after - self.kernel) // self.stride) + 1
        windows -= (windows - 1) * self.stride >= before + pixels
        return before, max(after, (windows - 1) * self.stride + self.kernel - before - pixels)

    def output(self, shape: Shape) -> Shape:
        height, width = (_window(self, pixels, self.pads(pixels)) for pixels in shape[:2])
        return height, width, shape[2]

    def flop(self, shape: Shape) -> int:
        """Comparisons per window; all windows count as full."""
        return (self.kernel**2 - 1) * math.prod(self.output(shape))

    def backward_flop(self, shape: Shape, input_gradient: bool = True) -> int:
        """One addition to the maximum of each window."""
        return math.prod(self.output(shape)) if input_gradient else 0


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

    def flop(self, shape: Shape) -> int:
        """Per value, in inference: minus mean, over deviation, times gamma, plus beta. The batch statistics of training
        are left out."""
        return 4 * math.prod(shape)

    def backward_flop(self, shape: Shape, input_gradient: bool = True) -> int:
        """Per value: 2 to normalize it again, 2 for gamma's gradient, 1 for beta's, and 4 for the input's."""
        return (9 if input_gradient else 5) * math.prod(shape)


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

    @property
    def flop(self) -> int:
        return self.layer.flop(self.input)

    def backward_flop(self, input_gradient: bool = True) -> int:
        return self.layer.backward_flop(self.input, input_gradient)


def place(layers: Iterable[Layer], shape: Shape) -> tuple[Placed, ...]:
    """Compute the shapes of all layers from an input shape. Raises LayerError if one does not fit."""
    placed = []
    for layer in layers:
        placed.append(Placed(layer, shape, layer.output(shape)))
        shape = placed[-1].output
    return tuple(placed)


def _window(layer: Conv | Pool, pixels: int, pad: Pad) -> int:
    span = pixels + sum(pad)
    if span < layer.kernel:
        raise LayerError(
            f"{layer.name}: a {layer.kernel}x{layer.kernel} window needs at least {layer.kernel} pixels, "
            f"found {span}; choose a larger input size"
        )
    return (span - layer.kernel) // layer.stride + 1
