"""Canonical weights: their values, the files that they are read from, and the files that Workers map."""

import itertools
import json
import os
import pickle
import sys

import numpy as np
import pytest

from impls.layers import BatchNorm, Conv, Fc, Flatten
from impls.variants import Variant
from impls.weights import WeightsError, check, initial, load, map_shared, save, write_shared

CONV, GROUPED = Conv("conv", 2000, 5, pad=(2, 2)), Conv("grouped", 20, 3, stride=8, pad=(1, 1), groups=4)
ROWS = (CONV, BatchNorm("bn", eps=1e-3, momentum=0.1), GROUPED, Flatten("flatten"), Fc("fc", 2000))
NET = Variant("net", input_size=8, source="", note="", layers=ROWS)
DOCUMENTED = {  # shape, mean, stddev
    ("conv", "kernel"): ((5, 5, 3, 2000), 0, np.sqrt(2 / (5 * 5 * 3))),
    ("conv", "bias"): ((2000,), 0, 0.05),
    ("bn", "gamma"): ((2000,), 1, 0.1),
    ("bn", "beta"): ((2000,), 0, 0.1),
    ("bn", "moving_mean"): ((2000,), 0, 0.1),
    ("bn", "moving_variance"): ((2000,), 1, np.sqrt(1 / 12)),
    ("grouped", "kernel"): ((3, 3, 500, 20), 0, np.sqrt(2 / (3 * 3 * 500))),
    ("grouped", "bias"): ((20,), 0, 0.05),
    ("fc", "kernel"): ((20, 2000), 0, np.sqrt(2 / 20)),
    ("fc", "bias"): ((2000,), 0, 0.05),
}


def flat(weights):
    return {(layer, name): array for layer, arrays in weights.items() for name, array in arrays.items()}


WEIGHTS = flat(initial(NET, seed=0))


def test_every_trainable_and_moving_array_is_there_and_no_other():
    assert WEIGHTS.keys() == DOCUMENTED.keys()


@pytest.mark.parametrize("key", DOCUMENTED, ids=".".join)
def test_an_array_is_float32_with_its_documented_shape_and_moments(key):
    array, (shape, mean, stddev) = WEIGHTS[key], DOCUMENTED[key]
    assert (array.shape, array.dtype) == (shape, np.float32)
    error = stddev / np.sqrt(array.size)
    assert abs(array.mean(dtype=np.float64) - mean) < 4 * error
    assert abs(array.std(dtype=np.float64) - stddev) < 4 * error


def test_a_moving_variance_lies_between_a_half_and_one_and_a_half():
    variance = WEIGHTS["bn", "moving_variance"]
    assert 0.5 <= variance.min() < 0.51
    assert 1.49 < variance.max() < 1.5


def test_a_seed_has_its_values_and_another_seed_has_others():
    again, other = flat(initial(NET, seed=0)), flat(initial(NET, seed=1))
    for key, array in WEIGHTS.items():
        assert np.array_equal(array, again[key]), key
        assert not np.array_equal(array, other[key]), key


def test_values_are_drawn_row_by_row_from_pcg64_of_the_seed():
    rng = np.random.Generator(np.random.PCG64(0))
    kernel, bias = rng.standard_normal((5, 5, 3, 2000), np.float32), rng.standard_normal(2000, np.float32)
    np.testing.assert_allclose(WEIGHTS["conv", "kernel"], kernel * np.sqrt(2 / 75), rtol=1e-6)
    np.testing.assert_allclose(WEIGHTS["conv", "bias"], bias * 0.05, rtol=1e-6)


def test_workers_map_exactly_what_was_shared_and_cannot_change_it(tmp_path):
    write_shared(initial(NET), tmp_path / "run" / "weights")
    mapped = flat(map_shared(tmp_path / "run" / "weights"))
    assert mapped.keys() == WEIGHTS.keys()
    for key, array in WEIGHTS.items():
        assert isinstance(mapped[key], np.memmap)
        assert mapped[key].dtype == np.float32
        assert np.array_equal(mapped[key], array)
        with pytest.raises(ValueError, match="read-only"):
            mapped[key][...] = 0


