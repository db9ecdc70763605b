"""Checks: the values a Net computed held against those it should have; judged by the controller, in parity.py.

A Worker imports this: standard library, numpy and impls only.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from impls.layers import BatchNorm
from impls.net import Gradients
from impls.reference import difference
from impls.variants import Variant

SAMPLED = 4096  # values of an array that a Worker of a Run compares; `verify` compares all
INPUT_GRADIENT = "gradient.input.images"


def check(kind: str, what: str, found: np.ndarray, expected: np.ndarray, thorough: bool, scale: int = 1):
    if found.shape != expected.shape:
        return {"kind": kind, "what": f"{what}: expected {expected.shape}, found {found.shape}", "error": None}
    if not np.isfinite(found.sum()):  # a NaN or an infinity anywhere is one in the sum
        return {"kind": kind, "what": f"{what} is not finite", "error": None}
    if not thorough and found.size > SAMPLED:
        picks = np.random.Generator(np.random.PCG64(7)).integers(0, found.size, SAMPLED)
        where = np.unravel_index(picks, found.shape)
        found, expected = found[where], expected[where]
    return {"kind": kind, "what": what, **difference(found, expected * scale)}


def gradient_checks(
    variant: Variant, found: dict[str, np.ndarray], folder: Path, target: Path, tiles: int, thorough: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every parameter's gradient is there, and no other: one for the images would be work that nobody asked for.
    With the checks, a count of both."""
    found = {key: array for key, array in found.items() if key.startswith("gradient.")}
    wanted = {path.stem: path for path in sorted(target.glob("gradient.*.npy"))}
    checks = []
    for key in dict.fromkeys([*found, *wanted]):
        what = "gradient " + key.removeprefix("gradient.").replace(".", "/")
        if key == INPUT_GRADIENT and key in found and key in wanted:
            checks.append(_input_check(variant, found[key], np.load(wanted[key]), folder, tiles))
        elif key in found and key in wanted:
            expected, scale = np.load(wanted[key], mmap_mode="r"), tiles
            checks.append(check("gradient", what, found[key], expected, thorough, scale=scale))
        else:
            why = "is missing" if key in wanted else "is not one of a parameter"
            checks.append({"kind": "gradient", "what": f"{what} {why}", "error": None})
    return checks, {
        "parameters": len(found.keys() & wanted.keys()),
        "others": len(found.keys() - wanted.keys()),
        "finite": all(bool(np.isfinite(array.sum())) for array in found.values()),
    }


def _input_check(variant: Variant, found: np.ndarray, expected: np.ndarray, folder: Path, tiles: int) -> dict[str, Any]:
    """A gradient for each image, not a sum over them. That of a BatchNorm alone is what its own output leaves when
    its share along that output is taken away, next to nothing: so it is held against all that arrived."""
    expected = np.tile(expected, (tiles, 1, 1, 1))
    found_check = check("gradient", "gradient input/images", found, expected, True)
    if found_check["error"] is not None and isinstance(variant.layers[0], BatchNorm):
        arrived = float(np.linalg.norm(np.load(folder / "reference" / "logits.npy"))) * math.sqrt(tiles)
        found_check["error"] *= float(np.linalg.norm(expected)) / arrived
        found_check["norm"] = found_check["error"]
    return found_check


def state_checks(
    variant: Variant, batch: int, before: Gradients, after: Gradients, target: Path
) -> list[dict[str, Any]]:
    """The moving statistics after one pass in training mode, from the reference's batch statistics."""
    checks = []
    for placed in variant.placed():
        layer = placed.layer
        if not isinstance(layer, BatchNorm):
            continue
        n = batch * math.prod(placed.input[:2])
        mean, variance = np.load(target / f"statistics.{layer.name}.npy")
        for name, new in (("moving_mean", mean), ("moving_variance", variance * n / (n - 1))):
            expected = (1 - layer.momentum) * before[layer.name][name] + layer.momentum * new
            checks.append(check("state", f"{layer.name}/{name}", after[layer.name][name], expected, True))
    return checks
