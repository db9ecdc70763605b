"""Logits of stored pictures: each is that of its picture alone, whatever the batch."""

import dataclasses

import numpy as np
import pytest
from nets import configured
from training import NET, WITH_BN

from bench.worker.evaluator import logits
from impls import reference
from impls.net import Build
from impls.preprocessing import PREPROCESSINGS
from impls.weights import initial

pytestmark = pytest.mark.process
PLAIN = PREPROCESSINGS["plain"].at(NET.input_size)
PICTURES = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (10, PLAIN.side, PLAIN.side, 3), np.uint8)
ROWS = [0, 5, 9, 2, 7]


def net(batch, variant=WITH_BN, framework="torch"):
    mode = {"torch": ("eager", "nchw"), "tensorflow": ("graph", "nhwc"), "jax": ("jit", "nhwc")}[framework]
    return configured(framework).build(variant, initial(variant), Build(batch, "cpu", "fp32", *mode, dropout=True))


def test_logits_of_a_short_last_batch_are_those_of_each_picture_alone():
    whole = logits(net(4), 4, PICTURES, ROWS, PLAIN)
    assert whole.shape == (5, 1, WITH_BN.classes)
    alone = net(1)
    each = [logits(alone, 1, PICTURES, [row], PLAIN)[0] for row in ROWS]
    np.testing.assert_allclose(whole, each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "jax"])
def test_logits_are_those_of_the_float64_reference_without_dropout(framework):
    found = logits(net(4, NET, framework), 4, PICTURES, ROWS, PLAIN)[:, 0]
    weights = {layer: {n: a.astype(np.float64) for n, a in its.items()} for layer, its in initial(NET).items()}
    images = PLAIN.normalized(np.stack([PLAIN.views(PICTURES[row])[0] for row in ROWS])).astype(np.float64)
    wanted = reference.forward(NET, weights, images, training=False).logits
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_ten_crops_are_each_a_picture_of_its_own_across_batches():
    ten = dataclasses.replace(PLAIN, crops=10)
    whole = logits(net(4), 4, PICTURES, [3, 8], ten)
    assert whole.shape == (2, 10, WITH_BN.classes)
    alone = net(1)
    flipped = PICTURES[[3, 8], :, ::-1]
    np.testing.assert_allclose(whole[:, 4], logits(alone, 1, PICTURES, [3, 8], PLAIN)[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        whole[0, 5:], logits(net(4), 4, flipped, [0], ten)[0, [1, 0, 3, 2, 4]], rtol=1e-4, atol=1e-5
    )
