"""Compare a model with its port, each in a Worker: on the same weights and inputs outputs, layers, gradients."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from bench import UsageError
from bench.cases.case import Case
from bench.controller import parity
from bench.controller.pairing import Order, Pair
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.worker_process import WorkerDied, WorkerProcess
from bench.machine.scratch import scratch_folder
from bench.worker import messages
from bench.worker.guest import Guest
from bench.worker.messages import Request
from bench.worker.replies import TracedModel, TracedStep
from impls import reference
from impls.port import Parameter

R = TypeVar("R")

DEPTH = 8  # convolutions and dense layers of an AlexNet, for which the limits of parity.py are; rounding adds up
WIDEST = 0.5  # limit of a gradient
MOVED = 10  # times what rounding moves a gradient by
SHARE = 1e-4  # of the largest gradient's norm: a sum that is 0 but for rounding, as of a bias before BatchNorm
SAME_INPUTS = 1e-6
#: Axes that turn channels first into channels last, and back, by number of axes.
TURNS: dict[int, list[tuple[int, ...]]] = {
    3: [(0, 2, 1)],
    4: [(0, 2, 3, 1), (0, 3, 1, 2)],
    5: [(0, 2, 3, 4, 1), (0, 4, 1, 2, 3)],
}
FLATTENED = [(1, 2, 0), (2, 0, 1)]  # (c, h, w) into (h, w, c), and back


@dataclass(frozen=True)
class Side:
    """One of the two models: its name in messages, and the Case of which its Worker is started."""

    label: str
    case: Case
    guest: Guest


@dataclass(frozen=True)
class Point:
    """A comparison. ``error`` is relative L2, None for other shapes or values that are not finite, which ``note``
    says."""

    what: str
    error: float | None
    limit: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error is not None and self.error <= self.limit


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

    ``varied`` is the number of constant parameters that got other values.
    """

    labels: tuple[str, str]
    pairs: list[Pair]
    varied: int
    outputs: list[Point] = field(default_factory=list)
    layers: list[LayerPoint] = field(default_factory=list)
    gradients: list[Point] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return all(point.ok for point in (*self.outputs, *self.gradients))


class Model:
    """A model in its Worker. ``folder`` has what it wrote. ``ask`` raises UsageError in its name."""

    def __init__(self, side: Side, settings: WorkerSettings, name: str, scratch: Path):
        self.side, self.folder = side, scratch / name
        for kind in ("parameters", "given", "trace", "gradients"):
            (self.folder / kind).mkdir(parents=True)
        self.process: WorkerProcess = settings.launch(name, side.case, scratch / "workers")

    def ask(self, request: Request[R]) -> R:
        try:
            return self.process.ask(request)
        except WorkerDied as died:
            raise UsageError(f"--net {self.side.label}: {died.reason}") from died

    def build(self) -> list[Parameter]:
        """Build it and read its parameters."""
        try:
            self.process.wait_until_configured()
        except WorkerDied as died:
            raise UsageError(f"--net {self.side.label}: {died.reason}") from died
        self.ask(build_request(self.side.case, self.folder, self.side.guest))
        return self.ask(messages.ReadParameters(str(self.folder / "parameters")))

    def array(self, kind: str, name: object) -> np.ndarray:
        return np.load(self.folder / kind / f"{name}.npy")  # type: ignore[no-any-return]


