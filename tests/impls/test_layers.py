"""Layer arithmetic; no framework needed."""

import pytest

from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, LayerError, Lrn, Pool, Relu, place

ARITHMETIC = [  # row, input, output, params, state, MACs
    (Conv("x", 6, 5, pad=(2, 2)), (4, 5, 3), (4, 5, 6), 5 * 5 * 3 * 6 + 6, 0, 4 * 5 * 6 * 5 * 5 * 3),
    (
        Conv("x", 8, 3, stride=2, pad=(0, 1), groups=2),
        (7, 10, 4),
        (3, 5, 8),
        3 * 3 * 2 * 8 + 8,
        0,
        3 * 5 * 8 * 3 * 3 * 2,
    ),
    (Conv("x", 1, 11, stride=4, pad=(3, 4)), (224, 223, 3), (56, 55, 1), 364, 0, 56 * 55 * 363),
    (Conv("x", 1, 11, pad=(3, 4)), (4, 4, 3), (1, 1, 1), 364, 0, 363),  # a window as large as its padded input fits
    (Pool("x", 3, stride=2), (6, 9, 5), (2, 4, 5), 0, 0, 0),
    (Pool("x", 3, stride=2, pad=(1, 1)), (13, 14, 2), (7, 7, 2), 0, 0, 0),
    (Pool("x", 3, stride=2, pad=(0, 1)), (13, 14, 2), (6, 7, 2), 0, 0, 0),
    (BatchNorm("x", eps=1e-3, momentum=0.1), (2, 3, 4), (2, 3, 4), 8, 8, 0),
    (Lrn("x", radius=2, alpha=1e-4, beta=0.75, k=2.0), (2, 3, 4), (2, 3, 4), 0, 0, 0),
    (Relu("x"), (2, 3, 4), (2, 3, 4), 0, 0, 0),
    (Dropout("x", 0.5), (2, 3, 4), (2, 3, 4), 0, 0, 0),
    (Flatten("x"), (2, 3, 4), (1, 1, 24), 0, 0, 0),
    (Fc("x", 10), (1, 1, 24), (1, 1, 10), 250, 0, 240),
]
FLOP = [  # row, input, forward, backward, backward without the input's gradient; a (2, 3, 4) has 24 values
    (Conv("x", 6, 5, pad=(2, 2)), (4, 5, 3), 2 * 9000, 4 * 9000, 2 * 9000),
    (Fc("x", 10), (1, 1, 24), 480, 960, 480),
    (Relu("x"), (2, 3, 4), 24, 24, 0),
    (Lrn("x", radius=2, alpha=1e-4, beta=0.75, k=2.0), (2, 3, 4), 24 * 9, 24 * 10, 0),
    (Lrn("x", radius=5, alpha=1e-4, beta=0.75, k=2.0), (2, 3, 4), 24 * 15, 24 * 16, 0),
    (Pool("x", 3, stride=2), (6, 9, 5), 40 * 8, 40, 0),
    (Pool("x", 2, stride=2), (6, 8, 5), 60 * 3, 60, 0),
    (BatchNorm("x", eps=1e-3, momentum=0.1), (2, 3, 4), 24 * 4, 24 * 9, 24 * 5),
    (Dropout("x", 0.5), (2, 3, 4), 0, 0, 0),
    (Flatten("x"), (2, 3, 4), 0, 0, 0),
]
ERRORS = [
    (
        *(Conv("conv2", 256, 5, groups=2), (27, 27, 95)),
        "conv2: in_channels (=95) must be divisible by groups (=2); check the row in impls/variants.py",
    ),
    (
        *(Conv("conv4", 255, 3, groups=2), (13, 13, 96)),
        "conv4: filters (=255) must be divisible by groups (=2); check the row in impls/variants.py",
    ),
    (
        *(Conv("conv1", 64, 11, pad=(3, 4)), (11, 3, 3)),
        "conv1: a 11x11 window needs at least 11 pixels, found 10; choose a larger input size",
    ),
    (
        *(Pool("pool5", 3, stride=2), (2, 2, 256)),
        "pool5: a 3x3 window needs at least 3 pixels, found 2; choose a larger input size",
    ),
    (*(Fc("fc6", 10), (1, 6, 256)), "fc6: expected a flat input, found (1, 6, 256); put a Flatten row before it"),
]


@pytest.mark.parametrize(("row", "shape", "output", "params", "state", "macs"), ARITHMETIC, ids=str)
def test_a_row_has_its_shape_params_state_and_macs(row, shape, output, params, state, macs):
    (placed,) = place([row], shape)
    assert (placed.output, placed.params, placed.state, placed.macs) == (output, params, state, macs)


@pytest.mark.parametrize(("row", "shape", "forward", "backward", "without"), FLOP, ids=str)
def test_a_row_has_its_operations_forward_and_backward(row, shape, forward, backward, without):
    (placed,) = place([row], shape)
    found = placed.flop, placed.backward_flop(), placed.backward_flop(input_gradient=False)
    assert found == (forward, backward, without)


def test_each_row_reads_what_the_row_before_it_wrote():
    placed = place([Conv("conv", 4, 3), Flatten("flatten"), Fc("fc", 2)], (5, 6, 3))
    assert [(it.input, it.output) for it in placed] == [
        ((5, 6, 3), (3, 4, 4)),
        ((3, 4, 4), (1, 1, 48)),
        ((1, 1, 48), (1, 1, 2)),
    ]


@pytest.mark.parametrize(("row", "shape", "message"), ERRORS, ids=str)
def test_layer_that_does_not_fit_its_input_says_what_to_do(row, shape, message):
    with pytest.raises(LayerError) as caught:
        place([row], shape)
    assert str(caught.value) == message
