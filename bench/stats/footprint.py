"""Footprint: bytes that a pass of a net needs on its device, counted from the layers."""

import itertools
import math
from dataclasses import dataclass

from bench.cases.passes import PASSES
from bench.stats.roofline import value_bytes
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Placed, Pool, Relu
from impls.variants import Variant

PARAM_BYTES = 4  # parameters, gradients and images are float32 in every precision
BATCHES = 2  # of images, which alternate
#: Layers whose backward pass reads their input, and those whose backward pass reads their output.
READS_INPUT = (Conv, Fc, Lrn, Pool, BatchNorm)
READS_OUTPUT = (Relu, Pool)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of parameters with their moving statistics, of gradients, of velocities, of activations and of images.

    ``least`` are those without which no framework can compute it: what it reads, which are the parameters, of a
    training step the velocities, and one batch. Gradients need not all be there at once, activations can be fused or
    computed again, and a Worker of a training step may not have made its velocities yet when it times another pass.
    """

    params: int
    gradients: int
    velocity: int
    activations: int
    images: int
    least: int

    @property
    def total(self) -> int:
        return self.params + self.gradients + self.velocity + self.activations + self.images


def footprint(net: Variant, batch: int, pass_: str, precision: str, *, steps: bool = False) -> Footprint:
    """What a pass holds at its fullest, with nothing held twice and no workspace of a library.

    ``activations`` of a training pass are the arrays that the backward pass reads: the input of a convolution, dense,
    LRN, pool or BatchNorm layer, the output of a ReLU or pool, each array once, in ``precision``; of forward they are
    the largest input and output of one layer. In bf16 they hold the parameters in bf16 too. ``steps``: the Worker times
    train_step also, whose velocities and gradients stay. Raises KeyError for an unknown pass.
    """
    timed, placed, width = PASSES[pass_], net.placed(), value_bytes(precision)
    trainable = sum(each.params for each in placed)
    values = batch * (_kept(placed) if timed.training else _widest(placed))
    values += trainable if width < PARAM_BYTES else 0
    params = PARAM_BYTES * (trainable + sum(each.state for each in placed))
    images = PARAM_BYTES * batch * math.prod(placed[0].input)
    return Footprint(
        params=params,
        gradients=PARAM_BYTES * trainable if timed.training or steps else 0,
        velocity=PARAM_BYTES * trainable if timed.updates or steps else 0,
        activations=width * values,
        images=BATCHES * images,
        least=params + images + (PARAM_BYTES * trainable if timed.updates else 0),
    )


def _kept(placed: tuple[Placed, ...]) -> int:
    """Values per image that the backward pass reads, but for the images themselves."""
    array, needed = 0, dict[int, int]()  # arrays by number; 0 is the images
    for number, each in enumerate(placed, start=1):
        before, array = array, array if isinstance(each.layer, Flatten | Dropout) else number
        if isinstance(each.layer, READS_INPUT):
            needed[before] = math.prod(each.input)
        if isinstance(each.layer, READS_OUTPUT):
            needed[array] = math.prod(each.output)
    needed.pop(0, None)
    return sum(needed.values())


def _widest(placed: tuple[Placed, ...]) -> int:
    """Values per image of the largest output with the input that it is computed from, unless that is the images."""
    outputs = [0, *(math.prod(each.output) for each in placed)]
    return max(before + after for before, after in itertools.pairwise(outputs))