SMALL = Variant(
    "small",
    input_size=5,
    source="",
    note="",
    layers=(Conv("conv", 4, 3), BatchNorm("bn", eps=1e-3, momentum=0.1), Flatten("flatten"), Fc("fc", 5)),
)
PLAIN = Variant("plain", input_size=5, source="", note="", layers=(Conv("conv", 4, 3), Flatten("flatten"), Fc("fc", 5)))
ARRAYS = "bn/beta, bn/gamma, bn/moving_mean, bn/moving_variance, conv/bias, conv/kernel, fc/bias, fc/kernel"


def small():
    """Fresh weights with bits that arithmetic would lose: -0, the least and the greatest number."""
    weights = initial(SMALL)
    weights["conv"]["kernel"][0, 0, 0, :3] = -0.0, 1e-45, np.finfo(np.float32).max
    return weights


def assert_bit_for_bit(found, expected):
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert (found[key].shape, found[key].dtype.str) == (array.shape, "<f4"), key
        assert found[key].tobytes() == np.asarray(array, "<f4").tobytes(), key
        assert found[key].flags.c_contiguous


def changed(layer, name, change):
    weights = small()
    weights[layer][name] = change(weights[layer][name])
    return weights


def without(layer, *names):
    weights = small()
    for name in names or list(weights[layer]):
        del weights[layer][name]
    return weights


def bad(value):
    def change(array):
        array.flat[1] = value
        return array

    return change


@pytest.fixture
def safetensors():
    """An extra, and not everybody's."""
    pytest.importorskip("safetensors")


def refusal(path, variant=SMALL):
    """Why that file is not loaded, on one printable line that begins with its name."""
    with pytest.raises(WeightsError) as error:
        load(path, variant)
    text = str(error.value)
    assert text.startswith(f"{path.name}: ")
    assert text.isprintable()
    return text.removeprefix(f"{path.name}: ")


def needs(layer_name, shape, found):
    return f"{layer_name}: expected float32 of shape {shape}, {found}"


#: Weights that are not the variant's, and what is said of them.
WRONG = {
    "an unknown layer": (
        lambda: small() | {"conv9": {"kernel": np.zeros(3, np.float32)}},
        f"conv9/kernel: not an array of small; expected {ARRAYS}",
    ),
    "an unknown name": (
        lambda: small() | {"conv": small()["conv"] | {"gain": np.zeros(3, np.float32)}},
        f"conv/gain: not an array of small; expected {ARRAYS}",
    ),
    "no layer": (lambda: without("fc"), needs("fc/kernel", (36, 5), "found nothing")),
    "no bias": (lambda: without("conv", "bias"), needs("conv/bias", (4,), "found nothing")),
    "no moving variance": (
        lambda: without("bn", "moving_variance"),
        needs("bn/moving_variance", (4,), "found nothing"),
    ),
    "another shape": (
        lambda: changed("fc", "kernel", np.transpose),
        needs("fc/kernel", (36, 5), "found shape (5, 36)"),
    ),
    "an axis more": (
        lambda: changed("conv", "bias", lambda array: array[None]),
        needs("conv/bias", (4,), "found shape (1, 4)"),
    ),
    "float64": (lambda: changed("conv", "kernel", np.float64), needs("conv/kernel", (3, 3, 3, 4), "found float64")),
    "float16": (lambda: changed("bn", "gamma", np.float16), needs("bn/gamma", (4,), "found float16")),
    "integers": (lambda: changed("bn", "beta", np.int32), needs("bn/beta", (4,), "found int32")),
    "NaN": (
        lambda: changed("fc", "bias", bad(np.nan)),
        needs("fc/bias", (5,), "found 1 of 5 values NaN or infinite"),
    ),
    "infinite": (
        lambda: changed("conv", "kernel", bad(-np.inf)),
        needs("conv/kernel", (3, 3, 3, 4), "found 1 of 108 values NaN or infinite"),
    ),
    "all NaN": (
        lambda: changed("bn", "moving_variance", lambda array: array * np.float32(np.nan)),
        needs("bn/moving_variance", (4,), "found 4 of 4 values NaN or infinite"),
    ),
    "a negative variance": (
        lambda: changed("bn", "moving_variance", bad(-0.25)),
        "bn/moving_variance: expected nothing below 0, found -0.25",
    ),
}


