"""A Net of PyTorch on every rank of a Team: DistributedDataParallel, over gloo on CPUs and NCCL on GPUs."""

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from impls import torch_alexnet
from impls.net import Build, Gradients, Settings, pattern
from impls.variants import Variant
from impls.weights import Weights

#: Of the values that all_reduce sums in place: 2 ranks may double them 226 times before they overflow.
SMALL = 2.0**-100


def join(settings: Settings) -> None:
    """Wait until all ranks of the Team have met."""
    rank = settings.rank
    assert rank is not None
    on_gpu = settings.device != "cpu"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"tcp://{rank.addresses[0]}",
        rank=rank.number,
        world_size=rank.world,
        timeout=datetime.timedelta(seconds=rank.timeout_s),
    )


class TeamNet(torch_alexnet.Net):
    """Implements impls.net.TeamNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        super().__init__(variant, weights, how)
        self.world, self.rank = dist.get_world_size(), dist.get_rank()
        ids = None if self.target.type == "cpu" else [self.target]
        # each rank's BatchNorm keeps its own moving statistics; by default rank 0's are sent in every forward pass
        self.parallel = DistributedDataParallel(self.training, device_ids=ids, broadcast_buffers=False)
        self.trainee = self.parallel
        self.summed = 0
        self.values = torch.zeros(0)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        super().load(batches)
        self.fill()

    def differentiate(self, end: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The loss and its gradients by ``backward``: autograd.grad would not call the hooks that reduce them."""
        for parameter in self.parameters:
            parameter.grad = None
        end.backward()
        return end.detach(), *(parameter.grad for parameter in self.parameters)

    def apart(self) -> Any:
        with self.parallel.no_sync():
            return self.forward_backward()

    def gradient_views(self, handles: Any) -> tuple[float, Gradients]:
        """The sums over all ranks: DistributedDataParallel averages."""
        end, *values = handles
        return super().gradient_views((end, *(value * self.world for value in values)))

    def own_gradients(self, handles: Any) -> tuple[float, Gradients]:
        return super().gradient_views(handles)

    def fill(self) -> None:
        count = sum(parameter.numel() for parameter in self.parameters)
        own = torch.from_numpy(pattern(self.rank, np.arange(count, dtype=np.uint32)))
        self.values, self.summed = own.to(self.target) * SMALL, 0

    def all_reduce(self) -> Any:
        dist.all_reduce(self.values)
        self.summed += 1
        return self.values

    def reduced(self, handles: Any) -> np.ndarray:
        before = SMALL * float(self.world) ** (self.summed - 1)  # the factor of all sums but the last
        return (handles.double() / before).float().cpu().numpy()
