"""Compare the values that a Net computed with the expected ones. The controller judges the errors, in parity.py."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from bench.worker.replies import Check, CheckKind, GradientCount
from impls.layers import BatchNorm
from impls.net import Gradients
from impls.reference import difference
from impls.variants import Variant

SAMPLED = 4096  # values compared per array in a Run; `verify` compares all
INPUT_GRADIENT = "gradient.input.images"


def check(kind: CheckKind, what: str, found: np.ndarray, expected: np.ndarray, thorough: bool, scale: int = 1) -> Check:
    """Compare ``found`` with ``scale * expected``; unless ``thorough``, in SAMPLED random values of a larger array."""
    if found.shape != expected.shape:
        return Check(kind, f"{what}: expected {expected.shape}, found {found.shape}", None)
    if not np.isfinite(found.sum()):  # a NaN or an infinity anywhere is one in the sum
        return Check(kind, f"{what} is not finite", None)
    if not thorough and found.size > SAMPLED:
        picks = np.random.Generator(np.random.PCG64(7)).integers(0, found.size, SAMPLED)
        where = np.unravel_index(picks, found.shape)
        found, expected = found[where], expected[where]
    off = difference(found, expected * scale)
    return Check(kind, what, off["error"], off["norm"])


def gradient_checks(
    variant: Variant, found: dict[str, np.ndarray], folder: Path, target: Path, tiles: int, thorough: bool
) -> tuple[list[Check], GradientCount]:
    """Compare gradients with the reference and count them.

    Missing and unexpected ones fail: an image gradient would add work to the pass.
    """
    found = {key: array for key, array in found.items() if key.startswith("gradient.")}
    wanted = {path.stem: path for path in sorted(target.glob("gradient.*.npy"))}
    checks = []
    for key in dict.fromkeys([*found, *wanted]):
        what = "gradient " + key.removeprefix("gradient.").replace(".", "/")
        if key == INPUT_GRADIENT and key in found and key in wanted:
            checks.append(_check_input_gradient(variant, found[key], np.load(wanted[key]), folder, tiles))
        elif key in found and key in wanted:
            expected, scale = np.load(wanted[key], mmap_mode="r"), tiles
            checks.append(check(CheckKind.GRADIENT, what, found[key], expected, thorough, scale=scale))
        else:
            why = "is missing" if key in wanted else "is not one of a parameter"
            checks.append(Check(CheckKind.GRADIENT, f"{what} {why}", None))
    finite = all(bool(np.isfinite(array.sum())) for array in found.values())
    return checks, GradientCount(len(found.keys() & wanted.keys()), len(found.keys() - wanted.keys()), finite)


def _check_input_gradient(variant: Variant, found: np.ndarray, expected: np.ndarray, folder: Path, tiles: int) -> Check:
    """Compare the gradient of each image; unlike that of a parameter, it is not a sum over images.

    For a BatchNorm alone the loss makes this gradient nearly zero (the arriving gradient is its own output, whose
    projection it removes), so the error is relative to the norm of the arriving gradient.
    """
    expected = np.tile(expected, (tiles, 1, 1, 1))
    whole = check(CheckKind.GRADIENT, "gradient input/images", found, expected, True)
    if whole.error is None or not isinstance(variant.layers[0], BatchNorm):
        return whole
    arrived = float(np.linalg.norm(np.load(folder / "reference" / "logits.npy"))) * math.sqrt(tiles)
    error = whole.error * (float(np.linalg.norm(expected)) / arrived)
    return dataclasses.replace(whole, error=error, norm=error)


def state_checks(variant: Variant, batch: int, before: Gradients, after: Gradients, target: Path) -> list[Check]:
    """Compare the moving statistics after one training pass with those that follow from the reference's batch."""
    checks = []
    for placed in variant.placed():
        layer = placed.layer
        if not isinstance(layer, BatchNorm):
            continue
        n = batch * math.prod(placed.input[:2])
        mean, variance = np.load(target / f"statistics.{layer.name}.npy")
        for name, new in (("moving_mean", mean), ("moving_variance", variance * n / (n - 1))):
            expected = (1 - layer.momentum) * before[layer.name][name] + layer.momentum * new
            checks.append(check(CheckKind.STATE, f"{layer.name}/{name}", after[layer.name][name], expected, True))
    return checks