class TestCheck:
    @pytest.mark.parametrize("what", WRONG)
    def test_arrays_that_are_not_the_variants_are_refused(self, what):
        weights, why = WRONG[what]
        with pytest.raises(WeightsError) as error:
            check(weights(), SMALL, "file.npy")
        assert str(error.value) == f"file.npy: {why}"

    @pytest.mark.usefixtures("safetensors")
    @pytest.mark.parametrize("what", WRONG)
    def test_a_safetensors_file_of_them_is_refused_in_the_same_words(self, tmp_path, what):
        weights, why = WRONG[what]
        save(weights(), tmp_path / "net.safetensors")
        (tmp_path / "net.safetensors").touch()
        assert refusal(tmp_path / "net.safetensors") == why

    @pytest.mark.parametrize("what", [what for what, (_, why) in WRONG.items() if why[:2] in ("co", "fc")])
    def test_a_caffe_file_of_them_is_refused_in_the_same_words(self, tmp_path, what):
        weights, why = WRONG[what]
        plain = {layer: arrays for layer, arrays in weights().items() if layer != "bn"}
        (tmp_path / "net.npy").write_bytes(pickle.dumps(plain, 2))
        expected = ", ".join(name for name in ARRAYS.split(", ") if not name.startswith("bn"))
        assert refusal(tmp_path / "net.npy", PLAIN) == why.replace(ARRAYS, expected).replace("small", "plain")

    def test_a_variance_of_0_and_values_at_the_ends_of_float32_are_no_fault(self):
        weights = changed("bn", "moving_variance", lambda array: array * 0)
        weights["fc"]["bias"][:2] = np.finfo(np.float32).max, np.finfo(np.float32).min
        assert_bit_for_bit(check(weights, SMALL, ""), weights)

    @pytest.mark.parametrize("laid", [np.asfortranarray, lambda array: array.astype(">f4")], ids=["Fortran", "big"])
    def test_arrays_come_back_native_and_in_c_order(self, laid):
        weights = {layer: {name: laid(array) for name, array in of.items()} for layer, of in small().items()}
        assert_bit_for_bit(check(weights, SMALL, ""), small())

    def test_arrays_come_back_in_the_variants_own_order(self):
        backwards = {layer: dict(reversed(arrays.items())) for layer, arrays in reversed(small().items())}
        assert list(flat(check(backwards, SMALL, ""))) == list(flat(small()))

    @pytest.mark.parametrize(
        "name", ["kernel\nnet.npy: all is well", "\x1b[2J", "x" * 9999], ids=["line", "escape", "long"]
    )
    def test_a_name_from_the_file_cannot_fill_the_screen_or_move_the_cursor(self, name):
        with pytest.raises(WeightsError, match="not an array of small") as error:
            check(small() | {"conv9": {name: np.zeros(3, np.float32)}}, SMALL, "file.npy")
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 400


class TestFiles:
    def test_without_the_package_it_is_said_how_to_install_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors", None)
        monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
        why = "safetensors is not installed: pip install 'alexnet-bench[weights]'"
        assert refusal(tmp_path / "net.safetensors") == why
        with pytest.raises(WeightsError) as error:
            save(small(), tmp_path / "net.safetensors")
        assert str(error.value) == f"net.safetensors: {why}"

    @pytest.mark.usefixtures("safetensors")
    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("gone.npy", "cannot read: No such file or directory"),
            ("gone.safetensors", "cannot read: No such file or directory"),
            ("folder.npy", "cannot read: Is a directory"),
            ("folder.safetensors", "cannot read: Is a directory"),
            ("gone/net.npy", "cannot read: No such file or directory"),
            ("empty.npy/net.npy", "cannot read: Not a directory"),
        ],
    )
    def test_a_path_that_cannot_be_read_says_why(self, tmp_path, name, why):
        (tmp_path / "folder.npy").mkdir()
        (tmp_path / "folder.safetensors").mkdir()
        (tmp_path / "empty.npy").touch()
        assert refusal(tmp_path / name) == why

    @pytest.mark.parametrize("name", ["net.npz", "net.pkl", "net.caffemodel", "net", ".npy", "net.npy.gz", "folder"])
    def test_another_suffix_is_refused_with_those_that_are_read(self, tmp_path, name):
        (tmp_path / "folder").mkdir()
        assert refusal(tmp_path / name) == "expected a .npy file in Caffe's layout or a .safetensors file"

    @pytest.mark.usefixtures("safetensors")
    def test_an_empty_file_is_refused(self, tmp_path):
        for name in ("net.npy", "net.safetensors"):
            (tmp_path / name).touch()
        assert refusal(tmp_path / "net.npy").startswith("the file is cut off or damaged: ")
        assert refusal(tmp_path / "net.safetensors").startswith("not a safetensors file: ")

    @pytest.mark.usefixtures("safetensors")
    def test_a_file_of_the_other_kind_is_refused(self, tmp_path):
        save(small(), tmp_path / "net.safetensors")
        os.rename(tmp_path / "net.safetensors", tmp_path / "net.npy")
        assert refusal(tmp_path / "net.npy").startswith("the file is cut off or damaged: ")
        np.save(tmp_path / "other.npy", small()["fc"]["kernel"])
        os.rename(tmp_path / "other.npy", tmp_path / "net.safetensors")
        assert refusal(tmp_path / "net.safetensors").startswith("not a safetensors file: ")


