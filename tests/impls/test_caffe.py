"""Caffe's weights: every way that they were ever pickled is read, damaged or wrong files are refused."""

import io
import pickle

import numpy as np
import pytest
from caffe_pickles import (
    BIAS,
    FORMS,
    KERNEL,
    NAMES,
    NET,
    PROTOCOLS,
    WEIGHTS,
    assert_bit_for_bit,
    body,
    flat,
    int2,
    python2,
    saved,
    string2,
    tree,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impls import caffe
from impls.weights import WeightsError, load


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
    def test_file_without_a_pickle_is_refused(self, refusal, data):
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
