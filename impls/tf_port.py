"""A user's keras.Model, tf.Module or tf.function, read and written for a comparison with its port.

Mirrors the other ports: parameters, write, trace, differentiate.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from impls.outputs import tensors_in
from impls.port import Parameter, Recorder, Traced, named_in, shaken, state_of, unique
from impls.tf_model import Net, half_square, on_device

Owned = tuple[str, str, Any, Any]  # name, the layer's name, layer or None, variable


def parameters(net: Net) -> list[tuple[Parameter, np.ndarray]]:
    found = []
    for name, layer_name, layer, variable in owned(net):
        if (dtype := tf.as_dtype(variable.dtype)) != tf.float32:
            raise ValueError(f"{name} is {dtype.name}: expected float32")
        values = canonical(layer, variable, variable.numpy())
        parameter = Parameter(name, layer_name, list(values.shape), list(variable.shape), bool(variable.trainable))
        found.append((parameter, values))
    return found


def write(net: Net, values: Mapping[str, np.ndarray]) -> None:
    with on_device(net.how):
        for name, _, _, variable in owned(net):
            if name in values:
                variable.assign(values[name].reshape(variable.shape))


def trace(net: Net) -> Traced:
    recorder = Recorder(copied)
    owners = {layer_name for _, layer_name, layer, _ in owned(net) if layer is not None}
    with contextlib.ExitStack() as stack, on_device(net.how):
        stack.callback(tf.config.run_functions_eagerly, tf.config.functions_run_eagerly())
        tf.config.run_functions_eagerly(True)  # else a layer in a tf.function has no values
        for name, layer in keras_layers(net):
            call, activation = layer.call, getattr(layer, "activation", None)
            stack.enter_context(replaced(layer, "call", recorded(call, name if name in owners else None, recorder)))
            if name in owners and callable(activation):
                stack.enter_context(replaced(layer, "activation", told(activation, name, recorder)))
        outputs = net.call(net.batches[0], training=False)
    places, named = net.batches[0]
    inputs = {name: each.numpy() for name, each in (*named_in(places, tf.Tensor), *named.items())}
    found = {name: each for name, each in named_in(outputs, tf.Tensor) if each.dtype.is_floating}
    return Traced(inputs, {name: tf.cast(each, tf.float32).numpy() for name, each in found.items()}, recorder.calls)


def differentiate(net: Net, rounding: float) -> tuple[float, dict[str, np.ndarray]]:
    trained, before = [each for each in owned(net) if each[3].trainable], state_of(parameters(net))
    with on_device(net.how), tf.GradientTape() as tape:
        inputs = tf.nest.map_structure(lambda each: tf.constant(shaken(each.numpy(), rounding)), net.batches[0])
        loss = half_square(net.call(inputs, training=True))
    gradients = tape.gradient(loss, [variable for *_, variable in trained])
    changes = {name: values - before[name] for name, values in state_of(parameters(net)).items()}
    return float(loss), changes | {
        name: canonical(layer, variable, tf.convert_to_tensor(gradient).numpy())
        for (name, _, layer, variable), gradient in zip(trained, gradients, strict=True)
        if gradient is not None
    }


def owned(net: Net) -> list[Owned]:
    """Floating-point variables, each once, layer by layer; without Keras in the order of the model."""
    found: dict[int, tuple[str, Any, Any]] = {}
    for layer_name, layer in keras_layers(net):
        inner = {id(each) for child in layer._flatten_layers(include_self=False) for each in child.weights}
        for variable in layer.weights:
            if id(variable) not in inner:
                found.setdefault(id(variable), (layer_name, layer, variable))
    if not found:
        every = getattr(net.model, "variables", net.variables)
        found = {id(variable): ("", None, variable) for variable in every}
    kept = [each for each in found.values() if tf.as_dtype(each[2].dtype).is_floating]
    names = unique([_short(net, getattr(variable, "path", variable.name)) for *_, variable in kept])
    return [(name, *each) for name, each in zip(names, kept, strict=True)]


def keras_layers(net: Net) -> list[tuple[str, Any]]:
    """The layers of a Keras model with itself, by path, in the order of its branches; of others none."""
    if not isinstance(net.model, tf.keras.layers.Layer):
        return []
    layers = list({id(layer): layer for layer in _inside(net.model)}.values())
    return list(zip(unique([_short(net, layer.path or layer.name) for layer in layers]), layers, strict=True))


def _inside(layer: Any) -> Iterator[Any]:
    """A layer, and those inside it."""
    yield layer
    for child in children(layer):
        yield from _inside(child)


def children(layer: Any) -> list[Any]:
    """The layers right inside one, those of a model in the order of its branches."""
    found = _along(layer) if hasattr(layer, "operations") else layer._layers
    return [child for child in found if isinstance(child, tf.keras.layers.Layer)]


def _along(model: Any) -> list[Any]:
    """The operations of a functional model, each branch in one piece; Keras has them by depth."""
    found: dict[int, Any] = {}
    stack = [(each, False) for each in reversed(tf.nest.flatten(model.outputs))]
    while stack:
        tensor, entered = stack.pop()
        operation, node, _ = tensor._keras_history
        if entered:
            found.setdefault(id(operation), operation)
        elif id(operation) not in found:
            stack.append((tensor, True))
            stack += [(each, False) for each in reversed(operation._inbound_nodes[node].input_tensors)]
    return list(found.values())


def _short(net: Net, path: str) -> str:
    """A path without the name of the whole model, which counts the models of a process."""
    return path.removesuffix(":0").removeprefix(f"{getattr(net.model, 'name', '')}/")


def canonical(layer: Any, variable: Any, array: np.ndarray) -> np.ndarray:
    """A depthwise kernel (h, w, channels, multiplier) is that of as many groups: (h, w, 1, filters)."""
    kinds = tf.keras.layers.DepthwiseConv1D, tf.keras.layers.DepthwiseConv2D
    separable = tf.keras.layers.SeparableConv1D, tf.keras.layers.SeparableConv2D
    depthwise = (isinstance(layer, kinds) and variable is layer.kernel) or (
        isinstance(layer, separable) and variable is layer.depthwise_kernel
    )
    return array.reshape(*array.shape[:-2], 1, -1) if depthwise else array


def recorded(call: Callable[..., Any], owner: str | None, recorder: Recorder) -> Callable[..., Any]:
    @functools.wraps(call)
    def recording(*args: Any, **named: Any) -> Any:
        if owner is not None:
            recorder.begin(owner, tensors_in((args, named), tf.Tensor))
        outputs = call(*args, **named)
        recorder.end(owner, tensors_in(outputs, tf.Tensor))
        return outputs

    return recording


def told(activation: Callable[[Any], Any], owner: str, recorder: Recorder) -> Callable[[Any], Any]:
    def telling(tensor: Any, *more: Any) -> Any:
        recorder.before_activation(owner, tensor)
        return activation(tensor, *more)

    return telling


@contextlib.contextmanager
def replaced(layer: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a Keras layer, past its tracking, and restore it."""
    before = vars(layer).get(name)
    object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        object.__delattr__(layer, name)
        if before is not None:
            object.__setattr__(layer, name, before)


def copied(tensor: Any) -> np.ndarray | None:
    """The values of a tensor; None in a function that is being traced."""
    return tf.cast(tensor, tf.float32).numpy() if hasattr(tensor, "numpy") else None
