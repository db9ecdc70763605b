"""The modules of a user's torch.nn.Module, each as a Net.

Mirrors the other parts: modules, record, idle, part, Part.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from impls.net import Build
from impls.outputs import Unfit, tensors_in
from impls.parts import Call, Module, called, canonical, word
from impls.torch_alexnet import COMPILED, shared_view
from impls.torch_model import Net, floats
from impls.torch_port import hooked

IDLE = (nn.Identity, nn.Flatten, nn.Unflatten)


def modules(net: Net) -> list[Module]:
    counts: Counter[int] = Counter()
    with hooked(net.model, lambda module, args, named: counts.update([id(module)])), torch.no_grad():
        net._infer(net.batches[0])
    if found := called(inside(net.model), inside, counts):
        return found
    raise Unfit("it calls none")


def record(net: Net, modules: Sequence[Module]) -> list[Call]:
    calls = {id(module.own): Call(module) for module in modules}
    begun: list[Call] = []

    def before(module: nn.Module, args: Any, named: Any) -> None:
        if (call := calls.get(id(module))) and call not in begun:
            begun.append(call)
            given = tensors_in((args, named), torch.Tensor)
            call.gradient = any(each.requires_grad for each in given)
            call.inputs = mapped(lambda tensor: tensor.detach().clone(), (args, named), {})
            call.refused = "" if given else "it is given no tensor"

    def after(module: nn.Module, args: Any, outputs: Any) -> None:
        if call := calls.get(id(module)):
            call.calls += 1
            if call.calls == 1:
                tensors = floats(outputs)
                shape = tensors[0].shape[1:] if tensors else ()
                call.shape = canonical(shape, channels_first=True)
                call.params = sum(each.numel() for each in module.parameters() if each.requires_grad)
                call.refused = call.refused or ("" if tensors else "it returns no floating-point tensor")

    # with gradients, to see which inputs a training pass computes them of
    with hooked(net.model, before, after), torch.enable_grad():
        net._infer(net.batches[0])
    return begun


def idle(module: Module) -> bool:
    own = module.own
    if isinstance(own, nn.Dropout):
        return own.p == 0
    return isinstance(own, IDLE) or (isinstance(own, nn.Sequential) and not len(own))


def part(call: Call, how: Build) -> Net:
    if how.mode in COMPILED:  # all parts share the code of their passes, which is compiled anew a few times only
        torch.compiler.reset()
    return Part(call, how)


class Part(Net):
    """A module on the inputs of its first call; ``forward_backward`` returns (output, gradients...)."""

    def __init__(self, call: Call, how: Build):
        super().__init__(shared_view(call.module.own), None, None, how)
        if not call.module.inside and getattr(self.model, "inplace", False):
            self.model.inplace = False  # its input is used again
        self.gradient = call.gradient
        self.batches = [mapped(change, call.inputs, {}) for change in (turned, torch.clone)]
        for tensor in tensors_in(self.batches, torch.Tensor):
            tensor.requires_grad_(self.gradient and tensor.is_floating_point())

    def load(self, batches: Any) -> None:
        """Its inputs are those of its call."""

    def forward_backward(self) -> Any:
        batch = self.next_batch()
        outputs = self.train(batch)
        ends = [each for each in outputs if each.requires_grad]
        wrt = [*self.parameters, *(each for each in tensors_in(batch, torch.Tensor) if each.requires_grad)]
        if not ends or not wrt:
            return (outputs[0].detach(),)
        gradients = torch.autograd.grad(ends, wrt, [each.detach() for each in ends], allow_unused=True)
        return ends[0].detach(), *(each for each in gradients if each is not None)

    def fetch(self, handles: Any) -> float:
        return float(handles[min(1, len(handles) - 1)].detach().flatten()[0])

    def _train(self, inputs: Any) -> Any:
        with self.autocast():
            return floats(self.training(*inputs[0], **inputs[1]))


def inside(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((word(name), child) for name, child in module.named_children())


def turned(tensor: torch.Tensor) -> torch.Tensor:
    """The images of a batch moved by one, in the same strides."""
    return torch.empty_like(tensor).copy_(tensor.roll(1, 0)) if tensor.ndim else tensor.clone()


def mapped(change: Callable[[torch.Tensor], torch.Tensor], value: Any, known: dict[int, torch.Tensor]) -> Any:
    """Arguments with their tensors changed, of one that is there twice both alike."""
    if isinstance(value, torch.Tensor):
        if id(value) not in known:
            known[id(value)] = change(value)
        return known[id(value)]
    if isinstance(value, dict):
        return {name: mapped(change, each, known) for name, each in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(mapped(change, each, known) for each in value)
    return value
