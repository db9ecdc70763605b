"""A user's keras.Model, tf.Module or tf.function as a Net. Images are (n, h, w, c).

Mirrors the other models: creating, accepts, Net.
"""

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impls.net import Build
from impls.outputs import arguments, check_outputs, tensors_in

WANTED = "a keras.Model, a tf.Module with __call__, or a tf.function"


def creating(how: Build) -> contextlib.AbstractContextManager[Any]:
    return tf.device("/CPU:0" if how.device == "cpu" else f"/GPU:{how.device.partition(':')[2] or 0}")


def accepts(value: Any) -> bool:
    """A model of Keras on TensorFlow is a tf.Module's relative: trackable, and called."""
    kinds = tf.Module, tf.types.experimental.PolymorphicFunction, tf.keras.layers.Layer
    return isinstance(value, kinds) and callable(value)


class Net:
    """Passes of impls.net.Net; ``forward`` returns a list of outputs, ``forward_backward`` (loss, gradients...)."""

    def __init__(self, model: Any, loss: Callable[[Any], Any] | None, inputs: Callable[[int], Any] | None, how: Build):
        if how.precision == "bf16":
            raise ValueError("bf16 is applied to models of torch only: expected --precision fp32")
        self.how, self.model = how, model
        self.loss, self.inputs = loss or half_square, inputs
        keras = isinstance(model, tf.keras.layers.Layer)
        self.takes_training = keras or "training" in inspect.signature(model).parameters
        self.batches: list[Any] = []
        self.infer = tf.function(self._infer, autograph=False, jit_compile=how.mode == "xla")
        self.step = tf.function(self._step, autograph=False, jit_compile=how.mode == "xla")

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = [self.put(self.inputs(self.how.batch) if self.inputs else images) for images in batches]

    def check(self) -> None:
        """Call it twice, which makes the variables of an unbuilt model. Raises ValueError."""
        with creating(self.how):
            first, again = ([out.numpy() for out in self._infer(self.batches[0])] for _ in range(2))
            check_outputs(first, again)
            with tf.GradientTape() as tape:
                self.call(self.batches[0], training=False)
        self.variables = list(getattr(self.model, "trainable_variables", tape.watched_variables()))

    def has_parameters(self) -> bool:
        return bool(self.variables)

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
        return self.forward()[0].device

    def traces(self) -> dict[str, int]:
        passes = {"forward": self.infer, "forward_backward": self.step}
        return {name: function.experimental_get_tracing_count() for name, function in passes.items()}

    def call(self, inputs: Any, training: bool) -> Any:
        more = {"training": training} if self.takes_training else {}
        return self.model(*inputs[0], **inputs[1], **more)

    def _infer(self, inputs: Any) -> list[tf.Tensor]:
        with creating(self.how):
            return floats(self.call(inputs, training=False))

    def _step(self, inputs: Any) -> tuple[tf.Tensor, ...]:
        with creating(self.how), tf.GradientTape() as tape:
            loss = self.loss(self.call(inputs, training=True))
        gradients = tape.gradient(loss, self.variables)
        return loss, *(tf.convert_to_tensor(each) for each in gradients if each is not None)

    def next_batch(self) -> Any:
        self.batches.reverse()
        return self.batches[0]

    def put(self, inputs: Any) -> Any:
        places, named = arguments(inputs)
        with creating(self.how):
            return (
                [tf.identity(tf.constant(each)) for each in places],
                {name: tf.identity(tf.constant(each)) for name, each in named.items()},
            )


def floats(outputs: Any) -> list[tf.Tensor]:
    return [tensor for tensor in tensors_in(outputs, tf.Tensor) if tensor.dtype.is_floating]


def half_square(outputs: Any) -> tf.Tensor:
    return tf.add_n([tf.nn.l2_loss(tf.cast(tensor, tf.float32)) for tensor in floats(outputs)])
