"""Every pass of every net in JAX, lowered for a GPU where there is none: what would run there, in which precision."""

import re

import pytest
from nets import configured

from impls.layers import Conv, Fc
from impls.net import Build, Sgd, resident_batches, resident_labels
from impls.variants import VARIANTS, Variant
from impls.weights import initial

pytestmark = pytest.mark.process

#: How XLA is told of each precision: HIGHEST is fp32 on a GPU, HIGH lets it round to tf32.
TOLD = {"fp32": ("HIGHEST", "f32"), "tf32": ("HIGH", "f32"), "bf16": ("HIGHEST", "bf16")}
PRODUCTS = re.compile(r"stablehlo\.(?:convolution|dot_general)\b.*")


def lowered(variant: Variant, precision: str, pass_: str) -> str:
    """The program of a pass for the platform cuda."""
    adapter = configured("jax")
    import jax
    from jax import export

    net = adapter.Net(variant, initial(variant), Build(2, "cpu", precision, "jit", "nhwc"))
    net.load(resident_batches(net.how, variant.input_size))
    net.label(resident_labels(net.how, variant.classes))
    net.restart(Sgd(0.1))
    run, arguments = {
        "forward": (net.infer, (net.parameters, net.moving, net.batches[0])),
        "forward_backward": (net.step, (net.parameters, net.moving, net.key, net.batches[0])),
        "train_step": (
            net.train,
            (net.parameters, net.velocity, net.moving, net.key, net.batches[0], net.labels[0], net.rates),
        ),
    }[pass_]
    options = {"optimizer": None} if pass_ == "train_step" else {}
    with jax.default_matmul_precision(adapter.MATMUL_PRECISION[precision]):
        return export.export(run, platforms=("cuda",))(*arguments, **options).mlir_module()


def rows(variant: Variant) -> int:
    """Products of a forward pass: a convolution in groups is one per group."""
    return sum(getattr(layer, "groups", 1) for layer in variant.layers if isinstance(layer, Conv | Fc))


@pytest.mark.parametrize("precision", TOLD)
@pytest.mark.parametrize("pass_", ["forward", "forward_backward", "train_step"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_pass_is_lowered_for_a_gpu_with_all_its_products_in_its_precision(name, pass_, precision):
    variant = VARIANTS[name].resized(VARIANTS[name].least_size)
    program = lowered(variant, precision, pass_)
    products = PRODUCTS.findall(program)
    # backward two of each row, but for the images of the first
    groups_of_first = next(layer.groups for layer in variant.layers if isinstance(layer, Conv))
    assert len(products) == (rows(variant) if pass_ == "forward" else 3 * rows(variant) - groups_of_first)
    told, number = TOLD[precision]
    for product in products:
        assert re.findall(r"\bHIGHEST\b|\bHIGH\b|\bDEFAULT\b", product) == [told, told], product
        assert set(re.findall(r"x(b?f\d+)>", product)) == {number}, product
    assert "custom_call" not in program  # nothing is left to a kernel of one platform
