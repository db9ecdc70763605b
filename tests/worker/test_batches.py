"""Batches of the parity set: their composition, and the values expected of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from bench.controller import parity
from bench.worker.batches import compose, shuffle
from bench.worker.prover import Prover, Values
from bench.worker.replies import CheckKind
from impls import reference
from impls.layers import BatchNorm, Conv, Fc, Flatten, Pool, Relu
from impls.variants import Variant
from impls.weights import initial

CONV, BN = Conv("conv", 4, 3), BatchNorm("bn", eps=1e-3, momentum=0.1)
REST = (Relu("relu"), Pool("pool", 3, stride=2), Flatten("flatten"), Fc("fc", 30), Fc("last", 200))
NET = Variant("net", input_size=7, source="", note="", layers=(CONV, *REST))
WITH_BN = Variant("with_bn", input_size=7, source="", note="", layers=(CONV, BN, *REST))


@pytest.fixture(params=[NET, WITH_BN], ids=["plain", "BatchNorm"])
def variant(request):
    return request.param


@pytest.fixture
def composed(variant, tmp_path):
    def composed(batch, seed=0, whole=False):
        folder = tmp_path / str(batch)
        if not folder.is_dir():
            parity.prepare(variant, folder, batch=batch, whole=whole)
        return compose(variant, initial(variant), folder, "reference", batch, seed)

    return composed


def trained(variant, batch):
    """Logits in inference form, loss and gradients of the reference, image for image."""
    weights, images = initial(variant), batch.images()
    trace = reference.forward(variant, weights, images, training=True)
    logits = reference.forward(variant, weights, images).logits
    return logits, reference.loss(trace.logits), reference.gradients(variant, weights, trace)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 3, 6, 8])
def test_expected_values_are_those_of_the_images_in_their_order(variant, composed, batch, whole):
    first, second = composed(batch, whole=whole)
    for number, own in enumerate((first, second)):
        logits, loss, gradients = trained(variant, own)
        other = (second, first)[number]
        for thorough in {False, whole}:
            checks = [*own.logits_checks(logits, {}), *own.gradient_checks(loss, gradients, thorough, set())]
            assert max(check.error for check in checks if "conv/bias" not in check.what or variant is NET) < 1e-6
        assert other.logits_checks(logits, {})[0].error > 1e-3
        assert max(check.error for check in other.gradient_checks(loss, gradients, False, set())) > 1e-3


@pytest.mark.parametrize("batch", [2, 4, 8, 64])
def test_another_seed_is_another_batch(composed, batch):
    orders = {tuple(own.order) for seed in range(20) for own in composed(batch, seed)}
    assert len(orders) >= min(batch, 8)


@pytest.mark.parametrize("batch", [3, 4, 5, 8, 16, 128])
@pytest.mark.parametrize("seed", range(5))
def test_no_half_of_a_batch_is_composed_as_the_whole(batch, seed, tmp_path):
    parity.prepare(NET, tmp_path, batch=batch)
    half = batch // 2
    for own in compose(NET, initial(NET), tmp_path, "reference", batch, seed):
        order = own.order
        for part in (order[:half], order[half:], order[::2], order[1::2]):
            assert abs(part.mean() - order.mean()) > 0.001
        assert set(order) == {0, 1}


def test_equal_shares_are_shuffled_apart_too():
    places = shuffle(np.arange(8) % 2, np.random.default_rng(0))
    assert [int(part.sum()) for part in (places[:4], places[::2])] != [2, 2]
    assert 2 not in (places[:4].sum(), places[::2].sum())


def test_half_a_batch_counted_twice_is_off(composed, variant):
    first, _ = composed(8)
    halves = reference.forward(variant, initial(variant), np.tile(first.images()[:4], (2, 1, 1, 1)), training=True)
    half = reference.gradients(variant, initial(variant), halves)
    checks = first.gradient_checks(reference.loss(halves.logits), half, False, set())
    assert max(check.error for check in checks) > 1e-2


def test_missing_added_misshapen_and_infinite_gradients_are_named(composed, variant):
    first, _ = composed(2)
    _, loss, gradients = trained(variant, first)
    del gradients["last"]["bias"]
    gradients["input"] = {"images": np.zeros((2, 7, 7, 3))}
    gradients["fc"] = {"kernel": gradients["fc"]["kernel"].T, "bias": np.full(30, np.inf)}
    wrong = [
        check.what
        for check in first.gradient_checks(loss, gradients, False, {"gradient.fc.bias"})
        if check.error is None
    ]
    assert sorted(wrong) == [
        "gradient fc/bias is not finite",
        "gradient fc/kernel: expected (16, 30), found (30, 16)",
        "gradient input/images is not one of a parameter",
        "gradient last/bias is missing",
    ]
    count = first.count(gradients, False)
    assert (count.others, count.finite) == (1, False)


@pytest.mark.parametrize("compared", [4096, 100], ids=["whole", "sampled"])
def test_rows_of_a_dense_kernel_may_be_an_unflattened_view(composed, variant, compared, monkeypatch):
    for module in ("batches", "checks"):
        monkeypatch.setattr(f"bench.worker.{module}.SAMPLED", compared)
    first, _ = composed(2)
    _, loss, gradients = trained(variant, first)
    kernel = gradients["fc"]["kernel"]
    views = kernel.reshape(2, 2, -1, kernel.shape[-1])
    for fc, error in ((views, 0.0), (views.transpose(1, 0, 2, 3), 1e-2)):
        checks = first.gradient_checks(loss, gradients | {"fc": gradients["fc"] | {"kernel": fc}}, False, set())
        (found,) = (check.error for check in checks if check.what == "gradient fc/kernel")
        assert found >= error
        assert error or found < 1e-6


def test_an_infinite_value_is_seen_though_it_is_not_among_those_compared(composed, variant, monkeypatch):
    for module in ("batches", "checks"):
        monkeypatch.setattr(f"bench.worker.{module}.SAMPLED", 10)
    prover = Prover(SimpleNamespace(state=dict), initial(variant), composed)
    prover.batches = composed(2)
    _, loss, gradients = trained(variant, prover.batches[0])
    assert all(check.error is not None for check in prover.compare(Values(loss=loss, gradients=gradients), False)[1])
    gradients["last"]["kernel"][3, 5] = np.nan
    _, checks = prover.compare(Values(loss=loss, gradients=gradients), False)
    assert [check.what for check in checks if check.error is None] == ["gradient last/kernel is not finite"]


def test_logits_after_training_are_those_of_the_moved_statistics(tmp_path):
    parity.prepare(WITH_BN, tmp_path, batch=2)
    first, _ = compose(WITH_BN, initial(WITH_BN), tmp_path, "reference", 2, 0)
    moved = {"bn": {"moving_mean": np.full(4, 0.5), "moving_variance": np.full(4, 2.0)}}
    weights = initial(WITH_BN)
    logits = reference.forward(WITH_BN, weights | {"bn": weights["bn"] | moved["bn"]}, first.images()).logits
    assert first.logits_checks(logits, moved)[0].error < 1e-9
    assert first.logits_checks(logits, {})[0].error > 1e-2
    assert first.logits_checks(logits, moved)[0].kind == CheckKind.LOGITS
