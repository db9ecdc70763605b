"""Compare a model with its port, each in a Worker: on the same weights and inputs outputs, layers, training."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from bench import UsageError
from bench.cases.case import Case
from bench.controller import parity
from bench.controller.agreement import (
    DEPTH,
    MOVED,
    Point,
    change_point,
    gradient_point,
    matched,
    nearest,
    point,
    reordered,
)
from bench.controller.comparison import Comparison, LayerPoint
from bench.controller.pairing import Pair
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import Team
from bench.controller.worker_process import WorkerDied, WorkerProcess
from bench.machine.scratch import scratch_folder
from bench.worker import messages
from bench.worker import port as worker_port
from bench.worker.guest import Guest
from bench.worker.messages import Request
from bench.worker.replies import TracedModel
from impls.port import Parameter

R = TypeVar("R")

SAME_INPUTS = 1e-6


@dataclass(frozen=True)
class Side:
    """One of the two models: its name in messages, and the Case of which its Worker is started."""

    label: str
    case: Case
    guest: Guest


class Model:
    """A model in its Worker. ``folder`` has what it wrote. ``ask`` raises UsageError in its name."""

    def __init__(self, side: Side, settings: WorkerSettings, name: str, scratch: Path):
        self.side, self.folder = side, scratch / name
        for kind in ("parameters", "given", "trace", "training"):
            (self.folder / kind).mkdir(parents=True)
        self.process: WorkerProcess | Team = settings.launch(name, side.case, scratch / "workers")

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
            without = [label for label, each in zip(self.labels, (first, second), strict=True) if not each.calls]
            why = f"none with parameters in {' and '.join(without)}" if without else "none has a partner"
            compared.left_out.append(f"layers: {why}")
        compared.training = [
            Point(pair.first.name, None, 0.0, "trainable in {}, not in {}".format(*self._in_turn(pair.first.trainable)))
            for pair in pairs
            if pair.first.trainable != pair.second.trainable
        ]
        if all(point.ok for point in compared.outputs):
            self._train(compared, depth)
        else:
            compared.left_out.append("gradients and state: the outputs differ already")
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
        if len(first.inputs) != len(second.inputs):
            counts = f"{len(first.inputs)} and {len(second.inputs)}"
            raise UsageError(
                f"--net: the numbers of inputs of {self.labels[0]} and {self.labels[1]} differ ({counts}): "
                "expected the same values from `inputs(batch)` in both files, or from neither"
            )
        for numbers in matched(first.inputs, second.inputs):
            one, other = self._arrays("input", numbers)
            off = nearest(one, other)
            if off is None or off > SAME_INPUTS:
                found = f"shapes {one.shape} and {other.shape}" if off is None else f"values, off by {off:.0e}"
                seed = "" if off is None else "; seed its random numbers"
                raise UsageError(
                    f"--net: {_named('input', first, second, numbers)} differs between {self.labels[0]} and "
                    f"{self.labels[1]} ({found}): expected the same values from `inputs(batch)` in both files, or from "
                    f"neither{seed}"
                )

    def _outputs(self, first: TracedModel, second: TracedModel, limit: float) -> Iterator[Point]:
        for numbers in matched(first.outputs, second.outputs):
            yield point(_named("output", first, second, numbers), *self._arrays("output", numbers), limit)
        if len(first.outputs) != len(second.outputs):
            yield Point("outputs", None, limit, f"{len(first.outputs)} and {len(second.outputs)} of them")

    def _arrays(self, kind: str, numbers: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        return self.first.array("trace", f"{kind}.{numbers[0]}"), self.second.array("trace", f"{kind}.{numbers[1]}")

    def _in_turn(self, first: bool) -> tuple[str, str]:
        """The labels, that of the first model first or last."""
        return self.labels if first else (self.labels[1], self.labels[0])

    def _layers(
        self, first: TracedModel, second: TracedModel, pairs: Sequence[Pair], limit: float
    ) -> Iterator[LayerPoint]:
        """Layers with a partner in which each has parameters of the other only, in the order of the first's calls."""
        partners = one_to_one(pairs)
        orders = {pair.first.layer: pair.order for pair in pairs if pair.order}
        calls = {call.layer: (number, call) for number, call in enumerate(second.calls)}
        for number, call in enumerate(first.calls):
            partner = partners.get(call.layer)
            if partner in calls:
                other, theirs = calls[partner]
                stages = [self.first.array("trace", f"call.{number}.{stage}") for stage in range(call.outputs)]
                others = [self.second.array("trace", f"call.{other}.{stage}") for stage in range(theirs.outputs)]
                points = [point("output", *each, limit) for each in itertools.product(stages, others)]
                if not points:
                    continue
                output = min(points, key=lambda each: np.inf if each.error is None else each.error)
                given, order = None, None
                if call.has_input and theirs.has_input:
                    files = (f"call.{number}.input", f"call.{other}.input")
                    mine, its = (
                        model.array("trace", file) for model, file in zip((self.first, self.second), files, strict=True)
                    )
                    given = point("input", mine, its, limit)
                    if given.error is None and mine.shape != its.shape:  # padded by a layer of its own in one
                        given = None
                    elif not given.ok and (found := reordered(mine, its, call, theirs, limit)):
                        given, order = found
                yield LayerPoint(call.layer, partner, given, output, order, call.layer in orders)

    def _train(self, compared: Comparison, depth: float) -> None:
        """Compare a pass in training mode: gradients, and the changes of state."""
        replies = [
            model.ask(messages.Differentiate(str(model.folder / "training"))) for model in (self.first, self.second)
        ]
        reasons = [reply.left_out for reply in replies]
        if sorted(reasons) == ["", worker_port.RANDOM]:
            one, other = self._in_turn(bool(reasons[0]))
            compared.training.append(Point(f"{one} {worker_port.RANDOM}", None, 0.0, f"{other} is not"))
        told = [f"{label} {why}" for label, why in zip(self.labels, reasons, strict=True) if why]
        if told:
            compared.left_out.append(f"gradients and state: {' and '.join(told)}")
            return
        places = [{name: number for number, name in enumerate(reply.names)} for reply in replies]
        found, largest = [], 0.0
        for pair in compared.pairs:
            has = pair.first.name in places[0], pair.second.name in places[1]
            if pair.first.trainable != pair.second.trainable:
                continue
            if all(has):
                numbers = places[0][pair.first.name], places[1][pair.second.name]
                its = self.second.array("training", numbers[1])
                if pair.first.trainable:
                    largest = max(largest, float(np.linalg.norm(np.ravel(its))))
                noise = MOVED * max(reply.noise[number] for reply, number in zip(replies, numbers, strict=True))
                found.append((pair, pair.carried(self.first.array("training", numbers[0])), its, noise))
            elif any(has):
                note = f"only {self.labels[has.index(True)]} has one"
                compared.gradients.append(Point(pair.first.name, None, parity.LOOSE["gradient"], note))
        for pair, mine, its, noise in found:
            name = pair.first.name
            if pair.first.trainable:
                made, points = gradient_point(name, mine, its, depth, noise, largest), compared.gradients
            else:
                made, points = change_point(name, mine, its, depth, noise), compared.state
            if made:
                points.append(made)
            else:
                compared.undecided.append(name)


