"""The null Net, whose passes do nothing, to time the overhead of the harness.

Logits and gradients come from the float64 reference, so it passes the same gate as every other Net. In mode ``part``
it plays the parts that NULL_NET in the environment names, for tests of the harness, joined by commas: ``spin=MS``;
``hang=N``, ``die=N``, ``memory=N``, or an error of a GPU, ``lost=N``, ``ecc=N`` or ``failed=N``, in its Nth
iteration; ``wrong`` or ``nan`` gradients; ``retrace`` in every pass; ``low`` precision, or ``tf32``, in the probes;
``async=MS`` a device that is done so long after the call, and ``unsynced=MS`` one whose wait does not wait. With
``gpus=N`` it has such devices, null_device.py; there are also ``launch=MS``, what the host takes to enqueue a pass,
``elsewhere``, outputs on another device, and ``timer=FACTOR``, an event timer that runs so much too fast.
``cuda=VERSION`` is a build for that CUDA.
"""

import functools
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from impls import net, null_device, reference
from impls.layers import BatchNorm
from impls.net import Build, DeviceMissing, Gradients, LayerReport, Settings, Sgd, Trained, layer_report
from impls.variants import VARIANTS, Variant
from impls.weights import Weights


def configure(settings: Settings) -> None:
    if settings.exact_device not in devices():
        raise DeviceMissing(f"the null Net has {', '.join(devices())}")
    if settings.rank is not None:
        from impls import null_team

        null_team.join(settings)


def devices() -> list[str]:
    gpus = 0 if Path(LOST).exists() else int(parts().get("gpus", 0))
    return ["cpu", *(f"cuda:{number}" for number in range(gpus))]


def parts() -> dict[str, float]:
    """What NULL_NET says, by name; 1 for a part without a value."""
    words = (word.partition("=") for word in os.environ.get("NULL_NET", "").split(",") if word)
    return {name: float(value or 1) for name, _, value in words}


def timer(device: str) -> net.Timer | None:
    return None if device == "cpu" else null_device.Timer(DEVICE, parts().get("timer", 1))


def versions() -> dict[str, Any]:
    of_gpu = {"device_name": "null device", "l2_mib": 50.0} if len(devices()) > 1 else {"device_name": None}
    built_for = {"cuda": str(parts()["cuda"])} if "cuda" in parts() else {}
    return {"null": np.__version__, **built_for, **of_gpu}


def conditions() -> dict[str, Any]:
    return {"threads": None, "onednn": None, "tf32": None, "bf16": None}


def build(variant: Variant, weights: Weights, how: Build) -> net.Net:
    if how.split:
        from impls import null_team

        return null_team.TeamNet(variant, weights, how)
    return Net(variant, weights, how)


DEVICE = null_device.Device()
LOST = "lost-null-device"  # a file in the folder of the Workers: what is lost stays so
#: What PyTorch raises of a device.
ERRORS = {
    "memory": "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 139.72 GiB of which 1.00 GiB is free",
    "lost": "CUDA error: GPU is lost",
    "ecc": "CUDA error: uncorrectable ECC error encountered",
    "failed": "CUDA error: unspecified launch failure",
}


class Results(NamedTuple):
    """Results of a training pass; ``moved`` are the batch's mean and unbiased variance."""

    loss: float
    gradients: Gradients
    moved: dict[BatchNorm, tuple[np.ndarray, np.ndarray]]


#: Parts of the passes, and those that end them in an iteration.
BREAKS = ("hang", "die", "memory", "lost", "ecc", "failed")
PLAYED = {*BREAKS, "spin", "retrace", "async", "unsynced", "launch"}


class Step(int):
    """The handle of a training step: the batch that it takes."""


