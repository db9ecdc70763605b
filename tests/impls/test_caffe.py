"""Caffe's weights: every way that they were ever pickled is read, and nothing that a pickle could do is done."""

import copyreg
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impls import caffe
from impls.layers import Conv, Fc, Flatten, Relu
from impls.variants import Variant
from impls.weights import WeightsError, initial, load

ROWS = (Conv("conv1", 4, 3, pad=(1, 1)), Relu("relu1"), Conv("conv2", 4, 3, groups=2), Flatten("flatten"), Fc("fc6", 5))
NET = Variant("tiny", input_size=5, source="", note="", layers=ROWS)
WEIGHTS = initial(NET)
WEIGHTS["conv1"]["kernel"][0, 0, 0, :3] = -0.0, 1e-45, np.finfo(np.float32).max  # bits that arithmetic would lose
NAMES = ("conv1", "conv2", "fc6")
KERNEL, BIAS = WEIGHTS["conv1"].values()
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def flat(weights):
    return {(layer, name): array for layer, arrays in weights.items() for name, array in arrays.items()}


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
    """A protocol 2 stream as Python 2's cPickle wrote it: its str is bytes, and a name said twice comes from memory."""

    def __init__(self):
        self.said: dict[bytes, bytes] = {}

    def once(self, code: bytes) -> bytes:
        if code not in self.said:
            self.said[code] = bytes([len(self.said)])
            return code + b"q" + self.said[code]
        return b"h" + self.said[code]

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


@pytest.fixture
def weights_of(tmp_path):
    """What a file of these bytes gives, all the way to checked weights."""

    def weights_of(data, variant=NET):
        path = tmp_path / "net.npy"
        path.write_bytes(data)
        return load(path, variant)

    return weights_of


@pytest.fixture
def refusal(weights_of):
    """Why a file of these bytes is not read; always one line that can be printed, and short."""

    def refusal(data):
        with pytest.raises(WeightsError) as error:
            weights_of(data)
        text = str(error.value)
        assert text.startswith("net.npy: ")
        assert text.isprintable()
        assert len(text) < 400
        return text.removeprefix("net.npy: ")

    return refusal


def assert_bit_for_bit(found):
    found, expected = flat(found), flat(WEIGHTS)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert (found[key].shape, found[key].dtype.str) == (array.shape, "<f4"), key
        assert found[key].tobytes() == array.tobytes(), key


