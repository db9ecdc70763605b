"""Torch's nets under FakeTensorMode, in which values have a shape and a device and nothing is computed.

An operation on values of two devices raises, so that what an adapter leaves on the CPU is found. On ``meta`` every pass
runs; on ``cuda`` forward passes, in a CUDA build and without a GPU: ``python tests/fake_devices.py cuda``.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from impls import torch_alexnet
from impls.net import Build, Sgd
from impls.variants import VARIANTS, variant_named
from impls.weights import initial


def move(self: torch.nn.Module, device: torch.device, memory_format: torch.memory_format) -> torch.nn.Module:
    """``Module.to`` with new parameters: those that a fake one has once been made of cannot be swapped."""
    for module in self.modules():
        for name, value in module._parameters.items():
            form = memory_format if value.ndim == 4 else torch.preserve_format
            module._parameters[name] = torch.nn.Parameter(value.detach().to(device, memory_format=form))
        for name, value in module._buffers.items():
            module._buffers[name] = value.to(device)
    return self


def autocast(kind: str, *args: object, real: Callable[..., Any] = torch.autocast, **kwargs: object) -> Any:
    """``torch.autocast``, which does not know meta: there it changes nothing."""
    return contextlib.nullcontext() if kind == "meta" else real(kind, *args, **kwargs)


def devices_of(variant: str, device: str, precision: str, layout: str, lrn: str) -> Iterator[torch.Tensor]:
    """Run the passes of a net on a fake device; yield what each returns, and what is left in the net."""
    built = variant_named(variant, None, None)
    images = np.zeros((2, built.input_size, built.input_size, 3), np.float32)
    # fused updates do not know meta; a net of the preset `default` has the plain ones
    how = Build(2, device, precision, "eager", layout, lrn=lrn, preset="default")
    amp = torch.cuda.amp.common
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        patch.object(torch.nn.Module, "to", move),
        patch.object(torch, "autocast", autocast),
        patch.object(amp, "amp_definitely_not_available", lambda: False),  # else autocast is left out without a GPU
        patch.object(torch.cuda, "is_bf16_supported", lambda **kinds: True),
    ):
        net = torch_alexnet.Net(built, initial(built), how)
        net.load([images, images])
        net.label([np.zeros(2, np.int32)] * 2)
        yield net.forward()
        yield net.train_eagerly(net.batches[0])
        if device == "meta":  # the autograd engine asks CUDA for its context
            yield from net.forward_backward()
            net.restart(Sgd(0.01))
            step = net.train_step()
            yield from (step.loss, *step.velocity)
        yield from (*net.parameters, *net.training.buffers())
        # what is no parameter: a convolution of a fake value asks for its device alone
        yield from (value for layer in net.training if layer.band for value in layer.band)


if __name__ == "__main__":
    (_, device) = sys.argv
    for variant in VARIANTS:
        for precision in ("fp32", "bf16"):
            for layout in torch_alexnet.FORMATS:
                for lrn in ("native", "fast"):
                    found = {str(value.device) for value in devices_of(variant, device, precision, layout, lrn)}
                    assert found == {f"{device}:0"}, (variant, precision, layout, lrn, found)
                    print(variant, precision, layout, lrn)
