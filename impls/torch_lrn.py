"""LRN of faster parts in PyTorch (``--lrn fast``): few passes over memory, nothing kept but the input and the scale.

Mirrors tf_lrn and jax_lrn: fast_lrn, the sum over neighboring channels, power.
"""

from typing import Any

import torch
import torch.nn.functional as F

from impls.layers import Lrn

Band = tuple[torch.Tensor, torch.Tensor]


def fast_lrn(x: torch.Tensor, kernel_and_k: Band, beta: float) -> torch.Tensor:
    return FastLrn.apply(x, *kernel_and_k, beta)


class FastLrn(torch.autograd.Function):
    """LRN with a handwritten gradient. The sum over neighboring channels is a 1x1 convolution by a band matrix, fast
    in every library."""

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


def band(layer: Lrn, channels: int, device: str) -> Band:
    """alpha where two channels are neighbors, (c, c, 1, 1), its own transpose; k for each channel."""
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