class TestRead:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_file_gives_its_arrays_bit_for_bit(self, weights_of, form):
        assert_bit_for_bit(weights_of(FORMS[form]))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_the_stream_built_here_is_one_that_numpy_reads(self):
        plain = pickle.loads(FORMS["python 2"], encoding="latin1")
        boxed = np.load(io.BytesIO(FORMS["python 2 npy"]), allow_pickle=True, encoding="latin1").item()
        for found in (plain, boxed):
            assert_bit_for_bit({layer: dict(zip(("kernel", "bias"), found[layer], strict=True)) for layer in found})

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        "laid",
        [
            np.asfortranarray,
            lambda array: array.astype(">f4"),
            lambda array: np.asfortranarray(array.astype(">f4")),
            lambda array: np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 0)), 0, -1),  # as from OIHW
            lambda array: np.swapaxes(np.ascontiguousarray(np.swapaxes(array, 0, -1)), 0, -1),
            lambda array: np.repeat(array, 2, axis=0)[::2],
        ],
        ids=["Fortran", "big-endian", "Fortran big-endian", "filters first", "axes swapped", "strided"],
    )
    def test_an_array_in_another_order_of_bytes_or_axes_is_the_same_array(self, weights_of, laid, protocol):
        assert_bit_for_bit(weights_of(pickle.dumps(tree(laid), protocol)))
        assert_bit_for_bit(weights_of(saved(tree(laid))))

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        "layer",
        [
            lambda kernel, bias: (kernel, bias),
            lambda kernel, bias: {"weights": kernel, "biases": bias},
            lambda kernel, bias: {b"biases": bias, b"weights": kernel},
            lambda kernel, bias: {"kernel": kernel, "bias": bias},
        ],
        ids=["tuple", "dict", "dict of bytes", "canonical names"],
    )
    def test_a_layer_may_be_a_pair_or_a_dict(self, weights_of, layer, protocol):
        assert_bit_for_bit(weights_of(pickle.dumps({name: layer(*pair) for name, pair in tree().items()}, protocol)))

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_keys_may_be_bytes(self, weights_of, protocol):
        assert_bit_for_bit(weights_of(pickle.dumps({name.encode(): pair for name, pair in tree().items()}, protocol)))

    def test_a_layer_may_be_an_object_array_of_two(self, weights_of):
        def pair(arrays):
            both = np.empty(2, dtype=object)
            both[:] = arrays
            return both

        assert_bit_for_bit(weights_of(python2({layer: pair(arrays) for layer, arrays in tree().items()})))
        assert_bit_for_bit(weights_of(saved({layer: pair(arrays) for layer, arrays in tree().items()})))

    def test_one_array_may_serve_two_layers(self, tmp_path):
        path = tmp_path / "net.npy"
        path.write_bytes(pickle.dumps({"conv1": [KERNEL, BIAS], "conv2": [KERNEL, BIAS]}))
        with path.open("rb") as file:
            found = caffe.read(file, NAMES)
        assert all(np.array_equal(found[layer]["kernel"], KERNEL) for layer in ("conv1", "conv2"))

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_arrays_too_large_for_one_frame_are_read(self, tmp_path, protocol):
        path, large = tmp_path / "net.npy", np.arange(1 << 15, dtype=np.float32).reshape(2, -1)
        path.write_bytes(
            pickle.dumps({"conv1": [large, BIAS], "conv2": [large, BIAS], "fc6": [large.T, BIAS]}, protocol)
        )
        with path.open("rb") as file:
            found = caffe.read(file, NAMES)
        assert all(np.array_equal(found[layer]["kernel"], large) for layer in ("conv1", "conv2"))
        assert np.array_equal(found["fc6"]["kernel"], large.T)

    def test_the_order_of_layers_in_the_file_does_not_matter(self, weights_of):
        assert_bit_for_bit(weights_of(python2(dict(reversed(tree().items())))))


class Runs:
    """Pickles into a call."""

    def __init__(self, call, *arguments):
        self.pickled = call, arguments

    def __reduce__(self):
        return self.pickled


class Touches:
    """Writes a file when it is made, and another way when its state is set."""

    def __init__(self, path=None):
        if path:
            open(path, "w").close()

    def __setstate__(self, state):
        open(state["path"], "w").close()


def with_state(path):
    touches = Touches()
    touches.path = path
    return touches


#: What it asks for (Python 2 has other modules, and protocols 0 to 2 say so), and what would write the marker.
EXPLOITS = {
    "os.system": (f"{os.name}.system", lambda marker: Runs(os.system, f"touch {marker}")),
    "subprocess": ("check_call", lambda marker: Runs(subprocess.check_call, ["touch", marker])),
    "eval": ("eval", lambda marker: Runs(eval, f"open({marker!r}, 'w').close()")),
    "exec": ("exec", lambda marker: Runs(exec, f"open({marker!r}, 'w').close()")),
    "numpy's own": ("numpy.savetxt", lambda marker: Runs(np.savetxt, marker, [1])),
    "a class": (f"{__name__}.Touches", lambda marker: Runs(Touches, marker)),
    "its state": (f"{__name__}.Touches", with_state),
}
PLACES = {
    "beside good arrays": lambda evil: tree() | {"fc7": evil},
    "before good arrays": lambda evil: {"conv0": evil} | tree(),
    "for a bias": lambda evil: tree() | {"conv1": [KERNEL, evil]},
    "in a dict": lambda evil: tree() | {"conv1": {"weights": evil, "biases": BIAS}},
    "instead of a dict": lambda evil: evil,
}


def name_of(key) -> bytes:
    return b"c" + "\n".join(key).encode() + b"\n"


