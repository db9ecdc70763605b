"""The rows that each rank of a shared net computes, and what it sends."""

import dataclasses

import numpy as np
import pytest

from impls.layers import BatchNorm, Conv, Fc, Lrn
from impls.splits import HYBRID, TOWERS, Exchange, NoSuchSplit, OwnImages, part_of
from impls.variants import VARIANTS
from impls.weights import initial

ORIGINAL, OWT = VARIANTS["original"], VARIANTS["owt"]
#: Values of which a tower sends its half in a forward pass: those before conv3, fc6, fc7, fc8, and the logits of the
#: other's images; and 2 channels at each LRN.
HALVES = 13 * 13 * 256 + 6 * 6 * 256 + 4096 + 4096
EDGES = 2 * 55 * 55 + 2 * 27 * 27


class TestTowers:
    def test_what_is_sent_is_counted_as_in_the_net_of_2012(self):
        assert part_of(ORIGINAL, TOWERS, 2).sent == 2 * (HALVES / 2 + EDGES + 1000 / 4)

    def test_it_is_less_than_gradients_up_to_batches_of_hundreds(self):
        part = part_of(ORIGINAL, TOWERS, 2)
        assert 200 < ORIGINAL.params / part.sent < 1000
        assert part.summed == 0

    def test_a_rank_has_half_of_the_parameters(self):
        assert part_of(ORIGINAL, TOWERS, 2).variant.params == ORIGINAL.params / 2

    def test_its_rows_are_those_of_the_paper(self):
        rows = [
            placed for placed in part_of(ORIGINAL, TOWERS, 2).variant.placed() if isinstance(placed.layer, Exchange)
        ]
        assert [placed.layer.name for placed in rows] == [
            *("halo_lrn1", "halo_lrn2", "gather_conv3", "gather_flatten", "gather_fc7", "gather_fc8", "own_images")
        ]
        assert rows[0].output == (55, 55, 48 + 4)

    def test_no_convolution_of_a_rank_has_groups_and_every_output_is_what_a_rank_has_of_the_whole(self):
        whole = {placed.layer.name: placed for placed in ORIGINAL.placed()}
        for placed in part_of(ORIGINAL, TOWERS, 2).variant.placed():
            if isinstance(placed.layer, Conv | Fc):
                row = whole[placed.layer.name]
                assert getattr(placed.layer, "groups", 1) == 1
                assert placed.output == (*row.output[:2], row.output[2] // 2)

    @pytest.mark.parametrize(("net", "world"), [("owt", 2), ("half_width", 2), ("original", 3), ("original", 4)])
    def test_a_net_without_as_many_groups_is_refused(self, net, world):
        with pytest.raises(NoSuchSplit, match=f"convolutions in {world} groups.*found {net} on {world} devices"):
            part_of(VARIANTS[net], TOWERS, world)

    def test_an_lrn_that_reads_beyond_the_neighbor_is_refused(self):
        layers = [dataclasses.replace(row, radius=49) if isinstance(row, Lrn) else row for row in ORIGINAL.layers]
        with pytest.raises(
            NoSuchSplit, match="reads one neighbor, found radius 49 of lrn1 with 48 channels per device"
        ):
            part_of(dataclasses.replace(ORIGINAL, layers=tuple(layers)), TOWERS, 2)


class TestHybrid:
    def test_convolutions_are_summed_and_dense_rows_are_divided(self):
        part = part_of(OWT, HYBRID, 2)
        assert part.divided == {"fc6", "fc7", "fc8"}
        assert part.summed == sum(row.params for row in OWT.placed() if isinstance(row.layer, Conv))
        assert part.sent == 2 * (9216 / 2 + 2 * 4096 / 2 + 1000 / 4)

    def test_of_more_ranks_each_sends_to_all_others(self):
        images, units = 9216, 4096
        assert part_of(OWT, HYBRID, 4).sent == 2 * (3 * images / 4 + 2 * 3 * units / 4 + 3 * 250 / 4)

    def test_widths_that_ranks_do_not_divide_are_refused(self):
        with pytest.raises(NoSuchSplit, match="found 4096 of fc6 in owt"):
            part_of(OWT, HYBRID, 3)

    def test_a_dense_row_with_batch_norm_is_refused(self):
        layers = (*OWT.layers, BatchNorm("bn", eps=1e-3, momentum=0.1))
        with pytest.raises(NoSuchSplit, match="hybrid: expected no BatchNorm"):
            part_of(dataclasses.replace(OWT, layers=layers), HYBRID, 2)

    def test_batch_norm_of_convolutions_stays_a_ranks_own(self):
        assert "bn1" not in part_of(VARIANTS["keras_bn"], HYBRID, 2).divided


@pytest.mark.parametrize(("net", "split"), [("original", TOWERS), ("owt", HYBRID), ("keras_bn", HYBRID)])
def test_the_parts_of_all_ranks_are_the_whole(net, split):
    variant = VARIANTS[net].resized(VARIANTS[net].least_size)
    whole, part = initial(variant), part_of(variant, split, 2)
    shares = [part.weights(whole, rank) for rank in (0, 1)]
    for placed in part.variant.placed():
        layer = placed.layer.name
        for name, shape in (placed.layer.trainable(placed.input) | placed.layer.moving(placed.input)).items():
            both = [share[layer][name] for share in shares]
            assert all(array.shape == shape for array in both)
            joined = np.concatenate(both, -1) if layer in part.divided else both[0]
            assert np.array_equal(joined, whole[layer][name])
    assert isinstance(part.variant.layers[-1], OwnImages)


def test_one_rank_shares_with_nobody():
    with pytest.raises(NoSuchSplit, match="expected 2 ranks or more"):
        part_of(ORIGINAL, TOWERS, 1)
