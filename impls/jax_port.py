"""A user's JAX function with its parameters, or module of flax, read and written for a comparison with its port.

A function has no layers; those of flax are its modules. Mirrors the other ports: parameters, write, trace,
differentiate.
"""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impls.jax_model import Net, device_of, flax, floats, half_square
from impls.port import Parameter, Recorder, Traced, shaken, state_of, unique

#: The order in which other frameworks make the parameters of a layer; JAX has the keys of a dict by the alphabet.
ROLES = ("kernel", "w", "weight", "scale", "gamma", "g", "bias", "b", "beta", "mean", "var")


def parameters(net: Net) -> list[tuple[Parameter, np.ndarray]]:
    """Those of ``params`` are trainable, those of ``state`` are not."""
    found, modules = [], not isinstance(net.model, tuple)
    for tree, trainable in ((net.params, True), (net.state, False)):
        for name, leaf in leaves(tree).items():
            if leaf.dtype != jnp.float32:
                raise ValueError(f"{name} is {leaf.dtype}: expected float32")
            values, layer = np.asarray(leaf), flax().layer_of(net.model, name, trainable) if modules else ""
            found.append((Parameter(name, layer, list(values.shape), list(values.shape), trainable), values))
    return in_order(found, layers_in_order(net) if modules else None)


def in_order(
    found: list[tuple[Parameter, np.ndarray]], layers: Mapping[str, int] | None
) -> list[tuple[Parameter, np.ndarray]]:
    """Parameters with those of one layer, or dict, in the order of ROLES; layers in the order given."""
    places: dict[tuple[str, ...], int] = {}

    def place(each: tuple[Parameter, np.ndarray]) -> tuple[int, int]:
        words = each[0].name.split("/")
        if layers is not None:
            rank = ROLES.index(words[-1]) if words[-1] in ROLES else 0
            return layers.get(each[0].layer, len(layers)), rank
        at = next((number for number, word in enumerate(words) if word in ROLES), len(words))
        rank = ROLES.index(words[at]) if at < len(words) else 0
        return places.setdefault(tuple(words[:at]), len(places)), rank

    return sorted(found, key=place)


@functools.lru_cache(maxsize=1)
def layers_in_order(net: Net) -> dict[str, int]:
    """The modules of flax by the order of their first calls; their parameters have that of the alphabet."""
    found: dict[str, int] = {}
    with flax().recorded(net.model, lambda layer, _: found.setdefault(layer, len(found)), lambda layer, outputs: None):
        jax.eval_shape(lambda *given: floats(net.call(*given)[0]), net.params, net.state, net.batches[0])
    return found


def write(net: Net, values: Mapping[str, np.ndarray]) -> None:
    net.params, net.state = (
        jax.device_put(replaced(tree, values), device_of(net.how)) for tree in (net.params, net.state)
    )


def trace(net: Net) -> Traced:
    recorder = Recorder(copied)
    with recording(net, recorder):
        outputs, _ = net.call(net.params, net.state, net.batches[0])  # by name, which a list of them would lose
    inputs = {name: np.asarray(each) for tree in net.batches[0] for name, each in named_leaves(tree)}
    found = {name: each for name, each in named_leaves(outputs) if isinstance(each, jax.Array)}
    real = {name: each for name, each in found.items() if jnp.issubdtype(each.dtype, jnp.floating)}
    return Traced(inputs, {name: np.asarray(each, np.float32) for name, each in real.items()}, recorder.calls)


def recording(net: Net, recorder: Recorder) -> contextlib.AbstractContextManager[None]:
    """Record the calls of flax's modules; a function has none."""
    if isinstance(net.model, tuple):
        return contextlib.nullcontext()
    owners = {parameter.layer for parameter, _ in parameters(net)}

    def begin(layer: str, given: Any) -> None:
        if layer in owners:
            recorder.begin(layer, arrays(given))

    def end(layer: str, outputs: Any) -> None:
        recorder.end(layer if layer in owners else None, arrays(outputs))

    return flax().recorded(net.model, begin, end)


def arrays(tree: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]


def copied(array: jax.Array) -> np.ndarray | None:
    """The values of an array; None in a function that is being traced."""
    return None if isinstance(array, jax.core.Tracer) else np.asarray(array, np.float32)


def differentiate(net: Net, rounding: float) -> tuple[float, dict[str, np.ndarray]]:
    shaken_inputs = jax.tree.map(lambda each: shaken(np.asarray(each), rounding), net.batches[0])
    inputs, before = jax.device_put(shaken_inputs, device_of(net.how)), state_of(parameters(net))
    (loss, net.state), gradients = loss_and_gradients(net, net.params, net.state, inputs)
    changes = {name: values - before[name] for name, values in state_of(parameters(net)).items()}
    return float(loss), changes | {name: np.asarray(each) for name, each in leaves(gradients).items()}


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradients(net: Net, params: Any, state: Any, inputs: Any) -> tuple[tuple[jax.Array, Any], Any]:
    """Loss with the new state, as of dropout's random numbers, and gradients."""

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        outputs, new = net.call(params, state, inputs, training=True)
        return half_square(outputs), new

    return jax.value_and_grad(loss_of, has_aux=True, allow_int=True)(params)


def leaves(tree: Any) -> dict[str, Any]:
    """Floating-point leaves by their paths, as conv1/kernel."""
    return {name or "params": leaf for name, leaf in named_leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def replaced(tree: Any, values: Mapping[str, np.ndarray]) -> Any:
    """The tree with these values of leaves, by name."""
    kept = [values.get(name or "params", leaf) for name, leaf in named_leaves(tree)]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(tree), kept)


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """All leaves by their paths; of a tree that is a leaf the name is empty."""
    every = jax.tree_util.tree_flatten_with_path(tree)[0]
    return list(zip(unique([name_of(path) for path, _ in every]), (leaf for _, leaf in every), strict=True))


def name_of(path: Any) -> str:
    if path and getattr(path[-1], "name", "") == "value":  # of a variable of nnx
        path = path[:-1]
    parts = [getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in path]
    return "/".join(map(str, parts))
