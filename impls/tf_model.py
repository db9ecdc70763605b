"""A user's keras.Model, tf.Module or tf.function as a Net. Images are (n, h, w, c).

Mirrors the other models: creating, make, accepts, Net.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impls import tf_alexnet
from impls.net import Build
from impls.outputs import Unfit, arguments, check_outputs, tensors_in

WANTED = "a keras.Model, a tf.Module with __call__, or a tf.function"


@contextlib.contextmanager
def creating(how: Build) -> Iterator[None]:
    """On its device; in bf16 with Keras's mixed policy, which layers take when they are made."""
    policy = tf.keras.config.dtype_policy()
    try:
        if how.precision == "bf16":
            tf.keras.config.set_dtype_policy("mixed_bfloat16")
        with on_device(how):
            yield
    finally:
        tf.keras.config.set_dtype_policy(policy)


def on_device(how: Build) -> contextlib.AbstractContextManager[Any]:
    return tf.device("/CPU:0" if how.device == "cpu" else "/GPU:0")  # the only one that is seen


def make(function: Callable[..., Any], places: list[Any], named: dict[str, Any]) -> Any:
    return function(*places, **named)


def accepts(value: Any) -> bool:
    """A model of Keras on TensorFlow is a tf.Module's relative: trackable, and called."""
    kinds = tf.Module, tf.types.experimental.PolymorphicFunction, tf.keras.layers.Layer
    return isinstance(value, kinds) and callable(value)


class Net:
    """Passes of impls.net.Net; ``forward`` returns a list of outputs, ``forward_backward`` (loss, gradients...)."""

    def __init__(self, model: Any, loss: Callable[[Any], Any] | None, inputs: Callable[[int], Any] | None, how: Build):
        if how.precision == "bf16" and getattr(model, "compute_dtype", "") != "bfloat16":
            raise Unfit(
                "it does not compute in bf16, for which Keras's policy mixed_bfloat16 is set while NAME is called: "
                "expected a function that makes a Keras model, or --precision fp32"
            )
        self.how, self.model = how, model
        self.loss, self.inputs = loss or half_square, inputs
        keras = isinstance(model, tf.keras.layers.Layer)
        self.takes_training = keras or "training" in inspect.signature(model).parameters
        self.batches: list[Any] = []
        self.infer = tf.function(self._infer, autograph=False, jit_compile=how.mode == "xla")
        self.step = tf.function(self._step, autograph=False, jit_compile=how.mode == "xla")

    def load(self, batches: Sequence[np.ndarray]) -> None:
        own = [self.inputs(self.how.batch) for _ in range(2)] if self.inputs else batches
        self.batches = [self.put(each) for each in own]

    def check(self) -> None:
        """Call it twice, which makes the variables of an unbuilt model. Raises Unfit."""
        with on_device(self.how):
            first, again = ([out.numpy().astype(np.float32) for out in self._infer(self.batches[0])] for _ in range(2))
            check_outputs(first, again)
            with tf.GradientTape() as tape:
                self.call(self.batches[0], training=False)
        self.variables = list(getattr(self.model, "trainable_variables", tape.watched_variables()))

    def forward(self) -> Any:
        return self.infer(self.next_batch())

    def forward_backward(self) -> Any:
        return self.step(self.next_batch())

    def wait(self, handles: Any) -> None:
        if self.how.device != "cpu":  # on the CPU a call returns when it is done
            tf.test.experimental.sync_devices()

    def fetch(self, handles: Any) -> float:
        value = handles[-1 if isinstance(handles, list) else 1]
        return float(value[(0,) * value.shape.rank])

    def device(self) -> str:
        return tf_alexnet.among_all(self.forward()[0].device)

    def traces(self) -> dict[str, int]:
        passes = {"forward": self.infer, "forward_backward": self.step}
        return {name: function.experimental_get_tracing_count() for name, function in passes.items()}

    def call(self, inputs: Any, training: bool) -> Any:
        more = {"training": training} if self.takes_training else {}
        return self.model(*inputs[0], **inputs[1], **more)

    def _infer(self, inputs: Any) -> list[tf.Tensor]:
        with on_device(self.how):
            return floats(self.call(inputs, training=False))

    def _step(self, inputs: Any) -> tuple[tf.Tensor, ...]:
        with on_device(self.how), tf.GradientTape() as tape:
            loss = self.loss(self.call(inputs, training=True))
        gradients = tape.gradient(loss, self.variables)
        return loss, *(tf.convert_to_tensor(each) for each in gradients if each is not None)

    def next_batch(self) -> Any:
        self.batches.reverse()
        return self.batches[0]

    def put(self, inputs: Any) -> Any:
        places, named = arguments(inputs)
        with on_device(self.how):
            return (
                [tf.identity(tf.constant(each)) for each in places],
                {name: tf.identity(tf.constant(each)) for name, each in named.items()},
            )


def floats(outputs: Any) -> list[tf.Tensor]:
    return [tensor for tensor in tensors_in(outputs, tf.Tensor) if tensor.dtype.is_floating]


def half_square(outputs: Any) -> tf.Tensor:
    return tf.add_n([tf.nn.l2_loss(tf.cast(tensor, tf.float32)) for tensor in floats(outputs)])
