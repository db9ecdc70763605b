"""A user's torch.nn.Module as a Net. Images are (n, c, h, w), laid out as asked.

Mirrors the other models: creating, make, accepts, Net.
"""

import contextlib
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from impls import torch_device
from impls.net import Build
from impls.outputs import arguments, check_outputs, tensors_in
from impls.torch_alexnet import COMPILED, FORMATS, shared_view

WANTED = "a torch.nn.Module"


def creating(how: Build) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()  # Net moves the module


def make(function: Callable[..., Any], places: list[Any], named: dict[str, Any]) -> Any:
    return function(*places, **named)


def accepts(value: Any) -> bool:
    return isinstance(value, nn.Module)


class Net:
    """Passes of impls.net.Net; ``forward`` returns a list of outputs, ``forward_backward`` (loss, gradients...)."""

    def __init__(self, model: Any, loss: Callable[[Any], Any] | None, inputs: Callable[[int], Any] | None, how: Build):
        self.how, self.target = how, torch.device(how.device)
        self.loss, self.inputs = loss or half_square, inputs
        self.synchronize = torch_device.waiter(self.target)
        low = functools.partial(torch.autocast, self.target.type, torch.bfloat16)
        self.autocast = low if how.precision == "bf16" else contextlib.nullcontext
        self.model = model.to(self.target)
        self.model.eval()
        self.batches: list[Any] = []

    def load(self, batches: Sequence[np.ndarray]) -> None:
        own = [self.inputs(self.how.batch) for _ in range(2)] if self.inputs else batches
        self.batches = [self.put(each) for each in own]

    def check(self) -> None:
        """Call it twice, which makes the parameters of lazy modules. Raises Unfit."""
        with torch.no_grad():  # not inference mode, whose tensors have no gradient later
            first, again = ([out.float().cpu().numpy() for out in self._infer(self.batches[0])] for _ in range(2))
        check_outputs(first, again)
        if self.how.layout == "channels_last":
            self.model.to(memory_format=torch.channels_last)
        self.training = shared_view(self.model).train()
        self.parameters = [each for each in self.training.parameters() if each.requires_grad]
        self.infer, self.train = self._infer, self._train
        if self.how.mode in COMPILED:
            inductor: Any = importlib.import_module("torch._inductor.config")
            inductor.reorder_for_peak_memory = False  # else conv gradients of 0: pytorch/pytorch#185509
            compiled = functools.partial(torch.compile, dynamic=False, **COMPILED[self.how.mode])
            self.infer, self.train = compiled(self._infer), compiled(self._train)

    def forward(self) -> Any:
        with torch.inference_mode():
            return self.infer(self.next_batch())

    def forward_backward(self) -> Any:
        loss = self.train(self.next_batch())
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return loss.detach(), *(each for each in gradients if each is not None)

    def wait(self, handles: Any) -> None:
        self.synchronize()

    def fetch(self, handles: Any) -> float:
        return float(handles[-1 if isinstance(handles, list) else 1].detach().flatten()[0])

    def device(self) -> str:
        return str(self.forward()[0].device)

    def peak_memory(self) -> int | None:
        return torch_device.peak_memory(self.target)

    def _infer(self, inputs: Any) -> list[torch.Tensor]:
        with self.autocast():
            return floats(self.model(*inputs[0], **inputs[1]))

    def _train(self, inputs: Any) -> torch.Tensor:
        with self.autocast():
            outputs = self.training(*inputs[0], **inputs[1])
        return self.loss(outputs)

    def next_batch(self) -> Any:
        if self.how.mode == "cudagraphs":
            torch.compiler.cudagraph_mark_step_begin()  # the handles of the call before may be overwritten
        self.batches.reverse()
        return self.batches[0]

    def put(self, inputs: Any) -> Any:  # images (n, h, w, c) -> (n, c, h, w); a user's inputs as they are
        if self.inputs is None:
            inputs = torch.tensor(inputs).permute(0, 3, 1, 2).contiguous(memory_format=FORMATS[self.how.layout])
        places, named = arguments(inputs)
        return (
            [torch.as_tensor(each).to(self.target) for each in places],
            {name: torch.as_tensor(each).to(self.target) for name, each in named.items()},
        )


def floats(outputs: Any) -> list[torch.Tensor]:
    return [tensor for tensor in tensors_in(outputs, torch.Tensor) if tensor.is_floating_point()]


def half_square(outputs: Any) -> torch.Tensor:
    return 0.5 * torch.stack([tensor.float().square().sum() for tensor in floats(outputs)]).sum()
