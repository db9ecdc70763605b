"""AlexNets in PyTorch: an nn.Module with one child per layer. Activations are (n, c, h, w), laid out as asked.

Mirrors the other adapters: configure, devices, versions, conditions, timer, build, Net, one function per kind of layer.
"""

import contextlib
import copy
import functools
import importlib
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from impls import net, torch_device, torch_events
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Placed, Pool, Relu, Shape
from impls.net import Build, DeviceMissing, Gradients, LayerReport, Settings, Sgd, Trained, last_value, layer_report
from impls.splits import DATA
from impls.torch_layout import canonical, to_torch, view_from_torch, view_to_torch
from impls.torch_lrn import band, fast_lrn
from impls.variants import Variant
from impls.weights import Weights

Pass = Callable[..., torch.Tensor]

FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
#: Options of torch.compile in each mode besides one graph and fixed shapes.
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
    torch_device.choose(settings.device)
    if settings.rank is not None:
        from impls import torch_team

        torch_team.join(settings)


def devices() -> list[str]:
    return torch_device.devices()


def versions() -> dict[str, Any]:
    cache = {"l2_mib": torch_events.l2_mib()} if torch_device.chosen().type == "cuda" else {}
    return {"torch": torch.__version__} | torch_device.described() | cache


def conditions() -> dict[str, Any]:
    inductor = sys.modules.get("torch._inductor.config")  # there once something was compiled
    tiny = torch.full((2**15 * torch.get_num_threads(),), 1e-30) * 1e-9  # 2**15 values for each thread
    return {
        "threads": torch.get_num_threads(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "bf16": torch_device.computes_bf16(torch_device.chosen()),
        "flush_denormal": not tiny.any().item(),
        "default_dtype": str(torch.get_default_dtype()),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "reorder_for_peak_memory": inductor and inductor.reorder_for_peak_memory,
    }


def timer(device: str) -> net.Timer | None:
    return torch_events.timer(device)


def build(variant: Variant, weights: Weights, how: Build) -> net.Net:
    if how.split == DATA:
        from impls import torch_team

        return torch_team.TeamNet(variant, weights, how)
    if how.split:
        from impls import torch_split

        return torch_split.SplitNet(variant, weights, how)
    return Net(variant, weights, how)


class BuiltLayer(nn.Module):
    """One layer with its arrays, a child module so that hooks and profilers see it under its name.

    ``flat``: the shape that was flattened to its input in torch's own order. ``fresh``: its input is the output of a
    convolution or dense layer, which nothing else reads.
    """

    def __init__(self, placed: Placed, arrays: dict[str, Any], flat: Shape | None, fresh: bool, how: Build):
        super().__init__()
        layer = self.layer = placed.layer
        self.flat, self.fresh, self.how = flat, fresh, how
        self.band = None
        if isinstance(layer, Lrn) and how.lrn == "fast":
            self.band = band(layer, placed.input[2], how.device)
        for name, array in arrays.items():
            value = to_torch(layer, name, array, flat)
            if name in layer.trainable(placed.input):
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return OPS[type(self.layer)](x, self.layer, self)


class Step(NamedTuple):
    """Handles of a training step; torch's velocity of every parameter is to be scaled by -lr."""

    loss: torch.Tensor
    velocity: list[torch.Tensor]


class Net:
    """Implements impls.net.Net."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.variant, self.how, self.target = variant, how, torch.device(how.device)
        self.weights = weights
        self.synchronize = torch_device.waiter(self.target)
        low = functools.partial(torch.autocast, self.target.type, torch.bfloat16)
        self.autocast = low if how.precision == "bf16" else contextlib.nullcontext
        modules: OrderedDict[str, BuiltLayer] = OrderedDict()
        flat: Shape | None = None
        fresh = False
        for placed in variant.placed():
            layer = placed.layer
            modules[layer.name] = BuiltLayer(placed, weights.get(layer.name, {}), flat, fresh, how)
            fresh = isinstance(layer, Conv | Fc)
            if isinstance(layer, Flatten | Fc):  # channels_last flattens to h, w, c, the canonical order
                flat = placed.input if isinstance(layer, Flatten) and how.layout == "nchw" else None
        self.flat = flat
        self.training = nn.Sequential(modules).to(self.target, memory_format=FORMATS[how.layout]).train()
        self.trainee: nn.Module = self.training  # what training passes call; of a Team what reduces its gradients too
        self.inference = shared_view(self.training).eval()
        for name in how.frozen:
            modules[name].eval()  # moving statistics stay
        named = self.training.named_parameters()
        trainable = {path: value for path, value in named if path.partition(".")[0] not in how.frozen}
        self.paths, self.parameters = list(trainable), list(trainable.values())
        if how.dropout:
            torch.manual_seed(how.seed)
        self.batches: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []
        self.optimizer: Any = None  # made by restart
        self.compilations: dict[str, int] = {}
        if how.mode in COMPILED:
            torch.compiler.reset()  # drop what the Net before this one compiled
            inductor: Any = importlib.import_module("torch._inductor.config")
            inductor.reorder_for_peak_memory = False  # else conv gradients of 0: pytorch/pytorch#185509
        self.inference_pass = self.compiled("forward", self.infer_eagerly)
        self.training_pass = self.compiled("forward_backward", self.train_eagerly)
        self.loss_pass = self.compiled("train_step", self.entropy_eagerly)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = [self.put(images) for images in batches]

    def label(self, labels: Sequence[np.ndarray]) -> None:
        self.labels = [torch.tensor(each, dtype=torch.int64).to(self.target) for each in labels]

    def feed(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        copied = images.to(self.target, non_blocking=True)
        self.batches = [copied.contiguous(memory_format=FORMATS[self.how.layout])]
        self.labels = [labels.to(self.target, non_blocking=True)]

    def restart(self, sgd: Sgd, velocity: Gradients | None = None) -> None:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the mapped weights are read-only, and are read only
            for path, value in (*self.training.named_parameters(), *self.training.named_buffers()):
                layer, name = path.split(".")
                built, array = getattr(self.training, layer), torch.from_numpy(np.asarray(self.weights[layer][name]))
                value.copy_(view_to_torch(built.layer, name, array, built.flat))
        if self.optimizer is None:  # fused: each array is read and written once
            fused = self.how.preset == "equal" or None
            self.optimizer = torch.optim.SGD(self.parameters, sgd.lr, sgd.momentum, fused=fused)
            for parameter in self.parameters:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        (group,) = self.optimizer.param_groups
        group.update(lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.decay)
        self.lr = sgd.lr
        for path, buffer in zip(self.paths, self.velocity(), strict=True):
            buffer.zero_()
            if velocity:
                layer, name = path.split(".")
                built, array = getattr(self.training, layer), velocity[layer][name] / -sgd.lr
                value = torch.from_numpy(array.reshape(self.weights[layer][name].shape))
                buffer.copy_(view_to_torch(built.layer, name, value, built.flat))

    def velocity(self) -> list[torch.Tensor]:
        """The momentum buffers, which leave the learning rate out."""
        return [self.optimizer.state[parameter]["momentum_buffer"] for parameter in self.parameters]

    def forward(self) -> Any:
        return self.infer(self.next_batch())

    def forward_backward(self) -> Any:
        x = self.next_batch()
        return self.differentiate(self.training_pass(x), x)

    def train_step(self) -> Any:
        x = self.next_batch()
        loss, *gradients = self.differentiate(self.loss_pass(x, self.labels[0]), x)
        for parameter, gradient in zip(self.parameters, gradients, strict=False):  # after them that of the images
            parameter.grad = gradient
        self.optimizer.step()
        return Step(loss, self.velocity())

    def wait(self, handles: Any) -> None:
        self.synchronize()

    def fetch(self, handles: Any) -> float:
        step = isinstance(handles, Step)
        value = handles.velocity[0] if step else last_value(handles)
        return float(value[(0,) * value.ndim]) * (-self.lr if step else 1)

    def logits(self, handles: Any) -> np.ndarray:
        output = handles.detach().float()
        if self.flat is not None:  # the net ends with a flatten
            height, width, channels = self.flat
            output = output.unflatten(1, (channels, height, width))
        return canonical(output).flatten(1).cpu().numpy()

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        loss, gradients = self.gradient_views(handles)
        for layer, kernel in [(layer, arrays.get("kernel")) for layer, arrays in gradients.items()]:
            if kernel is not None and getattr(self.training, layer).flat:
                gradients[layer]["kernel"] = kernel.reshape(-1, kernel.shape[-1])
        return loss, gradients

    def gradient_views(self, handles: Any) -> tuple[float, Gradients]:
        end, *values = handles
        loss = half_square(end) if self.variant.part else end
        images: Gradients = {}
        if self.variant.input_gradient:
            images["input"] = {"images": canonical(values.pop().float()).cpu().numpy()}
        return float(loss), images | self.named_views(values)

    def named_views(self, values: Sequence[torch.Tensor]) -> Gradients:
        """A value of each parameter, in canonical layout without a copy."""
        views: Gradients = {}
        for path, value in zip(self.paths, values, strict=True):
            layer, name = path.split(".")
            built = getattr(self.training, layer)
            views.setdefault(layer, {})[name] = view_from_torch(built.layer, name, value.cpu(), built.flat)
        return views

    def trained(self, handles: Any) -> Trained:
        loss, velocity = handles
        loss = half_square(loss) if self.variant.part else loss
        parameters = self.named_views([parameter.detach() for parameter in self.parameters])
        return Trained(float(loss), parameters, self.named_views([-self.lr * value for value in velocity]))

    def state(self) -> Gradients:
        state: Gradients = {}
        for path, value in self.training.named_buffers():
            layer, name = path.split(".")
            state.setdefault(layer, {})[name] = value.cpu().numpy().copy()
        return state

    def layers(self) -> list[LayerReport]:
        reports: list[LayerReport] = []

        def report(built: BuiltLayer, args: Any, output: torch.Tensor) -> None:
            channels, *size = (*output.shape[1:], 1, 1)[:3]
            params, state = (sum(value.numel() for value in kind()) for kind in (built.parameters, built.buffers))
            reports.append(layer_report(built.layer, (*size, channels), params, state))

        hooks = [built.register_forward_hook(report) for built in self.inference]
        with torch.inference_mode():
            self.infer_eagerly(self.batches[0])
        for hook in hooks:
            hook.remove()
        return reports

    def device(self) -> str:
        return str(self.infer(self.batches[0]).device)

    def layout(self) -> str:
        """By the first layer's output or, where that is flat or of one pixel or channel, by its input. Inside its graph
        torch.compile may choose another."""
        batch = self.batches[0]
        with torch.inference_mode(), self.autocast():
            for x in (self.inference[0](batch), batch):
                fit = [name for name, form in FORMATS.items() if x.ndim == 4 and x.is_contiguous(memory_format=form)]
                if len(fit) == 1:
                    return fit[0]
        return self.how.layout

    def traces(self) -> dict[str, int]:
        return {name: count for name, count in self.compilations.items() if count}

    def peak_memory(self) -> int | None:
        return torch_device.peak_memory(self.target)

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.inference_pass(x)

    def differentiate(self, end: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The loss, or of a part its output, and its gradients."""
        wrt = (*self.parameters, x) if self.variant.input_gradient else self.parameters
        start = end.detach() if self.variant.part else None
        return end.detach(), *torch.autograd.grad(end, wrt, start)

    def infer_eagerly(self, x: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            return self.inference(x)

    def train_eagerly(self, x: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            output = self.trainee(x)
            return output if self.variant.part else 0.5 * output.float().square().sum()

    def entropy_eagerly(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            output = self.trainee(x)
            return output if self.variant.part else F.cross_entropy(output.float(), labels)

    def compiled(self, pass_: str, run: Pass) -> Pass:
        """``run`` as the mode has it, with its backward pass. autograd.grad itself stays outside: torch 2.13 does not
        trace it by default."""
        if self.how.mode not in COMPILED:
            return run
        self.compilations[pass_] = 0

        @torch.compiler.assume_constant_result
        def count() -> int:  # called while torch.compile traces, from a warm cache too, and never after
            self.compilations[pass_] += 1
            return 0

        def counted(*args: torch.Tensor) -> torch.Tensor:
            count()
            return run(*args)

        return torch.compile(counted, fullgraph=True, dynamic=False, **COMPILED[self.how.mode])

    def next_batch(self) -> torch.Tensor:
        if self.how.mode == "cudagraphs":
            torch.compiler.cudagraph_mark_step_begin()  # the handles of the call before may be overwritten
        self.batches.reverse()
        self.labels.reverse()
        return self.batches[0]

    def put(self, images: np.ndarray) -> torch.Tensor:  # (n, h, w, c) -> (n, c, h, w); to dense layers (n, c)
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


def half_square(output: torch.Tensor) -> torch.Tensor:
    """The loss of a part, in float64 and so on the CPU: mps has none, nor have some Intel GPUs."""
    return 0.5 * output.cpu().double().square().sum()


def conv(x: torch.Tensor, layer: Conv, built: BuiltLayer) -> torch.Tensor:
    if (before := layer.pad[0]) != (after := layer.pad[1]):
        x, before = F.pad(x, (before, after, before, after)), 0  # torch pads both sides alike
    return F.conv2d(x, built.kernel, built.bias, layer.stride, before, groups=layer.groups)


def relu(x: torch.Tensor, layer: Relu, built: BuiltLayer) -> torch.Tensor:
    return F.relu(x, inplace=built.fresh)


def lrn(x: torch.Tensor, layer: Lrn, built: BuiltLayer) -> torch.Tensor:
    if built.band is not None:
        return fast_lrn(x.float(), built.band, layer.beta)
    size = 2 * layer.radius + 1  # torch divides alpha by the window size, the layer's alpha is on the plain sum
    return F.local_response_norm(x.float(), size, alpha=layer.alpha * size, beta=layer.beta, k=layer.k)


def pool(x: torch.Tensor, layer: Pool, built: BuiltLayer) -> torch.Tensor:
    before, after = layer.pad
    if before == after <= layer.kernel // 2:
        return F.max_pool2d(x, layer.kernel, layer.stride, before, ceil_mode=layer.ceil)
    before, after = layer.pads(x.shape[2])  # rounded up already
    return F.max_pool2d(F.pad(x, (before, after, before, after), value=-torch.inf), layer.kernel, layer.stride)


def batch_norm(x: torch.Tensor, layer: BatchNorm, built: BuiltLayer) -> torch.Tensor:
    return F.batch_norm(
        x.float(),
        built.moving_mean,
        built.moving_variance,
        built.gamma,
        built.beta,
        built.training,
        layer.momentum,
        layer.eps,
    )


def flatten(x: torch.Tensor, layer: Flatten, built: BuiltLayer) -> torch.Tensor:
    if built.how.layout == "channels_last":
        x = x.permute(0, 2, 3, 1)  # its order in memory: flattened without a copy
    return x.flatten(1)


def fc(x: torch.Tensor, layer: Fc, built: BuiltLayer) -> torch.Tensor:
    return F.linear(x, built.kernel, built.bias)


def dropout(x: torch.Tensor, layer: Dropout, built: BuiltLayer) -> torch.Tensor:
    return F.dropout(x, layer.rate, built.training and built.how.dropout)


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