class Models:
    """The two models, in two Workers that start together and end with this context."""

    def __init__(self, sides: tuple[Side, Side], settings: WorkerSettings):
        self.sides, self.settings = sides, settings
        self.labels = (sides[0].label, sides[1].label)

    def __enter__(self) -> "Models":
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(scratch_folder())
            models = []
            for name, side in zip(("first", "second"), self.sides, strict=True):
                models.append(Model(side, self.settings, name, scratch))
                stack.callback(models[-1].process.kill)
            self.first, self.second = models
            self.parameters = self.first.build(), self.second.build()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stack.close()

    def compare(self, pairs: Sequence[Pair]) -> Comparison:
        """Give the second the first's parameters, and compare the two."""
        compared = Comparison(self.labels, list(pairs), self._carry(pairs))
        depth = max(1.0, sum(len(pair.first.shape) > 1 for pair in pairs) / DEPTH)
        limit = parity.LOOSE["logits"] * depth
        first, second = (
            model.ask(messages.TraceModel(str(model.folder / "trace"))) for model in (self.first, self.second)
        )
        self._check_inputs(first, second)
        compared.outputs = list(self._outputs(first, second, limit))
        compared.layers = list(self._layers(first, second, pairs, limit))
        if not compared.layers:
            without = [label for label, each in zip(self.labels, (first, second), strict=True) if not each.steps]
            why = f"none with parameters in {' and '.join(without)}" if without else "none has a partner"
            compared.left_out.append(f"layers: {why}")
        if all(point.ok for point in compared.outputs):
            self._gradients(compared, depth)
        else:
            compared.left_out.append("gradients: the outputs differ already")
        return compared

    def _carry(self, pairs: Sequence[Pair]) -> int:
        """Write the first's parameters into the second; of constant ones other values into both. How many those are."""
        places = {parameter.name: number for number, parameter in enumerate(self.parameters[0])}
        rng, changed = np.random.Generator(np.random.PCG64(self.sides[0].case.seed)), list[str]()
        for number, pair in enumerate(pairs):
            values = self.first.array("parameters", places[pair.first.name])
            if values.size and np.ptp(values) == 0:
                values = varied(values, rng)
                np.save(self.first.folder / "given" / f"{len(changed)}.npy", values)
                changed.append(pair.first.name)
            np.save(self.second.folder / "given" / f"{number}.npy", np.ascontiguousarray(pair.carried(values)))
        for model, names in ((self.first, changed), (self.second, [pair.second.name for pair in pairs])):
            model.ask(messages.WriteParameters(str(model.folder / "given"), names))
        return len(changed)

    def _check_inputs(self, first: TracedModel, second: TracedModel) -> None:
        """UsageError unless both were given the same values."""
        for number in range(max(first.inputs, second.inputs)):
            shapes, off = [], None
            if number < min(first.inputs, second.inputs):
                one, other = (model.array("trace", f"input.{number}") for model in (self.first, self.second))
                shapes, off = [one.shape, other.shape], nearest(one, other)
            if off is None or off > SAME_INPUTS:
                found = (
                    f"shapes {shapes[0]} and {shapes[1]}" if shapes else f"{first.inputs} and {second.inputs} inputs"
                )
                raise UsageError(
                    f"--net: input {number + 1} differs between {self.labels[0]} and {self.labels[1]} ({found}): "
                    "expected the same values from `inputs(batch)` in both files, or from neither"
                )

    def _outputs(self, first: TracedModel, second: TracedModel, limit: float) -> Iterator[Point]:
        for number in range(min(first.outputs, second.outputs)):
            one, other = (model.array("trace", f"output.{number}") for model in (self.first, self.second))
            yield point(f"output {number + 1}", one, other, limit)
        if first.outputs != second.outputs:
            yield Point("outputs", None, limit, f"{first.outputs} and {second.outputs} of them")

    def _layers(
        self, first: TracedModel, second: TracedModel, pairs: Sequence[Pair], limit: float
    ) -> Iterator[LayerPoint]:
        """Layers with a partner in which each has parameters of the other only, in the order of the first's calls."""
        partners = one_to_one(pairs)
        orders = {pair.first.layer: pair.order for pair in pairs if pair.order}
        steps = {step.layer: (number, step) for number, step in enumerate(second.steps)}
        for number, step in enumerate(first.steps):
            partner = partners.get(step.layer)
            if partner in steps:
                other, theirs = steps[partner]
                stages = [self.first.array("trace", f"step.{number}.{stage}") for stage in range(step.outputs)]
                others = [self.second.array("trace", f"step.{other}.{stage}") for stage in range(theirs.outputs)]
                points = [point("output", *each, limit) for each in itertools.product(stages, others)]
                if not points:
                    continue
                output = min(points, key=lambda each: np.inf if each.error is None else each.error)
                given, order = None, None
                if step.has_input and theirs.has_input:
                    files = (f"step.{number}.input", f"step.{other}.input")
                    mine, its = (
                        model.array("trace", file) for model, file in zip((self.first, self.second), files, strict=True)
                    )
                    given = point("input", mine, its, limit)
                    if given.error is None and mine.shape != its.shape:  # padded by a layer of its own in one
                        given = None
                    elif not given.ok and (found := reordered(mine, its, step, theirs, limit)):
                        given, order = found
                yield LayerPoint(step.layer, partner, given, output, order, step.layer in orders)

    def _gradients(self, compared: Comparison, depth: float) -> None:
        replies = [
            model.ask(messages.Differentiate(str(model.folder / "gradients"))) for model in (self.first, self.second)
        ]
        for label, reply in zip(self.labels, replies, strict=True):
            if reply.left_out:
                compared.left_out.append(f"gradients: of {label} {reply.left_out}")
                return
        places = [{name: number for number, name in enumerate(reply.names)} for reply in replies]
        found, largest = [], 0.0
        for pair in compared.pairs:
            has = pair.first.name in places[0], pair.second.name in places[1]
            if all(has):
                numbers = places[0][pair.first.name], places[1][pair.second.name]
                its = self.second.array("gradients", numbers[1])
                largest = max(largest, float(np.linalg.norm(np.ravel(its))))
                noise = MOVED * max(reply.noise[number] for reply, number in zip(replies, numbers, strict=True))
                found.append((pair, pair.carried(self.first.array("gradients", numbers[0])), its, noise))
            elif any(has) and pair.first.trainable and pair.second.trainable:
                note = f"only {self.labels[has.index(True)]} has one"
                compared.gradients.append(Point(pair.first.name, None, parity.LOOSE["gradient"], note))
        for pair, mine, its, noise in found:
            compared.gradients.append(gradient_point(pair.first.name, mine, its, depth, noise + SHARE * largest))


