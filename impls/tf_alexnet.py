"""AlexNets in TensorFlow 2: a tf.Module of raw ops under tf.function. Activations are (n, h, w, c).

Mirrors the other adapters: configure, devices, versions, conditions, build, Net, one function for each kind of row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Placed, Pool, Relu
from impls.net import Build, DeviceMissing, Gradients, Settings, last_value
from impls.variants import Variant
from impls.weights import Weights


def configure(settings: Settings) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_tensor_float_32_execution(settings.precision == "tf32")
    tf.config.set_soft_device_placement(False)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if settings.exact_device not in devices():
        raise DeviceMissing(f"tensorflow {tf.__version__} sees {', '.join(devices())}")


def devices() -> list[str]:
    return ["cpu", *(f"cuda:{i}" for i, _ in enumerate(tf.config.list_physical_devices("GPU")))]


def versions() -> dict[str, Any]:
    built, gpus = tf.sysconfig.get_build_info(), tf.config.list_physical_devices("GPU")
    return {
        "tensorflow": tf.__version__,
        "cuda": built.get("cuda_version"),
        "cudnn": built.get("cudnn_version"),
        "device_name": tf.config.experimental.get_device_details(gpus[0]).get("device_name") if gpus else None,
    }


def conditions() -> dict[str, Any]:
    return {
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "onednn": onednn(),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
    }


def onednn() -> bool | None:
    try:
        from tensorflow.python.util import _pywrap_util_port  # nothing public says it
    except ImportError:
        return None
    return _pywrap_util_port.IsMklEnabled()


def build(variant: Variant, weights: Weights, how: Build) -> "Net":
    return Net(variant, weights, how)


class Row(tf.Module):
    """One layer record with its variables."""

    def __init__(self, placed: Placed, arrays: dict[str, Any], how: Build):
        super().__init__(name=placed.layer.name)
        self.layer, self.dropout = placed.layer, how.dropout
        self.compute = tf.bfloat16 if how.precision == "bf16" else tf.float32
        for name, array in arrays.items():
            trainable = name in placed.layer.trainable(placed.input)
            setattr(self, name, tf.Variable(np.asarray(array), trainable=trainable, name=name))

    def __call__(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        return OPS[type(self.layer)](x, self.layer, self, training)


class AlexNet(tf.Module):
    def __init__(self, variant: Variant, weights: Weights, how: Build):
        super().__init__(name=variant.name)
        self.rows = [Row(placed, weights.get(placed.layer.name, {}), how) for placed in variant.placed()]

    def __call__(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        for row in self.rows:
            x = row(x, training)
        return x


class Net:
    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.on = "/CPU:0" if how.device == "cpu" else f"/GPU:{how.device.partition(':')[2] or 0}"
        signature = [tf.TensorSpec((how.batch, variant.input_size, variant.input_size, 3), tf.float32)]
        with tf.device(self.on):
            self.module = AlexNet(variant, weights, how)
            self.names = [(row.layer.name, name) for row in self.module.rows for name in trainable_names(row)]
            self.parameters = [getattr(row, name) for row in self.module.rows for name in trainable_names(row)]
            self.batches: list[tf.Tensor] = []
            self.infer = tf.function(self._infer, input_signature=signature, autograph=False, jit_compile=False)
            self.step = tf.function(self._step, input_signature=signature, autograph=False, jit_compile=False)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = [self.put(images) for images in batches]

    def forward(self) -> Any:
        return self.infer(self.next_batch())

    def forward_backward(self) -> Any:
        return self.step(self.next_batch())

    def wait(self, handles: Any) -> None:
        if "GPU" in self.on:  # on the CPU a call returns when it is done
            tf.test.experimental.sync_devices()

    def fetch(self, handles: Any) -> None:
        last_value(handles).numpy()

    def logits(self, handles: Any) -> np.ndarray:
        return tf.cast(handles, tf.float32).numpy().reshape(handles.shape[0], -1)

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        loss, *values = handles
        found: Gradients = {}
        for (row, name), value in zip(self.names, values, strict=True):
            found.setdefault(row, {})[name] = value.numpy()
        return float(loss), found

    def state(self) -> Gradients:
        return {
            row.layer.name: {"moving_mean": row.moving_mean.numpy(), "moving_variance": row.moving_variance.numpy()}
            for row in self.module.rows
            if isinstance(row.layer, BatchNorm)
        }

    def layers(self) -> list[dict[str, Any]]:
        found, x = [], self.batches[0]
        for row in self.module.rows:
            x = row(x, training=False)
            height, width, channels = (1, 1, *x.shape[1:])[-3:]
            found.append(
                {
                    "layer": row.layer.name,
                    "height": height,
                    "width": width,
                    "channels": channels,
                    "params": sum(int(tf.size(value)) for value in row.trainable_variables),
                    "state": sum(int(tf.size(value)) for value in row.non_trainable_variables),
                }
            )
        return found

    def device(self) -> str:
        return self.infer(self.batches[0]).device

    def layout(self) -> str:
        return "nhwc"  # on a GPU Grappler may choose another inside; what goes in and out is this

    def traces(self) -> dict[str, int]:
        passes = {"forward": self.infer, "forward_backward": self.step}
        return {name: function.experimental_get_tracing_count() for name, function in passes.items()}

    def peak_memory(self) -> int | None:
        if "GPU" not in self.on:
            return None
        peak = tf.config.experimental.get_memory_info(self.on[1:])["peak"]
        tf.config.experimental.reset_memory_stats(self.on[1:])
        return peak

    def _infer(self, x: tf.Tensor) -> tf.Tensor:
        with tf.device(self.on):
            return self.module(x, training=False)

    def _step(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.device(self.on), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.parameters)
            loss = tf.nn.l2_loss(tf.cast(self.module(x, training=True), tf.float32))
            gradients = tape.gradient(loss, self.parameters)
        return loss, *gradients

    def next_batch(self) -> tf.Tensor:
        self.batches.reverse()
        return self.batches[0]

    def put(self, images: np.ndarray) -> tf.Tensor:
        with tf.device(self.on):
            return tf.identity(tf.constant(images))


def trainable_names(row: Row) -> list[str]:
    return [name for name in ("kernel", "bias", "gamma", "beta") if hasattr(row, name)]


def padding(pad: tuple[int, int]) -> Any:
    """``VALID`` or explicit pixels: the row has numbers, SAME would have to be worked out again from the size."""
    return [[0, 0], list(pad), list(pad), [0, 0]] if any(pad) else "VALID"


def conv(x: tf.Tensor, layer: Conv, row: Row, training: bool) -> tf.Tensor:
    x, kernel, bias = (tf.cast(value, row.compute) for value in (x, row.kernel, row.bias))
    if layer.groups == 1:
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, layer.stride, padding(layer.pad)), bias)
    parts = zip(tf.split(x, layer.groups, 3), tf.split(kernel, layer.groups, 3), strict=True)
    # native groups need oneDNN on the CPU; split they cost the same (18.9 and 19.3 ms, 27x27x96 -> 256, 5x5)
    ys = [tf.nn.conv2d(part, kernel, layer.stride, padding(layer.pad)) for part, kernel in parts]
    return tf.nn.bias_add(tf.concat(ys, 3), bias)


def relu(x: tf.Tensor, layer: Relu, row: Row, training: bool) -> tf.Tensor:
    return tf.nn.relu(x)


def lrn(x: tf.Tensor, layer: Lrn, row: Row, training: bool) -> tf.Tensor:
    x = tf.cast(x, tf.float32)
    return tf.nn.lrn(x, layer.radius, alpha=layer.alpha, beta=layer.beta, bias=layer.k)  # alpha on the plain sum


def pool(x: tf.Tensor, layer: Pool, row: Row, training: bool) -> tf.Tensor:
    return tf.nn.max_pool2d(x, layer.kernel, layer.stride, padding(layer.pad))


def batch_norm(x: tf.Tensor, layer: BatchNorm, row: Row, training: bool) -> tf.Tensor:
    x, mean, variance = tf.cast(x, tf.float32), row.moving_mean, row.moving_variance
    if training:
        n = x.shape[0] * x.shape[1] * x.shape[2]
        mean = channel_mean(x)
        variance = channel_mean(tf.math.squared_difference(x, tf.stop_gradient(mean)))
        row.moving_mean.assign((1 - layer.momentum) * row.moving_mean + layer.momentum * mean)
        row.moving_variance.assign(
            (1 - layer.momentum) * row.moving_variance + layer.momentum * variance * (n / (n - 1))
        )
    return tf.nn.batch_normalization(x, mean, variance, row.beta, row.gamma, layer.eps)


def channel_mean(x: tf.Tensor) -> tf.Tensor:
    """Over batch, height and width, one axis at a time: TensorFlow adds up one after the other in float32, and over
    all at once (tf.nn.moments, or FusedBatchNorm) loses digits as the batch grows: 4e-5 of a variance at 8x54x54."""
    return tf.reduce_mean(tf.reduce_mean(tf.reduce_mean(x, 2), 1), 0)


def flatten(x: tf.Tensor, layer: Flatten, row: Row, training: bool) -> tf.Tensor:
    return tf.reshape(x, (x.shape[0], -1))


def fc(x: tf.Tensor, layer: Fc, row: Row, training: bool) -> tf.Tensor:
    x, kernel, bias = (tf.cast(value, row.compute) for value in (x, row.kernel, row.bias))
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def dropout(x: tf.Tensor, layer: Dropout, row: Row, training: bool) -> tf.Tensor:
    return tf.nn.dropout(x, layer.rate) if training and row.dropout else x


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
