"""Modules of flax, linen and nnx, as parameters, state and a function of both. Only imported where flax is."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

#: Arguments of a module's call that say whether it trains, and their value if it does.
TRAINING = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
#: (params, state, inputs, training) -> (outputs, state)
Apply = Callable[[Any, Any, Any, bool], tuple[Any, Any]]
KEY = "key of dropout"  # in the state of linen, next to its collections


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
    """``state``: the other collections, such as batch_stats, and the KEY."""

    def init(inputs: Any) -> Any:
        return module.init(jax.random.key(0), *inputs[0], **inputs[1], **mode(module, False))

    variables = dict(jax.jit(init)(inputs))
    params = variables.pop("params", {})

    def apply(params: Any, state: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        collections = {name: tree for name, tree in state.items() if name != KEY}
        variables, named = {"params": params, **collections}, inputs[1] | mode(module, training)
        if not training:
            return module.apply(variables, *inputs[0], **named), state
        key, used = jax.random.split(state[KEY])
        rngs = {"dropout": used}
        outputs, changed = module.apply(variables, *inputs[0], **named, rngs=rngs, mutable=list(collections))
        return outputs, {**collections, **changed, KEY: key}

    return params, {**variables, KEY: jax.random.key(1)}, apply


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


def layer_of(module: Any, name: str, trainable: bool) -> str:
    """The path of the layer that has a parameter, as conv1 of conv1/kernel. In linen the first part of the name of
    what is not trainable is its collection."""
    parts = name.split("/")
    return "/".join(parts[isinstance(module, linen.Module) and not trainable : -1])


@contextlib.contextmanager
def recorded(module: Any, begin: Callable[[str, Any], None], end: Callable[[str, Any], None]) -> Iterator[None]:
    """Tell of one call of the module, and of those of the modules in it: ``begin`` with the path and the arguments (in
    order, by name), ``end`` with the path and the outputs."""
    if isinstance(module, linen.Module):
        with linen.intercept_methods(functools.partial(_told_by_linen, begin, end)):
            yield
        return
    calls = {kind: kind.__call__ for kind in {type(part) for _, part in nnx.iter_modules(module)} if _is_called(kind)}
    own = {kind: vars(kind).get("__call__") for kind in calls}
    paths, inside = dict[int, str](), set[int]()  # by id, of the copy that is called
    for kind, call in calls.items():
        kind.__call__ = _told_by_nnx(call, paths, inside, begin, end)
    try:
        yield
    finally:
        for kind, before in own.items():
            if before is None:
                del kind.__call__
            else:
                kind.__call__ = before


def _told_by_linen(
    begin: Callable[[str, Any], None], end: Callable[[str, Any], None], call: Any, places: Any, named: Any, context: Any
) -> Any:
    """An interceptor of linen."""
    if context.method_name != "__call__":
        return call(*places, **named)
    path = "/".join(map(str, context.module.path))
    begin(path, (places, named))
    outputs = call(*places, **named)
    end(path, outputs)
    return outputs


def _told_by_nnx(
    call: Callable[..., Any],
    paths: dict[int, str],
    inside: set[int],
    begin: Callable[[str, Any], None],
    end: Callable[[str, Any], None],
) -> Callable[..., Any]:
    """The method of a class; the first instance that is called is the whole model."""

    @functools.wraps(call)
    def telling(self: Any, *places: Any, **named: Any) -> Any:
        if not paths:
            paths.update({id(part): "/".join(map(str, path)) for path, part in nnx.iter_modules(self)})
        path = paths.get(id(self))
        if path is None or id(self) in inside:  # a copy, as in nnx.jit; the method of a base class
            return call(self, *places, **named)
        inside.add(id(self))
        try:
            begin(path, (places, named))
            outputs = call(self, *places, **named)
            end(path, outputs)
        finally:
            inside.remove(id(self))
        return outputs

    return telling


def _is_called(kind: type) -> bool:
    """Whether its instances have ``__call__``, which each class has of its metaclass."""
    return any("__call__" in vars(base) for base in kind.__mro__)
