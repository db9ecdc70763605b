"""Canonical weights: their values, the files that they are read from, and the files that Workers map."""

import os
import pickle
import sys

import numpy as np
import pytest
from arrays import flat
from small_weights import ARRAYS, PLAIN, SMALL, assert_bit_for_bit, bad, changed, needs, refusal, small, without

from impls.layers import BatchNorm, Conv, Fc, Flatten
from impls.variants import Variant
from impls.weights import WeightsError, check, initial, map_shared, save, write_shared

CONV, GROUPED = Conv("conv", 2000, 5, pad=(2, 2)), Conv("grouped", 20, 3, stride=8, pad=(1, 1), groups=4)
ROWS = (CONV, BatchNorm("bn", eps=1e-3, momentum=0.1), GROUPED, Flatten("flatten"), Fc("fc", 2000))
NET = Variant("net", input_size=8, source="", note="", layers=ROWS)
DOCUMENTED = {  # shape, mean, stddev
    "conv/kernel": ((5, 5, 3, 2000), 0, np.sqrt(2 / (5 * 5 * 3))),
    "conv/bias": ((2000,), 0, 0.05),
    "bn/gamma": ((2000,), 1, 0.1),
    "bn/beta": ((2000,), 0, 0.1),
    "bn/moving_mean": ((2000,), 0, 0.1),
    "bn/moving_variance": ((2000,), 1, np.sqrt(1 / 12)),
    "grouped/kernel": ((3, 3, 500, 20), 0, np.sqrt(2 / (3 * 3 * 500))),
    "grouped/bias": ((20,), 0, 0.05),
    "fc/kernel": ((20, 2000), 0, np.sqrt(2 / 20)),
    "fc/bias": ((2000,), 0, 0.05),
}

WEIGHTS = flat(initial(NET, seed=0))


def test_every_trainable_and_moving_array_is_there_and_no_other():
    assert WEIGHTS.keys() == DOCUMENTED.keys()


@pytest.mark.parametrize("key", DOCUMENTED)
def test_an_array_is_float32_with_its_documented_shape_and_moments(key):
    array, (shape, mean, stddev) = WEIGHTS[key], DOCUMENTED[key]
    assert (array.shape, array.dtype) == (shape, np.float32)
    error = stddev / np.sqrt(array.size)
    assert abs(array.mean(dtype=np.float64) - mean) < 4 * error
    assert abs(array.std(dtype=np.float64) - stddev) < 4 * error


def test_a_moving_variance_lies_between_a_half_and_one_and_a_half():
    variance = WEIGHTS["bn/moving_variance"]
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
    np.testing.assert_allclose(WEIGHTS["conv/kernel"], kernel * np.sqrt(2 / 75), rtol=1e-6)
    np.testing.assert_allclose(WEIGHTS["conv/bias"], bias * 0.05, rtol=1e-6)


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
    def test_safetensors_file_of_wrong_arrays_is_refused_in_the_same_words(self, tmp_path, what):
        weights, why = WRONG[what]
        save(weights(), tmp_path / "net.safetensors")
        (tmp_path / "net.safetensors").touch()
        assert refusal(tmp_path / "net.safetensors") == why

    @pytest.mark.parametrize("what", [what for what, (_, why) in WRONG.items() if why[:2] in ("co", "fc")])
    def test_caffe_file_of_wrong_arrays_is_refused_in_the_same_words(self, tmp_path, what):
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
    def test_without_safetensors_the_error_says_how_to_install_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors", None)
        monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
        (tmp_path / "net.safetensors").touch()
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
        says = "expected a .npy file in Caffe's layout, a .safetensors file, or torchvision's .pth"
        assert refusal(tmp_path / name) == says

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