class Net:
    """Implements impls.net.Net."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.variant, self.how = variant, how
        self.weights = {
            layer: {name: np.array(array, np.float64) for name, array in arrays.items()}
            for layer, arrays in weights.items()
        }
        self.parts, self.iteration, self.turn = parts() if how.mode == "part" else {}, 0, 0
        probe = variant.name.partition(".")[0] not in VARIANTS  # a part of a net is none
        wrong = next((kind for kind in ("low", "tf32") if kind in self.parts and probe), None)
        precision = {"low": "bf16", "tf32": "tf32", None: how.precision}[wrong]
        self.precision = None if precision == "fp32" else precision
        self.batches: list[np.ndarray] = []
        self.first: dict[int, float] = {}
        self.known: dict[bytes, np.ndarray] = {}
        self.results: dict[bytes, Results] = {}
        self.labels: list[np.ndarray] = []
        self.steps: list[int] = []
        self.velocity: Gradients = {}
        if self.parts.keys() & PLAYED and not probe:
            self.forward = functools.partial(self.play, 0)  # type: ignore[method-assign]
            self.forward_backward = functools.partial(self.play, 2)  # type: ignore[method-assign]
            self.train_step = functools.partial(self.play, 4)  # type: ignore[method-assign]

    def forward(self) -> Any:
        self.turn = 1 - self.turn
        return self.turn

    def forward_backward(self) -> Any:
        self.turn = 1 - self.turn
        return 2 + self.turn

    def label(self, labels: Sequence[np.ndarray]) -> None:
        self.labels = list(labels)

    def feed(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.load([images])
        self.label([labels])

    def restart(self, sgd: Sgd, velocity: Gradients | None = None) -> None:
        self.sgd, self.steps, self.velocity = sgd, [], velocity or {}

    def train_step(self) -> Any:
        self.turn = 1 - self.turn
        self.steps.append(self.turn)
        return Step(4 + self.turn)

    def trained(self, handles: Any) -> Trained:
        """The steps since the restart, with the gradients that the weights had there; a training pass each."""
        results = [self.train(self.batches[turn], self.labels[turn]) for turn in self.steps]
        reduced = [self.reduced_gradients(turn, each, True) for turn, each in zip(self.steps, results, strict=True)]
        for each in results:
            self.move(each)
        parameters: Gradients = {}
        velocities: Gradients = {}
        for placed in self.variant.placed():
            layer = placed.layer.name
            for name in placed.layer.trainable(placed.input):
                weight = self.weights[layer][name]
                velocity = self.velocity.get(layer, {}).get(name, np.zeros_like(weight))
                for gradients in reduced:
                    weight, velocity = reference.update(weight, velocity, gradients[layer][name], self.sgd)
                parameters.setdefault(layer, {})[name] = weight.astype(np.float32)
                velocities.setdefault(layer, {})[name] = velocity.astype(np.float32)
        first = next(iter(velocities.values()))
        self.first[handles] = float(next(iter(first.values())).flat[0])
        return Trained(results[-1].loss, parameters, velocities)

    def play(self, first: int) -> Any:
        self.iteration += 1
        self.turn = 1 - self.turn
        null_device.spin(self.parts.get("spin", self.parts.get("launch", 0)))
        DEVICE.enqueue(self.parts.get("async", self.parts.get("unsynced", 0)))
        for part in (part for part in BREAKS if self.parts.get(part) == self.iteration):
            if part == "memory" and self.how.device == "cpu":
                raise MemoryError("the null Net was told to run out of memory")
            if part == "lost":
                Path(LOST).touch()
            if part in ERRORS:
                raise RuntimeError(ERRORS[part])
            if part == "die":
                os._exit(9)
            time.sleep(3600)
        return first + self.turn

    def wait(self, handles: Any) -> None:
        if "async" in self.parts:
            DEVICE.finish()

    def fetch(self, handles: Any) -> float:
        DEVICE.finish()
        return self.first.get(handles, 0.0)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches, self.first = list(batches), {}

    def logits(self, handles: Any) -> np.ndarray:
        images = self.batches[handles % 2]
        keys = [image.tobytes() for image in images]
        if not self.known.keys() >= set(keys):
            rows = reference.forward(self.variant, self.weights, images, precision=self.precision).logits
            self.known = dict(zip(keys, rows, strict=True)) | self.known
        logits = np.stack([self.known[key] for key in keys])
        self.first[handles] = float(logits[0, 0])
        return logits

    def reduced_gradients(self, turn: int, own: Results, labeled: bool) -> Gradients:
        """The gradients of a pass; of a Team those of all ranks."""
        return own.gradients

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        trained = self.train(self.batches[handles % 2])
        return self.named(handles, trained._replace(gradients=self.reduced_gradients(handles % 2, trained, False)))

    def named(self, handles: Any, trained: Results) -> tuple[float, Gradients]:
        """Loss and gradients of a pass, as NULL_NET has them."""
        self.move(trained)
        gradients = {layer: dict(arrays) for layer, arrays in trained.gradients.items()}
        if self.parts.keys() & {"wrong", "nan"}:
            bias = gradients["conv1"]["bias"].copy()
            bias[0] = np.nan if "nan" in self.parts else bias[0] + 1e-3 * np.abs(bias).max()
            gradients["conv1"]["bias"] = bias
        kernel = next((arrays for layer, arrays in gradients.items() if layer != "input"), gradients.get("input"))
        self.first[handles] = float(next(iter((kernel or {}).values())).flat[0])
        return trained.loss, gradients

    def move(self, results: Results) -> None:
        """Update the moving statistics."""
        self.known = {} if results.moved else self.known
        for layer, (mean, variance) in results.moved.items():
            for name, new in (("moving_mean", mean), ("moving_variance", variance)):
                moving = self.weights[layer.name][name]
                moving += layer.momentum * (new - moving)

    def train(self, images: np.ndarray, labels: np.ndarray | None = None) -> Results:
        """A training pass of the reference; remembered, since images come again in another order."""
        marks = [b""] * len(images) if labels is None else [b"label %d" % label for label in labels]
        rows = [image.tobytes() + mark for image, mark in zip(images, marks, strict=True)]
        key = hashlib.sha256(b"".join(rows if self.variant.input_gradient else sorted(rows))).digest()
        if key not in self.results:
            trace = reference.forward(self.variant, self.weights, images, training=True, precision=self.precision)
            moved = {}
            for placed in self.variant.placed():
                if isinstance(placed.layer, BatchNorm):
                    values = len(images) * placed.input[0] * placed.input[1]
                    mean, variance = trace.statistics[placed.layer.name]
                    moved[placed.layer] = mean, variance * values / (values - 1)
            if labels is None:
                loss, start = reference.loss(trace.logits), None
            else:
                loss, start = reference.cross_entropy(trace.logits, labels)
            found = reference.gradients(self.variant, self.weights, trace, self.precision, start)
            gradients = {
                layer: {name: array.astype(np.float32) for name, array in arrays.items()}
                for layer, arrays in found.items()
            }
            self.results[key] = Results(loss, gradients, moved)
        return self.results[key]

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
        return "cuda:1" if "elsewhere" in self.parts else self.how.device

    def layout(self) -> str:
        return "nhwc"

    def traces(self) -> dict[str, int]:
        return {"forward": self.iteration} if "retrace" in self.parts else {}

    def peak_memory(self) -> int | None:
        return None
