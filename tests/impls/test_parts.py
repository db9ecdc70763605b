"""Rows as nets of their own, the mode ``xla`` and the fast LRN, each against the float64 reference."""

import dataclasses

import numpy as np
import pytest
from nets import MANY, configured, error, far_from_ties, how

import impls
from impls import reference
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Pool, Relu
from impls.net import gradients_of, logits_of, resident_batches
from impls.variants import VARIANTS, Variant
from impls.weights import initial

pytestmark = pytest.mark.process

#: Every kind of row; paddings that are SAME's at their size and ones that are not, and a row behind the flatten.
EVERY = Variant(
    "every",
    input_size=16,
    source="",
    note="",
    layers=(
        Conv("conv1", 6, 5, stride=2, pad=(2, 2)),
        Relu("relu1"),
        Lrn("lrn1", radius=2, alpha=1e-2, beta=0.75, k=2.0),
        Pool("pool1", 3, stride=2, pad=(0, 1)),
        Conv("conv2", 8, 3, pad=(1, 1), groups=2),
        Relu("relu2"),
        BatchNorm("bn2", eps=1e-3, momentum=0.1),
        Pool("pool2", 3, stride=1, pad=(1, 0)),
        Flatten("flatten"),
        Fc("fc3", 16),
        Relu("relu3"),
        Dropout("drop3", 0.5),
        Fc("fc4", 5),
    ),
)
PARTS = {part.name.partition(".")[2]: part for part in EVERY.parts()}


def net_of(framework, variant, weights, **changes):
    asked = dataclasses.replace(how(framework, 2), **changes)
    net = configured(framework).build(variant, weights, asked)
    net.load(resident_batches(asked, variant.input_size, variant.channels))
    return net


def only(variant, weights):
    return {name: arrays for name, arrays in weights.items() if name in {row.name for row in variant.layers}}


def assert_values(net, variant, weights, images):
    trained = reference.forward(variant, weights, images, training=True)
    assert error(logits_of(net, images), reference.forward(variant, weights, images).logits) < 1e-5
    loss, gradients = gradients_of(net, images)
    assert loss == pytest.approx(reference.loss(trained.logits), rel=1e-5)
    expected = reference.gradients(variant, weights, trained)
    assert {(row, name) for row, of in gradients.items() for name in of} == {
        (row, name) for row, of in expected.items() for name in of
    }
    for row, arrays in expected.items():
        for name, array in arrays.items():
            assert error(gradients[row][name], array) < 1e-4, (row, name)


@pytest.mark.parametrize("row", PARTS)
def test_a_part_has_the_output_and_the_gradients_of_the_reference_the_inputs_too(framework, row):
    variant, weights = PARTS[row], only(PARTS[row], initial(EVERY))
    net = net_of(framework, variant, weights)
    assert_values(net, variant, weights, far_from_ties(variant, weights))
    (reported,), (placed,) = net.layers(), variant.placed()
    assert tuple(reported[name] for name in ("height", "width", "channels")) == placed.output


def test_a_part_hands_out_its_output_then_each_gradient_and_that_of_its_input_last(framework):
    net = net_of(framework, PARTS["fc3"], only(PARTS["fc3"], initial(EVERY)))
    output, kernel, bias, images = net.forward_backward()
    channels = PARTS["fc3"].channels
    assert [sorted(value.shape) for value in (output, kernel, bias)] == [[2, 16], sorted((channels, 16)), [16]]
    assert images.shape[0] == 2
    assert np.size(np.asarray(images)) == 2 * channels


def test_the_first_part_has_no_gradient_of_its_images(framework):
    variant, weights = PARTS["conv1"], only(PARTS["conv1"], initial(EVERY))
    net = net_of(framework, variant, weights)
    assert len(net.forward_backward()) == 3
    _, gradients = gradients_of(net, far_from_ties(variant, weights))
    assert gradients.keys() == {"conv1"}


def test_a_part_behind_the_flatten_is_fed_rows_as_in_its_net(framework):
    for row in ("fc3", "relu3", "drop3"):
        net = net_of(framework, PARTS[row], only(PARTS[row], initial(EVERY)))
        assert len(net.forward().shape) == 2


@pytest.mark.parametrize("name", ["original.lrn1", "owt.fc8", "keras_bn.bn2"])
def test_parts_of_the_real_nets_have_the_shapes_of_their_rows(framework, name):
    variant = {part.name: part for part in VARIANTS[name.partition(".")[0]].parts()}[name]
    net = net_of(framework, variant, initial(variant))
    assert net.layers()[0]["channels"] == variant.placed()[0].output[2]
    _, gradients = gradients_of(net, resident_batches(how(framework, 2), variant.input_size, variant.channels)[0])
    assert gradients["input"]["images"].shape == (2, variant.input_size, variant.input_size, variant.channels)