def _named(kind: str, first: TracedModel, second: TracedModel, numbers: tuple[int, int]) -> str:
    """An input or output by the key that both have for it, else by its number."""
    names = [getattr(model, f"{kind}s")[number] for model, number in zip((first, second), numbers, strict=True)]
    keyed = names[0] == names[1] and not names[0].isdigit()
    return f"{kind} {names[0] if keyed and names[0] else numbers[0] + 1}"


def varied(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values near a constant, of its sign: zeros and ones, as of a new BatchNorm, would hide differences."""
    constant, noise = values.flat[0], rng.standard_normal(values.shape, dtype=np.float32).clip(-3, 3) * np.float32(0.1)
    return noise if constant == 0 else constant * (1 + noise)


def one_to_one(pairs: Sequence[Pair]) -> dict[str, str]:
    """The second model's layer by the first's, where each has parameters of the other only."""
    partners: dict[str, set[str]] = {}
    backwards: dict[str, set[str]] = {}
    for pair in pairs:
        partners.setdefault(pair.first.layer, set()).add(pair.second.layer)
        backwards.setdefault(pair.second.layer, set()).add(pair.first.layer)
    single = {first: next(iter(others)) for first, others in partners.items() if len(others) == 1}
    return {first: second for first, second in single.items() if len(backwards[second]) == 1}
