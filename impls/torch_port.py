"""A user's torch.nn.Module, read and written for a comparison with its port.

Mirrors the other ports: parameters, write, trace, differentiate.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from impls.outputs import tensors_in
from impls.port import Parameter, Recorder, Traced, named_in, shaken, state_of
from impls.torch_model import Net, half_square

Owned = tuple[str, nn.Module, str, torch.Tensor]  # name, module, its name of the tensor, tensor


def parameters(net: Net) -> list[tuple[Parameter, np.ndarray]]:
    found = []
    for name, module, own, tensor in owned(net.model):
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}: expected float32".replace("torch.", ""))
        values = canonical(module, own, tensor)
        layer = name.removesuffix(own).rstrip(".")
        trainable = isinstance(tensor, nn.Parameter) and tensor.requires_grad
        found.append((Parameter(name, layer, list(values.shape), list(tensor.shape), trainable), values))
    return found


def write(net: Net, values: Mapping[str, np.ndarray]) -> None:
    with torch.no_grad():
        for name, module, own, tensor in owned(net.model):
            if name in values:
                array = values[name]
                if transposed(module, own):  # (..., in, out) -> (out, in, ...)
                    array = array.transpose(-1, -2, *range(array.ndim - 2))
                tensor.copy_(torch.tensor(np.ascontiguousarray(array)))


def trace(net: Net) -> Traced:
    recorder = Recorder(copied)
    layers = {id(module): name.removesuffix(own).rstrip(".") for name, module, own, _ in owned(net.model)}

    def before(module: nn.Module, args: Any, named: Any) -> None:
        if id(module) in layers:
            recorder.begin(layers[id(module)], tensors_in((args, named), torch.Tensor))

    def after(module: nn.Module, args: Any, outputs: Any) -> None:
        recorder.end(layers.get(id(module)), tensors_in(outputs, torch.Tensor))

    places, named = net.batches[0]
    with hooked(net.model, before, after), torch.no_grad():
        outputs = net.model(*places, **named)
    inputs = {name: each.cpu().numpy() for name, each in (*named_in(places, torch.Tensor), *named.items())}
    found = {name: each for name, each in named_in(outputs, torch.Tensor) if each.is_floating_point()}
    return Traced(inputs, {name: each.float().cpu().numpy() for name, each in found.items()}, recorder.calls)


@contextlib.contextmanager
def hooked(model: nn.Module, before: Callable[..., None], after: Callable[..., None] | None = None) -> Iterator[None]:
    """Have each of its modules call ``before(module, args, named)`` and ``after(module, args, outputs)``.

    Modules of TorchScript take no such functions.
    """
    hooks = []
    for module in (each for each in model.modules() if not isinstance(each, torch.jit.ScriptModule)):
        hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
        hooks += [module.register_forward_hook(after)] if after else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def differentiate(net: Net, rounding: float) -> tuple[float, dict[str, np.ndarray]]:
    def put(tensor: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(shaken(tensor.cpu().numpy(), rounding)).to(net.target)

    places, named = net.batches[0]
    before = state_of(parameters(net))
    with normalized(net.training) as counts:
        loss = half_square(net.training(*map(put, places), **{name: put(each) for name, each in named.items()}))
    changes = {}
    for name, module, own, tensor in owned(net.training):
        if name in before:
            changes[name] = canonical(module, own, tensor) - before[name]
            if own == "running_var" and module in counts:  # torch takes the unbiased variance of the batch
                share = module.momentum or 1 / int(module.num_batches_tracked)
                changes[name] -= (changes[name] + share * before[name]) / counts[module]
    trained = [each for each in owned(net.training) if each[3].requires_grad]
    gradients = torch.autograd.grad(loss, [tensor for *_, tensor in trained], allow_unused=True)
    return float(loss.detach()), {
        name: canonical(module, own, gradient)
        for (name, module, own, _), gradient in zip(trained, gradients, strict=True)
        if gradient is not None
    } | changes


@contextlib.contextmanager
def normalized(model: nn.Module) -> Iterator[dict[Any, int]]:
    """The values per channel that each BatchNorm in training mode is given."""
    counts: dict[Any, int] = {}

    def count(module: nn.Module, args: Any) -> None:
        if module.training and args:
            counts[module] = args[0].numel() // args[0].shape[1]

    kinds = nn.modules.batchnorm._BatchNorm
    hooks = [each.register_forward_pre_hook(count) for each in model.modules() if isinstance(each, kinds)]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def owned(model: nn.Module) -> Iterator[Owned]:
    """Floating-point parameters and buffers, each once, module by module."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for own, tensor in tensors:
            if tensor.is_floating_point() and id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{prefix}.{own}" if prefix else own, module, own, tensor


def transposed(module: nn.Module, own: str) -> bool:
    """Whether a tensor is (out, in, ...), of dense layers and convolutions, or of transposed ones (in, out, ...), which
    end as (..., out, in), as in Keras."""
    return own == "weight" and isinstance(module, nn.Linear | nn.modules.conv._ConvNd)


def canonical(module: nn.Module, own: str, tensor: torch.Tensor) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    if transposed(module, own):  # (out, in, ...) -> (..., in, out)
        array = array.transpose(*range(2, array.ndim), 1, 0)
    return np.ascontiguousarray(array)


def copied(tensor: torch.Tensor) -> np.ndarray:
    """A copy, which a later layer does not change in place."""
    return np.array(tensor.detach().float().cpu().numpy())
