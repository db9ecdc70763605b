"""AlexNets in TensorFlow 2: a tf.Module of raw ops under tf.function. Activations are (n, h, w, c).

Mode ``xla`` is the same functions under ``jit_compile=True``. Mirrors the other adapters: configure, devices, versions,
conditions, build, Net, one function per kind of layer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impls import net
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Lrn, Placed, Pool, Relu
from impls.net import (
    Build,
    DeviceMissing,
    Gradients,
    LayerReport,
    Settings,
    Sgd,
    Trained,
    half_square,
    last_value,
    layer_report,
)
from impls.splits import DATA
from impls.tf_lrn import fast_lrn
from impls.variants import Variant
from impls.weights import Weights

_gpu = 0  # index of the GPU that configure chose
_task = ""  # of a rank of a Team the beginning of its devices' names: without it they would be those of all ranks


def configure(settings: Settings) -> None:
    global _gpu, _task
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
    _gpu = int(settings.exact_device.partition(":")[2] or 0)
    see_only(settings.device)
    if settings.rank is not None:
        from impls import tf_team

        tf_team.join(settings)
        _task = f"/job:worker/replica:0/task:{settings.rank.number}"


def see_only(device: str) -> None:
    """Let the process see no GPU but its own, which then is number 0: values that a function returns are put on the
    first device that is seen, so that beside others they would be copied there."""
    chosen = [] if device == "cpu" else [tf.config.list_physical_devices("GPU")[_gpu]]
    if tf.config.get_visible_devices("GPU") != chosen:
        tf.config.set_visible_devices(chosen, "GPU")


def among_all(name: str) -> str:
    """A device's name with its number among all that there are."""
    return name.replace("GPU:0", f"GPU:{_gpu}")


def devices() -> list[str]:
    return ["cpu", *(f"cuda:{i}" for i, _ in enumerate(tf.config.list_physical_devices("GPU")))]


def versions() -> dict[str, Any]:
    built = tf.sysconfig.get_build_info()
    return {
        "tensorflow": tf.__version__,
        "cuda": built.get("cuda_version"),
        "cudnn": built.get("cudnn_version"),
        "device_name": gpu_details().get("device_name"),
    }


def conditions() -> dict[str, Any]:
    return {
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or None,  # 0: TensorFlow chooses
        "onednn": onednn(),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "bf16": native_bf16(),
    }


def native_bf16() -> bool | None:
    """Whether the GPU multiplies bfloat16 by itself (compute capability 8.0 on); None on a CPU."""
    capability = gpu_details().get("compute_capability")
    return None if capability is None else capability >= (8, 0)


def gpu_details() -> dict[str, Any]:
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[_gpu]) if gpus else {}


def onednn() -> bool | None:
    try:
        from tensorflow.python.util import _pywrap_util_port  # no public API
    except ImportError:
        return None
    return _pywrap_util_port.IsMklEnabled()


def timer(device: str) -> net.Timer | None:
    return None  # TensorFlow has a profiler, and no events


def build(variant: Variant, weights: Weights, how: Build) -> net.Net:
    if how.split == DATA:
        from impls import tf_team

        return tf_team.TeamNet(variant, weights, how)
    if how.split:
        from impls import tf_split

        return tf_split.SplitNet(variant, weights, how)
    return Net(variant, weights, how)


