"""A Net of TensorFlow on every rank of a Team: MultiWorkerMirroredStrategy, with a step of our own.

Mirrors the other teams: join, TeamNet. The gradient and its reduction are in ``strategy.run``, the update of the lone
Net follows on every rank. The variables are plain ones: all ranks begin with the same weights and update them alike,
and moving statistics are a rank's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impls import tf_alexnet
from impls.net import Build, Gradients, Rank, Settings, pattern, refuse_for_team
from impls.variants import Variant
from impls.weights import Weights

SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN
_strategy: Any = None  # one per process, made by join
_rank: Rank


def join(settings: Settings) -> None:
    """Connect this process to the others, before its first operation.

    Raises RuntimeError if not all of them are there.
    """
    global _strategy, _rank
    rank, gpus = settings.rank, tf.config.get_visible_devices("GPU")
    assert rank is not None
    wait_as_long_as_asked(rank)
    cluster = tf.train.ClusterSpec({"worker": list(rank.addresses)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type="worker", task_id=rank.number, num_accelerators={"GPU": len(gpus)}, rpc_layer="grpc"
    )
    kinds = tf.distribute.experimental.CommunicationImplementation
    # no timeout_seconds: for each reduction a thread would sleep as long, 15,000 of them after a minute of small ones
    options = tf.distribute.experimental.CommunicationOptions(implementation=kinds.NCCL if gpus else kinds.RING)
    _strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    _rank = rank
    total = float(reducing((1,))(tf.ones(1))[0])
    if total != rank.world:
        raise RuntimeError(f"expected a Team of {rank.world} ranks with a device each, found {total:g}")


def wait_as_long_as_asked(rank: Rank) -> None:
    """Let the coordination service, by which ranks watch each other, wait for ``timeout_s``.

    A rank that has not been heard of for 10 s is else lost for all. There is no public setting; the strategy leaves one
    alone that is there already.
    """
    from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
    from tensorflow.python.eager import context

    milliseconds = int(rank.timeout_s * 1000)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=milliseconds,
        heartbeat_timeout_in_ms=milliseconds,
        coordinated_jobs=[CoordinatedJob(name="worker", num_tasks=rank.world)],
    )


def reducing(shape: Sequence[int]) -> Any:
    """The sum over ranks of a float32 tensor of that shape, a function to be called by all of them."""

    def replica(x: tf.Tensor) -> tf.Tensor:  # an argument has no device by which the strategy could reduce it
        return tf.distribute.get_replica_context().all_reduce(SUM, tf.identity(x))

    return tf.function(
        lambda x: _strategy.run(replica, (x,)), input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False
    )


def this_rank() -> Rank:
    """The rank of this process, which has joined a Team."""
    return _rank


def on_replica(run: Any, *arguments: Any) -> Any:
    """Call a function on this rank, in which the collectives of a replica may be called."""
    return _strategy.run(run, arguments)


def all_gather(x: tf.Tensor, axis: int) -> tf.Tensor:
    """The values of all ranks along an axis, on a replica."""
    shape = [size * _rank.world if at == axis else size for at, size in enumerate(x.shape)]
    return tf.ensure_shape(tf.distribute.get_replica_context().all_gather(tf.identity(x), axis), shape)


@tf.function(autograph=False)
def gathered(x: tf.Tensor, axis: int) -> tf.Tensor:
    """The same, a function to be called by all of them."""
    return on_replica(lambda x: all_gather(x, axis % len(x.shape)), x)


class TeamNet(tf_alexnet.Net):
    """Implements impls.net.TeamNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        refuse_for_team(variant, how)
        super().__init__(variant, weights, how)
        self.values: tf.Tensor | None = None
        images, labels, number = (
            tf.TensorSpec(*spec) for spec in ((self.shape, tf.float32), (how.batch, tf.int32), ((), tf.float32))
        )
        # XLA has no reduction over processes on a CPU: it compiles what is before it
        self.gradient = tf.function(self._differentiate, autograph=False, jit_compile=how.mode == "xla")
        self.step = tf.function(self._step, input_signature=[images], autograph=False)
        self.step_apart = tf.function(self._step_apart, input_signature=[images], autograph=False)
        self.train = tf.function(self._train, input_signature=[images, labels, *[number] * 3], autograph=False)
        self.reduce = reducing((variant.params,))

    def apart(self) -> Any:
        return self.step_apart(self.next_batch())

    def own_gradients(self, handles: Any) -> tuple[float, Gradients]:
        return self.gradients(handles)

    def fill(self) -> None:
        if self.values is None:  # a sum does not change them
            filled = pattern(_rank.number, np.arange(self.reduce.input_signature[0].shape[0], dtype=np.uint32))
            with tf.device(self.on):
                self.values = tf.identity(tf.constant(filled))

    def all_reduce(self) -> Any:
        return self.reduce(self.values)

    def reduced(self, handles: Any) -> np.ndarray:
        return handles.numpy()

    def passes(self) -> dict[str, Any]:
        return super().passes() | {"apart": self.step_apart, "all_reduce": self.reduce}

    def _step_apart(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return _strategy.run(self.gradient, (x, tf.nn.l2_loss))

    def _summed(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        return self._reduced(x, loss_of, SUM)

    def _averaged(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        return self._reduced(x, loss_of, MEAN)

    def _reduced(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor], by: Any) -> tuple[tf.Tensor, ...]:
        def replica(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
            loss, *gradients = self.gradient(x, loss_of)
            return loss, *tf.distribute.get_replica_context().all_reduce(by, gradients)

        return _strategy.run(replica, (x,))
