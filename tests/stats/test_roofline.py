"""What a row has to compute and to move, by hand; and from which batch a made-up machine turns to computing."""

import pytest

from bench.stats.roofline import NOTHING, Work, attainable, bound, net_work, ridge, turning_batch, work
from impls.layers import BatchNorm, Conv, Dropout, Flatten, Pool, Relu, place
from impls.variants import OWT, TUTORIAL, Variant, variant_named

CONV1 = OWT.placed()[0]
CONV1_MACS = 55 * 55 * 64 * 11 * 11 * 3
IMAGES, OUTPUT, PARAMS = 224 * 224 * 3, 55 * 55 * 64, 11 * 11 * 3 * 64 + 64
OWT_RELUS = 55 * 55 * 64 + 27 * 27 * 192 + 13 * 13 * (384 + 256 + 256) + 2 * 4096
OWT_POOLS = 27 * 27 * 64 + 13 * 13 * 192 + 6 * 6 * 256
MADE_UP = Variant("made_up", 5, "by hand", "", (Conv("conv", 10, 5),), channels=2)


def test_the_first_row_of_owt_computes_and_moves_what_a_hand_count_says():
    assert CONV1_MACS == 70_276_800
    assert work(CONV1, 1, "forward", input_gradient=False) == Work(2 * CONV1_MACS, 4 * 367_424)
    assert IMAGES + OUTPUT + PARAMS == 367_424


def test_the_params_are_moved_once_a_batch_and_the_images_each():
    assert work(CONV1, 32, "forward", input_gradient=False).bytes == 4 * (32 * (IMAGES + OUTPUT) + PARAMS)


def test_half_the_width_moves_half_and_computes_as_much():
    assert work(CONV1, 8, "forward", input_gradient=False, width=2).bytes == 2 * (8 * (IMAGES + OUTPUT) + PARAMS)
    assert net_work(OWT, 8, "forward", width=2).intensity == 2 * net_work(OWT, 8, "forward").intensity


def test_backward_without_an_input_gradient_reads_and_writes_less():
    first = work(CONV1, 2, "backward", input_gradient=False)
    assert first == Work(2 * 2 * CONV1_MACS, 4 * (2 * (OUTPUT + IMAGES) + PARAMS))
    inner = work(CONV1, 2, "backward", input_gradient=True)
    assert inner == Work(4 * 2 * CONV1_MACS, 4 * (2 * (OUTPUT + 2 * IMAGES) + 2 * PARAMS))


def test_work_of_forward_backward_is_the_sum_of_both():
    forward, backward = (work(CONV1, 3, one, input_gradient=True) for one in ("forward", "backward"))
    assert work(CONV1, 3, "forward_backward", input_gradient=True) == forward + backward


def test_a_light_row_has_a_place_too():
    relu, pool = place([Relu("relu"), Pool("pool", 3, stride=2)], (7, 7, 2))
    assert work(relu, 10, "forward", input_gradient=True) == Work(10 * 98, 4 * 10 * 196)
    assert work(relu, 10, "backward", input_gradient=True) == Work(10 * 98, 4 * 10 * 3 * 98)
    assert work(pool, 1, "forward", input_gradient=True) == Work(8 * 18, 4 * (98 + 18))
    assert work(pool, 1, "backward", input_gradient=True) == Work(18, 4 * (18 + 98 + 98))


def test_batch_norm_reads_its_moving_statistics():
    (bn,) = place([BatchNorm("bn", eps=1e-3, momentum=0.1)], (2, 3, 4))
    assert work(bn, 1, "forward", input_gradient=True).bytes == 4 * (24 + 24 + 8 + 8)


@pytest.mark.parametrize("pass_", ["forward", "backward", "forward_backward"])
def test_a_row_that_computes_nothing_moves_nothing(pass_):
    for placed in place([Dropout("drop", 0.5), Flatten("flatten")], (2, 3, 4)):
        assert work(placed, 4, pass_, input_gradient=True) == NOTHING
    assert NOTHING.intensity == 0


def test_an_unknown_pass_says_which_there_are():
    with pytest.raises(ValueError, match="unknown pass 'training': expected forward, backward, forward_backward"):
        work(CONV1, 1, "training", input_gradient=False)


def test_the_whole_of_owt_is_twice_its_macs_and_the_light_rows():
    assert net_work(OWT, 1, "forward").flop == 2 * 714_188_480 + OWT_RELUS + 8 * OWT_POOLS
    both = net_work(OWT, 1, "forward_backward").flop
    assert both == 2 * 2_072_288_640 + 2 * OWT_RELUS + 9 * OWT_POOLS


@pytest.mark.parametrize("variant", [OWT, TUTORIAL])
def test_a_net_has_as_many_macs_in_its_work_as_it_says(variant):
    light = sum(placed.flop + placed.backward_flop() for placed in variant.placed() if not placed.macs)
    assert net_work(variant, 1, "forward_backward").flop == 2 * (variant.macs + variant.backward_macs) + light


def test_no_row_up_to_the_first_with_params_has_an_input_gradient():
    net = Variant("late", 5, "by hand", "", (Relu("relu1"), Pool("pool1", 3, 2), Conv("conv1", 4, 1), Relu("relu2")))
    *_, conv1, relu2 = net.placed()
    first, second = work(conv1, 2, "backward", input_gradient=False), work(relu2, 2, "backward", input_gradient=True)
    assert net_work(net, 2, "backward") == first + second


def test_a_row_that_is_asked_for_its_input_gradient_alone_has_it_in_its_work():
    (conv2,) = variant_named("owt.conv2").placed()
    assert net_work(variant_named("owt.conv2"), 4, "backward") == work(conv2, 4, "backward", input_gradient=True)
    assert net_work(variant_named("owt.conv1"), 4, "backward") == work(CONV1, 4, "backward", input_gradient=False)


def test_the_time_at_best_is_the_longer_of_computing_and_moving():
    assert ridge(100.0, 10.0) == 10
    assert attainable(Work(2e9, 1e8), 100.0, 10.0) == 20.0  # ms: 2 GFLOP at 100 GFLOP/s, beside 10 ms of moving
    assert attainable(Work(1e8, 1e8), 100.0, 10.0) == 10.0
    assert [bound(Work(flop, 1e8), 100.0, 10.0) for flop in (2e9, 1e9, 9e8)] == ["compute", "compute", "memory"]


def test_the_turning_batch_is_the_first_whose_intensity_reaches_the_ridge():
    # values: 50 in, 10 out, 510 params; so intensity(batch) = 1000 batch / (4 * (60 batch + 510))
    assert net_work(MADE_UP, 1, "forward") == Work(1000, 4 * 570)
    for top, batch in ((1000 / 2280, 1), (1000 / 2280 + 1e-6, 2), (3.0, 22), (1000 / 240, None)):
        assert turning_batch(MADE_UP, "forward", top, 1.0) == batch
    assert turning_batch(MADE_UP, "forward", 30.0, 10.0) == 22


def test_the_turning_batch_ends_at_the_largest():
    at_the_end = net_work(MADE_UP, 4096, "forward").intensity
    assert turning_batch(MADE_UP, "forward", at_the_end, 1.0) == 4096
    assert turning_batch(MADE_UP, "forward", at_the_end * 1.000001, 1.0) is None


def test_narrower_values_turn_earlier():
    assert turning_batch(OWT, "forward", 100, 1) == 48
    assert turning_batch(OWT, "forward", 100, 1, width=2) < 48
