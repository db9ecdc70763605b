"""Read and write dumps: one .npz with a Net's input, weights and results, to compare other implementations with.

Arrays: ``input`` (n, h, w, 3); ``weights/<layer>/<name>`` in canonical layout; ``logits`` (n, classes), inference form;
``loss`` () and ``gradients/<layer>/<name>``, training form. Names as in impls/weights.py, layers as in layers.csv.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import UsageError
from impls.files import open_whole
from impls.text import one_line
from impls.variants import Variant
from impls.weights import Weights, WeightsError, check, shapes, wrong

FLOATS = ("float32", "float64")  # dtypes of results: a reference may have been computed in float64


@dataclass(frozen=True)
class Values:
    """The contents of a dump."""

    input: np.ndarray
    weights: Weights
    logits: np.ndarray
    loss: np.ndarray
    gradients: Weights

    def results(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each result as (name of its file in a parity set, array)."""
        yield "logits", self.logits
        yield "loss", self.loss
        for layer, arrays in self.gradients.items():
            for name, array in arrays.items():
                yield f"gradient.{layer}.{name}", array


def write(path: Path, images: np.ndarray, weights: Weights, values: Path) -> None:
    """Pack input, weights and the .npy files of a Worker in ``values``, uncompressed. The file is replaced atomically.

    Raises UsageError if it cannot be written.
    """
    arrays = {"input": images}
    arrays |= {
        f"weights/{layer}/{name}": array for layer, by_name in weights.items() for name, array in by_name.items()
    }
    for file in sorted(values.glob("*.npy")):
        key = file.stem.replace("gradient.", "gradients.", 1).replace(".", "/")
        arrays[key] = np.load(file, mmap_mode="r") if file.stat().st_size > 1 << 20 else np.load(file)
    try:
        with open_whole(path) as out:
            np.savez(out, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another file with --dump") from error


def read(path: Path) -> dict[str, np.ndarray]:
    """Read every array of a .npz file, by name, without checking it. Pickles are refused; raises UsageError."""
    try:
        archive = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{path.name}: cannot read: {error.strerror or error}") from error
    except Exception as error:
        if within := _last_member(path):
            problem = f"{path.name}: the file is cut off or damaged within {within}: {error}"
            raise UsageError(one_line(problem)) from error
        # numpy's own message advises allow_pickle
        raise UsageError(f"{path.name}: expected a .npz file, found something else") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise UsageError(f"{path.name}: expected a .npz file, found one array")
    with archive:
        return {name: _member(path, archive, name) for name in archive.files}


def _member(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except Exception as error:  # zlib, zipfile, numpy and Python's tokenizer raise types of their own
        problem = f"{path.name}: {name}: expected an array of numbers, cannot read one: {error}"
        raise UsageError(one_line(problem)) from error
    if not isinstance(array, np.ndarray):
        raise UsageError(one_line(f"{path.name}: {name}: expected an array of numbers, found something else"))
    return array


def values(arrays: dict[str, np.ndarray], variant: Variant, source: str) -> Values:
    """Check a dump's arrays against the variant, at the size of the input. UsageError names a wrong array."""
    images = arrays.get("input")
    size = variant.input_size
    parameters = {layer.name: layer.trainable(shape) for layer, shape, _ in variant.placed() if layer.trainable(shape)}
    gradients = {f"gradients/{layer}/{name}": s for layer, by_name in parameters.items() for name, s in by_name.items()}
    weights = [f"weights/{layer}/{name}" for layer, by_name in shapes(variant).items() for name in by_name]
    known = {"input", "logits", "loss", *gradients, *weights}
    for name in arrays:
        if name not in known:
            raise UsageError(
                one_line(f"{source}: {name}: not an array of a dump of {variant.name}; see `verify --dump`")
            )
    if images is None or images.ndim != 4 or not len(images):
        problem = "found nothing" if images is None else f"found shape {images.shape}"
        raise UsageError(f"{source}: input: expected float32 of shape (n, {size}, {size}, 3), {problem}")
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
    tree: Weights = {}
    for key, array in arrays.items():
        top, _, rest = key.partition("/")
        if top == root:
            layer, _, name = rest.partition("/")
            tree.setdefault(layer, {})[name] = array
    return tree


def _last_member(path: Path) -> str:
    """Name of the array with the last local header in a damaged .npz: a truncated file ends within it."""
    data = path.read_bytes()
    at = data.rfind(b"PK\x03\x04")
    if at < 0:
        return ""
    length = int.from_bytes(data[at + 26 : at + 28], "little")
    return data[at + 30 : at + 30 + length].decode("utf-8", "replace").removesuffix(".npy")
