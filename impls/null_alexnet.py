"""The null Net, whose passes do nothing, to time the overhead of the harness.

Logits and gradients come from the float64 reference, so it passes the same gate as every other Net. In mode ``part`` it
plays the part that NULL_NET in the environment names, for tests of the harness: ``spin=MS``; ``hang=N``, ``die=N`` or
``memory=N`` in its Nth iteration; ``wrong`` or ``nan`` gradients; ``retrace`` in every pass; ``low`` precision in the
probes; ``async=MS`` a device that is done so long after the call, and ``unsynced=MS`` one whose wait does not wait.
"""

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from impls import net, reference
from impls.layers import BatchNorm
from impls.net import Build, DeviceMissing, Gradients, LayerReport, Settings, layer_report
from impls.variants import VARIANTS, Variant
from impls.weights import Weights


def configure(settings: Settings) -> None:
    if settings.exact_device not in devices():
        raise DeviceMissing(f"the null Net has {', '.join(devices())}")


def devices() -> list[str]:
    return ["cpu"]


def versions() -> dict[str, Any]:
    return {"null": np.__version__, "device_name": None}


def conditions() -> dict[str, Any]:
    return {"threads": None, "onednn": None, "tf32": None, "bf16": None}


def build(variant: Variant, weights: Weights, how: Build) -> net.Net:
    return Net(variant, weights, how)


class Net:
    """Implements impls.net.Net."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.variant, self.how = variant, how
        self.weights = {
            layer: {name: np.array(array) for name, array in ours.items()} for layer, ours in weights.items()
        }
        played = os.environ.get("NULL_NET", "") if how.mode == "part" else ""
        part, _, value = played.partition("=")
        self.part, self.value, self.iteration = part, float(value or 0), 0
        probe = variant.name.partition(".")[0] not in VARIANTS  # a part of a net is none
        self.precision = "bf16" if part == "low" and probe else how.precision if how.precision != "fp32" else None
        self.done_ns = 0
        if part in ("spin", "hang", "die", "memory", "retrace", "async", "unsynced") and not probe:
            self.forward = self.forward_backward = self.play  # type: ignore[method-assign]

    def forward(self) -> Any:
        return None

    def forward_backward(self) -> Any:
        return None

    def play(self) -> Any:
        self.iteration += 1
        if self.part == "spin":
            until = time.perf_counter_ns() + int(self.value * 1e6)
            while time.perf_counter_ns() < until:
                pass
        elif self.part in ("async", "unsynced"):
            self.done_ns = time.perf_counter_ns() + int(self.value * 1e6)
        elif self.iteration == self.value:
            if self.part == "memory":
                raise MemoryError("the null Net was told to run out of memory")
            if self.part == "die":
                os._exit(9)
            time.sleep(3600)

    def wait(self, handles: Any) -> None:
        if self.part == "async":
            self.fetch(handles)

    def fetch(self, handles: Any) -> None:
        if (left_ns := self.done_ns - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / 1e9)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.images = batches[0]

    def logits(self, handles: Any) -> np.ndarray:
        return reference.forward(self.variant, self.weights, self.images, precision=self.precision).logits

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        trace = reference.forward(self.variant, self.weights, self.images, training=True, precision=self.precision)
        for placed in self.variant.placed():
            layer, (height, width, _) = placed.layer, placed.input
            if isinstance(layer, BatchNorm):
                values = len(self.images) * height * width
                mean, variance = trace.statistics[layer.name]
                for name, new in (("moving_mean", mean), ("moving_variance", variance * values / (values - 1))):
                    moving = self.weights[layer.name][name]
                    moving += layer.momentum * (new - moving)
        gradients = reference.gradients(self.variant, self.weights, trace, self.precision)
        if self.part == "wrong":
            gradients["conv1"]["bias"] += 1e-3 * np.abs(gradients["conv1"]["bias"]).max()
        if self.part == "nan":
            gradients["conv1"]["bias"][0] = np.nan
        return reference.loss(trace.logits), gradients

    def state(self) -> Gradients:
        return {
            layer.name: {name: self.weights[layer.name][name].copy() for name in ("moving_mean", "moving_variance")}
            for layer in self.variant.layers
            if isinstance(layer, BatchNorm)
        }

    def layers(self) -> list[LayerReport]:
        return [
            layer_report(placed.layer, placed.output, placed.params, placed.state) for placed in self.variant.placed()
        ]

    def device(self) -> str:
        return "cpu"

    def layout(self) -> str:
        return "nhwc"

    def traces(self) -> dict[str, int]:
        return {"forward": self.iteration} if self.part == "retrace" else {}

    def peak_memory(self) -> int | None:
        return None
