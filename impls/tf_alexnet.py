"""AlexNets in TensorFlow 2: a tf.Module of raw ops under tf.function. Activations are (n, h, w, c).

Mode ``xla`` is the same functions under ``jit_compile=True``. Mirrors the other adapters: configure, devices, versions,
conditions, build, Net, one function for each kind of row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Placed, Pool, Relu
from impls.net import Build, DeviceMissing, Gradients, Settings, half_square, last_value
from impls.variants import Variant
from impls.weights import Weights


def configure(settings: Settings) -> None:
    if settings.preset == "equal":
        if settings.threads is not None:
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
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or None,  # 0: TensorFlow chooses
        "onednn": onednn(),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "bf16": native_bf16(),
    }


def native_bf16() -> bool | None:
    """Whether the first GPU multiplies bfloat16 by itself (compute capability 8.0 on); None on a CPU."""
    gpus = tf.config.list_physical_devices("GPU")
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability") if gpus else None
    return None if capability is None else capability >= (8, 0)


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
        self.on_cpu, self.xla, self.fast_lrn = how.device == "cpu", how.mode == "xla", how.lrn == "fast"
        self.compute = tf.bfloat16 if how.precision == "bf16" else tf.float32
        for name, array in arrays.items():
            trainable = name in placed.layer.trainable(placed.input)
            setattr(self, name, tf.Variable(np.asarray(array), trainable=trainable, name=name))

    def __call__(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        return OPS[type(self.layer)](x, self.layer, self, training)


class AlexNet(tf.Module):
    def __init__(self, variant: Variant, weights: Weights, how: Build):
        super().__init__(name=variant.name.replace(".", "_"))
        self.rows = [Row(placed, weights.get(placed.layer.name, {}), how) for placed in variant.placed()]

    def __call__(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        for row in self.rows:
            x = row(x, training)
        return x


class Net:
    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.on = "/CPU:0" if how.device == "cpu" else f"/GPU:{how.device.partition(':')[2] or 0}"
        self.part, self.input_gradient = variant.part, variant.input_gradient
        self.input = (how.batch, variant.input_size, variant.input_size, variant.channels)
        # a dense row alone, or one behind it, has what it has in its net: (n, c)
        flat = variant.input_size == 1 and not isinstance(variant.layers[0], Conv | Lrn | Pool | BatchNorm)
        self.shape = (how.batch, variant.channels) if flat else self.input
        traced: dict[str, Any] = {
            "input_signature": [tf.TensorSpec(self.shape, tf.float32)],
            "autograph": False,
            "jit_compile": how.mode == "xla",
        }
        with tf.device(self.on):
            self.module = AlexNet(variant, weights, how)
            self.names = [(row.layer.name, name) for row in self.module.rows for name in trainable_names(row)]
            self.names += [("input", "images")] if variant.input_gradient else []
            self.parameters = [getattr(row, name) for row in self.module.rows for name in trainable_names(row)]
            self.batches: list[tf.Tensor] = []
            self.infer = tf.function(self._infer, **traced)
            self.step = tf.function(self._step, **traced)

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
        value = last_value(handles)
        value[(0,) * value.shape.rank].numpy()

    def logits(self, handles: Any) -> np.ndarray:
        return tf.cast(handles, tf.float32).numpy().reshape(handles.shape[0], -1)

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        first, *values = handles
        found: Gradients = {}
        for (row, name), value in zip(self.names, values, strict=True):
            found.setdefault(row, {})[name] = value.numpy()
        if self.input_gradient:
            found["input"]["images"] = found["input"]["images"].reshape(self.input)
        return half_square(tf.cast(first, tf.float32).numpy()) if self.part else float(first), found

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
            wanted = [*self.parameters, x] if self.input_gradient else self.parameters
            tape.watch(wanted)
            y = self.module(x, training=True)
            if self.part:  # 0.5 * sum(y ** 2) has y itself for its gradient
                return y, *tape.gradient(y, wanted, output_gradients=y)
            loss = tf.nn.l2_loss(tf.cast(y, tf.float32))
            return loss, *tape.gradient(loss, wanted)

    def next_batch(self) -> tf.Tensor:
        self.batches.reverse()
        return self.batches[0]

    def put(self, images: np.ndarray) -> tf.Tensor:
        with tf.device(self.on):
            return tf.identity(tf.constant(images.reshape(self.shape)))


def trainable_names(row: Row) -> list[str]:
    return [name for name in ("kernel", "bias", "gamma", "beta") if hasattr(row, name)]


def padded(x: tf.Tensor, layer: Conv | Pool, row: Row, value: float) -> tuple[tf.Tensor, Any]:
    """What a window runs over, and its padding: ``SAME`` where that is the row's pixels at this size.

    On the CPU an explicit padding is slow in the backward pass: of conv1 to conv3 and pool5 SAME takes 0.42, 0.55, 0.56
    and 0.20 of its time, pixels put around x before 0.47, 0.64, 0.65 and 0.35.
    """
    size = x.shape[1]
    total = max((-(-size // layer.stride) - 1) * layer.stride + layer.kernel - size, 0)
    if layer.pad in ((0, 0), (total // 2, total - total // 2)):
        return x, "SAME" if any(layer.pad) else "VALID"
    pixels = [[0, 0], list(layer.pad), list(layer.pad), [0, 0]]
    return (tf.pad(x, pixels, constant_values=value), "VALID") if row.on_cpu else (x, pixels)


def conv(x: tf.Tensor, layer: Conv, row: Row, training: bool) -> tf.Tensor:
    x, kernel, bias = (tf.cast(value, row.compute) for value in (x, row.kernel, row.bias))
    x, padding = padded(x, layer, row, 0.0)
    if layer.groups == 1:
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, layer.stride, padding), bias)
    parts = zip(tf.split(x, layer.groups, 3), tf.split(kernel, layer.groups, 3), strict=True)
    # native groups need oneDNN on the CPU; split they cost the same (18.9 and 19.3 ms, 27x27x96 -> 256, 5x5)
    ys = [tf.nn.conv2d(part, kernel, layer.stride, padding) for part, kernel in parts]
    return tf.nn.bias_add(tf.concat(ys, 3), bias)


def relu(x: tf.Tensor, layer: Relu, row: Row, training: bool) -> tf.Tensor:
    return tf.nn.relu(x)


def lrn(x: tf.Tensor, layer: Lrn, row: Row, training: bool) -> tf.Tensor:
    x = tf.cast(x, tf.float32)  # not in bfloat16, which tf.nn.lrn has on a GPU only
    if row.fast_lrn:
        return fast_lrn(x, layer, row)
    return tf.nn.lrn(x, layer.radius, alpha=layer.alpha, beta=layer.beta, bias=layer.k)  # alpha on the plain sum


def fast_lrn(x: tf.Tensor, layer: Lrn, row: Row) -> tf.Tensor:
    """Its gradient written out: on the CPU that of tf.nn.lrn takes seven times its forward pass."""
    total = shifted_sum if row.xla else banded_sum

    @tf.custom_gradient
    def normalised(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        scale = total(tf.square(x), layer.radius, layer.alpha, layer.k)
        factor = power(scale, layer.beta)
        y = x * factor

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            return dy * factor - 2 * layer.beta * x * total(dy * y / scale, layer.radius, layer.alpha, 0.0)

        return y, gradient

    return normalised(x)


def banded_sum(x: tf.Tensor, radius: int, alpha: float, k: float) -> tf.Tensor:
    """k + alpha * the sum over channels c - radius .. c + radius, as a matrix product.

    The CPU's is exact; on a GPU the TF32 switch of the process holds for it as for every other, and has no exception.
    """
    channel = np.arange(x.shape[-1])
    band = alpha * (np.abs(channel[:, None] - channel) <= radius)
    total = tf.nn.conv2d(x, tf.constant(band[None, None], tf.float32), 1, "VALID")
    return tf.nn.bias_add(total, tf.fill([x.shape[-1]], k)) if k else total


def shifted_sum(x: tf.Tensor, radius: int, alpha: float, k: float) -> tf.Tensor:
    """The same as a sum of slices, which XLA makes one loop of: half the time of its matrix product."""
    wide = tf.pad(x, [[0, 0]] * 3 + [[radius] * 2])
    return k + alpha * tf.add_n([wide[..., i : i + x.shape[-1]] for i in range(2 * radius + 1)])


def power(scale: tf.Tensor, beta: float) -> tf.Tensor:
    """scale ** -beta; tf.pow takes three times as long as these roots."""
    root = tf.math.rsqrt(scale)
    if beta == 0.5:
        return root
    return root * tf.sqrt(root) if beta == 0.75 else tf.pow(scale, -beta)


def pool(x: tf.Tensor, layer: Pool, row: Row, training: bool) -> tf.Tensor:
    x, padding = padded(x, layer, row, -np.inf)
    return tf.nn.max_pool2d(x, layer.kernel, layer.stride, padding)


def batch_norm(x: tf.Tensor, layer: BatchNorm, row: Row, training: bool) -> tf.Tensor:
    x, moving = tf.cast(x, tf.float32), (row.moving_mean, row.moving_variance)
    if not training:  # nothing is summed up, and the fused kernel takes half the time
        arrays = {"scale": row.gamma, "offset": row.beta, "mean": moving[0], "variance": moving[1]}
        return tf.raw_ops.FusedBatchNormV3(x=x, **arrays, epsilon=layer.eps, is_training=False).y
    n = x.shape[0] * x.shape[1] * x.shape[2]
    mean = channel_mean(x)
    variance = channel_mean(tf.math.squared_difference(x, tf.stop_gradient(mean)))
    for old, new in zip(moving, (mean, variance * (n / (n - 1))), strict=True):
        old.assign((1 - layer.momentum) * old + layer.momentum * new)
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