class BuiltLayer(tf.Module):
    """One layer with its arrays, as variables."""

    def __init__(self, placed: Placed, arrays: dict[str, Any], how: Build):
        super().__init__(name=placed.layer.name)
        self.layer, self.dropout, self.frozen = placed.layer, how.dropout, placed.layer.name in how.frozen
        self.on_cpu, self.xla, self.fast_lrn = how.device == "cpu", how.mode == "xla", how.lrn == "fast"
        self.compute = tf.bfloat16 if how.precision == "bf16" else tf.float32
        for name, array in arrays.items():
            trainable = name in placed.layer.trainable(placed.input)
            setattr(self, name, tf.Variable(np.asarray(array), trainable=trainable, name=name))

    def __call__(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        return OPS[type(self.layer)](x, self.layer, self, training and not self.frozen)


class AlexNet(tf.Module):
    def __init__(self, variant: Variant, weights: Weights, how: Build):
        super().__init__(name=variant.name.replace(".", "_"))
        self.layers = [BuiltLayer(placed, weights.get(placed.layer.name, {}), how) for placed in variant.placed()]

    def __call__(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        for built in self.layers:
            x = built(x, training)
        return x


class Net:
    """Implements impls.net.Net."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.on = self.place(how)
        self.part, self.input_gradient = variant.part, variant.input_gradient
        self.weights, self.preset = weights, how.preset
        self.input = (how.batch, variant.input_size, variant.input_size, variant.channels)
        # a part of a net from its first dense layer on has the input that it has there: (n, c)
        flat = variant.input_size == 1 and not isinstance(variant.layers[0], Conv | Lrn | Pool | BatchNorm)
        self.shape = (how.batch, variant.channels) if flat else self.input
        images, labels, number = (
            tf.TensorSpec(*spec) for spec in ((self.shape, tf.float32), (how.batch, tf.int32), ((), tf.float32))
        )
        traced = {"autograph": False, "jit_compile": how.mode == "xla"}
        if how.dropout:
            tf.random.set_seed(how.seed)
        with tf.device(self.on):
            self.module = AlexNet(variant, weights, how)
            trainable = [(built, name) for built in self.module.layers for name in trainable_names(built)]
            self.names = [(built.layer.name, name) for built, name in trainable]
            self.names += [("input", "images")] if variant.input_gradient else []
            self.parameters = [getattr(built, name) for built, name in trainable]
            self.batches: list[tf.Tensor] = []
            self.labels: list[tf.Tensor] = []
            self.rates: list[tf.Tensor] = []
            self.velocity: list[tf.Variable] = []
            self.optimizer: Any = None
            self.infer = tf.function(self._infer, input_signature=[images], **traced)
            self.step = tf.function(self._step, input_signature=[images], **traced)
            self.train = tf.function(self._train, input_signature=[images, labels, *[number] * 3], **traced)

    def place(self, how: Build) -> str:
        """The device of this process on which a Net is built; the other ranks of a Team have theirs."""
        return f"{_task}/device:{'CPU' if how.device == 'cpu' else 'GPU'}:0"

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = [self.put(images) for images in batches]

    def label(self, labels: Sequence[np.ndarray]) -> None:
        with tf.device(self.on):
            self.labels = [tf.identity(tf.constant(each, tf.int32)) for each in labels]

    def feed(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.device(self.on):
            self.batches, self.labels = [tf.identity(images)], [tf.cast(labels, tf.int32)]

    def restart(self, sgd: Sgd, velocity: Gradients | None = None) -> None:
        if not sgd.momentum > 0:
            raise ValueError(f"expected a momentum above 0, found {sgd.momentum}: see update")
        with tf.device(self.on):
            for built in self.module.layers:
                for name, array in self.weights.get(built.layer.name, {}).items():
                    getattr(built, name).assign(array)
            self.rates = [tf.identity(tf.constant(value)) for value in (sgd.lr, sgd.momentum, sgd.decay)]
            if not self.velocity:
                self.make_velocity(sgd)
            for (layer, name), variable in zip(self.names, self.velocity, strict=False):  # after them the images
                variable.assign(velocity[layer][name] if velocity else tf.zeros_like(variable))
            if self.optimizer is not None:
                self.optimizer.learning_rate.assign(sgd.lr)

    def make_velocity(self, sgd: Sgd) -> None:
        if self.preset == "equal":
            self.velocity = [tf.Variable(tf.zeros_like(value), trainable=False) for value in self.parameters]
            return
        self.optimizer = tf.keras.optimizers.SGD(sgd.lr, momentum=sgd.momentum)
        self.optimizer.build(self.parameters)
        self.velocity = [getattr(value, "value", value) for value in self.optimizer.momentums]

    def forward(self) -> Any:
        return self.infer(self.next_batch())

    def forward_backward(self) -> Any:
        return self.step(self.next_batch())

    def train_step(self) -> Any:
        return self.train(self.next_batch(), self.labels[0], *self.rates)

    def wait(self, handles: Any) -> None:
        if "GPU" in self.on:  # on the CPU a call returns when it is done
            tf.test.experimental.sync_devices()

    def fetch(self, handles: Any) -> float:
        value = last_value(handles)
        return float(value[(0,) * value.shape.rank])

    def logits(self, handles: Any) -> np.ndarray:
        return tf.cast(handles, tf.float32).numpy().reshape(handles.shape[0], -1)

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        first, *values = handles
        gradients: Gradients = {}
        for (layer, name), value in zip(self.names, values, strict=True):
            # a view: numpy() copies, which takes 0.2 s for the gradients of AlexNet
            gradients.setdefault(layer, {})[name] = np.asarray(memoryview(value))
        if self.input_gradient:
            gradients["input"]["images"] = gradients["input"]["images"].reshape(self.input)
        return half_square(tf.cast(first, tf.float32).numpy()) if self.part else float(first), gradients

    def trained(self, handles: Any) -> Trained:
        loss = half_square(tf.cast(handles[0], tf.float32).numpy()) if self.part else float(handles[0])
        return Trained(loss, self.named_views(self.parameters), self.named_views(self.velocity))

    def named_views(self, values: Sequence[tf.Variable]) -> Gradients:
        views: Gradients = {}
        for (layer, name), value in zip(self.names, values, strict=False):  # after them that of the images
            views.setdefault(layer, {})[name] = value.numpy()
        return views

    def state(self) -> Gradients:
        return {
            built.layer.name: {name: getattr(built, name).numpy() for name in ("moving_mean", "moving_variance")}
            for built in self.module.layers
            if isinstance(built.layer, BatchNorm)
        }

    def layers(self) -> list[LayerReport]:
        return self.walk(self.batches[0])

    def walk(self, x: tf.Tensor) -> list[LayerReport]:
        """The report of each layer, of a forward pass."""
        reports = []
        for built in self.module.layers:
            x = built(x, training=False)
            variables = built.trainable_variables, built.non_trainable_variables
            params, state = (sum(value.shape.num_elements() for value in kind) for kind in variables)
            reports.append(layer_report(built.layer, (1, 1, *x.shape[1:])[-3:], params, state))
        return reports

    def device(self) -> str:
        return among_all(self.infer(self.batches[0]).device)

    def layout(self) -> str:
        return "nhwc"  # on a GPU Grappler may choose another inside; what goes in and out is this

    def traces(self) -> dict[str, int]:
        counts = {name: function.experimental_get_tracing_count() for name, function in self.passes().items()}
        return {name: count for name, count in counts.items() if count}

    def passes(self) -> dict[str, Any]:
        """The function of each."""
        return {"forward": self.infer, "forward_backward": self.step, "train_step": self.train}

    def peak_memory(self) -> int | None:
        if "GPU" not in self.on:
            return None
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        tf.config.experimental.reset_memory_stats("GPU:0")
        return peak

    def _infer(self, x: tf.Tensor) -> tf.Tensor:
        with tf.device(self.on):
            return self.module(x, training=False)

    def _step(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return self._summed(x, tf.nn.l2_loss)

    # a Team overrides these two: over its ranks

    def _summed(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        return self._differentiate(x, loss_of)

    def _averaged(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        return self._differentiate(x, loss_of)

    def _differentiate(self, x: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """The loss, or of a part its output, and its gradients."""
        with tf.device(self.on), tf.GradientTape(watch_accessed_variables=False) as tape:
            wanted = [*self.parameters, x] if self.input_gradient else self.parameters
            tape.watch(wanted)
            y = self.module(x, training=True)
            if self.part:  # 0.5 * sum(y ** 2) has y itself for its gradient
                return y, *tape.gradient(y, wanted, output_gradients=y)
            loss = loss_of(tf.cast(y, tf.float32))
            return loss, *tape.gradient(loss, wanted)

    def _train(
        self, x: tf.Tensor, labels: tf.Tensor, lr: tf.Tensor, momentum: tf.Tensor, decay: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        def entropy(logits: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

        loss, *gradients = self._averaged(x, entropy)
        gradients = gradients[: len(self.parameters)]
        # an update waits for every gradient: while another operation reads a variable, writing it takes a copy
        with tf.device(self.on), tf.control_dependencies(gradients):
            if self.optimizer is not None:
                decayed = [g + decay * w for g, w in zip(gradients, self.parameters, strict=True)]
                self.optimizer.apply_gradients(zip(decayed, self.parameters, strict=True))
            else:
                for weight, velocity, gradient in zip(self.parameters, self.velocity, gradients, strict=True):
                    update(weight, velocity, gradient, (lr, momentum, decay))
            first = self.velocity[0].read_value()
            return loss, first[(0,) * len(first.shape)]  # computed last: to return the velocities would copy them

    def next_batch(self) -> tf.Tensor:
        self.batches.reverse()
        self.labels.reverse()
        return self.batches[0]

    def put(self, images: np.ndarray) -> tf.Tensor:
        with tf.device(self.on):
            return tf.identity(tf.constant(images.reshape(self.shape)))


def update(weight: tf.Variable, velocity: tf.Variable, gradient: tf.Tensor, rates: Sequence[tf.Tensor]) -> None:
    """``impls.reference.update`` in TensorFlow's own operation, whose velocity holds the learning rate.

    The decay is taken from the velocity first: added to the gradient it takes an array of its own, and the update of 61
    million parameters 0.15 s in place of 0.046 on 2 cores. Therefore the momentum must not be 0.
    """
    lr, momentum, decay = rates
    tf.raw_ops.ResourceApplyGradientDescent(var=velocity.handle, alpha=lr * decay / momentum, delta=weight.read_value())
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=weight.handle, accum=velocity.handle, lr=lr, grad=gradient, momentum=momentum
    )


def trainable_names(built: BuiltLayer) -> list[str]:
    if built.frozen:
        return []
    return [name for name in ("kernel", "bias", "gamma", "beta") if hasattr(built, name)]


def padded(x: tf.Tensor, layer: Conv | Pool, built: BuiltLayer, value: float) -> tuple[tf.Tensor, Any]:
    """What a window runs over, and its padding: ``SAME`` where that gives the layer's padding at this size.

    On the CPU an explicit padding is slow in the backward pass: of conv1 to conv3 and pool5 SAME takes 0.42, 0.55, 0.56
    and 0.20 of its time, pixels put around x before 0.47, 0.64, 0.65 and 0.35.
    """
    size = x.shape[1]
    pad = layer.pads(size) if isinstance(layer, Pool) else layer.pad
    total = max((-(-size // layer.stride) - 1) * layer.stride + layer.kernel - size, 0)
    if pad in ((0, 0), (total // 2, total - total // 2)):
        return x, "SAME" if any(pad) else "VALID"
    pixels = [[0, 0], list(pad), list(pad), [0, 0]]
    return (tf.pad(x, pixels, constant_values=value), "VALID") if built.on_cpu else (x, pixels)


def conv(x: tf.Tensor, layer: Conv, built: BuiltLayer, training: bool) -> tf.Tensor:
    x, kernel, bias = (tf.cast(value, built.compute) for value in (x, built.kernel, built.bias))
    x, padding = padded(x, layer, built, 0.0)
    if layer.groups == 1:
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, layer.stride, padding), bias)
    parts = zip(tf.split(x, layer.groups, 3), tf.split(kernel, layer.groups, 3), strict=True)
    # native groups need oneDNN on the CPU; split they cost the same (18.9 and 19.3 ms, 27x27x96 -> 256, 5x5)
    ys = [tf.nn.conv2d(part, kernel, layer.stride, padding) for part, kernel in parts]
    return tf.nn.bias_add(tf.concat(ys, 3), bias)


def relu(x: tf.Tensor, layer: Relu, built: BuiltLayer, training: bool) -> tf.Tensor:
    return tf.nn.relu(x)


def lrn(x: tf.Tensor, layer: Lrn, built: BuiltLayer, training: bool) -> tf.Tensor:
    x = tf.cast(x, tf.float32)  # not in bfloat16, which tf.nn.lrn has on a GPU only
    if built.fast_lrn:
        return fast_lrn(x, layer, built.xla)
    return tf.nn.lrn(x, layer.radius, alpha=layer.alpha, beta=layer.beta, bias=layer.k)  # alpha on the plain sum


def pool(x: tf.Tensor, layer: Pool, built: BuiltLayer, training: bool) -> tf.Tensor:
    x, padding = padded(x, layer, built, -np.inf)
    return tf.nn.max_pool2d(x, layer.kernel, layer.stride, padding)


def batch_norm(x: tf.Tensor, layer: BatchNorm, built: BuiltLayer, training: bool) -> tf.Tensor:
    x, moving = tf.cast(x, tf.float32), (built.moving_mean, built.moving_variance)
    if not training:  # nothing is summed up, and the fused kernel takes half the time
        arrays = {"scale": built.gamma, "offset": built.beta, "mean": moving[0], "variance": moving[1]}
        return tf.raw_ops.FusedBatchNormV3(x=x, **arrays, epsilon=layer.eps, is_training=False).y
    n = x.shape[0] * x.shape[1] * x.shape[2]
    mean = channel_mean(x)
    variance = channel_mean(tf.math.squared_difference(x, tf.stop_gradient(mean)))
    for old, new in zip(moving, (mean, variance * (n / (n - 1))), strict=True):
        old.assign((1 - layer.momentum) * old + layer.momentum * new)
    return tf.nn.batch_normalization(x, mean, variance, built.beta, built.gamma, layer.eps)


def channel_mean(x: tf.Tensor) -> tf.Tensor:
    """Mean over batch, height and width, one axis at a time, to limit rounding errors.

    TensorFlow sums sequentially in float32; over all axes at once (tf.nn.moments, FusedBatchNorm) it loses digits as
    the batch grows: 4e-5 of a variance at 8x54x54.
    """
    return tf.reduce_mean(tf.reduce_mean(tf.reduce_mean(x, 2), 1), 0)


def flatten(x: tf.Tensor, layer: Flatten, built: BuiltLayer, training: bool) -> tf.Tensor:
    return tf.reshape(x, (x.shape[0], -1))


def fc(x: tf.Tensor, layer: Fc, built: BuiltLayer, training: bool) -> tf.Tensor:
    x, kernel, bias = (tf.cast(value, built.compute) for value in (x, built.kernel, built.bias))
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def dropout(x: tf.Tensor, layer: Dropout, built: BuiltLayer, training: bool) -> tf.Tensor:
    return tf.nn.dropout(x, layer.rate) if training and built.dropout else x


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
