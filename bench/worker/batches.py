"""The two batches of the parity set, which a Net holds while it is timed, and the values expected of a pass on them."""

import dataclasses
import functools
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.worker.checks import (
    INFINITE,
    INPUT_GRADIENT,
    SAMPLED,
    canonical_shape,
    check,
    flat,
    misshapen,
    sampled,
)
from bench.worker.replies import Check, CheckKind, GradientCount
from impls import reference
from impls.layers import BatchNorm
from impls.net import Gradients
from impls.variants import Variant
from impls.weights import Weights

ORDERS = 64  # random orders of a batch, of which the best is taken
UNITS = 2  # of the parity set, of which the batches of a lone Net are composed


def has_batch_statistics(variant: Variant) -> bool:
    """Whether the images of a batch depend on each other in training form."""
    return any(isinstance(layer, BatchNorm) for layer in variant.layers)


@dataclass(frozen=True, eq=False)
class ParityBatch:
    """A batch composed of the images of a parity set; ``order`` is the number of the image at each of its places.

    ``folder`` is that of the parity set, ``target`` the folder of expected values in it.
    """

    variant: Variant
    weights: Weights
    folder: Path
    target: str
    order: np.ndarray

    def images(self) -> np.ndarray:
        """(batch, h, w, channels), float32."""
        images: np.ndarray = np.load(self.folder / "images.npy")[self.order]
        return images

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """How often each unit of images occurs."""
        return self._shares(self.order)

    @functools.cached_property
    def gradient_shares(self) -> np.ndarray:
        """How often each unit of images occurs in the gradients of parameters."""
        return self.shares

    def _shares(self, order: np.ndarray) -> np.ndarray:
        units, count = len(self.values("loss")), len(self.values("logits"))
        shares: np.ndarray = np.bincount(order * units // count, minlength=units) * units / count
        return shares

    def values(self, name: str) -> np.ndarray:
        """Expected values, with a first axis of units or images."""
        values: np.ndarray = np.load(self.folder / self.target / f"{name}.npy", mmap_mode="r")
        return values

    @property
    def labels(self) -> np.ndarray:
        """(batch,), int32."""
        labels: np.ndarray = np.load(self.folder / "labels.npy")[self.order]
        return labels

    def entropy_check(self, found: float) -> Check:
        """Compare the mean cross-entropy, relative to the largest logit: it is a difference of logits."""
        expected = float(self.shares / self.shares.sum() @ self.values("entropy"))
        scale = max(expected, float(np.abs(self.values("logits")).max()))
        error = abs(found - expected) / scale if np.isfinite(found) else None
        return Check(CheckKind.LOSS, "cross-entropy", error, error)

    @functools.cached_property
    def parameters(self) -> dict[tuple[str, str], None]:
        """Layer and name of every parameter."""
        return dict.fromkeys(
            (layer.name, name) for layer, shape, _ in self.variant.placed() for name in layer.trainable(shape)
        )

    def entropy_gradient(self, layer: str, name: str, thorough: bool) -> np.ndarray:
        """Expected gradient of the cross-entropy, flat: float32 if ``thorough``, else sampled values in float64."""
        stored = self.values(f"entropy.{layer}.{name}")
        units = [unit.ravel() if thorough else sampled(unit).ravel().astype(np.float64) for unit in stored]
        shares = self.gradient_shares / self.gradient_shares.sum()
        parts = (unit.dtype.type(share) * unit for share, unit in zip(shares, units, strict=True) if share)
        return functools.reduce(np.add, parts)

    def logits_checks(self, logits: np.ndarray, state: Gradients) -> list[Check]:
        """Compare logits; those of a net with BatchNorm with the ``state`` that training passes have left."""
        if state:
            moved = {layer: arrays | state.get(layer, {}) for layer, arrays in self.weights.items()}
            expected = reference.forward(self.variant, moved, np.load(self.folder / "images.npy")).logits
        else:
            expected = self.values("logits")
        return [check(CheckKind.LOGITS, "logits", logits, expected[self.order])]

    def gradient_checks(
        self, loss: float, gradients: Gradients, thorough: bool, infinite: AbstractSet[str]
    ) -> list[Check]:
        """Compare the loss and every gradient; unless ``thorough``, large arrays in some values.

        ``infinite`` are the names of gradients with a value that is not finite. Missing and unexpected gradients fail:
        one of the images that was not asked for adds work to the pass.
        """
        expected = np.array(self.shares @ self.values("loss"))
        checks = [check(CheckKind.LOSS, "loss", np.array(loss), expected)]
        arrays, wanted = flat(gradients), self.wanted
        for key in dict.fromkeys([*arrays, *wanted]):
            what = "gradient " + key.removeprefix("gradient.").replace(".", "/")
            if key not in arrays or key not in wanted:
                why = "is missing" if key in wanted else "is not one of a parameter"
                checks.append(Check(CheckKind.GRADIENT, f"{what} {why}", None))
            elif key == INPUT_GRADIENT:
                checks.append(self._check_input_gradient(what, arrays[key]))
            else:
                fault = INFINITE if key in infinite else ""
                checks.append(self._check_gradient(key, what, arrays[key], thorough, fault))
        return checks

    def count(self, gradients: Gradients, finite: bool) -> GradientCount:
        """Count the gradients of parameters and any others."""
        names, wanted = flat(gradients).keys(), self.wanted.keys()
        return GradientCount(len(names & wanted), len(names - wanted), finite)

    @functools.cached_property
    def wanted(self) -> dict[str, None]:
        """The names of all expected gradients, sorted."""
        return dict.fromkeys(path.stem for path in sorted((self.folder / self.target).glob("gradient.*.npy")))

    def _check_gradient(self, key: str, what: str, found: np.ndarray, thorough: bool, fault: str) -> Check:
        _, layer, name = key.split(".", 2)
        shape = self.weights[layer][name].shape
        if fault := misshapen(canonical_shape(found.shape, shape), shape) or fault:
            return Check(CheckKind.GRADIENT, what + fault, None)
        found, stored = self._comparable(key, found, shape, thorough)
        return check(CheckKind.GRADIENT, what, found, weighted(self.gradient_shares, stored))

    def _comparable(
        self, key: str, found: np.ndarray, shape: tuple[int, ...], thorough: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """The values of a gradient that are compared, and those of each unit; of a large one some, or ``thorough``."""
        stored = self.values(key)
        whole = stored.shape[1:] == shape
        if found.size <= SAMPLED or (whole and thorough):
            return found.reshape(shape), stored
        return sampled(found), np.stack([sampled(unit) for unit in stored]) if whole else stored

    def _check_input_gradient(self, what: str, found: np.ndarray) -> Check:
        """Compare the gradient of each image; unlike that of a parameter, it is not a sum over images.

        For a BatchNorm alone the loss makes this gradient nearly zero (the arriving gradient is its own output, whose
        projection it removes), so the error is relative to the norm of the arriving gradient.
        """
        expected = self.values(INPUT_GRADIENT)[self.order]
        whole = check(CheckKind.GRADIENT, what, found, expected)
        if whole.error is None or not isinstance(self.variant.layers[0], BatchNorm):
            return whole
        arrived = float(np.linalg.norm(self.values("logits")[self.order]))
        error = whole.error * (float(np.linalg.norm(expected)) / arrived)
        return dataclasses.replace(whole, error=error, norm=error)

    def state_checks(self, before: Gradients, after: Gradients) -> list[Check]:
        """Compare the moving statistics after one training pass with those that follow from this batch."""
        checks = []
        for placed in self.variant.placed():
            layer = placed.layer
            if not isinstance(layer, BatchNorm):
                continue
            n = len(self.order) * placed.input[0] * placed.input[1]
            # such a batch has one unit; a dump has no statistics of its own
            mean, variance = np.load(self.folder / f"reference/statistics.{layer.name}.npy")[self.shares.argmax()]
            for name, new in (("moving_mean", mean), ("moving_variance", variance * n / (n - 1))):
                expected = (1 - layer.momentum) * before[layer.name][name] + layer.momentum * new
                checks.append(check(CheckKind.STATE, f"{layer.name}/{name}", after[layer.name][name], expected))
        return checks


def weighted(shares: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The sum of the units' values, each times its share, in their precision."""
    return np.asarray(sum(units.dtype.type(share) * unit for share, unit in zip(shares, units, strict=True) if share))


def compose(variant: Variant, weights: Weights, folder: Path, target: str, batch: int, seed: int) -> list[ParityBatch]:
    """Two batches of different composition, of the first two units of the parity set; one if it has one unit.

    Another seed gives batches that a Net has not seen.
    """
    units, each = units_of(folder, target)
    rng = np.random.Generator(np.random.PCG64([seed, batch]))
    if units == 1:
        orders = [np.arange(each)]
    elif has_batch_statistics(variant):
        orders = [unit * each + shuffle(np.arange(batch) % each, rng) for unit in rng.permutation(UNITS)]
    else:
        fewer = rng.integers(1, max(1, batch // 4), endpoint=True)
        more = 0 if batch == 2 else fewer
        orders = [shuffle(places.astype(int), rng) for places in (np.arange(batch) < fewer, np.arange(batch) >= more)]
        if rng.integers(2):
            orders = [1 - order for order in orders]
    return [ParityBatch(variant, weights, folder, target, order) for order in orders]


def units_of(folder: Path, target: str) -> tuple[int, int]:
    """How many units a parity set has, and of how many images each."""
    units, count = (len(np.load(folder / target / f"{name}.npy", mmap_mode="r")) for name in ("loss", "logits"))
    return units, count // units


def shuffle(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of random orders the one whose halves, and whose every second place, differ most from the whole in composition.

    A net that computed only such a part of the batch would have another result.
    """
    return max((rng.permutation(places) for _ in range(ORDERS)), key=_least_difference)


def _least_difference(places: np.ndarray) -> float:
    half = len(places) // 2
    parts = [part for part in (places[:half], places[half:], places[::2], places[1::2]) if len(part)]
    return min(abs(float(part.mean() - places.mean())) for part in parts)
