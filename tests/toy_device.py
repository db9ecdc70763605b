"""Takes PyTorch's adapter through its passes on ``toy``, an accelerator of a third vendor made of PyTorch's own hooks.

Its tensors hold nothing that the host can read: each operation is dispatched to the key PrivateUse1, and computed there
by the CPU on a tensor that is kept for the device's storage. The command line names the nets. Prints one JSON object.
"""

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_map

from impls import ACCELERATORS, Accelerator, torch_alexnet, torch_device
from impls.net import Build, Settings, Sgd, resident_batches, resident_labels
from impls.variants import VARIANTS
from impls.weights import initial

OP = torch.ops.aten
#: Operations that PyTorch makes of others: by writing into views, which are copies here, or of none that there is.
WHOLE = (OP.convolution_overrideable.default, OP.convolution_backward_overrideable.default, OP.constant_pad_nd.default)
held: dict[int, torch.Tensor] = {}  # by storage


class Module:
    """What ``torch.toy`` is, as ``torch.xpu`` of an Intel GPU."""

    def __init__(self) -> None:
        self.waited: list[str] = []
        self.current = 0

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return self.current

    def set_device(self, device: torch.device) -> None:
        self.current = device.index

    def get_device_name(self, device: torch.device) -> str:
        return f"Toy {device.index}"

    def synchronize(self, device: torch.device) -> None:
        self.waited.append(str(device))

    def max_memory_allocated(self, device: torch.device) -> int:
        return 2**20

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        pass


def is_toy(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "toy"


def content(tensor: torch.Tensor) -> torch.Tensor:
    return held[tensor.untyped_storage()._cdata]


def on_toy(own: torch.Tensor) -> torch.Tensor:
    tensor = torch._C._acc.create_empty_tensor(own.shape, own.dtype)
    held[tensor.untyped_storage()._cdata] = own.contiguous()  # the strides that PyTorch knows it by
    return tensor


def compute(op: Any, *args: Any, **named: Any) -> Any:
    """The operation by the CPU; what it returned of its arguments is the argument itself."""
    if op is OP._copy_from.default:
        source, target = (content(each) if is_toy(each) else each for each in args[:2])
        target.copy_(source)
        return args[1]
    given: dict[int, torch.Tensor] = {}

    def enter(value: Any) -> Any:
        if is_toy(value):
            given[id(content(value))] = value
            return content(value)
        return torch.device("cpu") if isinstance(value, torch.device) else value

    def leave(value: Any) -> Any:
        if id(value) in given:
            return given[id(value)]
        return on_toy(value) if isinstance(value, torch.Tensor) else value

    args, named = tree_map(enter, (args, named))
    if op is OP.convolution_overrideable.default:
        op = OP.convolution.default
    elif op is OP.convolution_backward_overrideable.default:
        gradient, x, kernel, *rest = args
        args = (gradient, x, kernel, [len(kernel)], *rest)
        op = OP.convolution_backward.default
    with torch.inference_mode(False):  # else views of a Net's parameters cannot share their versions
        return tree_map(leave, op(*args, **named))


def register() -> list[Any]:
    backend_registration._setup_privateuseone_for_python_backend("toy", Module())
    every, own = torch.library.Library("_", "IMPL", "PrivateUse1"), torch.library.Library("aten", "IMPL", "PrivateUse1")
    every.fallback(compute, "PrivateUse1")
    for op in WHOLE:
        own.impl(op.overloadpacket.__name__, lambda *args, op=op: compute(op, *args))
    ACCELERATORS["toy"] = Accelerator("toy", "a toy", ("toy",))
    torch_device.TORCH = replace(torch_device.TORCH, accelerators=("toy",))
    return [every, own]  # as long as they are held


def passes(name: str, device: str) -> dict[str, Any]:
    """The sum of the absolute values of each array, and what the Net says of itself."""
    variant = VARIANTS[name].resized(VARIANTS[name].least_size)
    how = Build(2, device, "fp32", "eager", "nchw")
    net = torch_alexnet.build(variant, initial(variant), how)
    net.load(resident_batches(how, variant.input_size))
    net.label(resident_labels(how, variant.classes))
    net.restart(Sgd(0.01))
    out = net.forward()
    net.wait(out)
    logits = net.logits(out)
    loss, gradients = net.gradients(net.forward_backward())
    stepped = net.train_step()
    trained = net.trained(stepped)
    arrays = [logits, *(array for layer in gradients.values() for array in layer.values())]
    arrays += [array for layer in trained.parameters.values() for array in layer.values()]
    return {
        "sums": [float(np.abs(array, dtype=np.float64).sum()) for array in arrays] + [loss, trained.loss],
        "fetched": net.fetch(out),
        "device": net.device(),
        "peak": net.peak_memory(),
    }


def main() -> None:
    libraries = register()
    facts: dict[str, Any] = {"devices": torch_alexnet.devices(), "nets": {}}
    for device in ("cpu", "toy"):
        torch_alexnet.configure(Settings(device, None, "fp32", "default"))
        facts["nets"][device] = {name: passes(name, device) for name in sys.argv[1:]}
        facts[device] = torch_alexnet.versions()["device_name"], torch_alexnet.conditions()["bf16"]
    print(json.dumps(facts | {"waited": torch.get_device_module("toy").waited}))
    del libraries


if __name__ == "__main__":
    main()