def varied(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values near a constant, of its sign: zeros and ones, as of a new BatchNorm, would hide differences."""
    constant, noise = values.flat[0], rng.standard_normal(values.shape, dtype=np.float32).clip(-3, 3) * np.float32(0.1)
    return noise if constant == 0 else constant * (1 + noise)


def nearest(found: np.ndarray, expected: np.ndarray) -> float | None:
    """Relative L2 of two arrays, also with channels first and last; None if no layout fits or a value is not finite."""
    turns = [tuple(range(found.ndim)), *TURNS.get(found.ndim, [])]
    turned = [found.transpose(axes) for axes in turns]
    errors = [reference.difference(each, expected)["error"] for each in turned if each.shape == expected.shape]
    finite = [error for error in errors if np.isfinite(error)]
    return min(finite, default=None)


def point(what: str, found: np.ndarray, expected: np.ndarray, limit: float) -> Point:
    """Compare two arrays in any layout."""
    error, note = nearest(found, expected), ""
    if error is None:
        alike = sorted(found.shape) == sorted(expected.shape)
        note = "not finite" if alike else f"shapes {found.shape} and {expected.shape}"
    return Point(what, error, limit, note)


def gradient_point(what: str, found: np.ndarray, expected: np.ndarray, depth: float, noise: float) -> Point:
    """Compare gradients: relative L2, and the norm, which a flipped ReLU hardly changes. ``noise`` is allowed."""
    limit, most = min(WIDEST, parity.LOOSE["gradient"] * depth), parity.LOOSE["norm"] * depth
    if found.shape != expected.shape or not np.isfinite(found.sum() + expected.sum()):
        return Point(what, None, limit, "not finite" if found.shape == expected.shape else "other shapes")
    off = reference.difference(found, expected)
    noise /= float(np.linalg.norm(np.ravel(expected))) or 1.0
    if off["error"] <= limit + noise and off["norm"] > most + noise:
        return Point(f"norm of {what}", off["norm"], most + noise)
    return Point(what, off["error"], limit + noise)


def one_to_one(pairs: Sequence[Pair]) -> dict[str, str]:
    """The second model's layer by the first's, where each has parameters of the other only."""
    partners: dict[str, set[str]] = {}
    backwards: dict[str, set[str]] = {}
    for pair in pairs:
        partners.setdefault(pair.first.layer, set()).add(pair.second.layer)
        backwards.setdefault(pair.second.layer, set()).add(pair.first.layer)
    single = {first: next(iter(others)) for first, others in partners.items() if len(others) == 1}
    return {first: second for first, second in single.items() if len(backwards[second]) == 1}


def reordered(
    mine: np.ndarray, its: np.ndarray, step: TracedStep, theirs: TracedStep, limit: float
) -> tuple[Point, Order] | None:
    """The order in which flat inputs of a layer agree, channels first in one and last in the other; None if in none."""
    if mine.ndim != 2 or mine.shape != its.shape:
        return None
    orders = [Order(tuple(grid), axes) for grid in step.grids for axes in FLATTENED]
    for grid, axes in itertools.product(theirs.grids, FLATTENED):
        orders.append(Order(tuple(grid[place] for place in np.argsort(axes)), axes))
    for order in dict.fromkeys(orders):
        found = order.applied(mine.T).T
        if (compared := point("input", found, its, limit)).ok:
            return compared, order
    return None
