"""The layers of a user's Keras model, each as a Net.

Mirrors the other parts: modules, record, idle, part, Part.
"""

import contextlib
import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from impls.net import Build
from impls.outputs import Unfit, tensors_in
from impls.parts import Arguments, Call, Module, called, canonical, word
from impls.tf_model import Net, floats, on_device
from impls.tf_port import children, replaced

IDLE = (
    *(tf.keras.layers.InputLayer, tf.keras.layers.Identity),
    *(tf.keras.layers.Flatten, tf.keras.layers.Reshape),
)


def modules(net: Net) -> list[Module]:
    if not isinstance(net.model, tf.keras.layers.Layer):
        raise Unfit(f"a {type(net.model).__name__} is a function without layers of Keras")
    counts: Counter[int] = Counter()

    def counted(layer: Any) -> Callable[..., Any]:
        call = layer.call

        @functools.wraps(call)
        def counting(*args: Any, **named: Any) -> Any:
            counts[id(layer)] += 1
            return call(*args, **named)

        return counting

    with watched(net, list(below(net.model)), counted):
        net.call(net.batches[0], training=False)
    if found := called(inside(net.model), inside, counts):
        return found
    raise Unfit("it calls none")


def record(net: Net, modules: Sequence[Module]) -> list[Call]:
    calls = {id(module.own): Call(module) for module in modules}
    begun: list[Call] = []

    def recorded(layer: Any) -> Callable[..., Any]:
        run, call = layer.call, calls[id(layer)]

        @functools.wraps(run)
        def recording(*args: Any, **named: Any) -> Any:
            if call not in begun:
                call.inputs = args, {name: each for name, each in named.items() if name != "training"}
                call.refused = "" if tensors_in(call.inputs, tf.Tensor) else "it is given no tensor"
                # the gradient of its inputs is needed once an earlier layer is trained
                call.gradient = any(earlier.params for earlier in begun)
                begun.append(call)
            outputs = run(*args, **named)
            call.calls += 1
            if call.calls == 1:
                tensors = floats(outputs)
                call.shape = canonical(tensors[0].shape[1:] if tensors else (), channels_first=False)
                call.params = sum(math.prod(each.shape) for each in layer.trainable_variables)
                call.refused = call.refused or ("" if tensors else "it returns no floating-point tensor")
            return outputs

        return recording

    with watched(net, [module.own for module in modules], recorded):
        net.call(net.batches[0], training=False)
    return begun


def idle(module: Module) -> bool:
    layer = module.own
    return isinstance(layer, IDLE) or (isinstance(layer, tf.keras.layers.Dropout) and layer.rate == 0)


def part(call: Call, how: Build) -> Net:
    return Part(call, how)


class Part(Net):
    """A layer on the inputs of its first call; ``forward_backward`` returns (output, gradients...)."""

    def __init__(self, call: Call, how: Build):
        # a layer may compute in another precision than its model
        super().__init__(call.module.own, None, None, dataclasses.replace(how, precision="fp32"))
        self.how, self.gradient = how, call.gradient
        with on_device(how):
            self.batches = [listed(tf.nest.map_structure(change, call.inputs)) for change in (turned, copied)]

    def load(self, batches: Any) -> None:
        """Its inputs are those of its call."""

    def fetch(self, handles: Any) -> float:
        value = handles[min(1, len(handles) - 1)]
        return float(value[(0,) * value.shape.rank])

    def _step(self, inputs: Any) -> tuple[tf.Tensor, ...]:
        given = floats(inputs) if self.gradient else []
        with on_device(self.how):
            with tf.GradientTape() as tape:
                tape.watch(given)
                outputs = floats(self.call(inputs, training=True))
            wrt = [*self.variables, *given]
            gradients = tape.gradient(outputs, wrt, output_gradients=outputs) if wrt else []
        return outputs[0], *(tf.convert_to_tensor(each) for each in gradients if each is not None)


def inside(layer: Any) -> list[tuple[str, Any]]:
    """The layers right inside one, by names that do not depend on how many layers the process has made."""
    found = children(layer)
    return list(zip(numbered([own_name(child) for child in found]), found, strict=True))


def own_name(layer: Any) -> str:
    """Its name, without the number that Keras gives to a layer that was not named."""
    plain = re.sub(r"_\d+$", "", layer.name)
    made = plain.replace("_", "") == type(layer).__name__.lower().replace("_", "")
    return word(plain if made else layer.name)


def numbered(names: Sequence[str]) -> list[str]:
    """Names with _1, _2 ... after those that were there before, as Keras numbers them."""
    found: list[str] = []
    for name in names:
        tries = (f"{name}_{number}" if number else name for number in range(len(names)))
        found.append(next(each for each in tries if each not in found))
    return found


def below(layer: Any) -> Iterator[Any]:
    for child in children(layer):
        yield child
        yield from below(child)


@contextlib.contextmanager
def watched(net: Net, layers: Sequence[Any], watch: Callable[[Any], Callable[..., Any]]) -> Iterator[None]:
    """Have each of the layers call ``watch(layer)`` in place of its ``call``, while nothing is traced."""
    with contextlib.ExitStack() as stack, on_device(net.how):
        stack.callback(tf.config.run_functions_eagerly, tf.config.functions_run_eagerly())
        tf.config.run_functions_eagerly(True)  # else a layer in a tf.function has no values
        for layer in {id(layer): layer for layer in layers}.values():
            stack.enter_context(replaced(layer, "call", watch(layer)))
        yield


def turned(value: Any) -> Any:
    """The images of a batch moved by one; other arguments as they are."""
    return tf.roll(value, 1, 0) if isinstance(value, tf.Tensor) and value.shape.rank else value


def copied(value: Any) -> Any:
    return tf.identity(value) if isinstance(value, tf.Tensor) else value


def listed(inputs: Arguments) -> tuple[list[Any], dict[str, Any]]:
    return list(inputs[0]), inputs[1]