def body(value) -> bytes:
    """What leaves a value on the unpickler's stack, and nothing in its memory."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


class TestHostile:
    @pytest.mark.parametrize("exploit", EXPLOITS)
    def test_what_is_refused_here_would_run_where_nothing_refuses_it(self, tmp_path, exploit):
        marker = tmp_path / "ran"
        pickle.loads(pickle.dumps(EXPLOITS[exploit][1](str(marker))))
        assert marker.exists()

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("exploit", EXPLOITS)
    def test_a_pickle_that_would_run_something_is_refused_by_name_and_nothing_runs(
        self, tmp_path, refusal, exploit, place
    ):
        marker = tmp_path / "ran"
        named, evil = EXPLOITS[exploit]
        value = PLACES[place](evil(str(marker)))
        boxed = np.empty((), dtype=object)
        boxed[()] = value
        for protocol in ("npy", *PROTOCOLS):
            why = refusal(saved(boxed) if protocol == "npy" else pickle.dumps(value, protocol))
            asked = "copy_reg._reconstructor" if exploit == "its state" and protocol in (0, 1) else named
            assert why.startswith("refused: its pickle asks for ")
            assert why.endswith(f"{asked}; expected numpy arrays and nothing else")
            assert not marker.exists()

    def test_no_module_is_imported_for_it(self, tmp_path, monkeypatch, refusal):
        (tmp_path / "runs_on_import.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        assert "asks for runs_on_import.weights;" in refusal(b"cruns_on_import\nweights\n.")
        assert "asks for runs_on_import.weights;" in refusal(b"(iruns_on_import\nweights\n.")
        assert "runs_on_import" not in sys.modules

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("numpy", "load"),
            ("numpy", "ndarray.tofile"),
            ("numpy", "ndarray.__init__.__globals__"),
            ("numpy", "memmap"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "_reconstruct.__globals__"),
            ("numpy.numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "lookup"),
            ("impls.caffe", "_reconstruct"),
            ("", ""),
        ],
    )
    def test_another_name_of_a_known_module_is_refused(self, refusal, module, name):
        asked = (
            b"\x80\x04" + b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)) + b"\x93."
        )
        assert f"asks for {module.replace('_core', 'core')}.{name};" in refusal(asked).replace("_core", "core")

    @pytest.mark.parametrize("name", ["\n\x1b[2J" * 9, "load\nnet.npy: all is well", "\u202e", "x" * 9999])
    def test_a_name_cannot_move_the_cursor_or_add_a_line(self, refusal, name):
        word = name.encode()
        size = struct.pack("<I", len(word))
        assert "asks for numpy." in refusal(b"\x80\x04\x8c\x05numpyX" + size + word + b"\x93.")
        assert refusal(pickle.dumps(tree() | {name: [KERNEL, BIAS]}))
        assert refusal(pickle.dumps(tree() | {name: 1}))

    @pytest.mark.parametrize("key", caffe.KNOWN, ids=lambda key: key[1])
    @pytest.mark.parametrize(
        "state", [{"there": 1}, (None, {"there": 1}), ({}, {"__defaults__": (1,)}), (None, {"number": 1})], ids=str
    )
    def test_state_set_on_a_stand_in_is_not_there_for_the_next_file(self, refusal, weights_of, key, state):
        def seen():
            return [(dict(vars(found)), getattr(found, "__defaults__", None)) for found in caffe.KNOWN.values()]

        before = seen()
        assert refusal(b"\x80\x02" + name_of(key) + body(state) + b"b.")
        assert seen() == before
        assert_bit_for_bit(weights_of(FORMS["protocol 5"]))

    @pytest.mark.parametrize("key", caffe.KNOWN, ids=lambda key: key[1])
    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            (1,),
            (None, None),
            ("f4", 0, 1),
            ([], {}, ()),
            ("a", "b", "c", "d"),
            (b"", b"", b"", b"", b""),
            ((),) * 9,
        ],
        ids=str,
    )
    def test_a_stand_in_called_with_anything_is_refused_alone_as_a_layer_and_as_an_array(self, refusal, key, arguments):
        call = name_of(key) + body(arguments) + b"R"
        for value in (call, call + body(arguments) + b"b"):
            assert refusal(b"\x80\x02" + value + b".")
            assert refusal(b"\x80\x02}X\x05\x00\x00\x00conv1" + value + b"s.")
            assert refusal(b"\x80\x02}X\x05\x00\x00\x00conv1]" + value + b"a" + value + b"as.")

    @pytest.mark.parametrize("call", [b")\x81", b"}\x92", b"N\x81", b")R", b"(tR"])
    def test_a_stand_in_made_in_another_way_is_refused(self, refusal, call):
        for key in caffe.KNOWN:
            assert refusal(b"\x80\x04" + name_of(key) + call + b".")
            assert refusal(b"\x80\x04}X\x05\x00\x00\x00conv1]" + name_of(key) + call + b"aNas.")

    @pytest.mark.parametrize("step", [b"Pwhatever\n", b"K\x01Q", b"\x97", b"N\x98"])
    def test_things_kept_outside_of_the_file_are_refused(self, refusal, step):
        assert refusal(b"\x80\x05" + step + b".").startswith("expected a pickled dict of arrays, found ")
        assert refusal(b"\x80\x05}X\x05\x00\x00\x00conv1" + step + b"s.")

    @pytest.mark.parametrize("step", [b"\x82\x01", b"\x83\x01\x02", b"\x84\x01\x02\x03\x04"])
    def test_an_extension_code_is_refused(self, refusal, step):
        assert "unregistered extension code" in refusal(b"\x80\x02" + step + b".")

    def test_a_registered_extension_is_refused_by_name(self, tmp_path, refusal):
        marker = str(tmp_path / "ran").encode()
        copyreg.add_extension(__name__, "Touches", 0x77)
        try:
            why = refusal(b"\x80\x02\x82\x77" + string2(marker) + b"\x85R.")
        finally:
            copyreg.remove_extension(__name__, "Touches", 0x77)
        assert f"asks for {__name__}.Touches;" in why
        assert not os.path.exists(marker)


class TestBombs:
    @pytest.mark.parametrize("step", [b"(", b"]", b")\x85", b"N0", b"K\x00Q"], ids=repr)
    def test_a_pickle_of_more_steps_than_any_weights_have_is_refused(self, refusal, step):
        why = refusal(b"\x80\x02" + step * (caffe.MOST_OPCODES + 1) + b".")
        assert why == "expected a dict of arrays, found a pickle of more than 20,000 steps"

    def test_a_key_nested_as_deep_as_steps_allow_is_refused(self, refusal):
        deep = b"\x85" * (caffe.MOST_OPCODES - 10)
        assert refusal(b"\x80\x02})" + deep + b"Ns.") == "expected a name, found tuple"
        assert refusal(b"\x80\x02]" + b"]" * 9_000 + b"a" * 9_000 + b".") == "expected a dict of layers, found list"

    def test_a_place_in_memory_far_beyond_its_steps_is_refused(self, refusal):
        far = (1 << 24).to_bytes(4, "little")  # 256 MiB of places; 1 << 30 would be all of a machine's memory
        assert refusal(b"\x80\x02}r" + far + b".").endswith("found a pickle that keeps 16,777,216 things")
        assert refusal(b"}p16777216\n.").endswith("found a pickle that keeps 16,777,216 things")

    @pytest.mark.parametrize(
        "again",
        [
            b"q\x01h\x01\x86",  # each is a tuple of the last one twice: 2^20 to hash, and 2^99 would be as few bytes
            b"\x94h%\x86",
            b"2\x86",
            b"(1q\x01h\x01\x86",
            b"Nbq\x01h\x01\x86",
            b"(eq\x01h\x01\x86",
        ],
        ids=["put", "memoized", "duplicated", "mark", "build", "appends"],
    )
    def test_a_key_that_would_take_for_ever_to_hash_is_refused(self, refusal, again):
        steps = b"".join(again.replace(b"%", bytes([n])) for n in range(20))
        assert refusal(b"\x80\x04})" + b"\x85" + steps + b"Ns.").endswith("found a pickle that shares tuples")

    @pytest.mark.parametrize("text", [b"cnumpy\ndtype\n%b\x85R.", b"}K\x01%bs.", b"}X\x05\x00\x00\x00conv1}%bNss."])
    def test_no_text_is_made_of_what_is_no_text(self, refusal, text):
        nested = b"]" + b"".join(b"q%c]h%ca" % (n, n) for n in range(20)) + b""
        why = refusal(b"\x80\x02" + text.replace(b"%b", nested))
        assert "[[" not in why

    def test_the_steps_of_real_weights_are_far_fewer(self):
        most = max(len(list(pickletools.genops(FORMS[f"protocol {protocol}"]))) for protocol in PROTOCOLS)
        assert most * 8 / len(NAMES) < caffe.MOST_OPCODES / 10


def with_shape(shape) -> bytes:
    """A pickle of conv1's arrays, whose kernel says it has another shape."""
    old = b"(" + b"".join(map(int2, KERNEL.shape)) + b"t"
    whole = python2(tree())
    assert whole.count(old) == 1
    return whole.replace(old, body(shape))


