"""Each adapter against the float64 reference on tiny nets; all three live in this one process."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import MANY, configured, error, far_from_ties, how

import impls
from bench.controller import parity
from bench.controller.gate import sync_fault
from bench.worker.timing import measure, sync_lag
from impls import reference
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Layer, Lrn, Pool, Relu, place
from impls.net import Build, gradients_of, logits_of, resident_batches
from impls.variants import Variant
from impls.weights import initial

pytestmark = pytest.mark.process

CONV, RELU, BN = Conv("conv", 4, 3), Relu("relu"), BatchNorm("bn", eps=1e-3, momentum=0.1)


@pytest.fixture(scope="module")
def build(framework):
    """The framework's ``build``, in its default mode and layout."""
    adapter = configured(framework)

    def build(variant, weights, *, batch=2, dropout=False, precision="fp32"):
        asked = how(framework, batch, precision, dropout=dropout, seed=5)
        net = adapter.build(variant, weights, asked)
        net.load(resident_batches(asked, variant.input_size))
        return net

    return build


def tiny(size: int, *rows: Layer, last: tuple[Layer, ...] = (Flatten("flatten"), Fc("fc", 5))) -> Variant:
    return Variant("tiny", input_size=size, source="", note="", layers=(*rows, *last))


def identity(units):
    return {"fc": {"kernel": np.eye(units, dtype=np.float32), "bias": np.zeros(units, np.float32)}}


def assert_equal_to_the_reference(build, variant, weights, images):
    net = build(variant, weights)
    trained = reference.forward(variant, weights, images, training=True)
    assert error(logits_of(net, images), reference.forward(variant, weights, images).logits) < 1e-5
    loss, gradients = gradients_of(net, images)
    assert error(loss, reference.loss(trained.logits)) < 1e-5
    expected = reference.gradients(variant, weights, trained)
    assert gradients.keys() == expected.keys()
    for layer, arrays in expected.items():
        assert gradients[layer].keys() == arrays.keys()
        for name, array in arrays.items():
            assert error(gradients[layer][name], array) < 1e-4, (layer, name)
    names = ("layer", "height", "width", "channels", "params", "state")
    rows = [(it.layer.name, *it.output, it.params, it.state) for it in variant.placed()]
    assert [tuple(row[name] for name in names) for row in net.layers()] == rows


FOUR = Conv("four", 4, 1)  # four channels, some of them negative: no ReLU hides a padding that wins
NETS = {
    "conv 11/4 SAME, even": tiny(16, Conv("conv", 4, 11, stride=4, pad=(3, 4))),
    "conv 11/4 SAME, odd": tiny(15, Conv("conv", 4, 11, stride=4, pad=(4, 4))),
    "conv 11/4 VALID": tiny(21, Conv("conv", 4, 11, stride=4)),
    "conv 11/4 pad 2": tiny(16, Conv("conv", 4, 11, stride=4, pad=(2, 2))),
    "conv 5 SAME, even": tiny(6, Conv("conv", 4, 5, pad=(2, 2)), RELU),
    "conv 5 SAME, odd": tiny(7, Conv("conv", 4, 5, pad=(2, 2)), RELU),
    "conv 3 SAME, even": tiny(6, Conv("conv", 4, 3, pad=(1, 1)), RELU),
    "conv 3 SAME, odd": tiny(7, Conv("conv", 4, 3, pad=(1, 1)), RELU),
    "conv pad after only": tiny(6, Conv("conv", 4, 3, stride=2, pad=(0, 2))),
    "conv pad more before": tiny(6, Conv("conv", 4, 3, pad=(2, 1))),
    "pool 3/2 SAME, even": tiny(8, FOUR, Pool("pool", 3, stride=2, pad=(0, 1))),
    "pool 3/2 SAME, odd": tiny(7, FOUR, Pool("pool", 3, stride=2, pad=(1, 1))),
    "pool 3/2 VALID, even": tiny(8, FOUR, Pool("pool", 3, stride=2)),
    "pool 3/2 rounded up, even": tiny(8, FOUR, Pool("pool", 3, stride=2, ceil=True)),
    "pool 3/2 rounded up, odd": tiny(7, FOUR, Pool("pool", 3, stride=2, ceil=True)),
    "pool 2/3 rounded up, last window inside": tiny(8, FOUR, Pool("pool", 2, stride=3, ceil=True)),
    "pool 2/2 rounded up, uneven pad": tiny(4, FOUR, Pool("pool", 2, stride=2, pad=(0, 1), ceil=True)),
    "pool 3/2 rounded up with a pad": tiny(8, FOUR, Pool("pool", 3, stride=2, pad=(1, 1), ceil=True)),
    "pool 2/2, odd": tiny(7, FOUR, Pool("pool", 2, stride=2)),
    "pool pad more before": tiny(7, FOUR, Pool("pool", 3, stride=2, pad=(2, 0))),
    "pool pad wide": tiny(6, FOUR, Pool("pool", 3, stride=2, pad=(2, 2))),
    "groups": tiny(6, FOUR, Conv("conv", 6, 3, pad=(1, 1), groups=2), RELU),
    "groups, unequal pad": tiny(6, FOUR, Conv("conv", 6, 3, stride=2, pad=(0, 1), groups=2)),
    "bn": tiny(6, CONV, RELU, BN, Pool("pool", 3, stride=2)),
    "dense without relu": tiny(5, CONV, Flatten("first"), Fc("fc1", 7), Dropout("drop", 0.5), Fc("fc2", 6)),
    "dropout before dense": tiny(5, CONV, RELU, Flatten("first"), Dropout("drop", 0.5), Fc("fc1", 7), Relu("relu1")),
    "relu on the logits": tiny(5, CONV, Flatten("first"), Fc("last", 9), Relu("last_relu")),
    "lrn of original": tiny(4, MANY, Lrn("lrn", radius=2, alpha=1e-4, beta=0.75, k=2.0)),
    "lrn of caffenet": tiny(4, MANY, Lrn("lrn", radius=2, alpha=2e-5, beta=0.75, k=1.0)),
    "lrn of tutorial": tiny(4, MANY, Lrn("lrn", radius=5, alpha=0.001 / 9, beta=0.75, k=1.0)),
    "lrn radius 1": tiny(4, MANY, Lrn("lrn", radius=1, alpha=1e-3, beta=0.75, k=1.0)),
}


