"""Small Caffe weights, pickled in every way that they are found in files."""

import io
import pickle
import pickletools
import struct

import numpy as np
from arrays import assert_same_bits, flat

from impls.layers import Conv, Fc, Flatten, Relu
from impls.variants import Variant
from impls.weights import initial

ROWS = (Conv("conv1", 4, 3, pad=(1, 1)), Relu("relu1"), Conv("conv2", 4, 3, groups=2), Flatten("flatten"), Fc("fc6", 5))
NET = Variant("tiny", input_size=5, source="", note="", layers=ROWS)
WEIGHTS = initial(NET)
WEIGHTS["conv1"]["kernel"][0, 0, 0, :3] = -0.0, 1e-45, np.finfo(np.float32).max  # bits that arithmetic would lose
NAMES = ("conv1", "conv2", "fc6")
KERNEL, BIAS = WEIGHTS["conv1"].values()
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def tree(change=lambda array: array):
    """What Caffe's converters pickled: layer -> [kernel, bias]."""
    return {layer: [change(array) for array in arrays.values()] for layer, arrays in WEIGHTS.items()}


def npy(pickled: bytes) -> bytes:
    """A .npy of one object around a pickle, which is that of a 0-d object array."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    return header.getvalue() + pickled


def saved(value) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


class Python2:
    """A protocol 2 stream as Python 2's cPickle wrote it: its str is bytes, and a repeated name comes from memory."""

    def __init__(self):
        self.known: dict[bytes, bytes] = {}

    def once(self, code: bytes) -> bytes:
        if code not in self.known:
            self.known[code] = bytes([len(self.known)])
            return code + b"q" + self.known[code]
        return b"h" + self.known[code]

    def __call__(self, value) -> bytes:
        if isinstance(value, dict):
            return b"}(" + b"".join(self(part) for pair in value.items() for part in pair) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(self, value)) + b"e"
        if isinstance(value, np.ndarray):
            return self.array(value)
        return string2(value.encode())

    def array(self, array) -> bytes:
        ndarray = self.once(b"cnumpy.core.multiarray\n_reconstruct\n") + self.once(b"cnumpy\nndarray\n")
        empty = ndarray + b"K\x00\x85" + string2(b"b") + b"\x87R"
        shape = b"(" + b"".join(map(int2, array.shape)) + b"t"
        plain = array.dtype != object
        dtype = self.once(b"cnumpy\ndtype\n") + string2(b"f4" if plain else b"O8") + b"K\x00K\x01\x87R"
        rest = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + (b"K\x00" if plain else b"K?")
        dtype += b"(K\x03" + string2(b"<" if plain else b"|") + rest + b"tb"
        data = string2(array.tobytes()) if plain else self(list(array.flat))
        return empty + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def string2(data: bytes) -> bytes:
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data


def int2(number: int) -> bytes:
    return b"K" + bytes([number]) if number < 256 else b"J" + struct.pack("<i", number)


def python2(value) -> bytes:
    return b"\x80\x02" + Python2()(value) + b"."


FORMS = {
    "npy": saved(tree()),
    "python 2 npy": npy(python2(np.array(tree(), dtype=object))),
    "python 2": python2(tree()),
    **{f"protocol {protocol}": pickle.dumps(tree(), protocol) for protocol in PROTOCOLS},
}


def name_of(key) -> bytes:
    return b"c" + "\n".join(key).encode() + b"\n"


def body(value) -> bytes:
    """What leaves a value on the unpickler's stack, and nothing in its memory."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def assert_bit_for_bit(found):
    assert_same_bits(flat(found), flat(WEIGHTS), "<f4")