PAIR = "conv1: expected a list of kernel and bias, or a dict of weights and biases, "


class TestArrays:
    @pytest.mark.parametrize("shape", [(3, 3, 3, 5), (10**9, 10**9), (2**63,), (), (0,), (3, 3, 4)], ids=str)
    def test_a_shape_that_its_bytes_do_not_fill_is_refused(self, refusal, shape):
        expected = f"conv1/kernel: expected {shape} of float32, found 432 bytes"
        assert refusal(with_shape(shape)) == expected

    @pytest.mark.parametrize(
        "shape", [(-1,), (3, 3, 3, -1), (3.0, 3, 3, 4), None, 108, [108], ("108",), (None,)], ids=str
    )
    def test_a_shape_that_is_none_is_refused(self, refusal, shape):
        assert refusal(with_shape(shape)) == "expected the shape of an array, found something else"

    @pytest.mark.parametrize(
        ("array", "code"),
        [
            (np.array([1, None], dtype=object), "O8"),
            (np.array([{}], dtype=object), "O8"),
            (np.zeros(4, dtype="f4,i4"), "V8"),
            (np.zeros(4, dtype=[("data", "f4", 4)]), "V16"),
            (np.zeros(4, dtype="M8[s]"), "M8"),
            (np.zeros(4, dtype="U3"), "U3"),
            (np.zeros(4, dtype="S3"), "S3"),
            (np.zeros(4, dtype="c8"), "c8"),
            (np.zeros(4, dtype=bool), "b1"),
        ],
        ids=["none", "a dict", "structured", "sub-array", "dates", "text", "bytes", "complex", "bool"],
    )
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_an_array_of_anything_but_numbers_is_refused_by_layer_and_name(self, refusal, array, code, protocol):
        expected = f"conv2/bias: expected arrays of plain numbers, found type '{code}'"
        assert refusal(pickle.dumps(tree() | {"conv2": [WEIGHTS["conv2"]["kernel"], array]}, protocol)) == expected

    @pytest.mark.parametrize("code", ["f1", "f9", "f", "f4,f4", "O", "|O", "4f", "f4\n", "x" * 99])
    def test_a_type_that_numpy_has_not_is_refused(self, refusal, code):
        stream = python2(tree()).replace(string2(b"f4"), string2(code.encode()))
        assert refusal(stream)

    @pytest.mark.parametrize("order", ["2", "", "x", "<<", "(2,)", "\n"])
    def test_an_order_of_bytes_that_is_none_is_refused(self, refusal, order):
        why = refusal(python2(tree()).replace(string2(b"<"), string2(order.encode())))
        assert why == "conv1/kernel: expected arrays of plain numbers, found type 'f4'"

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (lambda: [KERNEL, BIAS], "expected a dict of layers, found list"),
            (lambda: None, "expected a dict of layers, found NoneType"),
            (lambda: KERNEL, "expected a dict of layers, found an array"),
            (lambda: tree() | {"conv1": [KERNEL]}, PAIR + "found list of 1"),
            (lambda: tree() | {"conv1": [KERNEL, BIAS, BIAS]}, PAIR + "found list of 3"),
            (lambda: tree() | {"conv1": KERNEL}, PAIR + "found an array"),
            (lambda: tree() | {"conv1": "kernel"}, PAIR + "found str"),
            (lambda: tree() | {"conv1": None}, PAIR + "found NoneType"),
            (lambda: tree() | {"conv1": [KERNEL, 3]}, "conv1/bias: expected an array, found int"),
            (lambda: tree() | {"conv1": [[KERNEL], BIAS]}, "conv1/kernel: expected an array, found list of 1"),
            (
                lambda: tree() | {"conv1": {"weights": 1.5, "biases": BIAS}},
                "conv1/kernel: expected an array, found float",
            ),
            (lambda: tree() | {7: [KERNEL, BIAS]}, "expected a name, found int"),
            (lambda: tree() | {"conv1": {None: BIAS}}, "expected a name, found NoneType"),
        ],
        ids=lambda part: part if isinstance(part, str) else "",
    )
    def test_anything_but_a_dict_of_pairs_of_arrays_is_refused(self, refusal, value, why):
        assert refusal(pickle.dumps(value(), 2)) == why

    def test_a_plain_array_is_refused_with_its_shape_and_type(self, refusal):
        why = "expected a dict of layers, found one array of shape (4,) and type float32"
        assert refusal(saved(BIAS)) == why

    def test_many_objects_are_refused(self, refusal):
        assert refusal(saved(np.array([tree(), tree()]))) == "expected a dict of layers, found an array"

    @pytest.mark.parametrize(
        "data", [b"", b"\n", b"PK\x03\x04" + bytes(99), b"{'conv1': []}", bytes(999), b"\x80\x09N."]
    )
    def test_what_is_no_pickle_is_refused(self, refusal, data):
        assert refusal(data)


