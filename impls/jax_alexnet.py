"""AlexNets in JAX: one pure function of parameters and images under jax.jit. Activations are (n, h, w, c).

Mirrors the other adapters: configure, devices, versions, conditions, build, Net, one function per kind of layer.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import lax

from impls import net
from impls.jax_lrn import fast_lrn
from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Layer, Lrn, Pool, Relu
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
from impls.variants import Variant
from impls.weights import Weights

MATMUL_PRECISION = {"fp32": "float32", "tf32": "tensorfloat32", "bf16": "float32"}
_gpu = 0  # index of the GPU that configure chose


def configure(settings: Settings) -> None:
    global _gpu
    jax.config.update("jax_platforms", "cpu" if settings.device == "cpu" else "cuda")
    if settings.preset == "equal":
        if settings.threads is not None:
            os.environ["PJRT_NPROC"] = str(settings.threads)  # read when the first device is made; no call sets it
        jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION[settings.precision])  # convolutions too
    if settings.rank is not None:
        from impls import jax_team

        jax_team.join(settings)
    found = devices()
    if settings.exact_device not in found:
        raise DeviceMissing(f"jax {jax.__version__} sees {', '.join(found)}")
    _gpu = 0 if settings.device == "cpu" else found.index(settings.exact_device) - 1
    if settings.rank is not None:
        jax_team.meet(settings.rank)


def devices() -> list[str]:
    try:  # a rank of a Team sees one GPU, whose number need not be 0
        return ["cpu", *(f"cuda:{gpu.local_hardware_id}" for gpu in jax.local_devices(backend="cuda"))]
    except (RuntimeError, AssertionError):  # no such backend here; where there is none at all, JAX 0.10 asserts
        return ["cpu"]


def device_of(how: Build) -> Any:
    """The device of this process on which a Net is built; the other ranks of a Team have theirs."""
    if how.device == "cpu":
        return jax.local_devices(backend="cpu")[0]
    return jax.local_devices(backend="cuda")[devices().index(f"cuda:{how.device[5:] or 0}") - 1]


def versions() -> dict[str, Any]:
    device = jax.local_devices()[_gpu]
    on_gpu = device.platform == "gpu"
    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "cuda": device.client.platform_version if on_gpu else None,
        "device_name": device.device_kind if on_gpu else None,
    }


def conditions() -> dict[str, Any]:
    return {
        "threads": pool_threads(),
        "onednn": None,  # XLA has its own kernels and no switch to read
        "tf32": jax.config.jax_default_matmul_precision == "tensorfloat32",
        "bf16": native_bf16(),
        "x64": jax.config.jax_enable_x64,
    }


def native_bf16() -> bool | None:
    """Whether the GPU multiplies bfloat16 by itself (compute capability 8.0 on); None on a CPU."""
    device = jax.local_devices()[_gpu]
    return float(device.compute_capability) >= 8 if device.platform == "gpu" else None


def timer(device: str) -> net.Timer | None:
    return None  # JAX has a profiler, and no events


def build(variant: Variant, weights: Weights, how: Build) -> net.Net:
    if how.split == DATA:
        from impls import jax_team

        return jax_team.TeamNet(variant, weights, how)
    if how.split:
        from impls import jax_split

        return jax_split.SplitNet(variant, weights, how)
    return Net(variant, weights, how)


class BuiltLayer:
    """One layer with its arrays while a pass is traced; a BatchNorm leaves its new moving statistics here."""

    kernel: jax.Array
    bias: jax.Array
    gamma: jax.Array
    beta: jax.Array
    moving_mean: jax.Array
    moving_variance: jax.Array

    def __init__(self, layer: Layer, arrays: dict[str, Any], how: Build, training: bool, key: Any):
        self.layer, self.training, self.dropout, self.key = layer, training, how.dropout, key
        self.fast_lrn = how.lrn == "fast"
        self.compute = jnp.bfloat16 if how.precision == "bf16" else jnp.float32
        vars(self).update(arrays)

    def __call__(self, x: jax.Array) -> jax.Array:
        return OPS[type(self.layer)](x, self.layer, self)


class Step(NamedTuple):
    """Handles of a training step; the velocity of every parameter is to be scaled."""

    loss: jax.Array
    velocity: list[jax.Array]


class Net:
    """Implements impls.net.Net."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        self.on = device_of(how)
        self.variant, self.how, self.traced = variant, how, Counter[str]()
        self.input = (how.batch, variant.input_size, variant.input_size, variant.channels)
        # a part of a net from its first dense layer on has the input that it has there: (n, c)
        flat = variant.input_size == 1 and not isinstance(variant.layers[0], Conv | Lrn | Pool | BatchNorm)
        self.shape = (how.batch, variant.channels) if flat else self.input
        self.weights = weights
        self.put_weights()
        # not the order of a dict that a jitted function returns: that is sorted
        self.names = [(layer, name) for layer, arrays in self.parameters.items() for name in arrays]
        self.moving_layers = [layer.name for layer in variant.layers if isinstance(layer, BatchNorm)]
        self.velocity: dict[str, dict[str, jax.Array]] = {}
        self.key = self.put(jax.random.key_data(jax.random.key(how.seed))) if how.dropout else None
        self.batches: list[jax.Array] = []
        self.labels: list[jax.Array] = []
        self.infer = jax.jit(self._infer)
        self.step = jax.jit(self._step)
        # parameters and velocity are updated in place
        self.train = jax.jit(self._train, donate_argnums=(0, 1), static_argnames="optimizer")

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = [self.put_own(images.reshape(self.shape)) for images in batches]

    def put_weights(self) -> None:
        self.parameters: dict[str, dict[str, jax.Array]] = {}
        self.moving: dict[str, dict[str, jax.Array]] = {}  # with the parameters of frozen layers
        for layer, shape, _ in self.variant.placed():
            trained = self.moving if layer.name in self.how.frozen else self.parameters
            for name in layer.trainable(shape):
                trained.setdefault(layer.name, {})[name] = self.put_part(layer.name, self.weights[layer.name][name])
            for name in layer.moving(shape):
                self.moving.setdefault(layer.name, {})[name] = self.put_own(self.weights[layer.name][name])

    def label(self, labels: Sequence[np.ndarray]) -> None:
        self.labels = [self.put_own(each) for each in labels]

    def feed(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.batches, self.labels = [jax.device_put(images, self.on)], [jax.device_put(labels, self.on)]

    def restart(self, sgd: Sgd, velocity: Gradients | None = None) -> None:
        self.put_weights()
        self.sgd = sgd
        self.velocity = jax.tree.map(jnp.zeros_like, self.parameters)
        for layer, arrays in (velocity or {}).items():
            for name, array in arrays.items():
                self.velocity[layer][name] = self.put(array / np.float32(self.scale))
        self.rates = [self.put(np.array(value, np.float32)) for value in (sgd.lr, sgd.momentum, sgd.decay)]

    def forward(self) -> Any:
        return self.infer(self.parameters, self.moving, self.next_batch())

    def forward_backward(self) -> Any:
        arguments = self.parameters, self.moving, self.key, self.next_batch()
        first, (gradients, *images), self.moving, self.key = self.step(*arguments)
        return first, *(gradients[layer][name] for layer, name in self.names), *images

    def train_step(self) -> Any:
        arguments = self.moving, self.key, self.next_batch(), self.labels[0], self.rates
        done = self.train(self.parameters, self.velocity, *arguments, optimizer=self.optimizer)
        first, self.parameters, self.velocity, self.moving, self.key = done
        return Step(first, [self.velocity[layer][name] for layer, name in self.names])

    @property
    def optimizer(self) -> Any:
        """optax's, under the preset default."""
        if self.how.preset == "equal":
            return None
        return optax_sgd(self.sgd)

    def wait(self, handles: Any) -> None:
        jax.block_until_ready((handles, self.moving))  # on the CPU too: a call returns long before it is done

    def fetch(self, handles: Any) -> float:
        step = isinstance(handles, Step)
        value = self.own(handles.velocity[0] if step else last_value(handles))
        return float(value[(0,) * value.ndim]) * (self.scale if step else 1)

    def logits(self, handles: Any) -> np.ndarray:
        return np.asarray(handles.astype(jnp.float32)).reshape(len(handles), -1)

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        first, *values = handles
        gradients: Gradients = {}
        names = [*self.names, ("input", "images")] if self.variant.input_gradient else self.names
        for (layer, name), value in zip(names, self.whole(values), strict=True):
            gradients.setdefault(layer, {})[name] = np.asarray(value)
        if self.variant.input_gradient:
            gradients["input"]["images"] = gradients["input"]["images"].reshape(self.input)
        return self.loss(first), gradients

    def trained(self, handles: Any) -> Trained:
        parameters, velocity = self.copies(self.parameters, 1), self.copies(self.velocity, self.scale)
        return Trained(self.loss(handles.loss), parameters, velocity)

    def loss(self, first: jax.Array) -> float:
        value = np.asarray(self.own(first))
        return half_square(value) if self.variant.part else value.item()

    @property
    def scale(self) -> float:
        """Of the velocity: optax's leaves the learning rate out."""
        return 1 if self.how.preset == "equal" else -self.sgd.lr

    def copies(self, arrays: dict[str, dict[str, jax.Array]], scale: float) -> Gradients:
        """Scaled copies: the next step writes over what a view would show."""
        found: Gradients = {}
        values = self.whole([arrays[layer][name] for layer, name in self.names])
        for (layer, name), value in zip(self.names, values, strict=True):
            found.setdefault(layer, {})[name] = np.asarray(value) * np.float32(scale)
        return found

    def state(self) -> Gradients:
        names = "moving_mean", "moving_variance"
        own = self.own(self.moving)
        return {layer: {name: np.asarray(own[layer][name]) for name in names} for layer in self.moving_layers}

    def layers(self) -> list[LayerReport]:
        reports: list[LayerReport] = []

        def walk(parameters: Any, moving: Any, x: jax.Array) -> jax.Array:
            for built in self.built_layers(parameters, moving, training=False):
                x, name = built(x), built.layer.name
                arrays = parameters.get(name, {}), moving.get(name, {})
                params, state = (sum(value.size for value in kind.values()) for kind in arrays)
                reports.append(layer_report(built.layer, (1, 1, *x.shape[1:])[-3:], params, state))
            return x

        jax.eval_shape(self.over_ranks(walk), *self.on_rank())
        return reports

    def device(self) -> str:
        (device,) = self.own(self.infer(*self.on_rank())).devices()
        return f"{device.platform}:{device.id}"

    def layout(self) -> str:
        return "nhwc"  # XLA may choose another inside a program; what goes in and out is this

    def traces(self) -> dict[str, int]:
        return dict(self.traced)

    def peak_memory(self) -> int | None:
        stats = self.on.memory_stats() if self.on.platform == "gpu" else None
        return stats["peak_bytes_in_use"] if stats else None  # since the process began: there is no reset

    def _infer(self, parameters: Any, moving: Any, x: jax.Array) -> jax.Array:
        self.traced["forward"] += 1  # runs when it is traced, not when it is called
        for built in self.built_layers(parameters, moving, training=False):
            x = built(x)
        return x

    def _step(self, parameters: Any, moving: Any, key: Any, x: jax.Array) -> tuple[Any, ...]:
        self.traced["forward_backward"] += 1
        first, (gradients, *images), moved, next_key = self._squares(parameters, moving, key, x)
        return first, (self.summed(gradients), *images), moved, next_key

    def _squares(self, parameters: Any, moving: Any, key: Any, x: jax.Array) -> tuple[Any, ...]:
        return self._differentiate(parameters, moving, key, x, lambda y: 0.5 * jnp.sum(jnp.square(y)))

    def _train(
        self,
        parameters: Any,
        velocity: Any,
        moving: Any,
        key: Any,
        x: jax.Array,
        labels: jax.Array,
        rates: Any,
        optimizer: Any,
    ) -> tuple[Any, ...]:
        self.traced["train_step"] += 1

        def entropy(y: jax.Array) -> jax.Array:
            log_softmax = jax.nn.log_softmax(y)
            return -jnp.mean(jnp.take_along_axis(log_softmax, labels[:, None], 1))

        first, (gradients, *_), moved, next_key = self._differentiate(parameters, moving, key, x, entropy)
        gradients = self.averaged(gradients)
        if optimizer is not None:
            return first, *optimizer(parameters, velocity, gradients), moved, next_key
        lr, momentum, decay = rates
        velocity = jax.tree.map(lambda w, v, g: momentum * v - lr * (g + decay * w), parameters, velocity, gradients)
        return first, jax.tree.map(jnp.add, parameters, velocity), velocity, moved, next_key

    def _differentiate(
        self, parameters: Any, moving: Any, key: Any, x: jax.Array, loss_of: Callable[[jax.Array], jax.Array]
    ) -> tuple[Any, ...]:
        """The loss, or of a part its output; gradients, moving statistics and key."""
        mask_key, next_key = (None, None) if key is None else jax.random.split(key)

        def run(parameters: Any, x: jax.Array) -> tuple[jax.Array, Any]:
            layers = self.built_layers(parameters, moving, training=True, key=mask_key)
            for built in layers:
                x = built(x)
            moved = dict(moving)
            for built in layers:
                if isinstance(built.layer, BatchNorm) and built.training:
                    statistics = {"moving_mean": built.moving_mean, "moving_variance": built.moving_variance}
                    moved[built.layer.name] = statistics
            return x if self.variant.part else loss_of(x.astype(jnp.float32)), moved

        if self.variant.input_gradient:
            first, pull, moved = jax.vjp(run, parameters, x, has_aux=True)
        else:
            first, pull, moved = jax.vjp(lambda parameters: run(parameters, x), parameters, has_aux=True)
        # of a part, 0.5 * sum(y ** 2) has y itself for its gradient
        return first, pull(first if self.variant.part else jnp.ones_like(first)), moved, next_key

    def built_layers(self, parameters: Any, moving: Any, *, training: bool, key: Any = None) -> list[BuiltLayer]:
        return [
            BuiltLayer(
                layer,
                parameters.get(layer.name, {}) | moving.get(layer.name, {}),
                self.how,
                training and layer.name not in self.how.frozen,
                None if key is None else jax.random.fold_in(key, number),
            )
            for number, layer in enumerate(self.variant.layers)
        ]

    def next_batch(self) -> jax.Array:
        self.batches.reverse()
        self.labels.reverse()
        return self.batches[0]

    def put(self, array: np.ndarray) -> jax.Array:
        return jax.device_put(np.array(array), self.on)  # a copy: JAX would go on reading a mapped file

    # a Team overrides these

    def put_own(self, array: np.ndarray) -> jax.Array:
        """``put`` of what each rank of a Team has of its own: images, labels, moving statistics."""
        return self.put(array)

    def on_rank(self) -> Any:
        """Arguments of a forward pass on this rank."""
        return self.own((self.parameters, self.moving, self.batches[0]))

    def over_ranks(self, forward: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        """A forward pass on this rank as a function of these."""
        return forward

    def put_part(self, layer: str, array: np.ndarray) -> jax.Array:
        """``put`` of an array of parameters, of which a rank may have a part."""
        return self.put(array)

    def own(self, arrays: Any) -> Any:
        """A tree of arrays as they are on this rank."""
        return arrays

    def whole(self, values: Sequence[jax.Array]) -> Sequence[jax.Array]:
        """A value of each parameter, of which a rank may have a part, whole."""
        return self.own(values)

    def summed(self, gradients: Any) -> Any:
        """Over ranks, while a pass is traced."""
        return gradients

    def averaged(self, gradients: Any) -> Any:
        return gradients


@functools.cache
def optax_sgd(sgd: Sgd) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """A step of optax's SGD, as a function of parameters, its trace and gradients; the same for equal ``sgd``."""
    try:
        import optax
    except ImportError as error:
        raise ImportError("--preset default takes optax for a training step in JAX: pip install optax") from error
    decay = optax.add_decayed_weights(sgd.decay)
    optimizer = optax.chain(decay, optax.sgd(sgd.lr, momentum=sgd.momentum))

    def step(parameters: Any, trace: Any, gradients: Any) -> tuple[Any, Any]:
        state = optimizer.init(parameters)
        empty, (_, scale) = state
        updates, (_, (traced, _)) = optimizer.update(gradients, (empty, (optax.TraceState(trace), scale)), parameters)
        return optax.apply_updates(parameters, updates), traced.trace

    return step


def pool_threads() -> int | None:
    """Threads of XLA's CPU pool that really run, by their names; None where there are none to be seen."""
    try:
        names = [task.joinpath("comm").read_text(errors="replace") for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return None
    return sum(name.startswith("tf_XLAEigen") for name in names) or None


def window(layer: Pool, pixels: int) -> Any:
    pads = layer.pads(pixels)
    return (
        (1, layer.kernel, layer.kernel, 1),
        (1, layer.stride, layer.stride, 1),
        ((0, 0), pads, pads, (0, 0)),
    )


def conv(x: jax.Array, layer: Conv, built: BuiltLayer) -> jax.Array:
    x, kernel, bias = (value.astype(built.compute) for value in (x, built.kernel, built.bias))
    parts = zip(jnp.split(x, layer.groups, 3), jnp.split(kernel, layer.groups, 3), strict=True)
    # native groups are slow on the CPU: 54.1 ms and 440 with gradient, split 14.9 and 52.3 (27x27x96 -> 256, 5x5)
    ys = [
        lax.conv_general_dilated(
            part, kernel, (layer.stride,) * 2, (layer.pad,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for part, kernel in parts
    ]
    return jnp.concatenate(ys, 3) + bias


def relu(x: jax.Array, layer: Relu, built: BuiltLayer) -> jax.Array:
    return jax.nn.relu(x)  # not jnp.maximum, whose gradient at 0 is a half


def lrn(x: jax.Array, layer: Lrn, built: BuiltLayer) -> jax.Array:
    x, wide = x.astype(jnp.float32), (1, 1, 1, 2 * layer.radius + 1)  # no library op; alpha on the plain sum
    if built.fast_lrn:
        return fast_lrn(x, layer)
    # the initial value must be a Python number: an array fails under grad and jit
    total = lax.reduce_window(jnp.square(x), 0.0, lax.add, wide, (1, 1, 1, 1), ((0, 0),) * 3 + ((layer.radius,) * 2,))
    return x * lax.pow(layer.k + layer.alpha * total, -layer.beta)


def pool(x: jax.Array, layer: Pool, built: BuiltLayer) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, *window(layer, x.shape[1]))


def batch_norm(x: jax.Array, layer: BatchNorm, built: BuiltLayer) -> jax.Array:
    x, mean, variance = x.astype(jnp.float32), built.moving_mean, built.moving_variance
    if built.training:
        n = x.size // x.shape[-1]
        mean = jnp.mean(x, (0, 1, 2))
        variance = jnp.mean(jnp.square(x - mean), (0, 1, 2))
        built.moving_mean = (1 - layer.momentum) * built.moving_mean + layer.momentum * mean
        built.moving_variance = (1 - layer.momentum) * built.moving_variance + layer.momentum * variance * (n / (n - 1))
    return (x - mean) * (lax.rsqrt(variance + layer.eps) * built.gamma) + built.beta


def flatten(x: jax.Array, layer: Flatten, built: BuiltLayer) -> jax.Array:
    return x.reshape(len(x), -1)


def fc(x: jax.Array, layer: Fc, built: BuiltLayer) -> jax.Array:
    x, kernel, bias = (value.astype(built.compute) for value in (x, built.kernel, built.bias))
    return x @ kernel + bias


def dropout(x: jax.Array, layer: Dropout, built: BuiltLayer) -> jax.Array:
    if not (built.training and built.dropout):
        return x
    kept = jax.random.bernoulli(built.key, 1 - layer.rate, x.shape)
    return jnp.where(kept, x / (1 - layer.rate), 0)


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
