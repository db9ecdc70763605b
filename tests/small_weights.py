"""Weights of a small net, ways to spoil them, and why a file of them is refused."""

import numpy as np
import pytest
from arrays import assert_same_bits, flat

from impls.layers import BatchNorm, Conv, Fc, Flatten
from impls.variants import Variant
from impls.weights import WeightsError, initial, load

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
    assert_same_bits(flat(found), flat(expected), "<f4")
    assert all(array.flags.c_contiguous for array in flat(found).values())


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
