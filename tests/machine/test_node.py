"""What a node's program gives a Worker of its own."""

import os

import pytest

from bench.machine import node

HERE = {"CUDA_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "2,3", "ZE_AFFINITY_MASK": "1", "OMP_NUM_THREADS": "9"}


@pytest.mark.parametrize(
    ("env", "given"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"}),
        ({}, {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"}),
        ({"CUDA_VISIBLE_DEVICES": ""}, {"ZE_AFFINITY_MASK"}),  # of a Worker of another kind
    ],
)
def test_a_worker_has_the_devices_that_its_node_was_given_unless_they_are_hidden(env, given, monkeypatch):
    monkeypatch.setattr(os, "environ", HERE)
    assert node.devices_given(env) == {name: HERE[name] for name in given}
