"""Modes, layouts, LRNs and parts of every adapter against the float64 reference, on nets with a row of every kind."""

import dataclasses
import itertools
import shutil
import types
from typing import Any

import numpy as np
import pytest
from nets import PEERS, configured

import impls
from bench.controller import parity
from impls import reference
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Layer, Lrn, Pool, Relu
from impls.net import Build, Net, Settings, gradients_of, logits_of, resident_batches
from impls.variants import Variant
from impls.weights import Weights, initial

pytestmark = pytest.mark.process

COMPILER = any(map(shutil.which, ("c++", "g++", "clang++")))
LIMITS = parity.LIMITS["fp32"]


def tiny(size: int, *layers: Layer) -> Variant:
    return Variant("tiny", input_size=size, source="", note="", layers=layers)


EVERY = tiny(
    19,
    Conv("conv1", 6, 5, stride=2, pad=(1, 2)),
    Relu("relu1"),
    Lrn("lrn1", radius=2, alpha=1e-2, beta=0.75, k=2.0),
    Pool("pool1", 3, stride=2, pad=(1, 1)),
    Conv("conv2", 8, 3, pad=(1, 1), groups=2),
    Relu("relu2"),
    BatchNorm("bn2", eps=1e-3, momentum=0.1),
    Pool("pool2", 2, stride=2),
    Flatten("flatten"),
    Dropout("drop6", 0.5),
    Fc("fc6", 16),
    Relu("relu6"),
    Fc("fc7", 5),
)
LRNS = ("native", "fast")


def on_cpu(framework: str) -> list[Any]:
    """The modes that a CPU has; those of torch that compile need a compiler, and minutes where its cache is cold."""
    it = impls.FRAMEWORKS[framework]
    slow = [
        pytest.mark.slow,
        pytest.mark.timeout(900),
        pytest.mark.skipif(not COMPILER, reason="no C++ compiler: torch.compile needs one"),
    ]
    return [
        pytest.param(framework, mode, marks=slow if framework == "torch" and mode in it.compiled else ())
        for mode in it.modes
        if mode not in it.cuda_only
    ]


MODES = list(itertools.chain(*map(on_cpu, PEERS)))
LAYOUTS = [
    pytest.param(*mode.values, layout, marks=mode.marks)
    for mode in MODES
    for layout in impls.FRAMEWORKS[mode.values[0]].layouts
]
EACH_LAYOUT = [(name, layout) for name in PEERS for layout in impls.FRAMEWORKS[name].layouts]


def built(framework: str, variant: Variant, weights: Weights, mode: str, layout: str = "", **changes: Any) -> Net:
    it = impls.FRAMEWORKS[framework]
    how = dataclasses.replace(Build(2, "cpu", "fp32", mode, layout or it.layouts[0]), **changes)
    net = configured(framework).build(variant, weights, how)
    net.load(resident_batches(how, variant.input_size, variant.channels))
    return net


def clear_images(variant: Variant, weights: Weights, scale: float = 1.0) -> np.ndarray:
    """The first batch of two that float32's rounding cannot bring to a tie."""
    shape = (2, variant.input_size, variant.input_size, variant.channels)
    for draw in range(200):
        images = np.random.Generator(np.random.PCG64([7, draw])).standard_normal(shape, dtype=np.float32) * scale
        if reference.clear_of_ties(variant, weights, np.float32(images), 1e-4):
            return np.float32(images)
    raise AssertionError("no draw is clear of ties")


def assert_is_the_reference(
    net: Net, variant: Variant, weights: Weights, images: np.ndarray, limits: dict[str, float] = LIMITS
) -> None:
    trained = reference.forward(variant, weights, images, training=True)
    logits = logits_of(net, images)
    expected = reference.forward(variant, weights, images).logits
    assert logits.shape == expected.shape
    assert reference.relative_l2(logits, expected) <= limits["logits"]
    loss, found = gradients_of(net, images)
    assert abs(loss / reference.loss(trained.logits) - 1) <= limits["loss"]
    wanted = reference.gradients(variant, weights, trained)
    assert {layer: set(arrays) for layer, arrays in found.items()} == {
        layer: set(arrays) for layer, arrays in wanted.items()
    }
    for layer, arrays in wanted.items():
        for name, array in arrays.items():
            assert found[layer][name].shape == array.shape, (layer, name)
            assert reference.relative_l2(found[layer][name], array) <= limits["gradient"], (layer, name)


@pytest.mark.parametrize("lrn", LRNS)
@pytest.mark.parametrize(("framework", "mode", "layout"), LAYOUTS)
def test_every_mode_layout_and_lrn_is_the_reference_and_traced_once(framework, mode, layout, lrn):
    weights = initial(EVERY)
    net = built(framework, EVERY, weights, mode, layout, lrn=lrn)
    assert_is_the_reference(net, EVERY, weights, clear_images(EVERY, weights))
    net.layers()
    for _ in range(3):
        net.wait((net.forward(), net.forward_backward()))
    assert net.layout() == layout
    assert net.traces() in ({}, {"forward": 1, "forward_backward": 1})
    compiled = mode in impls.FRAMEWORKS[framework].compiled or mode == "graph"
    assert bool(net.traces()) == compiled


