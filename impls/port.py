"""What is read of a user's model to compare it with its port: parameters, calls of layers, gradients, state.

Parameters are in canonical layout, as in weights.py: convolutions (h, w, channels, filters), dense layers (in, out).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Protocol

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parameter:
    """A floating-point array of a model, trainable or moving: ``shape`` is canonical, ``own`` the framework's.

    ``layer`` is the name of the layer that has it, empty if there are no layers.
    """

    name: str
    layer: str
    shape: list[int]
    own: list[int]
    trainable: bool


@dataclass
class LayerCall:
    """The first call of a layer that has parameters: its input, and its output, also before its activation if it has
    one. ``grids`` are shapes, without the batch, from which its flat input may have been flattened."""

    layer: str
    input: np.ndarray | None
    grids: list[Shape]
    outputs: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Traced:
    """One pass in inference mode: inputs and outputs by name (``named_in``), and calls in the order of their ends."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    calls: list[LayerCall]


class Port(Protocol):
    """The module of one framework; ``net`` is that of its users' models, which has been called."""

    def parameters(self, net: Any) -> list[tuple[Parameter, np.ndarray]]:
        """Parameters in order of creation with their values. Raises ValueError for one that is not float32."""

    def write(self, net: Any, values: Mapping[str, np.ndarray]) -> None:
        """Set parameters by name."""

    def trace(self, net: Any) -> Traced:
        """Run the model on its first batch in inference mode."""

    def differentiate(self, net: Any, rounding: float) -> tuple[float, dict[str, np.ndarray]]:
        """Loss, half the sum of squares of all outputs in training mode on the first batch, and by parameter its
        gradient, of those it depends on, or the pass's change of what is not trainable: of a moving variance with
        the biased variance of the batch, as in Keras and flax. Floating-point inputs are changed by this share at
        random."""


class Recorder:
    """Collects the first call of each layer; ``array`` copies a tensor, or returns None."""

    def __init__(self, array: Callable[[Any], np.ndarray | None]):
        self.array = array
        self.calls: list[LayerCall] = []
        self.begun: dict[str, LayerCall] = {}
        self.shapes: list[Shape] = []

    def begin(self, layer: str, inputs: Sequence[Any]) -> None:
        """A layer that has parameters is called."""
        if layer not in self.begun:
            first = next((array for array in map(self.array, inputs) if array is not None), None)
            self.begun[layer] = LayerCall(layer, first, self._grids(first))

    def before_activation(self, layer: str, tensor: Any) -> None:
        call, array = self.begun[layer], self.array(tensor)
        if array is not None and not call.outputs:
            call.outputs.append(array)

    def end(self, layer: str | None, outputs: Sequence[Any]) -> None:
        """Any layer returns; ``layer`` is None if it has no parameters."""
        shapes = [tuple(tensor.shape)[1:] for tensor in outputs]
        self.shapes += [shape for shape in shapes if None not in shape]  # which it is in a function that is traced
        if layer is not None and not any(call.layer == layer for call in self.calls):
            call = self.begun[layer]
            call.outputs += [array for array in map(self.array, outputs[:1]) if array is not None]
            self.calls.append(call)

    def _grids(self, flat: np.ndarray | None) -> list[Shape]:
        """Shapes of earlier outputs, last first, of as many values as a flat input; and squares of as many channels."""
        if flat is None or flat.ndim != 2:
            return []
        size, found = flat.shape[1], list[Shape]()
        earlier = [shape for shape in reversed(self.shapes) if len(shape) == 3]
        found += [shape for shape in earlier if math.prod(shape) == size]
        for first, _, last in earlier[:1]:  # pooled by a function that is no layer
            for channels, place in ((first, 0), (last, 2)):
                side = math.isqrt(size // channels)
                if side > 1 and side * side * channels == size:
                    found.append((channels, side, side) if place == 0 else (side, side, channels))
        return list(dict.fromkeys(found))[:4]


def named_in(value: Any, kind: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors of type ``kind``, by keys and places, as ``heads/0``; of a single one the name is empty."""
    if isinstance(value, kind):
        yield path, value
        return
    if isinstance(value, list | tuple):
        children: dict[Any, Any] = dict(enumerate(value))
    elif isinstance(value, Mapping):
        children = dict(value)
    else:
        children = vars(value) if is_dataclass(value) else {}
    for key, child in children.items():
        yield from named_in(child, kind, f"{path}/{key}" if path else str(key))


def state_of(parameters: Sequence[tuple[Parameter, np.ndarray]]) -> dict[str, np.ndarray]:
    """Copies of what is not trainable, by name."""
    return {parameter.name: values.copy() for parameter, values in parameters if not parameter.trainable}


def shaken(array: np.ndarray, share: float) -> np.ndarray:
    """Each value changed by about this share at random, always alike; integers as they are."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(array.shape, np.float32)
    return np.asarray(array * (1 + np.float32(share) * noise), array.dtype)


def unique(names: Sequence[str]) -> list[str]:
    """Names with #2, #3 ... after those that were there before."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return found
