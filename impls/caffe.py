"""Caffe's AlexNet weights as they circulate: a dict of arrays pickled into a .npy by Python 2, or pickled bare.

A pickle is a program, and this file comes from a stranger. It is read by an unpickler that knows six names, none of
them a real one: stand-ins note down what an array would have been made of, and numpy makes it afterwards, from bytes, a
shape and a plain number type.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

MOST_OPCODES = 20_000  # eight layers take some 500; nesting that deep would overflow the interpreter's own stack


class Refused(ValueError):
    """A file that is no dict of arrays; the message says why, after the file's name."""


def read(path: Path, layers: Container[str]) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by layer and canonical name, unchecked: kernel and bias, from a list of two or a dict of them.

    ``layers`` are the names that can be told where a file ends too early. Raises Refused, OSError.
    """
    with open(path, "rb") as file:
        _skip_npy_header(file)
        start = file.tell()
        _scan(file, layers)
        file.seek(start)
        try:
            return _layers(_Unpickler(file).load())
        except Refused:
            raise
        except Exception as error:  # a stand-in given the wrong thing: whatever it raises, the file is to blame
            raise Refused(f"expected a pickled dict of arrays, found {type(error).__name__}: {error}") from error


def _layers(tree: Any) -> dict[str, dict[str, np.ndarray]]:
    if isinstance(tree, _Array):
        tree = tree.only()
    if not isinstance(tree, dict):
        raise Refused(f"expected a dict of layers, found {_kind(tree)}")
    return {_text(layer): _layer(_text(layer), arrays) for layer, arrays in tree.items()}


def _layer(layer: str, arrays: Any) -> dict[str, np.ndarray]:
    if isinstance(arrays, _Array) and arrays.elements is not None:
        arrays = arrays.elements
    if isinstance(arrays, dict):
        pairs = [({"weights": "kernel", "biases": "bias"}.get(_text(k), _text(k)), v) for k, v in arrays.items()]
    elif isinstance(arrays, list | tuple) and len(arrays) == 2:
        pairs = list(zip(("kernel", "bias"), arrays, strict=True))
    else:
        raise Refused(f"{layer}: expected a list of kernel and bias, or a dict of weights and biases, {_found(arrays)}")
    for name, array in pairs:
        if not isinstance(array, _Array):
            raise Refused(f"{layer}/{name}: expected an array, {_found(array)}")
    return {name: array.number() for name, array in pairs}


def _skip_npy_header(file: io.BufferedReader) -> None:
    """To where the pickle begins; nothing is skipped where the file is one from its first byte."""
    magic = file.read(len(np.lib.format.MAGIC_PREFIX))
    file.seek(0)
    if magic != np.lib.format.MAGIC_PREFIX:
        return
    try:
        version = np.lib.format.read_magic(file)
        head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = head(file)
    except ValueError as error:
        raise Refused(f"not a .npy file: {error}") from error
    if dtype.kind != "O":
        raise Refused(f"expected a dict of layers, found one array of shape {shape} and type {dtype}")


def _scan(file: io.BufferedReader, layers: Container[str]) -> None:
    """Read the pickle's opcodes without obeying them: is it whole, and of a size that a weights file has?"""
    last = ""
    try:
        for count, (_, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_OPCODES:
                raise Refused(f"expected a dict of arrays, found a pickle of more than {MOST_OPCODES:,} steps")
            if isinstance(argument, str | bytes) and len(argument) < 100 and _text(argument) in layers:
                last = _text(argument)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the file is cut off or damaged{f' within {last}' if last else ''}: {error}") from error


class _Dtype:
    """Stands in for numpy.dtype: a code such as f4, and a byte order."""

    def __init__(self, code: Any, *flags: Any):
        self.code, self.order = _text(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def number(self) -> np.dtype:
        if not re.fullmatch(r"[fiu][1248]", self.code) or self.order not in ("<", ">", "=", "|"):
            raise Refused(f"expected arrays of plain numbers, found type {self.code!r}")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array:
    """Stands in for numpy.ndarray: what one would have been made of."""

    elements: list | None = None
    data: Any = b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, data = state
        if self.dtype.code.startswith("O"):
            self.elements = list(data)
        else:
            self.data = data

    def only(self) -> Any:
        """The one object of a 0-d object array."""
        if self.elements is None or len(self.elements) != 1:
            raise Refused("expected a dict of layers, found an array")
        return self.elements[0]

    def number(self) -> np.ndarray:
        dtype = self.dtype.number()
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        try:
            return np.frombuffer(data, dtype).reshape(self.shape, order="F" if self.fortran else "C")
        except (ValueError, TypeError) as error:
            raise Refused(f"expected {self.shape} of {dtype}, found {len(data)} bytes") from error


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: _Dtype, shape: Any, order: Any, *rest: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, _text(order) == "F", data))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the protocols of Python 2."""
    return text.encode("latin1")


KNOWN = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BufferedReader):
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise Refused(
                f"refused: its pickle asks for {module}.{name}; expected numpy arrays and nothing else"
            ) from None


def _text(word: Any) -> str:
    return word.decode("latin1") if isinstance(word, bytes) else str(word)


def _kind(value: Any) -> str:
    return "an array" if isinstance(value, _Array) else type(value).__name__


def _found(value: Any) -> str:
    count = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"found {_kind(value)}{count}"
