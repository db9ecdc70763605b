"""A user's JAX function with its parameters, or module of flax, as a Net. Images are (n, h, w, c).

Mirrors the other models: creating, make, accepts, Net.
"""

import contextlib
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impls.net import Build
from impls.outputs import arguments, check_outputs

WANTED = "(function, params), called as function(params, images), or a module of flax"


def creating(how: Build) -> contextlib.AbstractContextManager[Any]:
    return jax.default_device(device_of(how))


def device_of(how: Build) -> Any:
    return jax.devices("cpu")[0] if how.device == "cpu" else jax.devices("cuda")[int(how.device[5:] or 0)]


def make(function: Callable[..., Any], places: list[Any], named: dict[str, Any]) -> Any:
    return flax().make(function, places, named) if flax() else function(*places, **named)


def flax() -> Any:
    """The module for flax if the user's file has imported that, else None."""
    return importlib.import_module("impls.jax_flax") if "flax" in sys.modules else None


def accepts(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and callable(value[0])
    return bool(flax()) and flax().accepts(value)


class Net:
    """Passes of impls.net.Net; ``forward`` returns a list of outputs, ``forward_backward`` (loss, gradients...)."""

    def __init__(self, model: Any, loss: Callable[[Any], Any] | None, inputs: Callable[[int], Any] | None, how: Build):
        self.how, self.traced = how, Counter[str]()
        self.loss, self.inputs = loss or half_square, inputs
        self.model = model
        self.low = how.precision == "bf16"
        self.batches: list[Any] = []
        self.infer = jax.jit(self._infer)
        self.step = jax.jit(self._step)

    def load(self, batches: Sequence[np.ndarray]) -> None:
        own = [self.inputs(self.how.batch) for _ in range(2)] if self.inputs else batches
        self.batches = [self.put(each) for each in own]

    def check(self) -> None:
        """Make the parameters, and call it twice without jit. Raises Unfit."""
        with creating(self.how):
            params, state, self.apply = parts(self.model, self.batches[0], self.low)
        self.params, self.state = jax.device_put((params, state), device_of(self.how))
        first, again = (
            [np.asarray(out, np.float32) for out in floats(self.call(self.params, self.state, self.batches[0])[0])]
            for _ in range(2)
        )
        check_outputs(first, again)

    def forward(self) -> Any:
        return self.infer(self.params, self.state, self.next_batch())

    def forward_backward(self) -> Any:
        loss, gradients, self.state = self.step(self.params, self.state, self.next_batch())
        return loss, *jax.tree.leaves(gradients)

    def wait(self, handles: Any) -> None:
        jax.block_until_ready(handles)  # on the CPU too: a call returns long before it is done

    def fetch(self, handles: Any) -> float:
        value = handles[-1 if isinstance(handles, list) else 1]
        return float(value[(0,) * value.ndim])

    def device(self) -> str:
        (device,) = self.infer(self.params, self.state, self.batches[0])[0].devices()
        return f"{device.platform}:{device.id}"

    def traces(self) -> dict[str, int]:
        return dict(self.traced)

    def call(self, params: Any, state: Any, inputs: Any, training: bool = False) -> tuple[Any, Any]:
        """Outputs and the new state. bf16 is that of our nets: params are kept in float32 and cast for each call."""
        if self.low:
            params, inputs = lowered(params), lowered(inputs)
        return self.apply(params, state, inputs, training)

    def _infer(self, params: Any, state: Any, inputs: Any) -> list[jax.Array]:
        self.traced["forward"] += 1  # runs when it is traced, not when it is called
        return floats(self.call(params, state, inputs)[0])

    def _step(self, params: Any, state: Any, inputs: Any) -> tuple[Any, Any, Any]:
        self.traced["forward_backward"] += 1

        def loss_of(params: Any) -> tuple[Any, Any]:
            outputs, new = self.call(params, state, inputs, training=True)
            return self.loss(outputs), new

        (loss, new), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return loss, gradients, new

    def next_batch(self) -> Any:
        self.batches.reverse()
        return self.batches[0]

    def put(self, inputs: Any) -> Any:
        return jax.device_put(jax.tree.map(np.array, arguments(inputs)), device_of(self.how))


def parts(model: Any, inputs: Any, low: bool) -> tuple[Any, Any, Callable[..., Any]]:
    """Parameters, state, and a function (params, state, inputs, training) that returns outputs and the new state."""
    if not isinstance(model, tuple):
        parted: tuple[Any, Any, Callable[..., Any]] = flax().parts(model, inputs, low)
        return parted
    function, params = model
    return params, {}, lambda params, state, inputs, training: (function(params, *inputs[0], **inputs[1]), state)


def lowered(tree: Any) -> Any:
    """A tree with its floating-point arrays in bfloat16."""
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def floats(outputs: Any) -> list[jax.Array]:
    leaves = [leaf for leaf in jax.tree.leaves(outputs) if isinstance(leaf, jax.Array)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def half_square(outputs: Any) -> jax.Array:
    return 0.5 * sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in floats(outputs))
