"""Comparison: what was compared of a model and its port, and whether they are equal."""

from dataclasses import dataclass, field

from bench.controller.agreement import Point
from bench.controller.pairing import Order, Pair


@dataclass(frozen=True)
class LayerPoint:
    """A layer of the first model and its partner: inputs, None where not comparable, and outputs.

    ``order``: its inputs are the same values in this order. ``carried``: its weight was given in that order.
    """

    first: str
    second: str
    input: Point | None
    output: Point
    order: Order | None = None
    carried: bool = False


@dataclass
class Comparison:
    """What was compared, in the order of the first model; ``left_out`` says what was not, and why.

    ``varied`` is the number of constant parameters that got other values. ``training``: differences of how they train,
    a parameter in one only, random numbers in one only. ``state``: what a pass changes of that which is not trainable.
    ``undecided``: gradients and changes that rounding moves too much.
    """

    labels: tuple[str, str]
    pairs: list[Pair]
    varied: int
    outputs: list[Point] = field(default_factory=list)
    layers: list[LayerPoint] = field(default_factory=list)
    training: list[Point] = field(default_factory=list)
    gradients: list[Point] = field(default_factory=list)
    state: list[Point] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return all(point.ok for point in (*self.outputs, *self.training, *self.gradients, *self.state))