class TestXla:
    def test_a_net_with_every_kind_of_row_has_the_references_values(self):
        weights = initial(EVERY)
        images = far_from_ties(EVERY, weights)
        net = net_of("tensorflow", EVERY, weights, mode="xla")
        trained = reference.forward(EVERY, weights, images, training=True)
        assert_values(net, EVERY, weights, images)
        mean, variance = trained.statistics["bn2"]
        found, values = net.state()["bn2"], 2 * 4 * 4
        assert error(found["moving_mean"], 0.9 * weights["bn2"]["moving_mean"] + 0.1 * mean) < 1e-5
        unbiased = variance * values / (values - 1)
        assert error(found["moving_variance"], 0.9 * weights["bn2"]["moving_variance"] + 0.1 * unbiased) < 1e-5

    def test_compiled_part_is_traced_once(self):
        net = net_of("tensorflow", EVERY, initial(EVERY), mode="xla")
        for _ in range(3):
            net.forward(), net.forward_backward()
        assert net.traces() == {"forward": 1, "forward_backward": 1}
        assert "HloModule" in net.step.experimental_get_compiler_ir(net.batches[0])(stage="hlo")
        assert net.step._jit_compile

    def test_dropout_has_a_new_mask_every_iteration(self):
        variant = dataclasses.replace(PARTS["drop3"], input_gradient=True)
        net = net_of("tensorflow", variant, {}, mode="xla", dropout=True)
        ones = np.ones((2, 1, 1, 16), np.float32)
        masks = [gradients_of(net, ones)[1]["input"]["images"] for _ in range(10)]
        assert {0.0, 4.0} == set(np.unique(masks))
        assert len({mask.tobytes() for mask in masks}) == 10

    @pytest.mark.slow
    def test_bf16_rounds_operands_and_keeps_gradients_in_float32(self):
        weights = initial(EVERY)
        images = far_from_ties(EVERY, weights)
        net = net_of("tensorflow", EVERY, weights, mode="xla", precision="bf16")
        exact = reference.forward(EVERY, weights, images).logits
        low = error(reference.forward(EVERY, weights, images, precision="bf16").logits, exact)
        assert low / 3 < error(logits_of(net, images), exact) < 3 * low
        _, gradients = gradients_of(net, images)
        assert {array.dtype for of in gradients.values() for array in of.values()} == {np.dtype("float32")}


@pytest.mark.parametrize(("framework", "mode"), [("tensorflow", "graph"), ("tensorflow", "xla"), ("jax", "jit")])
@pytest.mark.parametrize(("radius", "beta"), [(5, 0.75), (2, 0.5), pytest.param(2, 0.6, marks=pytest.mark.slow)])
def test_the_fast_lrn_is_the_native_one_to_1e_5(framework, mode, radius, beta):
    """Alone and large, so that a wrong radius or power shows; a few channels fewer than the window is wide too."""
    for channels in (MANY.filters, 4):
        lrn = Lrn("lrn", radius, alpha=1e-3, beta=beta, k=1.5)
        variant = Variant("lrn", 4, "", "", (lrn,), channels=channels, part=True, input_gradient=True)
        images = 30 * resident_batches(how(framework, 2), 4, channels)[0]
        native, fast = (net_of(framework, variant, {}, mode=mode, lrn=kind) for kind in ("native", "fast"))
        assert error(logits_of(fast, images), logits_of(native, images)) < 1e-5
        found, expected = (gradients_of(net, images)[1]["input"]["images"] for net in (fast, native))
        assert error(found, expected) < 1e-5
        assert_values(fast, variant, {}, images)


def test_the_fast_lrn_is_another_program_than_the_native_one():
    """A ``fast`` that is forgotten on its way to a row would pass every test of values."""
    lrn = Lrn("lrn", 2, alpha=1e-3, beta=0.75, k=1.5)
    variant = Variant("lrn", 4, "", "", (lrn,), channels=8, part=True, input_gradient=True)
    kinds = {}
    for kind in ("native", "fast"):
        net = net_of("tensorflow", variant, {}, lrn=kind)
        kinds[kind] = {operation.type for operation in net.step.get_concrete_function().graph.get_operations()}
        net = net_of("jax", variant, {}, lrn=kind)
        text = net.step.lower(net.parameters, net.moving, net.key, net.batches[0]).as_text()
        assert ("stablehlo.power" in text) == (kind == "native")
    assert "LRN" in kinds["native"]
    assert "LRN" not in kinds["fast"]


class TestTensorFlowPadding:
    """An explicit padding costs the CPU half a backward pass: none may be left in what runs there."""

    @pytest.mark.parametrize("name", VARIANTS)
    def test_no_operation_of_a_net_on_the_cpu_has_an_explicit_padding(self, name):
        variant = VARIANTS[name].resized(99)
        net = net_of("tensorflow", variant, initial(variant))
        found = {
            operation.get_attr("padding")
            for operation in net.step.get_concrete_function().graph.get_operations()
            if operation.type.startswith(("Conv2D", "MaxPool"))
        }
        assert found <= {b"SAME", b"VALID"}


@pytest.mark.parametrize("name", [name for name, it in impls.FRAMEWORKS.items() if it.peer])
def test_conditions_know_no_bf16_units_on_a_cpu(name):
    assert configured(name).conditions()["bf16"] is None
