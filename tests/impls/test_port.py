"""What is read of models for a comparison: calls of layers, and names."""

from types import SimpleNamespace

import numpy as np
import pytest

from impls.port import Recorder, named_in, shaken, unique


def test_a_flat_input_may_come_from_an_earlier_output_or_from_one_that_a_function_pooled():
    recorder = Recorder(np.array)
    recorder.end(None, [np.zeros((2, 3, 4, 5))])
    recorder.end(None, [np.zeros((2, 6, 9, 9))])
    recorder.end(None, [SimpleNamespace(shape=(None, 3, None, None))])
    recorder.begin("exact", [np.zeros((2, 60))])
    recorder.begin("pooled", [np.zeros((2, 6 * 4 * 4))])
    recorder.begin("neither", [np.zeros((2, 7))])
    assert recorder.begun["exact"].grids == [(3, 4, 5)]
    assert recorder.begun["pooled"].grids == [(6, 4, 4)]
    assert recorder.begun["neither"].grids == []


def test_only_the_first_call_of_a_layer_is_kept():
    recorder = Recorder(np.array)
    for call in (1.0, 2.0):
        recorder.begin("layer", [np.full(3, call)])
        recorder.before_activation("layer", np.full(3, -call))
        recorder.end("layer", [np.full(3, 10 * call)])
    (call,) = recorder.calls
    assert call.input.tolist() == [1.0] * 3
    assert [output.tolist() for output in call.outputs] == [[-1.0] * 3, [10.0] * 3]


def test_tensors_are_named_by_keys_and_places():
    assert dict(named_in({"b": 1, "a": [2, {"c": 3}], "d": "none"}, int)) == {"b": 1, "a/0": 2, "a/1/c": 3}
    assert dict(named_in(4, int)) == {"": 4}


def test_names_that_are_there_twice_are_counted():
    assert unique(["w", "b", "w", "w"]) == ["w", "b", "w#2", "w#3"]


def test_integers_are_not_changed_by_rounding():
    assert np.array_equal(shaken(np.arange(3), 0.5), np.arange(3))
    assert 0 < np.abs(shaken(np.ones(9, np.float32), 1e-3) - 1).max() < 5e-3


@pytest.mark.process
def test_parameters_of_a_jax_layer_are_in_the_order_of_other_frameworks():
    """Not by the alphabet, by which a bias of the same shape would be paired with a scale."""
    jax_port = pytest.importorskip("impls.jax_port", exc_type=ImportError)
    ones = np.ones(2, np.float32)
    tree = {"norm": {"bias": ones, "scale": ones}, "dense": {"bias": ones, "kernel": np.ones((2, 2), np.float32)}}
    net = SimpleNamespace(model=(None, None), params=tree, state={})
    names = [parameter.name for parameter, _ in jax_port.parameters(net)]
    assert names == ["dense/kernel", "dense/bias", "norm/scale", "norm/bias"]
