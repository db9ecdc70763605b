"""The proof of a training step: what is expected of it, and every way in which a Net's values can be off."""

import numpy as np
import pytest

from bench.controller import parity
from bench.worker import steps
from bench.worker.batches import compose
from bench.worker.replies import CheckKind
from bench.worker.steps import MANY, PROVEN, STEPS, TIMED, UNMOVED
from impls import reference
from impls.layers import BatchNorm, Conv, Fc, Flatten, Pool, Relu
from impls.net import Sgd, Trained
from impls.variants import Variant
from impls.weights import initial

CONV, BN = Conv("conv", 4, 3), BatchNorm("bn", eps=1e-3, momentum=0.1)
REST = (Relu("relu"), Pool("pool", 3, stride=2), Flatten("flatten"), Fc("fc", 60), Fc("last", 200))
NET = Variant("net", input_size=7, source="", note="", layers=(CONV, *REST))
WITH_BN = Variant("with_bn", input_size=7, source="", note="", layers=(CONV, BN, *REST))
LARGE = ("last", "kernel")  # 60 x 200 values, of which 4096 are sampled


@pytest.fixture(params=[NET, WITH_BN], ids=["plain", "BatchNorm"])
def variant(request):
    return request.param


@pytest.fixture
def composed(variant, tmp_path):
    def composed(batch, whole=False):
        folder = tmp_path / f"{batch}{whole}"
        if not folder.is_dir():
            parity.prepare(variant, folder, batch=batch, whole=whole, labeled=True)
        return compose(variant, initial(variant), folder, "reference", batch, 0)

    return composed


def gradients_of(variant, batch):
    """Loss and gradients of the float64 reference of the whole batch, its labels in the order of its images."""
    trace = reference.forward(variant, initial(variant), batch.images(), training=True)
    loss, start = reference.cross_entropy(trace.logits, batch.labels)
    return loss, reference.gradients(variant, initial(variant), trace, start=start)


def trained(variant, order, sgd):
    """What a correct Net, in float32, has after a step on each of these batches, with the gradients of the start."""
    parameters, velocity = {}, {}
    for batch in order:
        loss, gradients = gradients_of(variant, batch)
        for layer, arrays in gradients.items():
            for name, gradient in arrays.items():
                w = parameters.setdefault(layer, {}).setdefault(name, initial(variant)[layer][name].astype(float))
                v = velocity.setdefault(layer, {}).get(name, 0.0)
                velocity[layer][name] = sgd.momentum * v - sgd.lr * gradient - sgd.lr * sgd.decay * w
                parameters[layer][name] = w + velocity[layer][name]
    float32 = [
        {layer: {name: array.astype(np.float32) for name, array in arrays.items()} for layer, arrays in each.items()}
        for each in (parameters, velocity)
    ]
    return Trained(loss, *float32)


def compared(variant, batches, values, made, sgd, **options):
    return steps.checks(values, initial(variant), batches, made, sgd, **options)


def wrong(checks, limit=1e-4):
    return [check.what for check in checks if check.error is None or check.error > limit]


def test_expected_change_and_velocity_are_those_of_a_loop_over_single_values():
    rng = np.random.default_rng(0)
    weight, gradients, sgd = rng.normal(size=6).astype(np.float32), rng.normal(size=(4, 6)), Sgd(0.1, 0.7, 0.03)
    found = steps.expected(weight, list(gradients), sgd)
    for place in range(6):
        w, v = float(weight[place]), 0.0
        for gradient in gradients:
            v = 0.7 * v - 0.1 * gradient[place] - 0.1 * 0.03 * w
            w += v
        assert found.change[place] == pytest.approx(w - float(weight[place]), rel=1e-12)
        assert found.velocity[place] == pytest.approx(v, rel=1e-12)
    assert not np.allclose(found.velocity, steps.expected(weight, list(gradients[::-1]), sgd).velocity)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_expected_gradients_are_those_of_the_images_and_labels_of_the_batch(variant, composed, batch):
    for own in composed(batch, whole=True):
        loss, gradients = gradients_of(variant, own)
        assert own.entropy_check(loss).error < 1e-9
        assert own.entropy_check(loss + 0.1).error > 1e-3
        assert own.entropy_check(np.nan).error is None
        assert {*own.parameters} == {(layer, name) for layer, arrays in gradients.items() for name in arrays}
        for layer, name in own.parameters:
            expected = gradients[layer][name]
            if variant is WITH_BN and (layer, name) == ("conv", "bias"):  # 0: the batch's mean takes it away
                assert np.abs(own.entropy_gradient(layer, name, True)).max() < 1e-9
                continue
            assert reference.relative_l2(own.entropy_gradient(layer, name, True), expected.ravel()) < 1e-6
            sampled = steps.sampled(expected).ravel()
            assert reference.relative_l2(own.entropy_gradient(layer, name, False), sampled) < 1e-6


