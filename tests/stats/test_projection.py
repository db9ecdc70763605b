"""Projection: buckets as torch makes them, times by hand, limits, and a table for a known step."""

import dataclasses
import itertools
import math

import pytest

from bench.stats import projection
from bench.stats.links import PUBLISHED, Link
from bench.stats.projection import Bucket, Step, buckets_of, dense_of, gradients_of, hiding_gb_per_s, project
from impls.layers import Conv, Fc, Flatten
from impls.variants import VARIANTS, Variant

OWT = VARIANTS["owt"]
#: 10 pixels of 1 channel; conv 3x3 of 2 filters: 8 x 8 outputs; dense of 5 units.
TINY = Variant("tiny", 10, "", "", (Conv("conv1", 2, 3), Flatten("flatten"), Fc("fc2", 5)), channels=1)
CONV_MACS, FC_MACS = 64 * 2 * 9, 128 * 5


def step(ms=3.0, images=8, net=OWT, pass_="train_step", **passes):
    return Step.of(net, pass_, images, ms, **passes)


class TestBuckets:
    @pytest.mark.parametrize(
        ("variant", "sizes"),
        [
            # rebuilt_bucket_sizes that DistributedDataParallel of torch 2.13 gives for modules with these layers
            ("owt", [16_388_000, 67_125_248, 151_011_328, 9_878_784]),
            ("half_width", [8_216_020, 54_542_336, 3_783_424]),
        ],
    )
    def test_the_buckets_are_those_that_torch_makes(self, variant, sizes):
        assert [bucket.size for bucket in buckets_of(VARIANTS[variant])] == sizes

    @pytest.mark.parametrize("name", VARIANTS)
    def test_every_gradient_is_in_one_bucket_and_the_last_is_ready_at_the_end(self, name):
        buckets = buckets_of(VARIANTS[name])
        assert sum(bucket.size for bucket in buckets) == 4 * VARIANTS[name].params
        assert all(before.ready <= after.ready for before, after in itertools.pairwise(buckets))
        assert buckets[-1].ready == 1

    def test_a_gradient_is_ready_after_its_share_of_the_multiply_adds(self):
        whole = 2 * FC_MACS + CONV_MACS  # no gradient of the images
        dense = 2 * FC_MACS / whole
        assert list(gradients_of(TINY)) == [(20, dense), (2560, dense), (8, 1.0), (72, 1.0)]
        with_images = dataclasses.replace(TINY, input_gradient=True)
        assert next(gradients_of(with_images))[1] == FC_MACS / (FC_MACS + CONV_MACS)

    def test_small_nets_have_one_bucket(self):
        assert buckets_of(TINY) == [Bucket(4 * TINY.params, 1.0)]


class TestSteps:
    def test_the_backward_pass_is_between_forward_and_the_update(self):
        found = step(10.0, forward_ms=2.0, forward_backward_ms=9.0)
        assert (found.begin_ms, found.end_ms, found.measured) == (2.0, 9.0, True)

    def test_without_other_passes_it_is_by_multiply_adds(self):
        found = step(10.0)
        assert found.begin_ms == pytest.approx(10 * OWT.macs / (OWT.macs + OWT.backward_macs))
        assert (found.end_ms, found.measured) == (10.0, False)

    def test_passes_that_contradict_each_other_are_not_used(self):
        found = step(10.0, forward_ms=12.0, forward_backward_ms=11.0)
        assert (found.end_ms, found.measured) == (10.0, False)

    def test_forward_backward_ends_with_its_backward_pass(self):
        assert step(10.0, pass_="forward_backward", forward_backward_ms=9.0).end_ms == 10.0


