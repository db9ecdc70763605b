"""AlexNets in PyTorch: an nn.Module of one child for each row. Activations are (n, c, h, w).

Mirrors the other adapters: configure, devices, versions, conditions, build, Net, one function for each kind of row.
"""

import contextlib
import copy
import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Layer, Lrn, Placed, Pool, Relu, Shape
from impls.net import Build, DeviceMissing, Gradients, Settings, last_value
from impls.variants import Variant
from impls.weights import Weights


def configure(settings: Settings) -> None:
    torch.set_flush_denormal(True)  # TensorFlow flushes too; first of all, since it holds for threads not yet started
    torch.set_num_threads(settings.threads)
    torch.set_num_interop_threads(1)
    tf32 = settings.precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    if settings.exact_device not in devices():
        raise DeviceMissing(f"torch {torch.__version__} sees {', '.join(devices())}")
    if settings.device != "cpu":
        torch.cuda.set_device(settings.exact_device)


def devices() -> list[str]:
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


def versions() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "device_name": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def conditions() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
    }


def build(variant: Variant, weights: Weights, how: Build) -> "Net":
    return Net(variant, weights, how)


class Row(nn.Module):
    """One layer record as a child module, so that hooks and profilers see it under its name."""

    def __init__(self, placed: Placed, arrays: dict[str, Any], flat: Shape | None, dropout: bool):
        super().__init__()
        self.layer, self.flat, self.dropout = placed.layer, flat, dropout
        for name, array in arrays.items():
            value = to_torch(placed.layer, name, array, flat)
            if name in placed.layer.trainable(placed.input):
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return OPS[type(self.layer)](x, self.layer, self)


