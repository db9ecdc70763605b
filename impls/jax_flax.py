"""Modules of flax, linen and nnx, as parameters, state and a function of both. Only imported where flax is."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

#: Arguments of a module's call that say whether it trains, and their value if it does.
TRAINING = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
#: (params, state, inputs, training) -> (outputs, state)
Apply = Callable[[Any, Any, Any, bool], tuple[Any, Any]]


def accepts(value: Any) -> bool:
    return isinstance(value, linen.Module | nnx.Module)


def make(function: Any, places: list[Any], named: dict[str, Any]) -> Any:
    """Call a function with these arguments, and with the random numbers that modules of nnx are made with."""
    taken = function.__init__ if hasattr(function, "__mro__") else function  # of a class, not of its metaclass
    if "rngs" in inspect.signature(taken).parameters:
        named = {"rngs": nnx.Rngs(0), **named}
    return function(*places, **named)


def parts(module: Any, inputs: Any, low: bool) -> tuple[Any, Any, Apply]:
    """The parameters and the state of a module called with ``inputs``, (in order, by name), and how it is applied.

    With ``low``, parameters and inputs arrive in bfloat16. BatchNorm of nnx would go on in float32 after that, so each
    part of nnx that has no ``dtype`` is given this one.
    """
    if isinstance(module, linen.Module):
        return _of_linen(module, inputs)
    for _, part in nnx.iter_modules(module) if low else ():
        if getattr(part, "dtype", module) is None:
            part.dtype = jnp.bfloat16
    return _of_nnx(module)


def mode(module: Any, training: bool) -> dict[str, bool]:
    """The arguments of its call that set training or inference mode."""
    names = inspect.signature(type(module).__call__).parameters
    return {name: value is training for name, value in TRAINING.items() if name in names}


def _of_linen(module: linen.Module, inputs: Any) -> tuple[Any, Any, Apply]:
    """``state``: the other collections, such as batch_stats, and the key of dropout."""

    def init(inputs: Any) -> Any:
        return module.init(jax.random.key(0), *inputs[0], **inputs[1], **mode(module, False))

    variables = dict(jax.jit(init)(inputs))
    params = variables.pop("params", {})

    def apply(params: Any, state: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        collections, key = state
        variables, named = {"params": params, **collections}, inputs[1] | mode(module, training)
        if not training:
            return module.apply(variables, *inputs[0], **named), state
        key, used = jax.random.split(key)
        rngs = {"dropout": used}
        outputs, changed = module.apply(variables, *inputs[0], **named, rngs=rngs, mutable=list(collections))
        return outputs, ({**collections, **changed}, key)

    return params, (variables, jax.random.key(1)), apply


def _of_nnx(module: nnx.Module) -> tuple[Any, Any, Apply]:
    """``state``: all variables that are no Param, such as moving statistics and counters of random numbers."""
    module.train()
    trained, _, _ = nnx.split(module, nnx.Param, ...)
    module.eval()
    inferred, params, rest = nnx.split(module, nnx.Param, ...)

    def apply(params: Any, state: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        own = jax.tree.map(lambda leaf: leaf, state)  # Variables of this trace, which may be written
        merged = nnx.merge(trained if training else inferred, params, own)
        outputs = merged(*inputs[0], **inputs[1], **mode(merged, training))
        return outputs, nnx.split(merged, nnx.Param, ...)[2] if training else state

    return params, rest, apply