class TestProjected:
    def test_one_device_reduces_nothing(self):
        found = project(OWT, step(), Link("", 1.0, 50.0), 1)
        assert (found.ms, found.reduction_ms, found.efficiency, found.plain_efficiency) == (3.0, 0.0, 1.0, 1.0)
        assert found.images_per_s == pytest.approx(8 / 3e-3)

    def test_an_infinite_link_is_ideal(self):
        found = project(OWT, step(), Link("", math.inf), 64)
        assert (found.exposed_ms, found.efficiency) == (0.0, 1.0)
        assert found.images_per_s == pytest.approx(64 * 8 / 3e-3)

    def test_a_bucket_waits_for_its_gradients_and_for_the_bucket_before_it(self, monkeypatch):
        monkeypatch.setattr(projection, "buckets_of", lambda net: [Bucket(10**6, 0.5), Bucket(3 * 10**6, 0.75)])
        timed = Step(4, 10.0, 2.0, 8.0, True)  # ready at 5 and 6.5 ms
        found = project(OWT, timed, Link("", 1.0, 100.0), 2)  # 1 and 3 ms, and 2 hops of 0.1 ms each
        assert found.reduction_ms == pytest.approx(4.4)
        assert found.exposed_ms == pytest.approx(6.5 + 3.2 - 8.0)  # the first is done at 6.2
        slow = project(OWT, timed, Link("", 0.5, 100.0), 2)
        assert slow.exposed_ms == pytest.approx(5 + 2.2 + 6.2 - 8.0)  # the first is done at 7.2
        assert slow.efficiency == pytest.approx(10 / 15.4)
        assert slow.plain_efficiency == pytest.approx(10 / 18.4)

    def test_what_ends_with_the_backward_pass_costs_nothing(self, monkeypatch):
        monkeypatch.setattr(projection, "buckets_of", lambda net: [Bucket(10**6, 0.5)])
        assert project(OWT, Step(4, 10.0, 2.0, 8.0, True), Link("", 1.0), 2).exposed_ms == 0.0

    @pytest.mark.parametrize("hops", ["ring", "tree"])
    def test_more_devices_and_slower_links_are_less_efficient_and_overlap_never_costs(self, hops):
        for rate in (0.1, 10.0, 400.0):
            found = [project(OWT, step(), Link("", rate, 5.0, hops), 2**power) for power in range(10)]
            assert all(after.efficiency <= before.efficiency for before, after in itertools.pairwise(found))
            assert all(each.efficiency >= each.plain_efficiency for each in found)
        rates = [project(OWT, step(), Link("", 2.0**power, 5.0, hops), 64).efficiency for power in range(-4, 12)]
        assert rates == sorted(rates)

    @pytest.mark.parametrize(
        ("world", "gb_per_s", "wait_us", "reduction_ms", "fast", "slow", "plain"),
        [
            (8, 400, 30, 1.19, 96, 98, 60),
            (16, 330, 46, 1.57, 81, 98, 53),
            (64, 300, 54, 1.82, 73, 97, 49),
            (256, 250, 75, 2.25, 62, 96, 44),
            (64, 46, 54, 10.7, 16, 33, 14),
            (64, 11.5, 54, 42, 4, 9, 4),
        ],
    )
    def test_owt_in_steps_of_two_lengths_over_links_of_gpus(
        self, world, gb_per_s, wait_us, reduction_ms, fast, slow, plain
    ):
        """Percent worked out apart from this code, in steps of 1.75 and 4 ms of which forward is a third."""
        link = Link("", gb_per_s, wait_us / (2 * math.log2(world)), "tree")
        found = [project(OWT, step(ms, 128, forward_ms=ms / 3), link, world) for ms in (1.75, 4.0)]
        assert float(f"{found[0].reduction_ms:.3g}") == pytest.approx(reduction_ms, abs=0.006 * reduction_ms)
        assert [round(100 * each.efficiency) for each in found] == [fast, slow]
        assert round(100 * found[0].plain_efficiency) == plain


class TestLinks:
    def test_the_hops_of_a_ring_and_of_a_tree(self):
        assert Link("", 1.0, 10.0, "ring").wait_ms(8) == pytest.approx(0.14)
        assert Link("", 1.0, 10.0, "tree").wait_ms(8) == pytest.approx(0.06)

    @pytest.mark.parametrize(
        ("size", "gb_per_s", "world", "seconds"),
        [
            # B = 0.954 of 100 Mbit/s, 400 Mbit/s and 1 Gbit/s of Ethernet; measured 20.56, 1.393 and 0.557 s
            (244.4e6, 0.954 * 0.0125, 2, 20.50),
            (66.5e6, 0.954 * 0.05, 2, 1.395),
            (66.5e6, 0.954 * 0.125, 2, 0.558),
            (16.8e6, 0.954 * 0.0125, 4, 2.11),
        ],
    )
    def test_a_reduction_over_a_limited_link(self, size, gb_per_s, world, seconds):
        assert Link("", gb_per_s).reduction_ms(size, world) / 1e3 == pytest.approx(seconds, rel=0.003)

    def test_every_published_link_has_its_source_and_says_what_is_assumed(self):
        assert {link.known for link in PUBLISHED.values()} == {"published", "assumed"}
        assert all(link.source.startswith("https://") and link.what for link in PUBLISHED.values())
        assert all(link.gb_per_s > 0 and link.latency_us > 0 for link in PUBLISHED.values())


class TestHard:
    def test_the_dense_layers_of_owt_have_most_bytes_and_few_multiply_adds(self):
        found = dense_of(OWT)
        assert found.size == 4 * 61_100_840
        assert (round(found.bytes_share, 2), round(1 - found.macs_share, 2)) == (0.96, 0.92)

    def test_a_net_without_dense_layers_has_none(self):
        (conv, *_) = OWT.parts()
        assert (dense_of(conv).bytes_share, dense_of(conv).macs_share) == (0.0, 0.0)

    def test_the_bandwidth_that_hides_the_reduction_is_twice_the_bytes_over_the_backward_pass(self):
        assert hiding_gb_per_s(OWT, Step(8, 10.0, 2.0, 8.0, True)) == pytest.approx(2 * 244_403_360e-9 / 6e-3)
