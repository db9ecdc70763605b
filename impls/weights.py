"""Canonical weights: one seeded set of values for every framework, in one layout, as files that Workers map.

They are drawn from a seed, or read from a file: Caffe's .npy, .safetensors with keys ``<layer>.<name>``, or
torchvision's state dict, as .safetensors, .pth or .pt. A checkpoint of `train` is a .safetensors file with metadata;
``velocity.<layer>.<name>`` in it is that of each parameter.

Layout: convolution kernels HWIO (height, width, channels / groups, filters), dense kernels (in, out) with the rows of
the first one in (h, w, c) order; float32. Names: kernel, bias; gamma, beta, moving_mean, moving_variance.
"""

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from impls import caffe, state_dict
from impls.files import open_whole
from impls.text import one_line
from impls.variants import Variant

VELOCITY = "velocity."
LONGEST_HEADER = 2**24  # bytes of a .safetensors file
SUFFIXES = (".npy", ".safetensors", ".pth", ".pt")
MISSING = "safetensors is not installed: pip install 'alexnet-bench[weights]'"

Weights = dict[str, dict[str, np.ndarray]]  # layer -> name -> array


class WeightsError(ValueError):
    """A file without the arrays that the variant needs; names the layer, what was expected and what was found."""


def initial(variant: Variant, seed: int = 0) -> Weights:
    """Seeded values, never a framework's own default (they differ: conv2's spread by a quarter).

    Kernels N(0, 2 / fan_in), biases N(0, 0.05^2), gamma 1 + N(0, 0.1^2), beta and moving mean N(0, 0.1^2), moving
    variance U(0.5, 1.5); drawn row by row from PCG64(seed).
    """
    rng = np.random.Generator(np.random.PCG64(seed))

    def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name == "moving_variance":
            return rng.random(shape, dtype=np.float32) + np.float32(0.5)
        normal = rng.standard_normal(shape, dtype=np.float32)
        if name == "kernel":
            return normal * np.float32(math.sqrt(2 / math.prod(shape[:-1])))
        if name == "bias":
            return normal * np.float32(0.05)
        return normal * np.float32(0.1) + np.float32(name == "gamma")

    return {
        layer: {name: values(name, shape) for name, shape in arrays.items()}
        for layer, arrays in shapes(variant).items()
    }


def shapes(variant: Variant) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of a variant's arrays by layer and name, trainable and moving."""
    by_layer = {layer.name: layer.trainable(shape) | layer.moving(shape) for layer, shape, _ in variant.placed()}
    return {layer: arrays for layer, arrays in by_layer.items() if arrays}


def load(path: Path, variant: Variant) -> Weights:
    """Load and check a variant's weights from a file. WeightsError names file and layer."""
    return load_all(path, [variant])[0]


def load_all(
    path: Path, variants: Sequence[Variant], python: str | None = None, *, any_classes: bool = False
) -> tuple[Weights, str]:
    """Weights that fit every one of these variants, and the file's sha256. torch of the interpreter ``python``, by
    default this one, reads .pth and .pt. ``any_classes``: the output layer may have another width than the variant's.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(not_weights(path))
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            found = _read(path, file, variants, python or sys.executable, any_classes)
    except OSError as error:
        raise WeightsError(f"{path.name}: cannot read: {error.strerror or error}") from error
    except (caffe.Refused, state_dict.Refused) as error:
        raise WeightsError(f"{path.name}: {error}") from error
    (weights, *_) = [check(arrays, variant, path.name) for variant, arrays in found]
    return weights, sha256


def not_weights(path: Path) -> str:
    """What is said of a file of another kind."""
    return f"{path.name}: expected a .npy file in Caffe's layout, a .safetensors file, or torchvision's .pth"


def _read(
    path: Path, file: BinaryIO, variants: Sequence[Variant], python: str, any_classes: bool
) -> list[tuple[Variant, dict[str, dict[str, Any]]]]:
    """Each of these variants with the arrays of a file by layer and name, unchecked."""
    flat: dict[str, Any] = {}
    if path.suffix == ".npy":
        by_layer = caffe.read(file, shapes(variants[0]))
    else:
        flat = _safetensors(file.read(), path.name) if path.suffix == ".safetensors" else state_dict.read(path, python)
        by_layer = _by_layer(flat)
    torchvisions = state_dict.is_torchvisions(flat)

    def as_wide(variant: Variant) -> Variant:
        layer = variant.output_layer.name
        bias = state_dict.output_bias(flat) if torchvisions else by_layer.get(layer, {}).get("bias")
        return variant.with_classes(len(bias)) if bias is not None and bias.ndim == 1 and len(bias) else variant

    wide = [as_wide(variant) if any_classes else variant for variant in variants]
    return [(variant, state_dict.canonical(flat, variant) if torchvisions else by_layer) for variant in wide]


def _by_layer(flat: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """Arrays whose keys have the prefix; without one, all but those of a velocity."""
    found: dict[str, dict[str, Any]] = {}
    for key, array in flat.items():
        if key.startswith(prefix) and (prefix or not key.startswith(VELOCITY)):
            layer, _, name = key.removeprefix(prefix).rpartition(".")
            found.setdefault(layer, {})[name] = array
    return found


def save(
    weights: Weights, path: Path, velocity: Weights | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a .safetensors file that ``load`` reads; OSError where it cannot be written, WeightsError without it."""
    try:
        from safetensors.numpy import save as to_bytes
    except ImportError:
        raise WeightsError(f"{path.name}: {MISSING}") from None
    flat = {
        f"{prefix}{layer}.{name}": np.ascontiguousarray(array)
        for prefix, by_layer in (("", weights), (VELOCITY, velocity or {}))
        for layer, arrays in by_layer.items()
        for name, array in arrays.items()
    }
    with open_whole(path) as file:
        file.write(to_bytes(flat, dict(metadata) if metadata else None))


