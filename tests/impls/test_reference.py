"""The float64 reference against arithmetic by plain loops, and its gradients against finite differences."""

import math

import numpy as np
import pytest

from impls import reference
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Pool, Relu
from impls.net import Sgd
from impls.variants import Variant
from impls.weights import initial


def normal(*shape):
    return np.random.Generator(np.random.PCG64(shape)).standard_normal(shape)


def tiny(*rows, size=7):
    return Variant("tiny", input_size=size, source="", note="", layers=rows)


def output(row, x, training=False, **arrays):
    """The row's output by the reference, flat as logits are."""
    return reference.forward(tiny(row), {row.name: arrays}, x, training=training).logits


def at(x, n, i, j, c, pad, outside):
    """x[n, i, j, c] of an input padded by pixels of value ``outside``."""
    i, j = i - pad[0], j - pad[0]
    return x[n, i, j, c] if 0 <= i < x.shape[1] and 0 <= j < x.shape[2] else outside


def by_loops(x, shape, value):
    return np.array([[value(n, i, j, c) for i, j, c in np.ndindex(*shape)] for n in range(len(x))])


CONVS = [Conv("conv", 6, 3, 2, (1, 1)), Conv("conv", 6, 3, 3, (0, 2)), Conv("conv", 6, 2, pad=(2, 1), groups=2)]
POOLS = [
    *(Pool("pool", 3, 2), Pool("pool", 3, 2, pad=(1, 1)), Pool("pool", 2, 1, pad=(0, 1))),
    *(Pool("pool", kernel, stride, ceil=True) for kernel, stride in ((3, 2), (2, 2), (2, 3))),
    Pool("pool", 3, 2, pad=(1, 1), ceil=True),
]