OWT = tiny(
    35,
    Conv("conv1", 4, 11, stride=4, pad=(2, 2)),
    Relu("relu1"),
    Lrn("lrn1", radius=2, alpha=1e-2, beta=0.75, k=1.0),
    Pool("pool1", 3, stride=2),
    Conv("conv2", 6, 3, pad=(1, 1), groups=2),
    BatchNorm("bn2", eps=1e-3, momentum=0.1),
    Flatten("flatten"),
    Dropout("drop6", 0.5),
    Fc("fc6", 7),
    Relu("relu6"),
    Fc("fc7", 5),
)
PARTS = OWT.parts()


def part(name: str) -> Variant:
    return next(it for it in PARTS if it.layers[0].name == name)


def is_the_reference_alone(framework: str, variant: Variant, **how: Any) -> None:
    weights = initial(variant)
    net = built(framework, variant, weights, **how)
    # BatchNorm's own output as its gradient lies in the null space of its backward pass: what eps leaves is 1e-3 of it
    limits = LIMITS | {"gradient": 1e-2} if isinstance(variant.layers[0], BatchNorm) else LIMITS
    assert_is_the_reference(net, variant, weights, clear_images(variant, weights), limits)


@pytest.mark.parametrize(("framework", "layout"), EACH_LAYOUT)
@pytest.mark.parametrize("row", [it.layers[0].name for it in PARTS])
def test_a_part_and_its_input_gradient_are_the_references(framework, layout, row):
    mode = impls.FRAMEWORKS[framework].modes[0]
    is_the_reference_alone(framework, part(row), mode=mode, layout=layout)


@pytest.mark.parametrize("row", ["conv1", "lrn1", "flatten", "drop6", "fc6"])
@pytest.mark.parametrize(("framework", "mode"), MODES)
def test_a_part_is_the_reference_in_every_mode(framework, mode, row):
    is_the_reference_alone(framework, part(row), mode=mode, lrn="fast")


def test_only_the_first_part_has_no_gradient_for_its_input():
    for it in PARTS:
        net = built("torch", it, initial(it), "eager")
        _, found = gradients_of(net, clear_images(it, initial(it)))
        assert ("input" in found) == (it.layers[0].name != "conv1")


@pytest.mark.parametrize(("framework", "mode"), MODES)
def test_bf16_is_a_net_of_rounded_operands_with_an_lrn_of_full_ones(framework, mode):
    """Rounded as the reference rounds; and an LRN alone, which has nothing to round, is float32's own."""
    weights, images = initial(EVERY), clear_images(EVERY, initial(EVERY))
    net = built(framework, EVERY, weights, mode, precision="bf16", lrn="fast")
    exact = reference.forward(EVERY, weights, images).logits
    low = reference.relative_l2(reference.forward(EVERY, weights, images, precision="bf16").logits, exact)
    assert low / 3 < reference.relative_l2(logits_of(net, images), exact) < 3 * low
    _, gradients = gradients_of(net, images)
    assert {array.dtype for of in gradients.values() for array in of.values()} == {np.dtype("float32")}
    is_the_reference_alone(framework, part("lrn1"), mode=mode, precision="bf16", lrn="fast")


@pytest.mark.parametrize(("framework", "layout"), EACH_LAYOUT)
@pytest.mark.parametrize(("radius", "beta"), [(1, 0.6), (2, 0.6), (2, 0.75), (5, 0.75)])
def test_a_fast_lrn_is_the_reference_to_1e_5_forward_and_backward(framework, layout, radius, beta):
    lrn = tiny(4, Lrn("lrn", radius, alpha=1e-2, beta=beta, k=1.5))
    lrn = dataclasses.replace(lrn, channels=13, part=True, input_gradient=True)
    mode = impls.FRAMEWORKS[framework].modes[0]
    net = built(framework, lrn, {}, mode, layout, lrn="fast")
    images = clear_images(lrn, {}, scale=10)
    assert_is_the_reference(net, lrn, {}, images, LIMITS | {"gradient": 1e-5})


def grad_names(output) -> set[str]:
    """The names of all nodes of autograd's graph behind a tensor."""
    names, left = set(), [output.grad_fn]
    while left:
        node = left.pop()
        names.add(node.name())
        left += [it for it, _ in node.next_functions if it is not None]
    return names


