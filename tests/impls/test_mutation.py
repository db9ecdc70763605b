"""The gate against planted faults: one layer of one adapter is bent, and the proof must see it.

The faults are those that pass every check of shapes and counts. Each is planted where the adapter interprets the row,
and judged by what `verify` and `run` ask of a Worker, against a reference that is not bent.
"""

import dataclasses
import importlib

import numpy as np
import pytest
from nets import PEERS, configured, how

from bench.controller import parity
from bench.worker.main import Worker
from bench.worker.messages import BuildNet, Verify
from bench.worker.replies import CheckKind, Output
from impls import FRAMEWORKS
from impls.layers import BatchNorm, Conv, Fc, Flatten, Lrn, Pool, Relu
from impls.variants import VARIANTS, Variant

pytestmark = pytest.mark.process

TINY = Variant(
    "tiny",
    input_size=19,
    source="",
    note="one row of every kind, and its faults in every place",
    layers=(
        Conv("conv1", 6, 5, stride=2, pad=(1, 2)),
        Relu("relu1"),
        Lrn("lrn1", radius=2, alpha=1e-4, beta=0.75, k=2.0),
        Pool("pool1", 3, stride=2, pad=(1, 1)),
        Conv("conv2", 8, 3, pad=(1, 1), groups=2),
        Relu("relu2"),
        BatchNorm("bn2", eps=1e-3, momentum=0.1),
        Pool("pool2", 2, stride=2),
        Flatten("flatten"),
        Fc("fc6", 16),
        Relu("relu6"),
        Fc("fc7", 5),
    ),
)
SHAPES = (RuntimeError, ValueError, TypeError)
SMALL = 99  # pixels: the last pool still gives 2x2 in every variant, so that a wrong flatten order shows


def operations(framework):
    """The namespace of a framework that has numpy's names, roll and transpose (torch: permute)."""
    return importlib.import_module({"jax": "jax.numpy"}.get(framework, FRAMEWORKS[framework].package))


def channels_first(framework):
    return FRAMEWORKS[framework].layouts[0] == "nchw"


def rolled(framework, x):
    """Channels moved round by half of them: with two groups, each gets the other's half."""
    axis = 1 if channels_first(framework) else 3
    return operations(framework).roll(x, x.shape[axis] // 2, axis)


def reordered(framework, x):
    """(c, h, w) where (h, w, c) is flattened; where weights are made for c, h, w, the other way round."""
    if channels_first(framework):
        return operations(framework).permute(x, (0, 2, 3, 1))
    return operations(framework).transpose(x, (0, 3, 1, 2))


def moved(pad):
    before, after = pad
    return (before + 1, after - 1) if after else (before - 1, after + 1) if before else (1, 0)


def faults(framework, layer):
    """By name: a bent layer, a bent input, or None for a layer that does nothing."""
    if isinstance(layer, Conv | Pool):
        yield "pad moved by one", dataclasses.replace(layer, pad=moved(layer.pad))
    if isinstance(layer, Conv) and layer.groups > 1:
        yield "group order swapped", lambda x: rolled(framework, x)
    if isinstance(layer, Lrn):
        size = 2 * layer.radius + 1
        yield "alpha divided once too often", dataclasses.replace(layer, alpha=layer.alpha / size)
        yield "alpha not divided", dataclasses.replace(layer, alpha=layer.alpha * size)
        yield "radius off by one", dataclasses.replace(layer, radius=layer.radius + 1)
    if isinstance(layer, BatchNorm):
        yield "momentum swapped", dataclasses.replace(layer, momentum=1 - layer.momentum)
        yield "another framework's eps", dataclasses.replace(layer, eps=1e-5)
    if isinstance(layer, Flatten):
        yield "flatten order swapped", lambda x: reordered(framework, x)
    if isinstance(layer, Relu):
        yield "ReLU dropped", None


def planted(op, name, fault):
    """The adapter's operation, bent for one row and left alone for the others."""

    def bent(x, layer, *rest):
        if layer.name != name:
            return op(x, layer, *rest)
        if fault is None:
            return x
        return op(fault(x), layer, *rest) if callable(fault) else op(x, fault, *rest)

    return bent


def caught(worker, parity_set, variant, framework):
    """Whether a build, or one of the checks within strict limits, says that something is wrong."""
    request = BuildNet(variant.name, variant.input_size, str(parity_set.folder), how(framework))
    try:
        worker.build(request)
        for output in (Output.LOGITS, Output.GRADIENTS):
            checks = worker.verify(Verify([output], thorough=False, target="reference")).checks
            if not all(check.ok for check in parity.judge(checks, parity.LIMITS["fp32"])):
                return True
    except SHAPES as error:  # a shape that no longer fits, in each framework's own words
        return any(word in str(error).lower() for word in ("shape", "size", "dimension"))
    return False


def missed(framework, variant, folder, monkeypatch):
    """Faults that nothing caught, after seeing that without one there is nothing to catch."""
    monkeypatch.setitem(VARIANTS, variant.name, variant)
    adapter, parity_set = configured(framework), parity.prepare(variant, folder, batch=2)
    worker = Worker(framework)
    worker.adapter = adapter
    assert parity_set.tie_free
    assert not caught(worker, parity_set, variant, framework)
    count, found = 0, []
    for layer in variant.layers:
        for name, fault in faults(framework, layer):
            with monkeypatch.context() as patch:
                patch.setitem(adapter.OPS, type(layer), planted(adapter.OPS[type(layer)], layer.name, fault))
                count += 1
                if not caught(worker, parity_set, variant, framework):
                    found.append(f"{layer.name}: {name}")
    assert count > len(variant.layers) / 2
    return found


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in PEERS if name != "torch"]


@pytest.mark.parametrize("framework", ["torch", *OTHERS], indirect=True)
def test_a_fault_in_any_row_of_a_small_net_is_caught(framework, tmp_path, monkeypatch):
    assert missed(framework, TINY, tmp_path, monkeypatch) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_fault_in_any_row_of_any_variant_is_caught(framework, name, tmp_path, monkeypatch):
    assert missed(framework, VARIANTS[name].resized(SMALL), tmp_path, monkeypatch) == []


def test_missing_or_unexpected_gradient_is_caught(framework, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    parity_set = parity.prepare(TINY, tmp_path, batch=2)
    worker = Worker(framework)
    worker.adapter = configured(framework)
    worker.build(BuildNet("tiny", None, str(tmp_path), how(framework)))
    found = worker.net.gradients

    def without(handles):
        loss, gradients = found(handles)
        return loss, {layer: arrays for layer, arrays in gradients.items() if layer != "fc7"}

    def beside(handles):
        loss, gradients = found(handles)
        return loss, gradients | {"input": {"images": np.zeros((2, 19, 19, 3), np.float32)}}

    for bent, words in (
        (without, ["gradient fc7/bias is missing", "gradient fc7/kernel is missing"]),
        (beside, ["gradient input/images is not one of a parameter"]),
    ):
        worker.net.gradients = bent
        verified = worker.verify(Verify([Output.GRADIENTS], thorough=True, target="reference"))
        checks = parity.judge(verified.checks, parity_set.proofs(2, "fp32")[0].limits)
        assert [check.what for check in checks if not check.ok and check.kind == CheckKind.GRADIENT] == words
