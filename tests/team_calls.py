"""What calls of the ranks of a Team should give, in float64 of the global batch, and what they give."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rank_program import Script, named
from ranks import Saved, run_ranks

from bench.controller import parity
from bench.worker.checks import flat
from impls import reference
from impls.layers import BatchNorm
from impls.net import Sgd, pattern
from impls.reference import relative_l2
from impls.variants import Variant
from impls.weights import Weights, initial

BATCH, LR = 2, 0.001
PASSES = ("forward", "forward_backward", "apart", "train_step")  # each takes the next of two batches, the second first


class Built(NamedTuple):
    """A net of a script: variant, size and what else is built."""

    variant: str
    size: int | None
    how: dict[str, str]


def draws(variant: Variant, weights: Weights, world: int) -> np.ndarray:
    """Tie-free batches of every rank, (world, 2, BATCH, h, w, c)."""
    found: list[np.ndarray] = []
    for draw in range(500):
        images = parity.images(variant, 0, draw, BATCH)
        if reference.clear_of_ties(variant, weights, images, parity.TIE):
            found.append(images)
        if len(found) == 2 * world:
            return np.stack(found).reshape(world, 2, *images.shape)
    raise AssertionError("no draws are clear of ties")


class Expected:
    """Float64 values of every call of a script, in turn, on one net of a Team: those of each rank."""

    def __init__(self, variant: Variant, images: np.ndarray, labels: np.ndarray):
        self.variant, self.images, self.labels = variant, images, labels
        self.passes = 0
        self.restart()

    def restart(self) -> list[dict[str, Any]]:
        self.weights = [reference.float64(initial(self.variant)) for _ in self.images]
        self.velocity = {key: np.zeros_like(array) for key, array in self.trainable(self.weights[0]).items()}
        return [{}] * len(self.images)

    def trainable(self, weights: Weights) -> dict[tuple[str, str], np.ndarray]:
        names = {placed.layer.name: placed.layer.trainable(placed.input) for placed in self.variant.placed()}
        return {(layer, name): weights[layer][name] for layer, its in names.items() for name in its}

    def differentiate(self, entropy: bool) -> tuple[list[float], list[dict[str, dict[str, np.ndarray]]]]:
        """Losses and gradients of all ranks; moves the moving statistics of each."""
        losses, gradients = [], []
        for weights, images, labels in zip(self.weights, self.images, self.labels, strict=True):
            trace = reference.forward(self.variant, weights, images[self.batch], training=True)
            loss, start = reference.cross_entropy(trace.logits, labels[self.batch])
            losses.append(loss if entropy else reference.loss(trace.logits))
            gradients.append(reference.gradients(self.variant, weights, trace, start=start if entropy else None))
            for layer in self.variant.layers:
                if isinstance(layer, BatchNorm):
                    mean, variance = trace.statistics[layer.name]
                    values = trace.inputs[self.variant.layers.index(layer)][..., 0].size
                    new = {"moving_mean": mean, "moving_variance": variance * values / (values - 1)}
                    for name, array in new.items():
                        moving = weights[layer.name]
                        moving[name] = (1 - layer.momentum) * moving[name] + layer.momentum * array
        return losses, gradients

    @property
    def batch(self) -> int:
        return self.passes % 2

    def call(self, name: str) -> list[dict[str, Any]]:
        if name in PASSES:
            self.passes += 1
        return getattr(self, name)()

    def forward(self) -> list[dict[str, Any]]:
        return [
            {"logits": reference.forward(self.variant, weights, images[self.batch]).logits}
            for weights, images in zip(self.weights, self.images, strict=True)
        ]

    def forward_backward(self) -> list[dict[str, Any]]:
        losses, gradients = self.differentiate(False)
        summed = {key: sum(flat(its)[key] for its in gradients) for key in flat(gradients[0])}
        return [{"loss": loss} | summed for loss in losses]

    def apart(self) -> list[dict[str, Any]]:
        losses, gradients = self.differentiate(False)
        return [{"loss": loss} | flat(its) for loss, its in zip(losses, gradients, strict=True)]

    def train_step(self) -> list[dict[str, Any]]:
        losses, gradients = self.differentiate(True)
        found: dict[str, Any] = {}
        for (layer, name), velocity in self.velocity.items():
            mean = sum(its[layer][name] for its in gradients) / len(self.images)
            weight, velocity = reference.update(self.weights[0][layer][name], velocity, mean, Sgd(LR))
            for weights in self.weights:
                weights[layer][name] = weight
            self.velocity[layer, name] = velocity
            found |= {f"parameter.{layer}.{name}": weight, f"velocity.{layer}.{name}": velocity}
        return [{"loss": loss} | found for loss in losses]

    def state(self) -> list[dict[str, Any]]:
        names = [layer.name for layer in self.variant.layers if isinstance(layer, BatchNorm)]
        return [
            {f"{layer}.{name}": its[layer][name] for layer in names for name in ("moving_mean", "moving_variance")}
            for its in self.weights
        ]

    def all_reduce(self) -> list[dict[str, Any]]:
        indices = np.arange(self.variant.params, dtype=np.uint32)
        return [{"sums": sum(pattern(rank, indices).astype(np.float64) for rank in range(len(self.images)))}] * len(
            self.images
        )

    def fill(self) -> list[dict[str, Any]]:
        return [{}] * len(self.images)


#: Relative L2 of a value by a word of its name.
ALLOWED = {
    precision: {"sums": 0.0, "moving_mean": limits["state"], "moving_variance": limits["state"]}
    | {"parameter": 1e-5 if precision == "fp32" else 1e-2}
    | {kind: limits[kind] for kind in ("logits", "loss", "gradient", "velocity")}
    for precision, limits in parity.LIMITS.items()
}


class Ran:
    """What the ranks of a framework's Team gave, and what they should have."""

    def __init__(self, framework: str, nets: Sequence[Built], calls: list[str], folder: Path, world: int = 2):
        self.nets, self.calls, self.world = nets, calls, world
        self.variants = [named(net.variant, net.size) for net in nets]
        scripts: list[list[Script]] = [[] for _ in range(world)]
        self.expected: list[Expected] = []
        for number, variant in enumerate(self.variants):
            images = draws(variant, initial(variant), world)
            labels = np.random.Generator(np.random.PCG64(number)).integers(variant.classes, size=(world, 2, BATCH))
            for rank, script in enumerate(scripts):
                file = folder / f"images.{number}.{rank}.npy"
                np.save(file, images[rank])
                name, size, how = nets[number]
                script.append(Script(name, size, str(file), labels[rank].tolist(), calls, how, LR))
            self.expected.append(Expected(variant, images, labels))
        self.saved = run_ranks(framework, scripts, folder)

    def given(self, rank: int, number: int, place: int) -> Saved:
        """By name, what this rank's call gave."""
        start = f"{number}.{place}."
        return {name.removeprefix(start): array for name, array in self.saved[rank].items() if name.startswith(start)}

    def wrong(self) -> list[str]:
        """Every value that is not float64's."""
        found = []
        for number, expected in enumerate(self.expected):
            limits = ALLOWED[self.nets[number].how.get("precision", "fp32")]
            for place, call in enumerate(self.calls):
                if call == "facts":
                    continue
                for rank, wanted in enumerate(expected.call(call)):
                    given = self.given(rank, number, place)
                    assert given.keys() - {"first"} == wanted.keys(), call
                    for name, array in wanted.items():
                        off = relative_l2(given[name].reshape(np.shape(array)), array)
                        allowed = next(value for word, value in limits.items() if word in name.split("."))
                        if not off <= allowed:
                            found.append(f"net {number}, rank {rank}, call {place}, {call}: {name} is {off:.1e} off")
        return found