def load_velocity(path: Path) -> Weights:
    """The velocity in a checkpoint, empty if it has none; WeightsError, OSError."""
    return _by_layer(_safetensors(path.read_bytes(), path.name), VELOCITY)


def metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; empty for other files and where it says nothing. OSError."""
    try:
        return {str(key): str(value) for key, value in (_header(path).get("__metadata__") or {}).items()}
    except AttributeError:  # `load` says what is wrong with it
        return {}


def is_torchvisions(path: Path) -> bool:
    """Whether a file has torchvision's names, which is assumed of .pth and .pt. OSError."""
    if path.suffix in (".pth", ".pt"):
        return True
    return state_dict.is_torchvisions(_header(path))


def _header(path: Path) -> dict[str, Any]:
    """The header of a .safetensors file; empty for other files and where it is damaged. OSError."""
    with open(path, "rb") as file:
        if path.suffix != ".safetensors":
            return {}
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(size, LONGEST_HEADER)))
        except (ValueError, RecursionError):
            return {}
        return header if isinstance(header, dict) else {}


def check(found: Mapping[str, Mapping[str, np.ndarray]], variant: Variant, source: str) -> Weights:
    """Check keys, shapes, float32 and finiteness of a variant's arrays. Raises WeightsError."""
    needed = shapes(variant)
    names = {f"{layer}/{name}" for layer, arrays in needed.items() for name in arrays}
    for name in (f"{layer}/{name}" for layer, arrays in found.items() for name in arrays):
        if name not in names:
            unknown = one_line(name, 100)  # a file's own words
            expected = ", ".join(sorted(names))
            raise WeightsError(f"{source}: {unknown}: not an array of {variant.name}; expected {expected}")
    for layer, arrays in needed.items():
        for name, shape in arrays.items():
            array = found.get(layer, {}).get(name)
            if array is None or (problem := wrong(array, shape)):
                problem = "found nothing" if array is None else problem
                raise WeightsError(f"{source}: {layer}/{name}: expected float32 of shape {shape}, {problem}")
            if name == "moving_variance" and array.min() < 0:
                raise WeightsError(f"{source}: {layer}/{name}: expected nothing below 0, found {array.min():g}")
    return {layer: {name: _native(found[layer][name]) for name in arrays} for layer, arrays in needed.items()}


def wrong(array: np.ndarray, shape: tuple[int, ...], kinds: tuple[str, ...] = ("float32",)) -> str:
    """Why an array does not have this shape and finite floats; empty if it does."""
    if problem := misfit(array, shape, kinds):
        return problem
    bad = array.size - int(np.isfinite(array).sum())
    return f"found {bad:,} of {array.size:,} values NaN or infinite" if bad else ""


def misfit(array: Any, shape: tuple[int, ...], kinds: tuple[str, ...]) -> str:
    """Why an array, or its header, is not of this shape and one of these types; empty if it is."""
    if array.shape != shape:
        return f"found shape {array.shape}"
    return "" if array.dtype.name in kinds else f"found {array.dtype.name}"


def _native(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)  # Caffe's files may be big-endian or in Fortran's order


def _safetensors(data: bytes, name: str) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load as from_bytes
    except ImportError:
        raise WeightsError(f"{name}: {MISSING}") from None
    try:
        return from_bytes(data)
    except KeyError as error:  # a type that numpy has not
        dtype = str(error.args[0])
        raise WeightsError(f"{name}: {_of_type(data, dtype)}: expected float32, found {dtype}") from error
    except (SafetensorError, TypeError) as error:
        problem = _cut_off(data) or f"not a safetensors file: {error}"
        raise WeightsError(f"{name}: {one_line(problem, 300)}") from error


def _of_type(data: bytes, dtype: str) -> str:
    """The first tensor of a .safetensors file whose type numpy lacks."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    name = next(name for name, tensor in header.items() if tensor.get("dtype") == dtype)
    return one_line(name.replace(".", "/"), 100)


def _cut_off(data: bytes) -> str:
    """The first tensor beyond the end of a truncated .safetensors file, by its header; empty if not truncated."""
    try:
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        ends = {name: int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError):
        return ""
    beyond = [name for name in sorted(ends, key=lambda name: ends[name]) if begin + ends[name] > len(data)]
    if not beyond:
        return ""
    name, end = beyond[0].replace(".", "/"), begin + ends[beyond[0]]
    return f"the file is cut off within {name}: expected {end:,} bytes up to its end, found {len(data):,}"


def write_shared(weights: Weights, folder: Path) -> None:
    """Write each array as ``<layer>.<name>.npy``, for ``map_shared``."""
    folder.mkdir(parents=True, exist_ok=True)
    for layer, arrays in weights.items():
        for name, array in arrays.items():
            np.save(folder / f"{layer}.{name}.npy", array)


def map_shared(folder: Path) -> Weights:
    """Map arrays of ``write_shared`` read-only, so Workers of one machine share one copy in memory."""
    weights: Weights = {}
    for path in sorted(folder.glob("*.npy")):
        layer, name, _ = path.name.split(".")
        weights.setdefault(layer, {})[name] = np.load(path, mmap_mode="r")
    return weights
