"""Initial weights for training: their distributions, and that they depend on the seed alone."""

import math

import numpy as np
import pytest
from arrays import assert_same_bits, flat

from impls.inits import INITS
from impls.variants import HALF_WIDTH, KERAS_BN
from impls.weights import check

NET = HALF_WIDTH.resized(99)
FAN_IN = {"conv1": 11 * 11 * 3, "conv2": 5 * 5 * 48, "fc7": 2048}


@pytest.mark.parametrize("name", INITS)
def test_are_weights_of_the_variant_and_depend_on_the_seed(name):
    drawn = INITS[name](NET, 0)
    check(drawn, NET, name)
    assert_same_bits(flat(INITS[name](NET, 0), "."), flat(drawn, "."))
    assert not np.array_equal(INITS[name](NET, 1)["fc9"]["kernel"], drawn["fc9"]["kernel"])


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("fan_in", lambda fan: 1 / math.sqrt(fan)),
        ("he", lambda fan: math.sqrt(2 / fan)),
        ("paper", lambda fan: 0.01),
        ("torch", lambda fan: 1 / math.sqrt(3 * fan)),
    ],
)
def test_kernels_have_the_stated_deviation(name, deviation):
    drawn = INITS[name](NET, 0)
    for layer, fan in FAN_IN.items():
        kernel = drawn[layer]["kernel"]
        assert abs(kernel.std() / deviation(fan) - 1) < 0.03
        assert abs(kernel.mean()) < 5 * deviation(fan) / math.sqrt(kernel.size)


def test_biases_are_those_of_each_source():
    assert all(not arrays["bias"].any() for arrays in INITS["fan_in"](NET, 0).values())
    of_one = {layer for layer, arrays in INITS["paper"](NET, 0).items() if (arrays["bias"] == 1).all()}
    assert of_one == {"conv2", "conv4", "conv5", "fc6", "fc7", "fc8"}
    bias, bound = INITS["torch"](NET, 0)["fc7"]["bias"], 1 / math.sqrt(2048)
    assert 0.95 * bound < np.abs(bias).max() <= bound


def test_batch_norm_begins_as_the_identity():
    arrays = INITS["fan_in"](KERAS_BN.resized(99), 0)["bn1"]
    assert {name: set(array.tolist()) for name, array in arrays.items()} == {
        "gamma": {1.0},
        "beta": {0.0},
        "moving_mean": {0.0},
        "moving_variance": {1.0},
    }