@pytest.mark.parametrize("name", NETS)
def test_logits_loss_gradients_and_layers_are_the_references(build, name):
    variant, weights = NETS[name], initial(NETS[name])
    scale = 30 if name.startswith("lrn") else 1  # large enough for a wrong alpha or radius to show
    assert_equal_to_the_reference(build, variant, weights, far_from_ties(variant, weights, scale))


@st.composite
def feature_rows(draw):
    size = draw(st.integers(5, 9))
    rows: list[Layer] = []
    for i in range(draw(st.integers(1, 3))):
        height, _, channels = place(rows, (size, size, 3))[-1].output if rows else (size, size, 3)
        kernel, stride = draw(st.integers(1, min(3, height))), draw(st.integers(1, 3))
        pad = draw(st.tuples(*[st.integers(0, kernel - 1)] * 2))
        kind = draw(st.sampled_from(["conv", "pool", "lrn"]))
        if kind == "conv":
            groups = draw(st.sampled_from([count for count in (1, 2, 3) if channels % count == 0]))
            rows += [Conv(f"conv{i}", groups * draw(st.integers(1, 3)), kernel, stride, pad, groups)]
            rows += [Relu(f"relu{i}")] if draw(st.booleans()) else []
        elif kind == "pool":
            rows += [Pool(f"pool{i}", kernel, stride, pad)]
        else:
            rows += [Lrn(f"lrn{i}", draw(st.integers(1, 5)), alpha=draw(st.floats(1e-5, 0.1)), beta=0.75, k=1.0)]
    return tiny(size, *rows)


@given(variant=feature_rows(), seed=st.integers(0, 9))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_rows_have_the_shapes_of_arithmetic_and_the_values_of_the_reference(build, variant, seed):
    weights = initial(variant, seed)
    images = far_from_ties(variant, weights)
    assume(images is not None)
    assert_equal_to_the_reference(build, variant, weights, images)


def test_a_flatten_is_in_h_w_c_order(build):
    variant = tiny(4, last=(Flatten("flatten"), Fc("fc", 48)))
    images = parity.images(variant, 0, 0, 2)
    net, flat = build(variant, identity(48)), images.reshape(2, 48)
    assert np.array_equal(logits_of(net, images), flat)
    _, gradients = gradients_of(net, images)
    np.testing.assert_allclose(gradients["fc"]["kernel"], flat.T @ flat, rtol=1e-5, atol=1e-6)


