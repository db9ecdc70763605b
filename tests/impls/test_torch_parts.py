"""Modules of a torch model alone: which they are, and that they compute what they compute in the model."""

import pytest
from nets import configured, how

from impls.outputs import Unfit
from impls.parts import awake, deepest

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def torch():
    configured("torch")
    import torch

    return torch


@pytest.fixture(scope="module")
def parts(torch):
    from impls import torch_parts

    return torch_parts


@pytest.fixture(scope="module")
def net(torch):
    """A model with a part called twice, one in place, some that are idle, and two that cannot be called alone."""
    from torch import nn

    from impls.torch_model import Net

    class Size(nn.Module):
        def forward(self, x):
            return torch.tensor(x.shape[1:])

    class Scale(nn.Module):
        def forward(self, number):
            return torch.tensor(float(number))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.act = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.act(self.rows[0](x)) + self.act(self.rows[1](x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.stem, self.flat = nn.Hardtanh(), nn.Conv2d(3, 4, 3), nn.Flatten()
            self.block, self.off, self.size, self.scale = Block(), nn.Dropout(0), Size(), Scale()
            self.unused, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.flat(self.stem(self.norm(x)).amax((2, 3)))
            self.size(x)
            return self.head(self.off(self.block(x))) * self.scale(2)

    torch.manual_seed(0)
    made = Net(Model(), None, lambda batch: torch.randn(batch, 3, 8, 8), how("torch", batch=3))
    made.load([])
    made.check()
    return made


@pytest.fixture(scope="module")
def calls(net, parts):
    return {call.module.name: call for call in parts.record(net, deepest(awake(parts.modules(net), parts.idle)))}


def test_leaves_that_are_called_and_not_idle_are_parts_in_the_order_of_their_calls(calls):
    assert list(calls) == ["norm", "stem", "size", "block.rows.0", "block.act", "block.rows.1", "head", "scale"]
    assert {name: call.calls for name, call in calls.items() if call.calls > 1} == {"block.act": 2}
    refused = {name: call.refused for name, call in calls.items() if call.refused}
    assert refused == {"size": "it returns no floating-point tensor", "scale": "it is given no tensor"}
    assert (list(calls["stem"].shape), calls["stem"].params) == ([6, 6, 4], 112)


def test_the_gradient_of_an_input_is_computed_where_the_model_computes_it(calls):
    assert [name for name, call in calls.items() if not call.gradient] == ["norm", "stem", "scale"]


@pytest.mark.parametrize("name", ["stem", "block.rows.1", "block.act", "head"])
def test_a_part_computes_what_it_computes_in_the_model_in_any_number_of_passes(name, torch, net, calls, parts):
    own, seen = net.model.get_submodule(name), []
    with own.register_forward_hook(lambda module, args, output: seen.append(output.clone())), torch.no_grad():
        net._infer(net.batches[0])
    part = parts.part(calls[name], how("torch", batch=3))
    part.check()
    outputs = [part.forward()[0] for _ in range(3)]
    assert torch.equal(outputs[0], seen[0])  # batches alternate, the copy comes first
    assert torch.equal(outputs[1], seen[0].roll(1, 0))
    assert torch.equal(outputs[2], seen[0])


def test_a_backward_pass_is_that_of_half_the_sum_of_squares(torch, net, calls, parts):
    for name, wanted in (("stem", ["weight", "bias"]), ("block.rows.1", ["weight", "bias", "x"]), ("block.act", ["x"])):
        own = torch.nn.ReLU() if name == "block.act" else net.model.get_submodule(name)
        x = calls[name].inputs[0][0].roll(1, 0).requires_grad_("x" in wanted)
        loss = 0.5 * own(x).square().sum()
        expected = torch.autograd.grad(loss, [x if each == "x" else getattr(own, each) for each in wanted])
        part = parts.part(calls[name], how("torch", batch=3))
        part.check()
        part.forward()
        _, *found = part.forward_backward()  # on the other batch
        assert len(found) == len(expected)
        assert all(torch.allclose(one, other, rtol=1e-4) for one, other in zip(found, expected, strict=True))


def test_what_needs_no_gradient_has_a_pass_in_training_mode_only(calls, parts):
    part = parts.part(calls["norm"], how("torch", batch=3))
    part.check()
    handles = part.forward_backward()
    assert len(handles) == 1
    assert part.fetch(handles) == pytest.approx(float(handles[0].flatten()[0]))


def test_a_model_of_many_modules_is_taken_at_the_deepest_level_that_has_few(net, parts):
    found = awake(parts.modules(net), parts.idle)
    above = ["norm", "stem", "block", "size", "scale", "head"]
    assert [module.name for module in deepest(found, most=7, fewest=6)] == above
    assert len(deepest(found, most=8, fewest=6)) == 8
    assert len(deepest(found, most=1, fewest=6)) == 6  # a flat model keeps all
    assert len(deepest(found, most=7, fewest=7)) == 8  # 6 tell too little


def test_a_model_that_calls_no_module_has_none(torch, parts):
    from impls.torch_model import Net

    alone = Net(torch.nn.Linear(3, 2), None, lambda batch: torch.ones(batch, 3), how("torch"))
    alone.load([])
    alone.check()
    with pytest.raises(Unfit, match="it calls none"):
        parts.modules(alone)


def test_an_input_is_that_of_the_call_though_the_module_overwrites_it(calls):
    (given,), _ = calls["block.act"].inputs
    assert float(given.min()) < 0


def test_a_module_of_torchscript_is_left_out_and_the_others_are_there(torch, parts):
    from torch import nn

    from impls.torch_model import Net

    scripted = torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(2, 3, 8, 8))
    model = Net(nn.Sequential(scripted, nn.ReLU(), nn.Conv2d(4, 2, 3)), None, None, how("torch"))
    model.load([torch.zeros(2, 8, 8, 3).numpy()] * 2)
    assert [module.name for module in parts.modules(model)] == ["1", "2"]
