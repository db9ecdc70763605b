"""The eight nets against witnesses from outside: tests/data/layers.csv and the published totals."""

import csv
import dataclasses
import math

import pytest
from paths import ROOT

from impls.layers import BatchNorm, Conv, Dropout, LayerError, Lrn, Pool, Relu
from impls.variants import VARIANTS, Variant

WITNESS = list(csv.DictReader((ROOT / "tests/data/layers.csv").read_text().splitlines()))
TOTALS = {  # trainable params, MACs of one image's forward pass
    "tutorial": (74_732_328, 730_398_720),
    "caffenet": (60_965_224, 724_406_816),
    "bvlc": (60_965_224, 724_406_816),
    "original": (60_965_224, 724_406_816),
    "single_tower": (62_378_344, 1_135_256_096),
    "keras_bn": (46_846_040, 1_005_948_032),
    "half_width": (16_635_445, 787_725_464),
    "owt": (61_100_840, 714_188_480),
}
NET = Variant("net", input_size=8, source="", note="", layers=(Conv("conv", 4, 3), Relu("relu"), Conv("last", 2, 1)))


def test_the_witness_and_the_totals_are_of_every_variant_and_of_no_other():
    assert {row["variant"] for row in WITNESS} == TOTALS.keys() == VARIANTS.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_row_is_the_published_one_in_the_published_order(name):
    ours = [
        (name, it.layer.name, it.layer.kind, *it.output, it.params, it.state, it.macs) for it in VARIANTS[name].placed()
    ]
    columns = ("variant", "layer", "kind", "height", "width", "channels", "params", "state", "macs")
    published = [tuple(row[column] for column in columns) for row in WITNESS if row["variant"] == name]
    assert [tuple(map(str, row)) for row in ours] == published


@pytest.mark.parametrize("name", VARIANTS)
def test_the_totals_are_the_published_ones(name):
    assert (VARIANTS[name].params, VARIANTS[name].macs) == TOTALS[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_one_pixel_below_the_least_size_a_window_does_not_fit(name):
    least = VARIANTS[name].least_size
    assert VARIANTS[name].resized(least).placed()
    with pytest.raises(LayerError):
        VARIANTS[name].resized(least - 1).placed()


def test_keras_bn_has_the_total_of_its_articles_summary():
    assert sum(placed.params + placed.state for placed in VARIANTS["keras_bn"].placed()) == 46_846_744


def test_settings_that_no_shape_shows_are_as_published():
    lrn = {"tutorial": (5, 0.001 / 9, 0.75, 1.0), "original": (2, 1e-4, 0.75, 2.0)}  # radius, alpha, beta, k
    lrn |= dict.fromkeys(("caffenet", "bvlc"), (2, 2e-5, 0.75, 1.0))
    for name, variant in VARIANTS.items():
        rows = [row for row in variant.layers if isinstance(row, Lrn)]
        assert (
            [(row.radius, row.alpha, row.beta, row.k) for row in rows] == [lrn[name]] * 2 if name in lrn else not rows
        )
        assert {(row.eps, row.momentum) for row in variant.layers if isinstance(row, BatchNorm)} <= {(1e-3, 0.1)}
        assert {row.rate for row in variant.layers if isinstance(row, Dropout)} <= {0.5}


@pytest.mark.parametrize("name", ["conv1", "conv2", "conv3", "conv4", "conv5", "pool5"])
def test_tutorial_pads_as_tensorflows_same_does(name):
    placed = next(placed for placed in VARIANTS["tutorial"].placed() if placed.layer.name == name)
    pixels, row = placed.input[0], placed.layer
    total = max((math.ceil(pixels / row.stride) - 1) * row.stride + row.kernel - pixels, 0)
    assert row.pad == (total // 2, total - total // 2)  # the odd pixel last


def test_backward_is_twice_forward_less_the_gradient_of_the_images():
    assert VARIANTS["owt"].macs + VARIANTS["owt"].backward_macs == 2_072_288_640
    first, last = 6 * 6 * 4 * 27, 6 * 6 * 2 * 4
    assert (NET.macs, NET.backward_macs) == (first + last, first + 2 * last)


def test_the_hash_is_of_the_rows_and_the_input_size():
    conv, relu, last = NET.layers
    rows = [(conv, relu), (relu, conv, last), (Conv("conv", 4, 3, pad=(0, 1)), relu, last)]
    changed = [NET.resized(9), *(dataclasses.replace(NET, layers=layers) for layers in rows)]
    assert len({variant.hash for variant in (NET, *changed, *VARIANTS.values())}) == 5 + len(VARIANTS)


def test_the_hash_is_not_of_the_name_the_source_or_the_note():
    assert dataclasses.replace(NET, name="other", source="other", note="other").hash == NET.hash == NET.resized(8).hash


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_its_name_a_source_a_one_line_note_and_unique_layer_names(name):
    variant = VARIANTS[name]
    assert variant.name == name
    assert variant.source
    assert variant.note
    assert "\n" not in variant.note
    assert len({layer.name for layer in variant.layers}) == len(variant.layers)


class TestPoolsThatRoundUp:
    """Caffe's: what is left over gets a window, unless that would begin beyond the input and its first pad."""

    @pytest.mark.parametrize(
        ("pool", "pixels", "output", "pads"),
        [
            (Pool("pool", 3, 2), 54, 26, (0, 0)),
            (Pool("pool", 3, 2, ceil=True), 54, 27, (0, 1)),
            (Pool("pool", 3, 2, ceil=True), 55, 27, (0, 0)),
            (Pool("pool", 2, 2, ceil=True), 7, 4, (0, 1)),
            (Pool("pool", 2, 3, ceil=True), 7, 3, (0, 1)),
            (Pool("pool", 2, 3, ceil=True), 6, 2, (0, 0)),  # a third window would begin at pixel 6
            (Pool("pool", 3, 2, pad=(1, 1), ceil=True), 6, 4, (1, 2)),
            (Pool("pool", 2, 2, pad=(1, 1), ceil=True), 5, 3, (1, 1)),  # a fourth would begin in the last pad
        ],
    )
    def test_output_and_pads(self, pool, pixels, output, pads):
        assert pool.output((pixels, pixels, 3)) == (output, output, 3)
        assert pool.pads(pixels) == pads

    @pytest.mark.parametrize("name", ["bvlc", "caffenet"])
    def test_caffes_nets_at_224_pixels_are_caffes(self, name):
        net = VARIANTS[name].resized(224)
        published = {row["layer"]: row for row in csv.DictReader((ROOT / "tests/data/bvlc_224.csv").open())}
        for placed in net.placed():
            if row := published.pop(placed.layer.name, None):
                facts = (*placed.output, placed.params, placed.macs)
                assert [str(fact) for fact in facts] == list(row.values())[1:], placed.layer.name
        assert not published
        assert (net.params, net.macs) == (60_965_224, 720_608_384)

    def test_a_net_in_which_nothing_is_left_over_is_the_same_net(self):
        for name in ("bvlc", "caffenet"):
            net = VARIANTS[name]
            layers = tuple(
                dataclasses.replace(layer, ceil=False) if isinstance(layer, Pool) else layer for layer in net.layers
            )
            down = dataclasses.replace(net, layers=layers)
            assert net.hash == down.hash
            assert net.resized(224).hash != down.resized(224).hash

    def test_only_caffes_nets_round_up(self):
        rounding = {
            name for name, net in VARIANTS.items() for layer in net.layers if isinstance(layer, Pool) and layer.ceil
        }
        assert rounding == {"bvlc", "caffenet"}