def expected_layer(data: bytes, cut: int) -> str | None:
    """The layer that was the last to be named in full before the cut; None where that could be either of two."""
    ends = {data.index(name.encode()) + len(name): name for name in NAMES}
    if any(end <= cut < end + 2 for end in ends):  # a name's own line may end a byte later
        return None
    return next((name for end, name in sorted(ends.items(), reverse=True) if end <= cut), "")


class TestDamage:
    @pytest.mark.parametrize(("form", "step"), [(form, 1 if form == "python 2" else 7) for form in FORMS])
    def test_a_file_cut_off_anywhere_is_refused_and_names_the_layer_that_it_ends_within(self, refusal, form, step):
        data = FORMS[form]
        named = set()
        for cut in (*range(0, len(data), step), len(data) - 1):
            why, layer = refusal(data[:cut]), expected_layer(data, cut)
            if layer is not None:
                named.add(layer)
                assert ("within" in why) == bool(layer), (cut, why)
                assert not layer or why.startswith(f"the file is cut off or damaged within {layer}: "), (cut, why)
        assert named == {"", *NAMES}

    @pytest.mark.parametrize("byte", [*b"({)'\\,\n"])
    @pytest.mark.filterwarnings("ignore:Reading `.npy`", "ignore::SyntaxWarning", "ignore::DeprecationWarning")
    def test_a_header_with_a_wrong_byte_is_refused_or_read(self, tmp_path, byte):
        data = FORMS["npy"]
        for at in range(6, data.index(b"\n")):
            attempt(tmp_path, data[:at] + bytes([byte]) + data[at + 1 :])

    @given(
        form=st.sampled_from(sorted(FORMS)),
        flips=st.lists(
            st.tuples(st.one_of(st.integers(0, 400), st.integers(0, 1 << 13)), st.integers(1, 255)),
            min_size=1,
            max_size=4,
        ),
    )
    @settings(
        derandomize=True,
        max_examples=200,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @pytest.mark.filterwarnings("ignore:Reading `.npy`", "ignore::SyntaxWarning", "ignore::DeprecationWarning")
    def test_a_file_with_wrong_bytes_is_read_or_refused(self, tmp_path, form, flips):
        data = bytearray(FORMS[form])
        for at, flip in flips:
            data[at % len(data)] ^= flip
        attempt(tmp_path, bytes(data))


def attempt(folder, data):
    """Anything but a dict or a refusal is the test's failure."""
    path = folder / "net.npy"
    path.write_bytes(data)
    for refusal, read in (
        (caffe.Refused, lambda: caffe.read(io.BytesIO(data), NAMES)),
        (WeightsError, lambda: load(path, NET)),
    ):
        try:
            found = read()
        except refusal as refused:
            found = str(refused)
        if isinstance(found, str):
            assert found.isprintable()
        else:
            assert all(type(array) is np.ndarray and array.dtype.kind in "fiu" for array in flat(found).values())


@pytest.mark.parametrize(
    ("twice", "words"),
    [
        ({"conv1": [KERNEL, BIAS], b"conv1": [KERNEL, BIAS]}, "expected each layer once, found conv1, conv1"),
        (
            {"conv1": {"weights": KERNEL, "kernel": KERNEL, "biases": BIAS}},
            "expected each array of conv1 once, found kernel, kernel, bias",
        ),
    ],
)
def test_two_keys_that_mean_one_array_are_refused(refusal, twice, words):
    assert refusal(pickle.dumps(twice)) == words
