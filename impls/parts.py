"""The parts of a user's model that are timed alone: which of its modules, and with what they are called."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

MOST = 60  # parts; a model of more modules is taken one level higher, if it has one
FEWEST = 8  # parts of a level that tell where the time goes; of fewer, the next level is taken whatever it has

Arguments = tuple[Any, dict[str, Any]]  # in order, by name


@dataclass(eq=False)
class Module:
    """A module that the model calls, by its path in the model, with the modules inside it that are called too."""

    name: str
    own: Any
    inside: "list[Module]" = field(default_factory=list)


@dataclass(eq=False)
class Call:
    """The first call of a module, and how often the model calls it.

    ``inputs`` are copies on the device. ``shape`` is that of the first output without the batch, as far as it is known
    (height, width, channels). ``gradient``: a training pass of the model computes that of the inputs. ``refused`` is
    why the module cannot be called alone, empty if it can.
    """

    module: Module
    inputs: Arguments = ((), {})
    calls: int = 0
    shape: Sequence[int] = ()
    params: int = 0
    gradient: bool = False
    refused: str = ""


class Parts(Protocol):
    """The module of one framework; ``net`` is that of its users' models, which has been called."""

    def modules(self, net: Any) -> list[Module]:
        """The modules right inside the model that it calls. Raises Unfit for a model that has none."""

    def record(self, net: Any, modules: Sequence[Module]) -> list[Call]:
        """Call the model once in inference mode; the first call of each module, in the order in which they begin."""

    def idle(self, module: Module) -> bool:
        """Whether a module computes nothing in any mode: it returns its input, at most in another shape."""

    def part(self, call: Call, how: Any) -> Any:
        """A module with its inputs as a Net (impls.net.Net), whose second batch is the first one in another order.

        As of ``Variant.part``, a backward pass starts from the outputs: the gradient of half the sum of their squares.
        """


def deepest(modules: Sequence[Module], most: int = MOST, fewest: int = FEWEST) -> list[Module]:
    """The modules of the deepest level that has at most ``most``, counting those above it that have none inside; of a
    lower one if that has less than ``fewest``."""
    found = list(modules)
    while True:
        deeper = [each for module in found for each in module.inside or [module]]
        if deeper == found or (len(deeper) > most and len(found) >= fewest):
            return found
        found = deeper


def awake(modules: Sequence[Module], idle: Callable[[Module], bool]) -> list[Module]:
    """The modules without those that are ``idle``, and without those that have only such inside."""
    found = []
    for module in modules:
        inside = awake(module.inside, idle)
        if inside or not (module.inside or idle(module)):
            found.append(Module(module.name, module.own, inside))
    return found


def called(children: Iterable[tuple[str, Any]], inside: Callable[[Any], Any], counts: dict[int, int]) -> list[Module]:
    """The modules among ``children``, (name, module), that were called, by ``counts`` of their ids, each once.

    ``inside`` returns the children of one. A module that was not called, such as a list of others, is replaced by
    those inside it.
    """
    found: list[Module] = []
    seen: set[int] = set()
    for name, own in children:
        if id(own) in seen:
            continue
        seen.add(id(own))
        below = called(((f"{name}.{each}", child) for each, child in inside(own)), inside, counts)
        found += [Module(name, own, below)] if counts.get(id(own)) else below
    return found


def word(name: str) -> str:
    """A name of letters, digits, _ and . only."""
    return re.sub(r"[^\w.]+", "_", name)


def canonical(shape: Sequence[int], *, channels_first: bool) -> list[int]:
    """(height, width, channels) of an output without its batch; of a vector (1, 1, n), of a sequence (1, length, n)."""
    if len(shape) == 3:
        return [*shape[1:], shape[0]] if channels_first else list(shape)
    return [*[1] * (3 - len(shape)), *shape] if 1 <= len(shape) < 3 else []
