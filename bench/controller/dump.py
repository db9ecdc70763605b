"""Read and write dumps: one .npz with a Net's input, weights and results, to compare other implementations with.

Arrays: ``input`` (n, h, w, 3); ``weights/<layer>/<name>`` in canonical layout; ``logits`` (n, classes), inference form;
``loss`` () and ``gradients/<layer>/<name>``, training form. Names as in impls/weights.py, layers as in layers.csv.
"""

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import UsageError
from impls.files import open_whole
from impls.text import one_line
from impls.variants import Variant
from impls.weights import Weights, WeightsError, check, misfit, shapes, wrong

MOST_INFLATED, SMALL = 20, 2**28  # times the size of the file, and bytes; noise inflates 1.1 times, zeros 1,000 times
LONGEST_HEADER = 2**14  # bytes; numpy reads 10,000
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


class Archive(Mapping[str, np.ndarray]):
    """The arrays of a .npz file by name, unchecked; pickles are refused. Raises UsageError.

    ``headers`` are read at once, an array when it is asked for: a file of some MB can inflate to any size.
    """

    def __init__(self, path: Path):
        self.source = path.name
        try:
            self.bytes, self.zip = path.stat().st_size, zipfile.ZipFile(path)
        except OSError as error:
            raise UsageError(f"{path.name}: cannot read: {error.strerror or error}") from error
        except Exception as error:
            raise UsageError(one_line(f"{path.name}: {_no_archive(path, error)}", 300)) from error
        self.headers: dict[str, Header] = {}
        for info in self.zip.infolist():
            name = info.filename.removesuffix(".npy")
            if name in self.headers:
                raise self._no_array(name, "found two")
            with self._reading(name):
                self.headers[name] = Header.of(self.zip, info)

    def __getitem__(self, name: str) -> np.ndarray:
        with self._reading(name), self.zip.open(self.headers[name].info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.headers)

    def __len__(self) -> int:
        return len(self.headers)

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # zlib, zipfile, numpy and Python's tokenizer raise types of their own
            raise self._no_array(name, f"cannot read one: {error}") from error

    def _no_array(self, name: str, why: str) -> UsageError:
        return UsageError(one_line(f"{self.source}: {name}: expected an array of numbers, {why}", 300))


@dataclass(frozen=True)
class Header:
    """Shape and type of an array, from the first bytes of its member."""

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> "Header":
        """Raises an Exception if the member is no array of numbers, or not as long as its header says."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others inflate without a limit
            raise ValueError(f"compression {info.compress_type}, which numpy does not write")
        with archive.open(info) as member:
            shape, dtype, size = _read_header(io.BytesIO(member.read(LONGEST_HEADER)))
        if dtype.hasobject:
            raise ValueError("Object arrays are pickles")
        if size != info.file_size:
            raise ValueError(f"expected {size:,} bytes for {shape} of {dtype}, found {info.file_size:,}")
        return cls(info, shape, dtype)


def _read_header(file: io.BytesIO) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and size in bytes of a .npy file, from its first bytes."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of .npy")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype, file.tell() + math.prod(shape) * dtype.itemsize


def _no_archive(path: Path, error: Exception) -> str:
    """Why a file that can be read is not a .npz file."""
    if within := _last_member(path):
        return f"the file is cut off or damaged within {within}: {error}"
    try:
        with path.open("rb") as file:
            _read_header(io.BytesIO(file.read(LONGEST_HEADER)))
    except Exception:  # numpy's own message advises allow_pickle
        return "expected a .npz file, found something else"
    return "expected a .npz file, found one array"


def values(archive: Archive, variant: Variant) -> Values:
    """Check a dump's arrays against the variant, at the size of the input: all headers, then what is in them.

    UsageError names a wrong array.
    """
    found, source, size = archive.headers, archive.source, variant.input_size
    images = found.get("input")
    parameters = {layer.name: layer.trainable(shape) for layer, shape, _ in variant.placed() if layer.trainable(shape)}
    gradients = {f"gradients/{layer}/{name}": s for layer, by_name in parameters.items() for name, s in by_name.items()}
    weights = {
        f"weights/{layer}/{name}": s for layer, by_name in shapes(variant).items() for name, s in by_name.items()
    }
    for name in found:
        if name not in {"input", "logits", "loss", *gradients, *weights}:
            raise UsageError(
                one_line(f"{source}: {name}: not an array of a dump of {variant.name}; see `verify --dump`")
            )
    if images is None or len(images.shape) != 4 or not images.shape[0]:
        problem = "found nothing" if images is None else f"found shape {images.shape}"
        raise UsageError(f"{source}: input: expected float32 of shape (n, {size}, {size}, 3), {problem}")
    batch, classes = images.shape[0], math.prod(variant.placed()[-1].output)
    expected = {
        "input": ((batch, size, size, 3), ("float32",)),
        "logits": ((batch, classes), FLOATS),
        "loss": ((), FLOATS),
        **{name: (shape, FLOATS) for name, shape in gradients.items()},
    }
    for name, (shape, kinds) in (expected | {name: (s, ("float32",)) for name, s in weights.items()}).items():
        if problem := misfit(found[name], shape, kinds) if name in found else "found nothing":
            where = name.replace("weights/", "weights: ", 1)
            raise UsageError(f"{source}: {where}: expected {' or '.join(kinds)} of shape {shape}, {problem}")
    if (total := sum(header.info.file_size for header in found.values())) > max(SMALL, MOST_INFLATED * archive.bytes):
        raise UsageError(
            f"{source}: expected arrays of numbers, found {archive.bytes / 2**20:,.1f} MiB that inflate to "
            f"{total / 2**20:,.0f} MiB; write them without compression"
        )
    arrays = dict(archive)
    for name, (shape, kinds) in expected.items():
        if problem := wrong(arrays[name], shape, kinds):
            raise UsageError(f"{source}: {name}: expected {' or '.join(kinds)} of shape {shape}, {problem}")
    try:
        checked = check(_tree(arrays, "weights"), variant, f"{source}: weights")
    except WeightsError as error:
        raise UsageError(str(error)) from error
    return Values(arrays["input"], checked, arrays["logits"], arrays["loss"], _tree(arrays, "gradients"))


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
