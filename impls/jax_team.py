"""A Net of JAX on every rank of a Team: jax.distributed, and shard_map with psum over one device of each process.

Mirrors the other teams: join, TeamNet. What all ranks have alike (parameters, velocity) is replicated over the mesh;
what is a rank's own (images, moving statistics, loss) is its part of an array that is split along the first axis.
"""

import contextlib
import math
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from impls import jax_alexnet
from impls.net import Build, Gradients, Rank, Settings, Sgd, pattern, refuse_for_team
from impls.variants import Variant
from impls.weights import Weights

AXIS = "rank"
ALIKE, OWN = PartitionSpec(), PartitionSpec(AXIS)
SEND_BYTES = 2**22  # more than systems allow, which then give the most


def join(settings: Settings) -> None:
    """Connect this process to the others, before its first device is made; it sees no other GPU than its device.

    Every limit that JAX has is set to the rank's. Two are not: a rank whose coordinator (rank 0) is gone ends at once,
    and that of gloo's first meeting, 30 s, for which ``meet`` is called when all are here.
    """
    rank = settings.rank
    assert rank is not None
    seconds = math.ceil(rank.timeout_s)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_cpu_get_global_topology_timeout_minutes", max(3, math.ceil(seconds / 60)))  # local: 2
    jax.distributed.initialize(
        rank.addresses[0],
        rank.world,
        rank.number,
        local_device_ids=[int(settings.exact_device.partition(":")[2] or 0)],
        initialization_timeout=seconds,
        heartbeat_timeout_seconds=seconds,
        shutdown_timeout_seconds=seconds,
        coordinator_bind_address=rank.addresses[0],  # not all interfaces
    )


def meet(rank: Rank) -> None:
    """Sum a value over all ranks. Returns when all have done so, and are connected."""
    mesh = mesh_of(jax.devices())
    one = split(mesh, jax.device_put(np.ones(1, np.float32), jax.local_devices()[0]))
    total = float(np.asarray(reducing(mesh, Counter())(one).addressable_data(0)).item())
    if total != rank.world:
        raise RuntimeError(f"expected a Team of {rank.world} ranks with a device each, found {total:g}")


@contextlib.contextmanager
def sending_ahead(for_good: bool) -> Iterator[None]:
    """Let TCP connections of this process send more than one segment before it is acknowledged.

    XLA's gloo sends from buffers of 32 KiB; torch's gloo and TensorFlow's gRPC leave their size to the system. As soon
    as small messages went both ways Linux acknowledges a lone segment 40 ms late, so that they send 1.6 MB/s.
    """
    option = socket.SOL_SOCKET, socket.SO_SNDBUF
    with contextlib.ExitStack() as stack:
        for file in filter(Path.is_socket, Path("/proc/self/fd").glob("*")):
            connection = stack.enter_context(socket.socket(fileno=os.dup(int(file.name))))
            if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.type == socket.SOCK_STREAM:
                before = connection.getsockopt(*option) // 2  # Linux doubles what is set
                connection.setsockopt(*option, SEND_BYTES)
                if not for_good:
                    stack.callback(connection.setsockopt, option[0], option[1], before)
        yield


def mesh_of(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def split(mesh: Mesh, own: jax.Array) -> jax.Array:
    """This rank's array as its part of an array of all ranks, along the first axis."""
    shape = (mesh.size * own.shape[0], *own.shape[1:])
    return jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh, OWN), [own])


def reducing(mesh: Mesh, traced: Counter[str]) -> Any:
    """The sum over ranks of their parts, a function to be called by all of them."""

    def total(x: jax.Array) -> jax.Array:
        traced["all_reduce"] += 1
        return lax.psum(x, AXIS)

    return jax.jit(jax.shard_map(total, mesh=mesh, in_specs=OWN, out_specs=ALIKE))


