"""Dump: one .npz that holds a Net's input, weights and values, so that any other implementation can be held against it.

Arrays: ``input`` (n, h, w, 3); ``weights/<layer>/<name>`` in canonical layout; ``logits`` (n, classes), inference form;
``loss`` () and ``gradients/<layer>/<name>``, training form. Names as in impls/weights.py, layers as in layers.csv.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import UsageError
from impls.caffe import one_line
from impls.files import open_whole
from impls.variants import Variant
from impls.weights import Weights, WeightsError, check, shapes, wrong

FLOATS = ("float32", "float64")  # of results: a reference may well have been computed in float64


@dataclass(frozen=True)
class Values:
    """What a dump holds."""

    input: np.ndarray
    weights: Weights
    logits: np.ndarray
    loss: np.ndarray
    gradients: Weights

    def results(self) -> Iterator[tuple[str, np.ndarray]]:
        """All that was computed, under the names of a parity set's reference files."""
        yield "logits", self.logits
        yield "loss", self.loss
        for layer, arrays in self.gradients.items():
            for name, array in arrays.items():
                yield f"gradient.{layer}.{name}", array


def write(path: Path, images: np.ndarray, weights: Weights, values: Path) -> None:
    """Pack input, weights and what a Worker kept in the folder ``values``; whole or not at all, uncompressed."""
    arrays = {"input": images}
    arrays |= {f"weights/{layer}/{name}": array for layer, of in weights.items() for name, array in of.items()}
    for file in sorted(values.glob("*.npy")):
        key = file.stem.replace("gradient.", "gradients.", 1).replace(".", "/")
        arrays[key] = np.load(file, mmap_mode="r") if file.stat().st_size > 1 << 20 else np.load(file)
    try:
        with open_whole(path) as out:
            np.savez(out, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another file with --dump") from error


def read(path: Path) -> dict[str, np.ndarray]:
    """Every array of a .npz file by its name, unchecked; no pickle is read."""
    try:
        archive = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{path.name}: cannot read: {error.strerror or error}") from error
    except Exception as error:
        if within := _last_member(path):
            problem = f"{path.name}: the file is cut off or damaged within {within}: {error}"
            raise UsageError(one_line(problem)) from error
        # numpy's own message advises to load it as a pickle
        raise UsageError(f"{path.name}: expected a .npz file, found something else") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise UsageError(f"{path.name}: expected a .npz file, found one array")
    with archive:
        return {name: _member(path, archive, name) for name in archive.files}


def _member(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except Exception as error:  # zlib, zipfile, numpy and Python's tokenizer each have their own
        problem = f"{path.name}: {name}: expected an array of numbers, cannot read one: {error}"
        raise UsageError(one_line(problem)) from error
    if not isinstance(array, np.ndarray):
        raise UsageError(one_line(f"{path.name}: {name}: expected an array of numbers, found something else"))
    return array


def values(arrays: dict[str, np.ndarray], variant: Variant, source: str) -> Values:
    """A dump's arrays checked against the variant at the input's own size; UsageError says which is wrong."""
    images = arrays.get("input")
    size = variant.input_size
    needed = {"input": (None, size, size, 3), "logits": None, "loss": ()}
    parameters = {layer.name: layer.trainable(shape) for layer, shape, _ in variant.placed() if layer.trainable(shape)}
    gradients = {f"gradients/{layer}/{name}": s for layer, of in parameters.items() for name, s in of.items()}
    weights = [f"weights/{layer}/{name}" for layer, of in shapes(variant).items() for name in of]
    for name in arrays:
        if name not in (*needed, *gradients, *weights):
            raise UsageError(
                one_line(f"{source}: {name}: not an array of a dump of {variant.name}; see `verify --dump`")
            )
    if images is None or images.ndim != 4 or not len(images):
        raise UsageError(f"{source}: input: expected float32 of shape (n, {size}, {size}, 3), {_found(images)}")
    classes = np.prod(variant.placed()[-1].output)
    expected = {
        "input": ((len(images), size, size, 3), ("float32",)),
        "logits": ((len(images), int(classes)), FLOATS),
        "loss": ((), FLOATS),
        **{name: (shape, FLOATS) for name, shape in gradients.items()},
    }
    for name, (shape, kinds) in expected.items():
        problem = "found nothing" if name not in arrays else wrong(arrays[name], shape, kinds)
        if problem:
            raise UsageError(f"{source}: {name}: expected {' or '.join(kinds)} of shape {shape}, {problem}")
    try:
        checked = check(_tree(arrays, "weights"), variant, f"{source}: weights")
    except WeightsError as error:
        raise UsageError(str(error)) from error
    return Values(images, checked, arrays["logits"], arrays["loss"], _tree(arrays, "gradients"))


def _tree(arrays: dict[str, np.ndarray], root: str) -> Weights:
    found: Weights = {}
    for key, array in arrays.items():
        top, _, rest = key.partition("/")
        if top == root:
            layer, _, name = rest.partition("/")
            found.setdefault(layer, {})[name] = array
    return found


def _found(array: np.ndarray | None) -> str:
    return "found nothing" if array is None else f"found shape {array.shape}"


def _last_member(path: Path) -> str:
    """The array whose local header comes last in a damaged .npz: a cut-off file ends within it."""
    data = path.read_bytes()
    at = data.rfind(b"PK\x03\x04")
    if at < 0:
        return ""
    length = int.from_bytes(data[at + 26 : at + 28], "little")
    return data[at + 30 : at + 30 + length].decode("utf-8", "replace").removesuffix(".npy")
