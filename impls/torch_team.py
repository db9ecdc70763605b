"""A Net of PyTorch on every rank of a Team: DistributedDataParallel, over gloo on CPUs and on GPUs the vendor's NCCL.

Mirrors the other teams: join, TeamNet.
"""

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from impls import torch_alexnet
from impls.accelerators import accelerator_of
from impls.net import Build, Gradients, Settings, pattern, refuse_for_team
from impls.variants import Variant
from impls.weights import Weights

#: Of the values that all_reduce sums in place: 2 ranks may double them 226 times before they overflow.
SMALL = 2.0**-100
#: What the ranks talk over, by kind of device; with ROCm nccl is RCCL, and xccl, Intel's, is in torch from 2.8 on.
BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}


def join(settings: Settings) -> None:
    """Connect this process to the others; returns when all have met."""
    rank = settings.rank
    assert rank is not None
    dist.init_process_group(
        BACKENDS[accelerator_of(settings.device).kind],
        init_method=f"tcp://{rank.addresses[0]}",
        rank=rank.number,
        world_size=rank.world,
        timeout=datetime.timedelta(seconds=rank.timeout_s),
    )


def differentiate(
    end: torch.Tensor, parameters: Sequence[torch.nn.Parameter], begin: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """The loss and its gradients by ``backward``: autograd.grad would not call the hooks that reduce them.

    ``begin`` is the gradient of the loss, 1 if None.
    """
    for parameter in parameters:
        parameter.grad = None
    end.backward(begin)
    return end.detach(), *(parameter.grad for parameter in parameters)


class Apart(tuple[torch.Tensor, ...]):
    """Handles of a pass without reduction."""


class TeamNet(torch_alexnet.Net):
    """Implements impls.net.TeamNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        refuse_for_team(variant, how)
        super().__init__(variant, weights, how)
        self.world, self.rank = dist.get_world_size(), dist.get_rank()
        ids = None if self.target.type == "cpu" else [self.target]
        # each rank's BatchNorm keeps its own moving statistics; by default rank 0's are sent in every forward pass
        self.parallel = DistributedDataParallel(self.training, device_ids=ids, broadcast_buffers=False)
        self.trainee = self.parallel
        self.summed = 0
        self.values = torch.zeros(0)
        self.given: torch.Tensor | None = None

    def differentiate(self, end: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return differentiate(end, self.parameters)

    def apart(self) -> Any:
        with self.parallel.no_sync():
            return Apart(super().forward_backward())

    def fetch(self, handles: Any) -> float:
        copied = super().fetch(handles)
        if handles is self.values:
            return copied / self.before
        is_sum = isinstance(handles, tuple) and not isinstance(handles, Apart | torch_alexnet.Step)
        return copied * self.world if is_sum else copied

    def gradient_views(self, handles: Any) -> tuple[float, Gradients]:
        """The sums over all ranks: DistributedDataParallel averages."""
        end, *values = handles
        return super().gradient_views((end, *(value * self.world for value in values)))

    def own_gradients(self, handles: Any) -> tuple[float, Gradients]:
        return super().gradient_views(handles)

    def fill(self) -> None:
        if self.given is None:  # kept, since it takes longer to make than to copy
            count = sum(parameter.numel() for parameter in self.parameters)
            own = torch.from_numpy(pattern(self.rank, np.arange(count, dtype=np.uint32)))
            self.given = own.mul_(SMALL).to(self.target)
            self.values = self.given.clone()
        self.values.copy_(self.given)
        self.summed = 0

    def all_reduce(self) -> Any:
        dist.all_reduce(self.values)
        self.summed += 1
        return self.values

    @property
    def before(self) -> float:
        """The factor of all sums but the last."""
        return SMALL * float(self.world) ** (self.summed - 1)

    def reduced(self, handles: Any) -> np.ndarray:
        return (handles.cpu().double() / self.before).float().numpy()