class TestTorch:
    """What torch's own tensors say of a layout, of a copy, and of the work that is done."""

    def net(self, layout: str, variant: Variant = EVERY, **changes: Any) -> Any:
        return built("torch", variant, initial(variant), "eager", layout, **changes)

    @pytest.mark.parametrize("lrn", LRNS)
    def test_channels_last_holds_from_the_images_to_the_flatten_which_copies_nothing(self, lrn):
        torch = pytest.importorskip("torch")
        net = self.net("channels_last", lrn=lrn)
        seen = [net.batches[0]]
        for row in net.training:
            before = seen[-1]
            seen.append(row(before))
            if isinstance(row.layer, Flatten):
                assert seen[-1].data_ptr() == before.data_ptr()
        spatial = [x for x in seen if x.ndim == 4]
        assert len(spatial) == 9
        assert all(x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous() for x in spatial)
        kernels = [row.kernel for row in net.training if isinstance(row.layer, Conv)]
        assert all(it.is_contiguous(memory_format=torch.channels_last) for it in kernels)

    def test_activation_in_another_layout_is_reported(self, monkeypatch):
        adapter = configured("torch")
        monkeypatch.setitem(adapter.OPS, Conv, lambda x, layer, row: adapter.conv(x, layer, row).contiguous())
        assert self.net("channels_last").layout() == "nchw"

    @pytest.mark.parametrize("layout", impls.FRAMEWORKS["torch"].layouts)
    @pytest.mark.parametrize("row", ["flatten", "fc6", "relu6", "pool1"])
    def test_part_has_the_requested_layout(self, row, layout):
        assert self.net(layout, part(row)).layout() == layout

    def test_relu_is_in_place_only_where_nothing_else_reads_its_input(self):
        net = self.net("nchw")
        assert [row.fresh for row in net.training if isinstance(row.layer, Relu)] == [True] * 3
        (alone,) = self.net("nchw", part("relu6")).training
        assert not alone.fresh

    def test_the_fast_lrn_has_its_own_gradient(self):
        for lrn in LRNS:
            net = self.net("nchw", lrn=lrn)
            names = grad_names(net.train_eagerly(net.batches[0]))
            assert ("FastLrnBackward" in names) == (lrn == "fast")

    def test_a_net_with_dropout_draws_a_new_mask_each_time(self):
        net = self.net("nchw", dropout=True)
        x = net.batches[0]
        losses = {float(net.differentiate(net.training_pass(x), x)[0]) for _ in range(5)}
        assert len(losses) == 5

    def test_the_default_preset_sets_nothing(self, monkeypatch):
        torch = pytest.importorskip("torch")
        adapter = configured("torch")
        for owner, name in [
            (torch, "set_flush_denormal"),
            (torch, "set_num_threads"),
            (torch, "set_num_interop_threads"),
            (torch, "set_float32_matmul_precision"),
        ]:
            monkeypatch.setattr(owner, name, lambda *args: pytest.fail("was set"))
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        adapter.configure(Settings("cpu", 1, "fp32", preset="default"))
        assert not torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.allow_tf32

    def test_conditions_say_whether_denormals_are_flushed(self):
        torch = pytest.importorskip("torch")
        adapter = configured("torch")
        assert adapter.conditions()["flush_denormal"] is True
        assert adapter.conditions()["bf16"] is None or torch.cuda.is_available()


@pytest.mark.parametrize("framework", ["tensorflow", "jax"])
def test_versions_and_bf16_are_those_of_the_chosen_gpu(framework, monkeypatch):
    adapter, gpus = configured(framework), [("old card", 7.0), ("new card", 9.0)]
    seen: list[list[int]] = []
    monkeypatch.setattr(adapter, "_gpu", 0)
    if framework == "jax":
        client = types.SimpleNamespace(platform_version="cuda 13")
        facts = {"platform": "gpu", "client": client}
        devices = [
            types.SimpleNamespace(device_kind=name, compute_capability=str(version), local_hardware_id=number, **facts)
            for number, (name, version) in enumerate(gpus)
        ]
        monkeypatch.setattr(adapter.jax, "local_devices", lambda backend=None: devices)
        monkeypatch.setattr(adapter.jax.config, "update", lambda name, value: None)
    else:
        config = adapter.tf.config
        details = [{"device_name": name, "compute_capability": (version, 0)} for name, version in gpus]
        monkeypatch.setattr(config, "list_physical_devices", lambda kind: [0, 1])
        monkeypatch.setattr(config, "set_visible_devices", lambda gpus, kind: seen.append(gpus))
        monkeypatch.setattr(config.experimental, "set_memory_growth", lambda gpu, grows: None)
        monkeypatch.setattr(config.experimental, "get_device_details", details.__getitem__)
    for device, name, native in (("cuda", "old card", False), ("cuda:1", "new card", True)):
        adapter.configure(Settings(device, None, "fp32", preset="default"))
        assert (adapter.versions()["device_name"], adapter.native_bf16()) == (name, native)
    assert framework == "jax" or seen == [[0], [1]]


@pytest.mark.parametrize(("plugin", "cuda"), [("jax_cuda13_plugin", "13"), ("jax_cuda12_plugin", "12"), ("", None)])
def test_jax_says_what_cuda_its_plugin_is_for_without_a_gpu(monkeypatch, plugin, cuda):
    pytest.importorskip("jax")
    adapter = configured("jax")
    installed = types.SimpleNamespace(find_spec=lambda name: object() if name == plugin else None)
    monkeypatch.setattr(adapter, "importlib", types.SimpleNamespace(util=installed))
    assert adapter.versions()["cuda"] == cuda