def test_forward_leaves_the_moving_statistics_and_training_moves_them_by_the_unbiased_variance(build):
    variant = tiny(5, Conv("conv", 64, 3), BN, RELU)  # 64 channels: in a few, 0.9 x + 0.1 x is not x
    weights = initial(variant)
    mean, variance = weights["bn"]["moving_mean"], weights["bn"]["moving_variance"]
    images = far_from_ties(variant, weights)
    net = build(variant, weights)
    for _ in range(2):
        net.forward()
        logits_of(net, images)
    assert net.state().keys() == {"bn"}
    assert net.state()["bn"].keys() == {"moving_mean", "moving_variance"}
    assert np.array_equal(net.state()["bn"]["moving_mean"], mean)
    assert np.array_equal(net.state()["bn"]["moving_variance"], variance)

    gradients_of(net, images)
    of_batch, biased = reference.forward(variant, weights, images, training=True).statistics["bn"]
    values = 2 * 3 * 3
    assert error(net.state()["bn"]["moving_mean"], 0.9 * mean + 0.1 * of_batch) < 1e-5
    assert error(net.state()["bn"]["moving_variance"], 0.9 * variance + 0.1 * biased * values / (values - 1)) < 1e-5

    weights["bn"] |= net.state()["bn"]  # and inference uses them from now on
    assert error(logits_of(net, images), reference.forward(variant, weights, images).logits) < 1e-5


class TestDropout:
    RATE, UNITS = 0.3, 12 * 12 * 3
    VARIANT = tiny(12, last=(Flatten("flatten"), Dropout("drop", RATE), Fc("fc", UNITS)))
    IMAGES = 1 + np.abs(parity.images(VARIANT, 0, 0, 1))

    def outputs(self, build, dropout, count):
        """What the identity puts out in training: the gradient of its bias."""
        net = build(self.VARIANT, identity(self.UNITS), batch=1, dropout=dropout)
        assert np.array_equal(logits_of(net, self.IMAGES), self.IMAGES.reshape(1, -1))  # never in inference
        return np.array([gradients_of(net, self.IMAGES)[1]["fc"]["bias"] for _ in range(count)])

    def test_dropout_is_off_unless_asked_for(self, build):
        assert np.array_equal(self.outputs(build, False, 1), self.IMAGES.reshape(1, -1))

    def test_dropout_drops_its_rate_scales_the_rest_and_has_a_new_mask_every_iteration(self, build):
        found = self.outputs(build, True, 20)
        dropped = found == 0
        sigma = math.sqrt(self.RATE * (1 - self.RATE) / found.size)
        assert abs(dropped.mean() - self.RATE) < 4 * sigma
        kept = self.IMAGES.reshape(-1) / (1 - self.RATE)
        np.testing.assert_allclose(found, np.where(dropped, 0, kept), rtol=1e-6)
        assert len(np.unique(dropped, axis=0)) == 20


class TestResidentBatches:
    VARIANT = tiny(6, CONV, RELU)
    BATCHES = resident_batches(Build(2, "cpu", "fp32", "", "", seed=5), 6)

    def test_resident_batches_are_random_float32_and_two(self):
        first, second = self.BATCHES
        assert first.shape == second.shape == (2, 6, 6, 3)
        assert first.dtype == second.dtype == np.float32
        assert not np.any(first == second)
        assert not np.any(first == resident_batches(Build(2, "cpu", "fp32", "", "", seed=6), 6)[0])

    def test_resident_batches_take_turns_in_forward_in_the_same_order_in_every_framework(self, build):
        weights = initial(self.VARIANT)
        net = build(self.VARIANT, weights)
        for which in (1, 0, 1):
            handles = net.forward()
            assert net.wait(handles) is None
            expected = reference.forward(self.VARIANT, weights, self.BATCHES[which]).logits
            assert error(np.asarray(handles), expected) < 1e-5

    def test_resident_batches_take_turns_in_forward_backward_which_returns_loss_and_gradients(self, build):
        weights = initial(self.VARIANT)
        net = build(self.VARIANT, weights)
        for which in (1, 0, 1):
            loss, *gradients = net.forward_backward()
            net.wait((loss, *gradients))
            trace = reference.forward(self.VARIANT, weights, self.BATCHES[which], training=True)
            assert error(np.asarray(loss), reference.loss(trace.logits)) < 1e-5
            found = sorted(float(np.linalg.norm(np.asarray(value))) for value in gradients)
            arrays = [a for of in reference.gradients(self.VARIANT, weights, trace).values() for a in of.values()]
            assert found == pytest.approx(sorted(map(np.linalg.norm, arrays)), rel=1e-4)


def test_a_net_on_the_cpu_says_so_and_counts_no_device_memory(build):
    net = build(TestResidentBatches.VARIANT, initial(TestResidentBatches.VARIANT))
    assert "cpu" in net.device().lower()
    assert net.peak_memory() is None


def test_every_pass_is_traced_once_however_often_it_runs(build):
    """An eager framework traces nothing; the others must not trace again for new values, or for moved statistics."""
    variant = tiny(6, CONV, BN, RELU)
    net = build(variant, initial(variant))
    for _ in range(20):
        net.wait((net.forward(), net.forward_backward()))
    logits_of(net, parity.images(variant, 0, 0, 2))
    assert net.traces() in ({}, {"forward": 1, "forward_backward": 1})


