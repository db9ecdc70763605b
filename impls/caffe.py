"""Caffe's AlexNet weights as they circulate: a dict of arrays pickled into a .npy by Python 2, or pickled bare.

A pickle is a program, and the file is untrusted. It is read by an unpickler that resolves six names only, all to
stand-ins that record the arguments of an array; numpy then creates it from bytes, a shape and a plain number type.
"""

import pickle
import pickletools
import re
from collections.abc import Container
from typing import Any, BinaryIO

import numpy as np

from impls.text import one_line

MOST_OPCODES = 20_000  # eight layers take some 500; nesting that deep would overflow the interpreter's own stack
#: Opcodes that create an object other than a tuple. Nested shared tuples take exponential time to hash.
FRESH = {step.name for step in pickletools.opcodes if step.stack_after and not step.stack_before}
FRESH |= {"REDUCE", "STACK_GLOBAL", "LIST", "DICT"}


class Refused(ValueError):
    """A file that is no dict of arrays; the message says why, after the file's name."""

    def __init__(self, why: str):
        super().__init__(one_line(why, 300))


def read(file: BinaryIO, layers: Container[str]) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by layer and canonical name, unchecked: kernel and bias, from a list of two or a dict of them.

    ``layers`` are the names that can be told where a file ends too early. Raises Refused, OSError.
    """
    _skip_npy_header(file)
    start = file.tell()
    _scan(file, layers)
    file.seek(start)
    try:
        return _layers(_Unpickler(file).load())
    except Refused:
        raise
    except Exception as error:  # any error of a stand-in is due to the file
        raise Refused(f"expected a pickled dict of arrays, found {type(error).__name__}: {error}") from error


def _layers(tree: Any) -> dict[str, dict[str, np.ndarray]]:
    if isinstance(tree, _Array):
        tree = tree.only()
    if not isinstance(tree, dict):
        raise Refused(f"expected a dict of layers, found {_kind(tree)}")
    return _named("layer", [(_text(layer), _layer(_text(layer), arrays)) for layer, arrays in tree.items()])


def _named(what: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As a dict; b"conv1" and "conv1" are two keys in Python 3, weights and kernel two names of one array."""
    named = dict(pairs)
    if len(named) < len(pairs):
        raise Refused(f"expected each {what} once, found {', '.join(name for name, _ in pairs)}")
    return named


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
    return _named(f"array of {layer}", [(name, _number(f"{layer}/{name}", array)) for name, array in pairs])


def _number(where: str, array: "_Array") -> np.ndarray:
    try:
        return array.number()
    except Refused as error:
        raise Refused(f"{where}: {error}") from error


def _skip_npy_header(file: BinaryIO) -> None:
    """Seek to the start of the pickle, after the .npy header if there is one."""
    magic = file.read(len(np.lib.format.MAGIC_PREFIX))
    file.seek(0)
    if magic != np.lib.format.MAGIC_PREFIX:
        return
    try:
        version = np.lib.format.read_magic(file)
        head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = head(file)
    except Exception as error:  # numpy's parser of a damaged header raises whatever Python's tokenizer does
        raise Refused(f"not a .npy file: {error}") from error
    if dtype.kind != "O":
        raise Refused(f"expected a dict of layers, found one array of shape {shape} and type {dtype}")


def _scan(file: BinaryIO, layers: Container[str]) -> None:
    """Check the pickle's opcodes without executing them: complete, and not larger than a weights file needs."""
    last, made, kept = "", "", dict[Any, str]()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            step = opcode.name
            if count > MOST_OPCODES:
                raise Refused(f"expected a dict of arrays, found a pickle of more than {MOST_OPCODES:,} steps")
            if step.endswith("PUT") and (argument or 0) > MOST_OPCODES:  # the unpickler would allocate as many slots
                raise Refused(f"expected a dict of arrays, found a pickle that keeps {argument:,} things")
            if step == "DUP" or (step.endswith("GET") and kept.get(argument, "GET") not in FRESH):
                raise Refused("expected a dict of arrays, found a pickle that shares tuples")
            if step.endswith("PUT") or step == "MEMOIZE":
                kept[len(kept) if argument is None else argument] = made
            made = step
            if isinstance(argument, str | bytes) and len(argument) < 100 and _text(argument) in layers:
                last = _text(argument)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the file is cut off or damaged{f' within {last}' if last else ''}: {error}") from error


class _Dtype:
    """Stand-in for numpy.dtype: a code such as f4, and a byte order."""

    def __init__(self, code: Any, *flags: Any):
        self.code, self.order = _text(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def number(self) -> np.dtype:
        if not re.fullmatch(r"[fiu][1248]", self.code) or self.order not in ("<", ">", "=", "|"):
            raise Refused(f"expected arrays of plain numbers, found type {self.code!r}")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array:
    """Stand-in for numpy.ndarray, with the arguments for one."""

    elements: list[Any] | None = None
    data: Any = b""
    axes: Any = None  # numpy 2.3's protocol 5: those of a transposed array, whose data and shape are the base's

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, data = state
        if not isinstance(self.shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in self.shape):
            raise Refused("expected the shape of an array, found something else")
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
        try:
            array = np.frombuffer(self.data, dtype).reshape(self.shape, order="F" if self.fortran else "C")
            return array if self.axes is None else array.transpose(self.axes)
        except (ValueError, TypeError) as error:
            raise Refused(f"expected {self.shape} of {dtype}, found {len(self.data)} bytes") from error


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: _Dtype, shape: Any, order: Any, axes: Any = None) -> _Array:
    array = _Array()
    array.axes = axes if _text(order) == "K" else None
    array.__setstate__((1, shape, dtype, _text(order) == "F", data))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the protocols of Python 2."""
    return text.encode("latin1")


KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        try:
            known = KNOWN[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise Refused(
                f"refused: its pickle asks for {module}.{name}; expected numpy arrays and nothing else"
            ) from None
        # a pickle can set attributes of what it finds: of this lambda, not of the stand-in itself
        return known if isinstance(known, type) else lambda *arguments: known(*arguments)


def _text(word: Any) -> str:
    if not isinstance(word, str | bytes):  # its str() could be of any length
        raise Refused(f"expected a name, found {_kind(word)}")
    return word.decode("latin1") if isinstance(word, bytes) else word


def _kind(value: Any) -> str:
    return "an array" if isinstance(value, _Array) else type(value).__name__


def _found(value: Any) -> str:
    count = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"found {_kind(value)}{count}"
