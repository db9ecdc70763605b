"""Projection: what a pass takes on W devices, from its time on one, by the bytes of the gradients and a link.

t(W) = t(1) + what is left of the reductions when the backward pass ends. Gradients are summed in buckets, as torch's
DistributedDataParallel does: a bucket's reduction starts when its last gradient is there and the bucket before it is
done, and takes 2 (W - 1) / W times its bytes over the bus bandwidth of the link, and its hops. Every device has a whole
batch (weak scaling).

Left out: what the reduction takes of cores or SMs, the memory and power that devices share, devices that are slower
than others, links that others use, and algorithms that NCCL changes with the size. True figures are lower.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.cases.passes import STEP
from bench.stats.links import Link
from impls.layers import Fc
from impls.variants import Variant

VALUE_BYTES = 4  # of a float32 gradient
#: Bytes at which torch's DistributedDataParallel closes a bucket: the first one, and all others.
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients that are summed at once. ``ready``: the share of the backward pass after which all of them are there,
    by its multiply-adds."""

    size: int
    ready: float


@dataclass(frozen=True, slots=True)
class Step:
    """A pass on one device: its images and ms, and when its backward pass begins and ends, in ms from its start.

    ``measured``: whether that is from other passes of the Run, or by multiply-adds.
    """

    images: int
    ms: float
    begin_ms: float
    end_ms: float
    measured: bool

    @classmethod
    def of(
        cls,
        net: Variant,
        pass_: str,
        images: int,
        ms: float,
        *,
        forward_ms: float | None = None,
        forward_backward_ms: float | None = None,
    ) -> "Step":
        """From the centers of the passes on one device; those unknown are None.

        The backward pass begins after the forward's time, or its share of the multiply-adds; it ends with
        forward_backward, before a training step's update. Where forward_backward is unknown, the update counts as
        backward pass.
        """
        end = ms
        if pass_ == STEP.name and forward_backward_ms is not None:
            end = min(ms, forward_backward_ms)
        measured = forward_ms is not None and forward_ms < end
        begin = forward_ms if forward_ms is not None and measured else end * net.macs / (net.macs + net.backward_macs)
        return cls(images, ms, begin, end, measured)


@dataclass(frozen=True, slots=True)
class Projected:
    """A pass on ``world`` devices. ``reduction_ms``: all buckets alone; ``exposed_ms``: what of it ends after the
    backward pass."""

    world: int
    step: Step
    reduction_ms: float
    exposed_ms: float

    @property
    def ms(self) -> float:
        return self.step.ms + self.exposed_ms

    @property
    def images_per_s(self) -> float:
        """Of all devices."""
        return 1e3 * self.world * self.step.images / self.ms

    @property
    def efficiency(self) -> float:
        """Time on one device over that on all, each with the same batch."""
        return self.step.ms / self.ms

    @property
    def plain_efficiency(self) -> float:
        """The same where nothing is reduced before the backward pass ends."""
        return self.step.ms / (self.step.ms + self.reduction_ms)


def project(net: Variant, step: Step, link: Link, world: int) -> Projected:
    """The pass of a net on ``world`` devices, at least 1, that a link joins."""
    done = whole = 0.0
    for bucket in buckets_of(net) if world > 1 else ():
        ready = step.begin_ms + bucket.ready * (step.end_ms - step.begin_ms)
        took = link.reduction_ms(bucket.size, world)
        done = max(done, ready) + took
        whole += took
    return Projected(world, step, whole, max(0.0, done - step.end_ms))


def buckets_of(net: Variant) -> list[Bucket]:
    """The buckets in the order of their reductions: that in which gradients become ready, the last layer first.

    A bucket is closed as soon as it has FIRST_BUCKET or BUCKET bytes. Source: torch/csrc/distributed/c10d/reducer.cpp,
    compute_bucket_assignment_by_size, after the first iteration.
    """
    buckets: list[Bucket] = []
    size, limit, ready = 0, FIRST_BUCKET, 0.0
    for bytes_, ready in gradients_of(net):
        size += bytes_
        if size >= limit:
            buckets.append(Bucket(size, ready))
            size, limit = 0, BUCKET
    return [*buckets, Bucket(size, ready)] if size else buckets


def gradients_of(net: Variant) -> Iterator[tuple[int, float]]:
    """Bytes of each gradient, and the share of the backward pass's multiply-adds done when it is there, in that order;
    the bias of a layer comes before its kernel."""
    placed = net.placed()
    first = next((each for each in placed if each.macs), None)
    done = 0
    for each in reversed(placed):
        done += each.macs if each is first and not net.input_gradient else 2 * each.macs
        share = done / net.backward_macs if net.backward_macs else 1.0
        for values in sorted(map(math.prod, each.layer.trainable(each.input).values())):
            yield VALUE_BYTES * values, share


@dataclass(frozen=True, slots=True)
class Dense:
    """What share of a net its dense layers are: of the bytes of the gradients, and of the multiply-adds."""

    size: int
    bytes_share: float
    macs_share: float


def dense_of(net: Variant) -> Dense:
    """Why a net is hard or easy to scale: dense layers have a gradient per multiply-add of an image, convolutions use
    each of theirs at every pixel."""
    dense = [each for each in net.placed() if isinstance(each.layer, Fc)]
    params, macs = (sum(getattr(each, what) for each in dense) for what in ("params", "macs"))
    return Dense(
        VALUE_BYTES * net.params,
        params / net.params if net.params else 0.0,
        macs / net.macs if net.macs else 0.0,
    )


def hiding_gb_per_s(net: Variant, step: Step) -> float:
    """Bus bandwidth at which the reduction over many devices takes as long as the backward pass: twice the bytes over
    its time."""
    backward_ms = step.end_ms - step.begin_ms
    return 1e-6 * 2 * VALUE_BYTES * net.params / backward_ms if backward_ms else float("inf")
