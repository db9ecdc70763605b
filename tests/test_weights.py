"""Canonical weights: their values, and the files that Workers map."""

import numpy as np
import pytest

from impls.layers import BatchNorm, Conv, Fc, Flatten
from impls.variants import Variant
from impls.weights import initial, share, shared

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
    share(initial(NET), tmp_path / "run" / "weights")
    mapped = flat(shared(tmp_path / "run" / "weights"))
    assert mapped.keys() == WEIGHTS.keys()
    for key, array in WEIGHTS.items():
        assert isinstance(mapped[key], np.memmap)
        assert mapped[key].dtype == np.float32
        assert np.array_equal(mapped[key], array)
        with pytest.raises(ValueError, match="read-only"):
            mapped[key][...] = 0