def test_a_layout_is_what_an_activation_has(build, framework):
    variant = tiny(6, CONV, RELU)
    assert build(variant, initial(variant)).layout() == impls.FRAMEWORKS[framework].layouts[0]


BF16 = tiny(
    12,
    Conv("conv1", 8, 3, pad=(1, 1)),
    Relu("relu1"),
    Lrn("lrn1", radius=2, alpha=1e-2, beta=0.75, k=2.0),
    Pool("pool1", 2, stride=2),
    Conv("conv2", 8, 3, pad=(1, 1), groups=2),
    BN,
    Relu("relu2"),
    last=(Flatten("flatten"), Fc("fc", 16)),
)


def test_bf16_is_a_net_of_rounded_operands_and_not_of_full_ones(build):
    """As far from float64 as the reference with rounded operands is, give or take the rounding of what comes out."""
    weights, images = initial(BF16), parity.images(BF16, 0, 0, 2)
    exact = reference.forward(BF16, weights, images).logits
    low = error(reference.forward(BF16, weights, images, precision="bf16").logits, exact)
    assert low / 2 < error(logits_of(build(BF16, weights, precision="bf16"), images), exact) < 3 * low


def test_in_bf16_gradients_and_moving_statistics_stay_float32(build):
    net = build(BF16, initial(BF16), precision="bf16")
    loss, gradients = gradients_of(net, parity.images(BF16, 0, 0, 2))
    assert isinstance(loss, float)
    arrays = [array for of in (*gradients.values(), *net.state().values()) for array in of.values()]
    assert {array.dtype for array in arrays} == {np.dtype("float32")}
    assert logits_of(net, parity.images(BF16, 0, 0, 2)).dtype == np.float32


class TestGradientOfTheImages:
    """Nobody asks for it, and conv1's is a tenth of a backward pass: looked for in what each framework really runs."""

    VARIANT = tiny(9, Conv("conv1", 4, 3), Relu("relu1"), Conv("conv2", 4, 3), Relu("relu2"), Conv("conv3", 4, 3))

    def test_torch_counts_no_flop_for_it(self):
        from torch.utils.flop_counter import FlopCounterMode

        net = configured("torch").build(self.VARIANT, initial(self.VARIANT), how("torch", 2))
        net.load(resident_batches(how("torch", 2), 9))
        with FlopCounterMode(display=False) as counter:
            net.forward_backward()
        assert counter.get_total_flops() == 2 * 2 * (self.VARIANT.macs + self.VARIANT.backward_macs)

    def test_tensorflow_returns_nothing_that_needs_it(self):
        """Its gradient function adds the operation always; what no output reaches is pruned before it runs."""
        net = configured("tensorflow").build(self.VARIANT, initial(self.VARIANT), how("tensorflow", 2))
        step = net.step.get_concrete_function()
        reached, left = set(), [output.op for output in step.outputs] + list(step.graph.control_outputs)
        while left:
            operation = left.pop()
            if operation not in reached:
                reached.add(operation)
                left += [it.op for it in operation.inputs] + list(operation.control_inputs)
        kinds = [operation.type for operation in reached]
        assert (kinds.count("Conv2DBackpropFilter"), kinds.count("Conv2DBackpropInput")) == (3, 2)

    def test_jaxs_program_has_no_convolution_for_it(self):
        net = configured("jax").build(self.VARIANT, initial(self.VARIANT), how("jax", 2))
        net.load(resident_batches(how("jax", 2), 9))
        program = net.step.lower(net.parameters, net.moving, net.key, net.batches[0]).as_text()
        assert program.count("stablehlo.convolution") == 3 + 3 + 2  # forward, kernels, inputs of all but the first


HEAVY = tiny(64, Conv("conv1", 64, 3), Relu("relu1"), Conv("conv2", 64, 3), Relu("relu2"), Pool("pool", 4, 4))


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
def test_a_device_is_done_when_wait_returns(build, pass_):
    net = build(HEAVY, initial(HEAVY), batch=4)
    run = getattr(net, pass_)
    _, ns = measure(run, net.wait, 3)
    assert sync_fault(sync_lag(run, net.wait, net.fetch, min(ns))) == ""


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
def test_without_its_wait_an_adapter_is_caught(pass_):
    """JAX's: on a CPU torch and TensorFlow return when a pass is done, there is nothing to wait for."""
    asked = how("jax", 4)
    net = configured("jax").build(HEAVY, initial(HEAVY), asked)
    net.load(resident_batches(asked, HEAVY.input_size))
    run = getattr(net, pass_)
    net.wait(run())
    _, ns = measure(run, lambda handles: None, 3)
    lag = sync_lag(run, lambda handles: None, net.fetch, min(ns))
    assert "its wait returns before the device is done" in sync_fault(lag)