@pytest.mark.parametrize("last", [0, 1])
def test_three_steps_are_compared_in_both_orders_and_the_nearest_is_taken(variant, composed, last):
    batches = composed(2)
    order = [batches[last], batches[1 - last], batches[last]]
    number, checks = compared(variant, batches, trained(variant, order, TIMED), STEPS, TIMED)
    assert (number, wrong(checks)) == (last, [])
    assert {check.kind for check in checks} == {CheckKind.VELOCITY}
    for other in ([batches[last]] * 3, [batches[1 - last], *order[1:]]):
        _, checks = compared(variant, batches, trained(variant, other, TIMED), STEPS, TIMED)
        assert len(wrong(checks, 1e-3)) >= len(checks) - 2


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_step_is_compared_by_change_and_loss_with_the_batch_that_it_took(variant, composed, number, thorough):
    batches = composed(2, whole=thorough)
    values = trained(variant, [batches[number]], PROVEN)
    found, checks = compared(variant, batches, values, 1, PROVEN, change=True, thorough=thorough)
    assert found == number
    assert [what for what in wrong(checks) if "conv/bias" not in what or variant is NET] == []
    assert [check.kind for check in checks].count(CheckKind.CHANGE) == len(batches[0].parameters)
    assert [check.what for check in checks if check.kind == CheckKind.LOSS] == ["cross-entropy"]


@pytest.fixture
def one(composed, variant):
    """The batches, and values of a correct step on the first at the rate of the proof."""
    batches = composed(2)
    return batches, trained(variant, [batches[0]], PROVEN)


def test_wrong_change_is_not_hidden_by_a_right_velocity_and_the_reverse(variant, one):
    batches, values = one
    start = initial(variant)["last"]["bias"]
    values.parameters["last"]["bias"] = start + np.float32(0.99) * (values.parameters["last"]["bias"] - start)
    assert "change last/bias" in wrong(compared(variant, batches, values, 1, PROVEN, change=True)[1], 5e-3)
    assert "velocity last/bias" not in wrong(compared(variant, batches, values, 1, PROVEN)[1])
    values.velocity["last"]["bias"] *= np.float32(0.99)
    assert "velocity last/bias" in wrong(compared(variant, batches, values, 1, PROVEN)[1], 5e-3)


@pytest.mark.parametrize("change", [False, True], ids=["velocity", "change"])
def test_missing_added_and_misshapen_arrays_are_named(variant, one, change):
    batches, values = one
    kind = "change" if change else "velocity"
    arrays = values.parameters if change else values.velocity
    del arrays["last"]["bias"]
    arrays["fc"]["kernel"] = arrays["fc"]["kernel"].T
    arrays["input"] = {"images": np.zeros((2, 7, 7, 3), np.float32)}
    _, checks = compared(variant, batches, values, 1, PROVEN, change=change)
    assert sorted(check.what for check in checks if check.error is None) == [
        f"{kind} fc/kernel: expected (16, 60), found (60, 16)",
        f"{kind} input/images is not one of a parameter",
        f"{kind} last/bias is missing",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["parameter", "velocity"])
def test_infinite_value_outside_the_sampled_ones_is_found(variant, one, kind, value):
    batches, values = one
    layer, name = LARGE
    array = (values.parameters if kind == "parameter" else values.velocity)[layer][name]
    places = np.arange(array.size).reshape(array.shape)
    outside = np.setdiff1d(places, steps.sampled(places))[0]
    array.flat[outside] = value
    _, checks = compared(variant, batches, values, 1, PROVEN)
    assert [check.what for check in checks if check.error is None] == [f"{kind} last/kernel is not finite"]


def test_large_array_that_no_step_moved_is_found_and_a_small_one_is_not(variant, one):
    batches, values = one
    weights = initial(variant)
    values.parameters["last"] = {name: array.copy() for name, array in weights["last"].items()}
    assert weights["last"]["kernel"].size >= MANY > weights["last"]["bias"].size
    _, checks = compared(variant, batches, values, 1, PROVEN)
    assert [check.what for check in checks if check.error is None] == [f"parameter last/kernel{UNMOVED}"]
    kernel = values.parameters["last"]["kernel"]
    places = np.arange(kernel.size).reshape(kernel.shape)
    kernel.flat[np.setdiff1d(places, steps.sampled(places))[0]] += 1
    assert wrong(compared(variant, batches, values, 1, PROVEN)[1]) == []


@pytest.mark.parametrize("compared_values", [4096, 100], ids=["whole", "sampled"])
def test_dense_kernel_may_be_a_view_with_unflattened_rows(variant, composed, compared_values, monkeypatch):
    for module in ("batches", "checks"):
        monkeypatch.setattr(f"bench.worker.{module}.SAMPLED", compared_values)
    batches = composed(2)
    values = trained(variant, [batches[0]], PROVEN)
    for arrays in (values.parameters, values.velocity):
        arrays["fc"]["kernel"] = arrays["fc"]["kernel"].reshape(2, 2, 4, 60)
    for change in (False, True):
        _, checks = compared(variant, batches, values, 1, PROVEN, change=change)
        assert [what for what in wrong(checks) if "fc/kernel" in what] == []
    for arrays in (values.parameters, values.velocity):
        arrays["fc"]["kernel"] = arrays["fc"]["kernel"].transpose(1, 0, 2, 3)
    for change in (False, True):
        _, checks = compared(variant, batches, values, 1, PROVEN, change=change)
        assert [what for what in wrong(checks, 1e-2) if "fc/kernel" in what]


def test_only_a_thorough_comparison_has_every_value_of_a_large_array(variant, composed):
    batches = composed(2, whole=True)
    values = trained(variant, [batches[0]], PROVEN)
    layer, name = LARGE
    array = values.velocity[layer][name]
    places = np.arange(array.size).reshape(array.shape)
    array.flat[np.setdiff1d(places, steps.sampled(places))[0]] += np.abs(array).max()
    assert wrong(compared(variant, batches, values, 1, PROVEN)[1]) == []
    assert wrong(compared(variant, batches, values, 1, PROVEN, thorough=True)[1]) == ["velocity last/kernel"]
