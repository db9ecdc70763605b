"""A user's JAX function with its parameters as a Net. Images are (n, h, w, c).

Mirrors the other models: creating, accepts, Net.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impls.net import Build
from impls.outputs import arguments, check_outputs

WANTED = "(function, params), called as function(params, images)"


def creating(how: Build) -> contextlib.AbstractContextManager[Any]:
    return jax.default_device(device_of(how))


def device_of(how: Build) -> Any:
    return jax.devices("cpu")[0] if how.device == "cpu" else jax.devices("cuda")[int(how.device[5:] or 0)]


def accepts(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and callable(value[0])


class Net:
    """Passes of impls.net.Net; ``forward`` returns a list of outputs, ``forward_backward`` (loss, gradients...)."""

    def __init__(self, model: Any, loss: Callable[[Any], Any] | None, inputs: Callable[[int], Any] | None, how: Build):
        if how.precision == "bf16":
            raise ValueError("bf16 is applied to models of torch only: expected --precision fp32")
        self.how, self.traced = how, Counter[str]()
        self.loss, self.inputs = loss or half_square, inputs
        self.function = model[0]
        self.params = jax.device_put(model[1], device_of(how))
        self.batches: list[Any] = []
        self.infer = jax.jit(self._infer)
        self.step = jax.jit(self._step)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = [self.put(self.inputs(self.how.batch) if self.inputs else images) for images in batches]

    def check(self) -> None:
        """Call it twice, without jit. Raises ValueError."""
        first, again = ([np.asarray(out) for out in floats(self.call(self.params, self.batches[0]))] for _ in range(2))
        check_outputs(first, again)

    def has_parameters(self) -> bool:
        return bool(jax.tree.leaves(self.params))

    def forward(self) -> Any:
        return self.infer(self.params, self.next_batch())

    def forward_backward(self) -> Any:
        loss, gradients = self.step(self.params, self.next_batch())
        return loss, *jax.tree.leaves(gradients)

    def wait(self, handles: Any) -> None:
        jax.block_until_ready(handles)  # on the CPU too: a call returns long before it is done

    def fetch(self, handles: Any) -> float:
        value = handles[-1 if isinstance(handles, list) else 1]
        return float(value[(0,) * value.ndim])

    def device(self) -> str:
        (device,) = self.infer(self.params, self.batches[0])[0].devices()
        return f"{device.platform}:{device.id}"

    def traces(self) -> dict[str, int]:
        return dict(self.traced)

    def call(self, params: Any, inputs: Any) -> Any:
        return self.function(params, *inputs[0], **inputs[1])

    def _infer(self, params: Any, inputs: Any) -> list[jax.Array]:
        self.traced["forward"] += 1  # runs when it is traced, not when it is called
        return floats(self.call(params, inputs))

    def _step(self, params: Any, inputs: Any) -> tuple[Any, Any]:
        self.traced["forward_backward"] += 1
        return jax.value_and_grad(lambda params: self.loss(self.call(params, inputs)))(params)

    def next_batch(self) -> Any:
        self.batches.reverse()
        return self.batches[0]

    def put(self, inputs: Any) -> Any:
        return jax.device_put(jax.tree.map(np.array, arguments(inputs)), device_of(self.how))


def floats(outputs: Any) -> list[jax.Array]:
    leaves = [leaf for leaf in jax.tree.leaves(outputs) if isinstance(leaf, jax.Array)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def half_square(outputs: Any) -> jax.Array:
    return 0.5 * sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in floats(outputs))