def tensors(entries, data=b"") -> bytes:
    """A .safetensors file with that header, which may be a text that is no JSON."""
    header = entries.encode() if isinstance(entries, str) else json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + data


def entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.usefixtures("safetensors")
class TestSafetensors:
    def test_what_is_saved_is_loaded_bit_for_bit(self, tmp_path):
        save(small(), tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_a_file_of_safetensors_own_with_dotted_keys_is_loaded_bit_for_bit(self, tmp_path):
        from safetensors.numpy import save_file

        save_file({".".join(key): array for key, array in flat(small()).items()}, tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_safetensors_own_reader_finds_the_dotted_keys_and_the_bits_that_were_saved(self, tmp_path):
        from safetensors.numpy import load_file

        save(small(), tmp_path / "net.safetensors")
        found = load_file(tmp_path / "net.safetensors")
        assert found.keys() == {".".join(key) for key in flat(small())}
        assert {"bn.gamma", "bn.beta", "bn.moving_mean", "bn.moving_variance"} < found.keys()
        for (layer, name), array in flat(small()).items():
            assert found[f"{layer}.{name}"].tobytes() == array.tobytes()

    @pytest.mark.parametrize("laid", [np.asfortranarray, lambda array: array.astype(">f4")], ids=["Fortran", "big"])
    def test_arrays_in_another_order_are_saved_as_the_same_arrays(self, tmp_path, laid):
        weights = {layer: {name: laid(array) for name, array in of.items()} for layer, of in small().items()}
        save(weights, tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_what_workers_map_can_be_saved(self, tmp_path):
        write_shared(small(), tmp_path / "weights")
        save(map_shared(tmp_path / "weights"), tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_a_file_that_cannot_be_written_is_an_error_of_the_system(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            save(small(), tmp_path / "gone" / "net.safetensors")

    def test_a_file_cut_off_anywhere_names_the_array_that_it_ends_within(self, tmp_path):
        save(small(), tmp_path / "net.safetensors")
        data = (tmp_path / "net.safetensors").read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        spans = sorted((*it["data_offsets"], key.replace(".", "/")) for key, it in header.items())
        assert [end for _, end, _ in spans[:-1]] == [start for start, _, _ in spans[1:]]
        for start, end, name in spans:
            for length in {begin + start, begin + start + 1, begin + end - 1}:
                (tmp_path / "net.safetensors").write_bytes(data[:length])
                why = (
                    f"the file is cut off within {name}: expected {begin + end:,} bytes up to its end, found {length:,}"
                )
                assert refusal(tmp_path / "net.safetensors") == why
        for length in range(data.rindex(b"}", 0, begin)):  # spaces follow
            (tmp_path / "net.safetensors").write_bytes(data[:length])
            assert refusal(tmp_path / "net.safetensors").startswith("not a safetensors file: ")

    def test_of_arrays_in_another_order_the_first_that_is_not_whole_is_named(self, tmp_path):
        data = tensors(
            {"a.last": entry(offsets=(32, 48)), "b.mid": entry(offsets=(16, 32)), "c.first": entry()}, bytes(48)
        )
        for missing, name in ((1, "a/last"), (17, "b/mid"), (48, "c/first")):
            (tmp_path / "net.safetensors").write_bytes(data[:-missing])
            assert refusal(tmp_path / "net.safetensors").startswith(f"the file is cut off within {name}: ")

    @pytest.mark.parametrize(("dtype", "bits"), [("BF16", 16), ("F8_E4M3", 8), ("F8_E5M2", 8)])
    def test_a_type_that_numpy_has_not_is_refused_with_its_array(self, tmp_path, dtype, bits):
        data = tensors({"conv.bias": entry(dtype, (4,), (0, bits // 2))}, bytes(bits // 2))
        (tmp_path / "net.safetensors").write_bytes(data)
        assert refusal(tmp_path / "net.safetensors") == f"conv/bias: expected float32, found {dtype}"

    def test_a_key_without_a_layer_is_refused(self, tmp_path):
        (tmp_path / "net.safetensors").write_bytes(tensors({"bias": entry()}, bytes(16)))
        assert refusal(tmp_path / "net.safetensors").startswith("/bias: not an array of small; ")

    def test_metadata_is_no_array(self, tmp_path):
        from safetensors.numpy import save_file

        arrays = {".".join(key): array for key, array in flat(small()).items()}
        save_file(arrays, tmp_path / "net.safetensors", metadata={"format": "np"})
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())
        data = (tmp_path / "net.safetensors").read_bytes()
        (tmp_path / "net.safetensors").write_bytes(data[:-1])
        assert "cut off within" in refusal(tmp_path / "net.safetensors")

    @pytest.mark.parametrize(
        "data",
        [
            b"\0" * 8,
            b"\xff" * 99,
            tensors(""),
            tensors("nothing"),
            tensors("{}", b"more"),
            tensors("[]"),
            tensors("3"),
            tensors("null"),
            tensors('{"conv.bias": null}'),
            tensors('{"conv.bias": 3}'),
            tensors('{"conv.bias": {}}'),
            tensors('{"conv.bias": {"data_offsets": []}}'),
            tensors("[" * 100_000),
            tensors('{"a":' * 100_000),
            tensors({"conv.bias": entry(offsets=(0, "16"))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=("0", None))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=(0, 1e999))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=(0, 2**70))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=(16, 0))}, bytes(16)),
            tensors({"conv.bias": entry(shape=(4, -1))}, bytes(16)),
            tensors({"conv.bias": entry(shape=(2**40, 2**40))}, bytes(16)),
            tensors({"conv.bias": entry(dtype="F31")}, bytes(16)),
            tensors({"conv.bias": entry(dtype=None)}, bytes(16)),
            tensors({"conv.bias": entry(), "conv.kernel": entry(offsets=(0, None))}, bytes(16)),
            tensors({"conv.bias": entry(), "conv.kernel": entry()}, bytes(16)),
            tensors({"conv.bias": entry(), "conv.kernel": entry(offsets=(8, 24))}, bytes(24)),
            tensors({"conv.bias": entry()}, bytes(17)),
            tensors({"conv\n\x1b[2J": entry(), "\n": entry(dtype="\n")}, bytes(16)),
            tensors({"__metadata__": {"a": 3}}),
        ],
        ids=itertools.count(),
    )
    def test_a_header_that_makes_no_sense_is_refused(self, tmp_path, data):
        (tmp_path / "net.safetensors").write_bytes(data)
        assert refusal(tmp_path / "net.safetensors")

    def test_a_file_with_any_wrong_byte_in_its_header_is_loaded_or_refused(self, tmp_path):
        save(small(), tmp_path / "net.safetensors")
        data = (tmp_path / "net.safetensors").read_bytes()
        for at in range(8 + int.from_bytes(data[:8], "little")):
            for byte in b'"0\xff':
                (tmp_path / "net.safetensors").write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
                try:
                    load(tmp_path / "net.safetensors", SMALL)
                except WeightsError as refused:
                    text = str(refused)
                    if not text.isprintable():
                        pytest.fail(text)