class Net:
    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.target = torch.device(how.device)
        low = functools.partial(torch.autocast, self.target.type, torch.bfloat16)
        self.autocast = low if how.precision == "bf16" else contextlib.nullcontext
        rows: OrderedDict[str, Row] = OrderedDict()
        flat: Shape | None = None
        for placed in variant.placed():
            rows[placed.layer.name] = Row(placed, weights.get(placed.layer.name, {}), flat, how.dropout)
            flat = {Flatten: placed.input, Fc: None}.get(type(placed.layer), flat)
        self.training = nn.Sequential(rows).to(self.target).train()
        self.inference = shared_view(self.training).eval()
        self.parameters = list(self.training.parameters())
        self.batches: list[torch.Tensor] = []

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = [self.put(images) for images in batches]

    def forward(self) -> Any:
        return self.infer(self.next_batch())

    def forward_backward(self) -> Any:
        return self.step(self.next_batch())

    def wait(self, handles: Any) -> None:
        if self.target.type == "cuda":  # on the CPU a call returns when it is done
            torch.cuda.synchronize(self.target)

    def fetch(self, handles: Any) -> None:
        last_value(handles).cpu()

    def logits(self, handles: Any) -> np.ndarray:
        output = handles.float()
        if output.ndim == 4:
            output = output.permute(0, 2, 3, 1)
        return output.flatten(1).cpu().numpy()

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        loss, *values = handles
        found: Gradients = {}
        for (path, _), value in zip(self.training.named_parameters(), values, strict=True):
            row, name = path.split(".")
            module = getattr(self.training, row)
            found.setdefault(row, {})[name] = from_torch(module.layer, name, value.cpu(), module.flat)
        return float(loss), found

    def state(self) -> Gradients:
        found: Gradients = {}
        for path, value in self.training.named_buffers():
            row, name = path.split(".")
            found.setdefault(row, {})[name] = value.cpu().numpy().copy()
        return found

    def layers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def record(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            channels, height, width = (*output.shape[1:], 1, 1)[:3]
            found.append(
                {
                    "layer": module.layer.name,
                    "height": height,
                    "width": width,
                    "channels": channels,
                    "params": sum(value.numel() for value in module.parameters()),
                    "state": sum(value.numel() for value in module.buffers()),
                }
            )

        hooks = [module.register_forward_hook(record) for module in self.inference]
        self.forward()
        for hook in hooks:
            hook.remove()
        return found

    def device(self) -> str:
        return str(self.infer(self.batches[0]).device)

    def layout(self) -> str:
        with torch.inference_mode():
            return "nchw" if self.inference[0](self.batches[0]).is_contiguous() else "nhwc"

    def traces(self) -> dict[str, int]:
        return {}  # nothing is compiled

    def peak_memory(self) -> int | None:
        if self.target.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.target)
        torch.cuda.reset_peak_memory_stats(self.target)
        return peak

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), self.autocast():
            return self.inference(x)

    def step(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with self.autocast():
            loss = 0.5 * self.training(x).float().square().sum()
        return loss.detach(), *torch.autograd.grad(loss, self.parameters)

    def next_batch(self) -> torch.Tensor:
        self.batches.reverse()
        return self.batches[0]

    def put(self, images: np.ndarray) -> torch.Tensor:  # (n, h, w, c) -> (n, c, h, w)
        return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(self.target)


def shared_view(module: nn.Sequential) -> nn.Sequential:
    """The same parameters and buffers in a second module, whose training flag is its own."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)


def to_torch(layer: Layer, name: str, array: np.ndarray, flat: Shape | None) -> torch.Tensor:
    """Canonical to torch: kernels OIHW, dense (out, in); the first dense after a flatten has its rows in c, h, w."""
    value = torch.tensor(array)
    if name != "kernel":
        return value
    if isinstance(layer, Conv):
        value = value.permute(3, 2, 0, 1)
    elif flat is None:
        value = value.t()
    else:
        value = value.reshape(*flat, -1).permute(3, 2, 0, 1).reshape(array.shape[1], -1)
    return value.contiguous()


def from_torch(layer: Layer, name: str, value: torch.Tensor, flat: Shape | None) -> np.ndarray:
    """Torch to canonical, the way back of ``to_torch``."""
    if name == "kernel":
        if isinstance(layer, Conv):
            value = value.permute(2, 3, 1, 0)
        elif flat is None:
            value = value.t()
        else:
            height, width, channels = flat
            value = value.reshape(-1, channels, height, width).permute(2, 3, 1, 0).reshape(-1, len(value))
    return value.numpy()


def conv(x: torch.Tensor, layer: Conv, row: Row) -> torch.Tensor:
    before, after = layer.pad
    if before != after:
        x, before = F.pad(x, (before, after, before, after)), 0  # torch pads both sides alike
    return F.conv2d(x, row.kernel, row.bias, layer.stride, before, groups=layer.groups)


def relu(x: torch.Tensor, layer: Relu, row: Row) -> torch.Tensor:
    return F.relu(x)


def lrn(x: torch.Tensor, layer: Lrn, row: Row) -> torch.Tensor:
    size = 2 * layer.radius + 1  # torch divides alpha by the window size, the row's alpha is on the plain sum
    return F.local_response_norm(x.float(), size, alpha=layer.alpha * size, beta=layer.beta, k=layer.k)


def pool(x: torch.Tensor, layer: Pool, row: Row) -> torch.Tensor:
    before, after = layer.pad
    if before != after or before > layer.kernel // 2:
        x, before = F.pad(x, (before, after, before, after), value=-torch.inf), 0
    return F.max_pool2d(x, layer.kernel, layer.stride, before)


def batch_norm(x: torch.Tensor, layer: BatchNorm, row: Row) -> torch.Tensor:
    return F.batch_norm(
        x.float(), row.moving_mean, row.moving_variance, row.gamma, row.beta, row.training, layer.momentum, layer.eps
    )


def flatten(x: torch.Tensor, layer: Flatten, row: Row) -> torch.Tensor:
    return x.flatten(1)


def fc(x: torch.Tensor, layer: Fc, row: Row) -> torch.Tensor:
    return F.linear(x, row.kernel, row.bias)


def dropout(x: torch.Tensor, layer: Dropout, row: Row) -> torch.Tensor:
    return F.dropout(x, layer.rate, row.training and row.dropout)


OPS: dict[type, Any] = {
    Conv: conv,
    Relu: relu,
    Lrn: lrn,
    Pool: pool,
    BatchNorm: batch_norm,
    Flatten: flatten,
    Fc: fc,
    Dropout: dropout,
}
