"""AlexNets in PyTorch: an nn.Module of one child for each row. Activations are (n, c, h, w), laid out as asked.

Mirrors the other adapters: configure, devices, versions, conditions, build, Net, one function for each kind of row.
"""

import contextlib
import copy
import functools
import importlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Layer, Lrn, Placed, Pool, Relu, Shape
from impls.net import Build, DeviceMissing, Gradients, Settings, last_value
from impls.variants import Variant
from impls.weights import Weights

Pass = Callable[[torch.Tensor], torch.Tensor]

FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
#: What torch.compile is asked for in each mode beside one graph and fixed shapes.
COMPILED: dict[str, dict[str, Any]] = {"compile": {}, "cudagraphs": {"mode": "reduce-overhead"}}


def configure(settings: Settings) -> None:
    if settings.preset == "equal":
        torch.set_flush_denormal(True)  # TensorFlow flushes too; first, since it holds for threads not yet started
        if settings.threads is not None:
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
    inductor = sys.modules.get("torch._inductor.config")  # there once something was compiled
    tiny = torch.full((2**15 * torch.get_num_threads(),), 1e-30) * 1e-9  # 2**15 values for each thread
    return {
        "threads": torch.get_num_threads(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "bf16": torch.cuda.get_device_capability() >= (8, 0) if torch.cuda.is_available() else None,
        "flush_denormal": not tiny.any().item(),
        "reorder_for_peak_memory": inductor and inductor.reorder_for_peak_memory,
    }


def build(variant: Variant, weights: Weights, how: Build) -> "Net":
    return Net(variant, weights, how)


class Row(nn.Module):
    """One layer record as a child module, so that hooks and profilers see it under its name.

    ``flat`` is the shape that lies flattened in its input in torch's own order; ``fresh``: its input is the output of a
    convolution or dense layer, which nobody else reads.
    """

    def __init__(self, placed: Placed, arrays: dict[str, Any], flat: Shape | None, fresh: bool, how: Build):
        super().__init__()
        self.layer, self.flat, self.fresh, self.how = placed.layer, flat, fresh, how
        fast = isinstance(placed.layer, Lrn) and how.lrn == "fast"
        self.band = band(placed.layer, placed.input[2], how.device) if fast else None
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
        self.variant, self.how, self.target = variant, how, torch.device(how.device)
        low = functools.partial(torch.autocast, self.target.type, torch.bfloat16)
        self.autocast = low if how.precision == "bf16" else contextlib.nullcontext
        rows: OrderedDict[str, Row] = OrderedDict()
        flat: Shape | None = None
        fresh = False
        for placed in variant.placed():
            layer = placed.layer
            rows[layer.name] = Row(placed, weights.get(layer.name, {}), flat, fresh, how)
            fresh = isinstance(layer, Conv | Fc)
            if isinstance(layer, Flatten | Fc):  # channels_last flattens to h, w, c, the canonical order
                flat = placed.input if isinstance(layer, Flatten) and how.layout == "nchw" else None
        self.flat = flat
        self.training = nn.Sequential(rows).to(self.target, memory_format=FORMATS[how.layout]).train()
        self.inference = shared_view(self.training).eval()
        self.parameters = list(self.training.parameters())
        self.batches: list[torch.Tensor] = []
        self.compilations: dict[str, int] = {}
        if how.mode in COMPILED:
            torch.compiler.reset()  # of the Net before this one nothing counts, and nothing is kept
            inductor: Any = importlib.import_module("torch._inductor.config")
            inductor.reorder_for_peak_memory = False  # else conv gradients of 0: pytorch/pytorch#185509
        self.infer_rows = self.compiled("forward", self.infer_eagerly)
        self.train_rows = self.compiled("forward_backward", self.train_eagerly)

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
        value = last_value(handles)
        value[(0,) * value.ndim].cpu()

    def logits(self, handles: Any) -> np.ndarray:
        output = handles.detach().float()
        if self.flat is not None:  # the rows end with a flatten
            height, width, channels = self.flat
            output = output.unflatten(1, (channels, height, width))
        return canonical(output).flatten(1).cpu().numpy()

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        end, *values = handles
        loss = 0.5 * end.double().square().sum() if self.variant.part else end
        found: Gradients = {}
        if self.variant.input_gradient:
            found["input"] = {"images": canonical(values.pop().float()).cpu().numpy()}
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
        with torch.inference_mode():
            self.infer_eagerly(self.batches[0])
        for hook in hooks:
            hook.remove()
        return found

    def device(self) -> str:
        return str(self.infer(self.batches[0]).device)

    def layout(self) -> str:
        """By the first row's output, or its input where that tells nothing, flat or of one pixel or channel as it is.
        What torch.compile does inside its graph is its own affair."""
        batch = self.batches[0]
        with torch.inference_mode(), self.autocast():
            for x in (self.inference[0](batch), batch):
                found = [name for name, form in FORMATS.items() if x.ndim == 4 and x.is_contiguous(memory_format=form)]
                if len(found) == 1:
                    return found[0]
        return self.how.layout

    def traces(self) -> dict[str, int]:
        return dict(self.compilations)  # empty where nothing is compiled

    def peak_memory(self) -> int | None:
        if self.target.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.target)
        torch.cuda.reset_peak_memory_stats(self.target)
        return peak

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.infer_rows(x)

    def step(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        end = self.train_rows(x)  # the loss, or of a part its output
        wrt = (*self.parameters, x) if self.variant.input_gradient else self.parameters
        start = end.detach() if self.variant.part else None
        return end.detach(), *torch.autograd.grad(end, wrt, start)

    def infer_eagerly(self, x: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            return self.inference(x)

    def train_eagerly(self, x: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            output = self.training(x)
            return output if self.variant.part else 0.5 * output.float().square().sum()

    def compiled(self, pass_: str, run: Pass) -> Pass:
        """``run`` as the mode has it. Its backward pass is compiled with it; autograd.grad itself stays outside, since
        torch 2.13 traces it only by a switch that is off."""
        if self.how.mode not in COMPILED:
            return run
        self.compilations[pass_] = 0

        @torch.compiler.assume_constant_result
        def count() -> int:  # called while torch.compile traces, from a warm cache too, and never after
            self.compilations[pass_] += 1
            return 0

        def counted(x: torch.Tensor) -> torch.Tensor:
            count()
            return run(x)

        return torch.compile(counted, fullgraph=True, dynamic=False, **COMPILED[self.how.mode])

    def next_batch(self) -> torch.Tensor:
        if self.how.mode == "cudagraphs":
            torch.compiler.cudagraph_mark_step_begin()  # the handles of the call before are done with: overwrite them
        self.batches.reverse()
        return self.batches[0]

    def put(self, images: np.ndarray) -> torch.Tensor:  # (n, h, w, c) -> (n, c, h, w); to dense rows (n, c)
        x = torch.tensor(images).permute(0, 3, 1, 2)
        if self.variant.input_size == 1 and isinstance(self.variant.layers[0], Fc | Relu | Dropout):
            x = x.flatten(1).to(self.target)
        else:
            x = x.contiguous(memory_format=FORMATS[self.how.layout]).to(self.target)
        return x.requires_grad_(self.variant.input_gradient)


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


def canonical(x: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) or flat (n, c) to (n, h, w, c)."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x[:, None, None]


def conv(x: torch.Tensor, layer: Conv, row: Row) -> torch.Tensor:
    before, after = layer.pad
    if before != after:
        x, before = F.pad(x, (before, after, before, after)), 0  # torch pads both sides alike
    return F.conv2d(x, row.kernel, row.bias, layer.stride, before, groups=layer.groups)


def relu(x: torch.Tensor, layer: Relu, row: Row) -> torch.Tensor:
    return F.relu(x, inplace=row.fresh)


def lrn(x: torch.Tensor, layer: Lrn, row: Row) -> torch.Tensor:
    if row.band is not None:
        return FastLrn.apply(x.float(), *row.band, layer.beta)
    size = 2 * layer.radius + 1  # torch divides alpha by the window size, the row's alpha is on the plain sum
    return F.local_response_norm(x.float(), size, alpha=layer.alpha * size, beta=layer.beta, k=layer.k)


class FastLrn(torch.autograd.Function):
    """LRN with its gradient by hand: few passes over memory, and nothing kept but the input and the scale.

    The sum over neighbouring channels is a 1x1 convolution by a band matrix, which every library does well.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel: torch.Tensor, k: torch.Tensor, beta: float) -> torch.Tensor:
        scale = over_channels(x * x, kernel, k)
        ctx.save_for_backward(x, scale, kernel)
        ctx.beta = beta
        return power(scale, beta).mul_(x)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, kernel = ctx.saved_tensors
        dx = power(scale, ctx.beta).mul_(dy)
        shared = over_channels((dx * x).div_(scale), kernel)
        return dx.addcmul_(x, shared, value=-2 * ctx.beta), None, None, None


def band(layer: Any, channels: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha where two channels are neighbours, (c, c, 1, 1), its own transpose; k for each channel."""
    channel = torch.arange(channels, device=device)
    near = (channel[:, None] - channel).abs() <= layer.radius
    return layer.alpha * near.float()[:, :, None, None], torch.full_like(channel, layer.k, dtype=torch.float32)


def over_channels(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    with torch.autocast(x.device.type, enabled=False):  # LRN is fp32 in bf16 nets too
        return F.conv2d(x, kernel, bias)


def power(scale: torch.Tensor, beta: float) -> torch.Tensor:
    """scale ** -beta, without the slow pow for AlexNet's own 0.75."""
    if beta != 0.75:
        return scale.pow(-beta)
    root = scale.rsqrt()
    return root.sqrt().mul_(root)


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
    if row.how.layout == "channels_last":
        x = x.permute(0, 2, 3, 1)  # as it lies in memory: flattened without a copy
    return x.flatten(1)


def fc(x: torch.Tensor, layer: Fc, row: Row) -> torch.Tensor:
    return F.linear(x, row.kernel, row.bias)


def dropout(x: torch.Tensor, layer: Dropout, row: Row) -> torch.Tensor:
    return F.dropout(x, layer.rate, row.training and row.how.dropout)


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