@pytest.mark.parametrize("row", CONVS, ids=str)
def test_conv_is_the_sum_over_its_window_and_its_group(row):
    x = normal(2, 5, 6, 4)
    per_group, filters = 4 // row.groups, 6 // row.groups
    kernel, bias = normal(row.kernel, row.kernel, per_group, 6), normal(6)

    def value(n, i, j, f):
        first = f // filters * per_group
        return bias[f] + sum(
            kernel[a, b, c, f] * at(x, n, i * row.stride + a, j * row.stride + b, first + c, row.pad, 0.0)
            for a, b, c in np.ndindex(row.kernel, row.kernel, per_group)
        )

    expected = by_loops(x, row.output((5, 6, 4)), value)
    np.testing.assert_allclose(output(row, x, kernel=kernel, bias=bias), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("row", POOLS, ids=str)
def test_pool_is_the_maximum_and_padding_never_wins(row):
    height, width = (6, 6) if row.ceil else (5, 6)  # what is left over is the same on both axes of a net
    x = -np.abs(normal(2, height, width, 3))

    def value(n, i, j, c):
        places = np.ndindex(row.kernel, row.kernel)
        return max(at(x, n, i * row.stride + a, j * row.stride + b, c, row.pad, -math.inf) for a, b in places)

    made = output(row, x)
    assert np.isfinite(made).all()  # no window is in the padding alone
    np.testing.assert_array_equal(made, by_loops(x, row.output((height, width, 3)), value))


def test_the_first_of_equal_values_gets_the_whole_gradient_of_a_pool():
    part = Variant("pool", 4, "", "", (Pool("pool", 2, stride=2),), channels=1, part=True, input_gradient=True)
    trace = reference.forward(part, {}, np.full((1, 4, 4, 1), 3.0), training=True)
    gradient = reference.gradients(part, {}, trace)["input"]["images"][0, :, :, 0]
    assert gradient.tolist() == [[3.0, 0.0, 3.0, 0.0], [0.0] * 4] * 2


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_lrn_divides_by_the_squares_of_the_channels_around(radius):
    x = 30 * normal(2, 2, 3, 7)
    row = Lrn("lrn", radius, alpha=1e-3, beta=0.75, k=2.0)

    def value(n, i, j, c):
        around = range(max(0, c - radius), min(7, c + radius + 1))
        return x[n, i, j, c] / (2.0 + 1e-3 * sum(x[n, i, j, d] ** 2 for d in around)) ** 0.75

    np.testing.assert_allclose(output(row, x), by_loops(x, (2, 3, 7), value), rtol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_takes_the_moving_statistics_or_in_training_the_batchs(training):
    x, row = normal(2, 3, 4, 5), BatchNorm("bn", eps=1e-3, momentum=0.1)
    gamma, beta, mean, variance = np.abs(normal(4, 5)) + 0.5
    arrays = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    found = output(row, x, training, **arrays)
    if training:
        mean = x.sum((0, 1, 2)) / 24
        variance = ((x - mean) ** 2).sum((0, 1, 2)) / 24

    def value(n, i, j, c):
        return gamma[c] * (x[n, i, j, c] - mean[c]) / math.sqrt(variance[c] + 1e-3) + beta[c]

    expected = by_loops(x, (3, 4, 5), value)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_dense_rows_after_a_flatten_are_in_h_w_c_order():
    x, kernel, bias = normal(2, 2, 3, 4), normal(24, 5), normal(5)
    found = reference.forward(tiny(Flatten("flatten"), Fc("fc", 5)), {"fc": {"kernel": kernel, "bias": bias}}, x).logits
    for n, unit in np.ndindex(2, 5):
        terms = [x[n, i, j, c] * kernel[(i * 3 + j) * 4 + c, unit] for i, j, c in np.ndindex(2, 3, 4)]
        assert found[n, unit] == pytest.approx(bias[unit] + sum(terms), rel=1e-12)


def test_relu_keeps_what_is_positive_and_dropout_is_off():
    x = np.array([-1.0, 0.0, 2.0, -3.0]).reshape(1, 2, 2, 1)
    assert output(Relu("relu"), x, training=True).tolist() == [[0, 0, 2, 0]]
    assert output(Dropout("drop", 0.5), x, training=True).tolist() == [[-1, 0, 2, -3]]


def test_the_loss_is_half_the_sum_of_squares_over_the_batch():
    assert reference.loss(np.array([[1.0, 2.0], [3.0, 4.0]])) == 15.0


class TestCrossEntropy:
    LOGITS, LABELS = 3 * normal(4, 6), np.array([5, 0, 2, 2])

    def test_cross_entropy_is_the_mean_of_minus_the_log_of_each_labels_probability(self):
        expected = [
            -math.log(math.exp(row[label]) / sum(map(math.exp, row)))
            for row, label in zip(self.LOGITS.tolist(), self.LABELS, strict=True)
        ]
        assert reference.cross_entropy(self.LOGITS, self.LABELS)[0] == pytest.approx(sum(expected) / 4, rel=1e-12)

    def test_its_gradient_is_its_finite_difference(self):
        _, gradient = reference.cross_entropy(self.LOGITS, self.LABELS)
        steps = 1e-6 * np.eye(self.LOGITS.size).reshape(-1, *self.LOGITS.shape)
        ends = [
            [reference.cross_entropy(self.LOGITS + sign * step, self.LABELS)[0] for sign in (1, -1)] for step in steps
        ]
        slope = np.reshape([(after - before) / 2e-6 for after, before in ends], self.LOGITS.shape)
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-9)

    def test_large_logits_have_finite_values(self):
        loss, gradient = reference.cross_entropy(np.array([[1e4, 0.0], [-1e4, 0.0]]), np.array([0, 0]))
        assert loss == pytest.approx(5e3)
        assert gradient.tolist() == [[0.0, 0.0], [-0.5, 0.5]]


def test_update_is_that_of_the_paper_by_hand():
    sgd, weight, velocity = Sgd(lr=0.1, momentum=0.5, decay=0.01), np.array([2.0]), np.array([0.0])
    weight, velocity = reference.update(weight, velocity, np.array([3.0]), sgd)
    assert (velocity[0], weight[0]) == (pytest.approx(-0.302), pytest.approx(1.698))
    weight, velocity = reference.update(weight, velocity, np.array([-1.0]), sgd)  # -0.151 + 0.1 - 0.001698
    assert (velocity[0], weight[0]) == (pytest.approx(-0.052698), pytest.approx(1.645302))


@pytest.mark.parametrize("entropy", [False, True], ids=["squares", "cross-entropy"])
def test_every_gradient_is_its_finite_difference(entropy):
    features = Conv("conv", 4, 3, stride=2, pad=(1, 2)), Relu("relu"), BatchNorm("bn", eps=1e-3, momentum=0.1)
    grouped = Lrn("lrn", 1, alpha=0.1, beta=0.75, k=1.0), Conv("grouped", 4, 3, pad=(1, 1), groups=2)
    dense = Flatten("flatten"), Dropout("drop", 0.5), Fc("fc", 5), Relu("last_relu"), Fc("last", 3)
    variant = tiny(*features, *grouped, Pool("pool", 3, stride=2, pad=(1, 1)), *dense)
    weights, images = initial(variant), normal(2, 7, 7, 3)
    trace = reference.forward(variant, weights, images, training=True)
    assert reference.margin(variant, trace) > 1e-4
    labels = np.array([2, 0])
    start = reference.cross_entropy(trace.logits, labels)[1] if entropy else None
    found = reference.gradients(variant, weights, trace, start=start)

    def loss(layer, name, array):
        changed = weights | {layer: weights[layer] | {name: array}}
        logits = reference.forward(variant, changed, images, training=True).logits
        return reference.cross_entropy(logits, labels)[0] if entropy else reference.loss(logits)

    for layer, shape, _ in variant.placed():
        assert found.get(layer.name, {}).keys() == layer.trainable(shape).keys()
        for name, gradient in found.get(layer.name, {}).items():
            array = weights[layer.name][name].astype(np.float64)
            steps = 1e-6 * np.eye(array.size).reshape(-1, *array.shape)
            ends = [(loss(layer.name, name, array + step), loss(layer.name, name, array - step)) for step in steps]
            slope = np.reshape([(after - before) / 2e-6 for after, before in ends], array.shape)
            assert np.linalg.norm(gradient - slope) < 1e-6 * np.linalg.norm(slope), (layer.name, name)


@pytest.mark.parametrize(
    ("precision", "value", "nearest"),
    [
        ("bf16", 1 + 1 / 256, 1.0),  # a tie: to the even neighbor
        ("bf16", 1 + 3 / 256, 1 + 4 / 256),
        ("bf16", 1 + 1 / 128, 1 + 1 / 128),
        ("bf16", -3.0e-5, -np.ldexp(252, -23)),
        ("tf32", 1 + 1 / 1024, 1 + 1 / 1024),
        ("tf32", 1 + 1 / 2048, 1.0),
        ("fp32", np.pi, float(np.float32(np.pi))),
        (None, np.pi, np.pi),
    ],
)
def test_a_value_is_rounded_to_the_bits_of_its_precision(precision, value, nearest):
    assert reference.rounded(np.array(value), precision) == nearest


def test_rounded_operands_are_those_of_convolutions_and_dense_layers_alone():
    """By hand for one dense layer after a scale of another kind: operands rounded, sums and the rest in float64."""
    variant = tiny(Lrn("lrn", 1, alpha=0.5, beta=0.75, k=1.0), Flatten("flatten"), Fc("fc", 3), size=2)
    weights, x = {"fc": {"kernel": normal(12, 3), "bias": normal(3)}}, normal(2, 2, 2, 3)
    trace = reference.forward(variant, weights, x, precision="bf16")
    flat = reference.rounded(reference.forward(variant, weights, x).inputs[-1], "bf16")
    kernel = reference.rounded(weights["fc"]["kernel"], "bf16")
    np.testing.assert_array_equal(trace.logits, flat @ kernel + weights["fc"]["bias"])
    found = reference.gradients(variant, weights, trace, "bf16")["fc"]
    np.testing.assert_array_equal(found["kernel"], flat.T @ reference.rounded(trace.logits, "bf16"))


@pytest.mark.parametrize(("found", "expected", "error"), [([3.0, 4.0], [3.0, 5.0], 34**-0.5), ([0.0], [0.0], 0.0)])
def test_an_error_is_the_norm_of_the_difference_over_that_of_what_was_expected(found, expected, error):
    assert reference.relative_l2(np.array(found), np.array(expected)) == pytest.approx(error)


def test_a_grouped_conv_is_two_convs_side_by_side():
    x, kernel, bias = normal(2, 5, 6, 4), normal(3, 3, 2, 6), normal(6)

    def run(row, x, kernel, bias):
        variant, weights = tiny(row, Flatten("flatten")), {row.name: {"kernel": kernel, "bias": bias}}
        trace = reference.forward(variant, weights, x)
        return trace.logits.reshape(2, 3, 4, -1), reference.gradients(variant, weights, trace)["conv"]

    whole, gradient = run(Conv("conv", 6, 3, groups=2), x, kernel, bias)
    halves = [
        run(Conv("conv", 3, 3), x[..., 2 * i : 2 * i + 2], kernel[..., 3 * i : 3 * i + 3], bias[3 * i : 3 * i + 3])
        for i in (0, 1)
    ]
    np.testing.assert_allclose(whole, np.concatenate([y for y, _ in halves], -1), rtol=1e-12)
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(gradient[name], np.concatenate([g[name] for _, g in halves], -1), rtol=1e-12)


class TestMargin:
    IMAGES = np.reshape([[4.0, -3.0, 1.0, 2.0], [8.0, -6.0, 2.0, 4.0]], (2, 2, 2, 1))  # RMS sqrt(7.5) and twice that

    def margin(self, row, planted=None):
        images = self.IMAGES.copy()
        if planted is not None:
            images[1, 0, 1, 0] = planted  # where -6 was, beside the largest
        return reference.margin(tiny(row), reference.forward(tiny(row), {}, images))

    def test_margin_of_a_relu_is_its_smallest_pre_activation_over_the_images_rms(self):
        assert self.margin(Relu("relu")) == pytest.approx(1 / math.sqrt(7.5))
        assert self.margin(Relu("relu"), -1e-8) == pytest.approx(1e-8 / math.sqrt((64 + 4 + 16) / 4))

    def test_margin_of_a_pool_is_the_gap_of_its_two_largest_over_the_images_rms(self):
        pool = Pool("pool", 2, stride=2)
        assert self.margin(pool) == pytest.approx(2 / math.sqrt(7.5))
        assert self.margin(pool, 8 - 1e-6) == pytest.approx(1e-6 / math.sqrt((64 + 64 + 4 + 16) / 4))

    @pytest.mark.parametrize(("row", "tie", "rest"), [(Relu("relu"), 0.0, 1.0), (Pool("pool", 2, stride=2), 8.0, 2.0)])
    def test_margin_ignores_exact_ties(self, row, tie, rest):
        assert self.margin(row, tie) == pytest.approx(rest / math.sqrt(7.5))

    def test_margin_of_other_layers_is_infinite(self):
        assert self.margin(Lrn("lrn", radius=1, alpha=1.0, beta=0.75, k=1.0), 1e-9) == math.inf
