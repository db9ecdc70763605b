"""Bytes that a pass needs, of nets whose arrays can be counted by hand."""

import pytest

from bench.stats.footprint import footprint
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Pool, Relu
from impls.variants import VARIANTS, Variant

#: 8 x 8 x 3 images; conv 8 x 8 x 4, ReLU, pool 4 x 4 x 4, flatten 64, dense 10.
LAYERS = (
    *(Conv("conv1", 4, 3, pad=(1, 1)), Relu("relu1"), Pool("pool1", 2, 2)),
    *(Flatten("flatten"), Dropout("dropout", 0.5), Fc("fc2", 10)),
)
NET = Variant("tiny", 8, "none", "none", LAYERS)
PARAMS = 3 * 3 * 3 * 4 + 4 + 64 * 10 + 10
IMAGES = 4 * 2 * 5 * 8 * 8 * 3


def test_a_training_pass_keeps_each_array_that_its_backward_pass_reads_once():
    counted = footprint(NET, 5, "forward_backward", "fp32")
    relu, pool = 8 * 8 * 4, 4 * 4 * 4  # the ReLU's output is the pool's input; the pool's output is fc2's input
    assert counted.activations == 4 * 5 * (relu + pool)
    assert (counted.params, counted.gradients, counted.velocity) == (4 * PARAMS, 4 * PARAMS, 0)
    assert counted.images == IMAGES
    assert counted.total == 8 * PARAMS + IMAGES + 4 * 5 * (relu + pool)


@pytest.mark.parametrize(("pass_", "arrays"), [("forward", 1), ("forward_backward", 1), ("train_step", 2)])
@pytest.mark.parametrize("steps", [False, True])
def test_the_least_is_what_a_pass_reads_whichever_framework_and_order(pass_, arrays, steps):
    """A gradient may be dropped once its parameter is updated, and between passes; velocities are made by the first
    training step, which other passes may come before."""
    for precision in ("fp32", "bf16"):
        assert footprint(NET, 5, pass_, precision, steps=steps).least == 4 * arrays * PARAMS + IMAGES / 2


def test_forward_holds_the_widest_layer_and_no_gradients():
    counted = footprint(NET, 5, "forward", "fp32")
    assert counted.activations == 4 * 5 * (256 + 256)
    assert (counted.gradients, counted.velocity) == (0, 0)


def test_a_training_step_holds_velocities_and_its_worker_keeps_them():
    assert footprint(NET, 5, "train_step", "fp32").velocity == 4 * PARAMS
    stepping = footprint(NET, 5, "forward", "fp32", steps=True)
    assert (stepping.gradients, stepping.velocity) == (4 * PARAMS, 4 * PARAMS)


def test_in_bf16_activations_are_half_and_parameters_are_there_twice():
    fp32, bf16 = (footprint(NET, 5, "forward_backward", precision) for precision in ("fp32", "bf16"))
    assert bf16.activations == fp32.activations / 2 + 2 * PARAMS
    assert (bf16.params, bf16.gradients, bf16.images) == (fp32.params, fp32.gradients, fp32.images)
    assert footprint(NET, 5, "forward_backward", "tf32") == fp32


def test_a_pool_keeps_its_output_also_where_no_layer_reads_it():
    layers = (Conv("conv1", 4, 3, pad=(1, 1)), Pool("pool1", 2, 2), Relu("relu1"))
    counted = footprint(Variant("tiny", 8, "none", "none", layers), 1, "forward_backward", "fp32")
    assert counted.activations == 4 * (256 + 64 + 64)


def test_lrn_and_batch_norm_keep_their_inputs_and_statistics_are_params():
    layers = (Conv("conv1", 4, 3, pad=(1, 1)), Lrn("lrn1", 2, 1e-4, 0.75, 1.0), BatchNorm("bn1", 1e-3, 0.1), Relu("r"))
    counted = footprint(Variant("tiny", 8, "none", "none", layers), 1, "forward_backward", "fp32")
    assert counted.activations == 4 * 3 * 256  # before LRN, before BatchNorm, after the ReLU
    assert counted.params == 4 * (3 * 3 * 3 * 4 + 4 + 4 * 4)


@pytest.mark.parametrize("name", VARIANTS)
def test_activations_grow_with_the_batch_and_params_do_not(name):
    small, large = (footprint(VARIANTS[name], batch, "forward_backward", "fp32") for batch in (3, 30))
    assert large.activations == 10 * small.activations
    assert (large.params, large.gradients) == (small.params, small.gradients)
