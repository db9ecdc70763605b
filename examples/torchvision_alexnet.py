"""torchvision's AlexNet as a guest, built from PyTorch modules.

    alexnet-bench run --variant owt --net examples/torchvision_alexnet.py:build

``features``, ``AdaptiveAvgPool2d((6, 6))``, flatten, ``classifier`` with two dropouts, ReLUs in place; parameters have
torchvision's names. The layers are those of the "one weird trick" net, https://arxiv.org/abs/1404.5997, as described in
https://docs.pytorch.org/vision/stable/models/alexnet.html; torchvision itself is not needed.
"""

import contextlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from impls.net import Trained

NAMES = {  # canonical -> torchvision's
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}


class AlexNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 1000),
        )

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


def build(variant, weights, how):
    """Build owt in eager, compile or cudagraphs; nchw or channels_last; fp32, tf32 or bf16 (autocast)."""
    if variant.name != "owt":
        raise ValueError(f"torchvision_alexnet: expected --variant owt, found {variant.name}")
    if how.mode not in ("eager", "compile", "cudagraphs"):
        raise ValueError(f"torchvision_alexnet has no mode {how.mode!r}: choose eager, compile or cudagraphs")
    if (side := weights["fc6"]["kernel"].shape[0]) != 256 * 6 * 6:
        raise ValueError(f"torchvision_alexnet: expected 6x6x256 values in pool5, found {side}; leave --size at 224")
    return Net(weights, how)


class Net:
    def __init__(self, weights, how):
        self.place = torch.device(how.device)
        self.format = torch.channels_last if how.layout == "channels_last" else torch.contiguous_format
        self.bf16 = how.precision == "bf16"
        state = {
            f"{NAMES[layer]}.{'weight' if name == 'kernel' else 'bias'}": to_torch(layer, name, array)
            for layer, arrays in weights.items()
            for name, array in arrays.items()
        }
        state = {name: self.put(value) for name, value in state.items()}
        # dropout is the only layer that differs between training and inference
        self.inferring = self.module(state).eval()
        self.learning = self.module(state).train(how.dropout)
        self.parameters = list(self.learning.parameters())
        self.names = [name for name, _ in self.learning.named_parameters()]
        self.weights, self.labels, self.optimizer = weights, [], None
        if how.mode != "eager":
            torch.compiler.reset()  # else an earlier net of another batch makes this one dynamic
            kind = "reduce-overhead" if how.mode == "cudagraphs" else "default"
            self.inferring = torch.compile(self.inferring, mode=kind, dynamic=False)
            self.learning = torch.compile(self.learning, mode=kind, dynamic=False)

    def module(self, state):
        with torch.device("meta"):  # computes no initial values
            module = AlexNet()
        module.load_state_dict(state, assign=True)  # no copies: both modules share the tensors
        return module

    def put(self, value):
        value = value.to(self.place)
        return value.contiguous(memory_format=self.format) if value.ndim == 4 else value

    def load(self, batches):  # (n, h, w, c) -> (n, c, h, w)
        self.batches = [self.put(torch.tensor(batch).permute(0, 3, 1, 2)) for batch in batches]

    def label(self, labels):
        self.labels = [torch.tensor(each, dtype=torch.int64, device=self.place) for each in labels]

    def restart(self, sgd):
        with torch.no_grad():
            for path, parameter in zip(self.names, self.parameters, strict=True):
                layer, name = canonical_name(path)
                parameter.copy_(to_torch(layer, name, self.weights[layer][name]))
        self.sgd = sgd
        if self.optimizer is None:
            self.optimizer = torch.optim.SGD(self.parameters, momentum=sgd.momentum, fused=True)
            for parameter in self.parameters:  # else its first step, which a Turn may consist of, makes them
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.optimizer.param_groups[0].update(lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.decay)
        for buffer in self.velocity():
            buffer.zero_()

    def next_batch(self):
        self.batches.reverse()
        self.labels.reverse()
        return self.batches[0]

    def autocast(self):
        if self.bf16:
            return torch.autocast(self.place.type, torch.bfloat16)
        return contextlib.nullcontext()

    def forward(self):
        with torch.inference_mode(), self.autocast():
            return self.inferring(self.next_batch())

    def forward_backward(self):
        with self.autocast():
            logits = self.learning(self.next_batch())
        loss = 0.5 * logits.float().square().sum()
        return loss.detach(), *torch.autograd.grad(loss, self.parameters)

    def train_step(self):
        images = self.next_batch()
        self.optimizer.zero_grad()
        with self.autocast():
            logits = self.learning(images)
        loss = F.cross_entropy(logits.float(), self.labels[0])
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def wait(self, handles):
        if self.place.type != "cpu":
            torch.accelerator.synchronize(self.place)

    def fetch(self, handles):  # conv1's gradient, or velocity, is computed last
        if isinstance(handles, dict):
            return -self.sgd.lr * float(self.velocity()[0].flatten()[0])
        return float((handles[1] if isinstance(handles, tuple) else handles).flatten()[0])

    def logits(self, handles):
        return handles.float().cpu().numpy()

    def gradients(self, handles):
        loss, *values = handles
        return float(loss), self.named(values)

    def trained(self, handles):
        velocity = [-self.sgd.lr * buffer for buffer in self.velocity()]
        parameters = [parameter.detach() for parameter in self.parameters]
        return Trained(float(handles["loss"]), self.named(parameters), self.named(velocity))

    def velocity(self):  # without the learning rate
        return [self.optimizer.state[parameter]["momentum_buffer"] for parameter in self.parameters]

    def named(self, values):
        arrays = {}
        for path, value in zip(self.names, values, strict=True):
            layer, name = canonical_name(path)
            arrays.setdefault(layer, {})[name] = from_torch(layer, name, value.float().cpu().numpy())
        return arrays

    def device(self):
        return str(self.forward().device)

    def layout(self):
        with torch.inference_mode():
            activation = self.inferring.features[0](self.batches[0])
        return "nchw" if activation.is_contiguous() else "channels_last"

    def peak_memory(self):
        if self.place.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.place)
        torch.cuda.reset_peak_memory_stats(self.place)
        return peak


def canonical_name(path):
    """Layer and name of one of torchvision's parameters, ``features.0.weight``."""
    module, _, name = path.rpartition(".")
    layer = next(ours for ours, theirs in NAMES.items() if theirs == module.removeprefix("_orig_mod."))
    return layer, "kernel" if name == "weight" else "bias"


def to_torch(layer, name, array):
    """A parameter in torch's axes: convolutions (h, w, in, out) -> (out, in, h, w), dense (in, out) -> (out, in).

    fc6's inputs (h, w, c) -> (c, h, w).
    """
    if name == "kernel" and layer == "fc6":
        array = array.reshape(6, 6, 256, -1).transpose(3, 2, 0, 1).reshape(-1, 9216)
    elif name == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return torch.tensor(np.ascontiguousarray(array))


def from_torch(layer, name, array):
    """The inverse of `to_torch`."""
    if name == "kernel" and layer == "fc6":
        return array.reshape(-1, 256, 6, 6).transpose(2, 3, 1, 0).reshape(9216, -1)
    if name == "kernel":
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array