def with_axis(step: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """The same with an axis for the loss, along which those of all ranks are put together."""

    def stepped(*arguments: Any) -> tuple[Any, ...]:
        first, *others = step(*arguments)
        return first[None], *others

    return stepped


class RankNet(jax_alexnet.Net):
    """A Net on every rank of a Team, whose arrays are those of a mesh of all ranks."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.mesh = mesh_of(jax.devices())
        super().__init__(variant, weights, how)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        super().load(batches)
        self.send_ahead()

    def restart(self, sgd: Sgd, velocity: Gradients | None = None) -> None:
        super().restart(sgd, velocity)
        self.send_ahead()

    def send_ahead(self) -> None:
        """Under the preset equal, in every pass from here on: gloo connects ranks in their first one."""
        if self.how.preset == "equal":
            with sending_ahead(for_good=True):
                pass

    def put(self, array: np.ndarray) -> jax.Array:
        alike = super().put(array)
        return jax.make_array_from_single_device_arrays(alike.shape, NamedSharding(self.mesh, ALIKE), [alike])

    def put_own(self, array: np.ndarray) -> jax.Array:
        return split(self.mesh, super().put(array))

    def own(self, arrays: Any) -> Any:
        return jax.tree.map(lambda array: array.addressable_data(0), arrays)


class TeamNet(RankNet):
    """Implements impls.net.TeamNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        refuse_for_team(variant, how)
        super().__init__(variant, weights, how)
        self.values: jax.Array | None = None
        # with check_vma the gradient of what all ranks have alike would be summed over ranks by itself, always
        mapped = partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        inputs, outputs = (ALIKE, OWN, ALIKE, OWN), (OWN, ALIKE, OWN, ALIKE)
        self.step = jax.jit(mapped(with_axis(self._step), in_specs=inputs, out_specs=outputs))
        apart = mapped(with_axis(self._step_apart), in_specs=inputs, out_specs=(OWN, OWN, OWN, ALIKE))
        self.step_apart = jax.jit(apart)
        self.reduce = reducing(self.mesh, self.traced)

        def train(*arguments: Any, optimizer: Any) -> Any:
            inputs, outputs = (ALIKE, ALIKE, OWN, ALIKE, OWN, OWN, ALIKE), (OWN, ALIKE, ALIKE, OWN, ALIKE)
            step = with_axis(partial(self._train, optimizer=optimizer))
            return mapped(step, in_specs=inputs, out_specs=outputs)(*arguments)

        self.train = jax.jit(train, donate_argnums=(0, 1), static_argnames="optimizer")

    def feed(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.batches, self.labels = ([split(self.mesh, jax.device_put(it, self.on))] for it in (images, labels))

    def put_weights(self) -> None:
        super().put_weights()
        self.own_parameters: Any = None

    def forward(self) -> Any:
        if self.own_parameters is None:  # kept: an iteration is not to pay for it
            self.own_parameters = self.own(self.parameters)
        return self.infer(self.own_parameters, *self.own((self.moving, self.next_batch())))

    def train_step(self) -> Any:
        self.own_parameters = None  # it updates in place what nothing else holds
        return super().train_step()

    def apart(self) -> Any:
        arguments = self.parameters, self.moving, self.key, self.next_batch()
        first, (gradients, *_), self.moving, self.key = self.step_apart(*arguments)
        return first, *(gradients[layer][name] for layer, name in self.names)

    def own_gradients(self, handles: Any) -> tuple[float, Gradients]:
        return self.gradients(handles)

    def fill(self) -> None:
        if self.values is None:  # a sum does not change them
            count = sum(value.size for value in jax.tree.leaves(self.parameters))
            filled = pattern(jax.process_index(), np.arange(count, dtype=np.uint32))
            self.values = self.put_own(filled)

    def all_reduce(self) -> Any:
        return self.reduce(self.values)

    def reduced(self, handles: Any) -> np.ndarray:
        return np.asarray(self.own(handles))

    def _step_apart(self, parameters: Any, moving: Any, key: Any, x: jax.Array) -> tuple[Any, ...]:
        self.traced["apart"] += 1
        return self._squares(parameters, moving, key, x)

    def summed(self, gradients: Any) -> Any:
        return lax.psum(gradients, AXIS)

    def averaged(self, gradients: Any) -> Any:
        return lax.pmean(gradients, AXIS)
