"""AlexNets in float32 by the reference's own functions: the adapter of an invented framework, which nothing else knows.

It computes in fp32 alone and drops nothing. Mirrors the other adapters: configure, devices, versions, conditions,
build, Net.
"""

from collections.abc import Sequence
from typing import Any

import contourpy  # stands for the framework: it is installed, and neither bench nor a framework imports it
import numpy as np

from impls import net, reference
from impls.layers import BatchNorm
from impls.net import (
    Build,
    DeviceMissing,
    Gradients,
    LayerReport,
    Settings,
    Sgd,
    Trained,
    half_square,
    last_value,
    layer_report,
)
from impls.variants import Variant
from impls.weights import Weights


def configure(settings: Settings) -> None:
    if settings.exact_device not in devices():
        raise DeviceMissing(f"carrot {contourpy.__version__} sees {', '.join(devices())}")


def devices() -> list[str]:
    return ["cpu"]


def versions() -> dict[str, Any]:
    return {"carrot": contourpy.__version__, "device_name": None}


def conditions() -> dict[str, Any]:
    return {"threads": None, "onednn": None, "tf32": None, "bf16": None}


def build(variant: Variant, weights: Weights, how: Build) -> net.Net:
    return Net(variant, weights, how)


class Net:
    """Implements impls.net.Net."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.variant = variant
        self.weights = {layer: {name: np.array(a) for name, a in arrays.items()} for layer, arrays in weights.items()}
        self.names = [(it.layer.name, name) for it in variant.placed() for name in it.layer.trainable(it.input)]
        self.built = weights
        self.batches: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = list(batches)

    def forward(self) -> Any:
        return self.run(self.next_batch(), training=False)[-1]

    def label(self, labels: Sequence[np.ndarray]) -> None:
        self.labels = list(labels)

    def restart(self, sgd: Sgd, velocity: Any = None) -> None:
        self.sgd = sgd
        for layer, arrays in self.built.items():
            for name, array in arrays.items():
                self.weights[layer][name][...] = array
        self.velocity = {
            (layer, name): np.array(velocity[layer][name]) if velocity else np.zeros_like(self.weights[layer][name])
            for layer, name in self.names
        }

    def forward_backward(self) -> Any:
        *inputs, output = self.run(self.next_batch(), training=True)
        first = output if self.variant.part else np.float32(half_square(output))
        gradients, images = self.differentiate(inputs, output)
        return first, *(gradients[key] for key in self.names), *images

    def train_step(self) -> Any:
        *inputs, output = self.run(self.next_batch(), training=True)
        loss, start = reference.cross_entropy(output.reshape(len(output), -1), self.labels[0])
        gradients, _ = self.differentiate(inputs, start.astype(np.float32).reshape(output.shape))
        for (layer, name), velocity in self.velocity.items():
            weight = self.weights[layer][name]
            velocity *= np.float32(self.sgd.momentum)
            velocity -= np.float32(self.sgd.lr) * (gradients[layer, name] + np.float32(self.sgd.decay) * weight)
            weight += velocity
        return loss, *self.velocity.values()

    def differentiate(self, inputs: list[np.ndarray], dy: np.ndarray) -> Any:
        gradients: dict[tuple[str, str], np.ndarray] = {}
        for layer, x in zip(reversed(self.variant.layers), reversed(inputs), strict=True):
            dy, arrays = reference.OPS[type(layer)][1](layer, x, self.weights.get(layer.name, {}), dy)
            gradients |= {(layer.name, name): array for name, array in arrays.items()}
        return gradients, (dy,) if self.variant.input_gradient else ()

    def wait(self, handles: Any) -> None:
        pass  # a call returns when it is done

    def fetch(self, handles: Any) -> float:
        return float(last_value(handles).flat[0])

    def logits(self, handles: Any) -> np.ndarray:
        return handles.reshape(len(handles), -1)

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        first, *values = handles
        gradients: Gradients = {"input": {"images": values.pop()}} if self.variant.input_gradient else {}
        for (layer, name), array in zip(self.names, values, strict=True):
            gradients.setdefault(layer, {})[name] = array
        return half_square(first) if self.variant.part else float(first), gradients

    def trained(self, handles: Any) -> Trained:
        parameters: Gradients = {}
        velocities: Gradients = {}
        for (layer, name), velocity in self.velocity.items():
            parameters.setdefault(layer, {})[name] = self.weights[layer][name].copy()
            velocities.setdefault(layer, {})[name] = velocity.copy()
        return Trained(float(handles[0]), parameters, velocities)

    def state(self) -> Gradients:
        return {
            layer.name: {name: self.weights[layer.name][name].copy() for name in ("moving_mean", "moving_variance")}
            for layer in self.variant.layers
            if isinstance(layer, BatchNorm)
        }

    def layers(self) -> list[LayerReport]:
        shapes = [(1, 1, *x.shape[1:])[-3:] for x in self.run(self.batches[0], training=False)[1:]]
        return [
            layer_report(placed.layer, shape, placed.params, placed.state)
            for placed, shape in zip(self.variant.placed(), shapes, strict=True)
        ]

    def device(self) -> str:
        return "cpu"

    def layout(self) -> str:
        return "nhwc"

    def traces(self) -> dict[str, int]:
        return {}

    def peak_memory(self) -> int | None:
        return None

    def run(self, x: np.ndarray, *, training: bool) -> list[np.ndarray]:
        """The input of every layer, and the output."""
        values = [x]
        for layer in self.variant.layers:
            arrays = self.weights.get(layer.name, {})
            if training and isinstance(layer, BatchNorm):
                arrays = self.moved(layer, arrays, values[-1])
            values.append(reference.OPS[type(layer)][0](layer, values[-1], arrays))
        return values

    def moved(self, layer: BatchNorm, arrays: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
        n = x.size // x.shape[-1]
        batch = {"moving_mean": x.mean((0, 1, 2)), "moving_variance": x.var((0, 1, 2))}
        for name, unbiased in (("moving_mean", 1), ("moving_variance", n / (n - 1))):
            arrays[name] += layer.momentum * (batch[name] * unbiased - arrays[name])
        return arrays | batch

    def next_batch(self) -> np.ndarray:
        self.batches.reverse()
        self.labels.reverse()
        return self.batches[0]
