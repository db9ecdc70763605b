"""Roofline: operations and bytes of a layer or net, and the least time a machine needs for them.

Source: Williams, Waterman, Patterson: Roofline, an insightful visual performance model, 2009.
"""

import bisect
import math
from dataclasses import dataclass

from bench.cases.passes import timed_by_name
from impls.layers import Placed
from impls.variants import Variant

LARGEST_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Work:
    """Operations, and bytes read and written, of a whole batch."""

    flop: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flop + other.flop, self.bytes + other.bytes)

    @property
    def intensity(self) -> float:
        """FLOP per byte; 0 where nothing is moved."""
        return self.flop / self.bytes if self.bytes else 0.0


NOTHING = Work(0, 0)
#: Per parameter: momentum * velocity - lr * (gradient + decay * weight), then weight + velocity; five float32 values.
UPDATE_FLOP, UPDATE_BYTES = 6, 20


def value_bytes(precision: str) -> int:
    """Bytes per value."""
    return 2 if precision == "bf16" else 4


def work(placed: Placed, batch: int, pass_: str, *, input_gradient: bool, width: int = 4) -> Work:
    """Work of one layer in a pass or difference, with values of ``width`` bytes (4: float32, 2: bf16).

    Each array is moved once, as with ideal caches. Forward reads the input and, once per batch, params and state, and
    writes the output. Backward reads the arriving gradient and the input (for a ReLU its output, of the same size),
    writes the gradient of the params, and, with ``input_gradient``, reads the params and writes the gradient of the
    input. The update reads params, gradients and velocity and writes params and velocity, in float32 whatever the
    ``width``. A layer without operations moves nothing. Raises ValueError for an unknown pass.
    """
    known = timed_by_name()
    if pass_ not in known:
        raise ValueError(f"unknown pass {pass_!r}: expected {', '.join(known)}")
    stages = known[pass_].stages
    return sum((_stage(placed, batch, stage, input_gradient, width) for stage in stages), NOTHING)


def _stage(placed: Placed, batch: int, stage: str, input_gradient: bool, width: int) -> Work:
    read, written = math.prod(placed.input), math.prod(placed.output)
    if stage == "forward":
        flop, values = placed.flop, batch * (read + written) + placed.params + placed.state
    elif stage == "backward":
        flop = placed.backward_flop(input_gradient)
        values = batch * (written + read) + placed.params
        values += (batch * read + placed.params) if input_gradient else 0
    elif stage == "update":
        return Work(UPDATE_FLOP * placed.params, UPDATE_BYTES * placed.params)
    else:
        raise ValueError(f"unknown stage {stage!r}: expected forward, backward or update")
    return Work(batch * flop, width * values) if flop else NOTHING


def net_work(variant: Variant, batch: int, pass_: str, *, width: int = 4) -> Work:
    """Sum over the layers, without fusion, which would move less.

    Layers up to the first with params have no input gradient, unless the Variant asks for it.
    """
    total, wanted = NOTHING, variant.input_gradient
    for placed in variant.placed():
        total += work(placed, batch, pass_, input_gradient=wanted, width=width)
        wanted = wanted or placed.params > 0
    return total


def ridge(ceiling_gflop_per_s: float, copy_gb_per_s: float) -> float:
    """The intensity, FLOP per byte, above which arithmetic instead of memory limits the speed."""
    return ceiling_gflop_per_s / copy_gb_per_s


def attainable(work: Work, ceiling_gflop_per_s: float, copy_gb_per_s: float) -> float:
    """Least milliseconds: the longer of computing at the ceiling and moving at the copy bandwidth."""
    return max(work.flop / ceiling_gflop_per_s, work.bytes / copy_gb_per_s) / 1e6


def bound(work: Work, ceiling_gflop_per_s: float, copy_gb_per_s: float) -> str:
    """The limit of the speed: ``compute`` or ``memory``."""
    return "compute" if work.intensity >= ridge(ceiling_gflop_per_s, copy_gb_per_s) else "memory"


def turning_batch(
    variant: Variant, pass_: str, ceiling_gflop_per_s: float, copy_gb_per_s: float, *, width: int = 4
) -> int | None:
    """The smallest batch that is bound by compute; None if none up to LARGEST_BATCH is.

    Intensity grows with the batch, since params are read once per batch.
    """

    def computes(batch: int) -> bool:
        return bound(net_work(variant, batch, pass_, width=width), ceiling_gflop_per_s, copy_gb_per_s) == "compute"

    batch = 1 + bisect.bisect_left(range(1, LARGEST_BATCH + 1), True, key=computes)
    return batch if batch <= LARGEST_BATCH else None
