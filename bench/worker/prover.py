"""Read what the passes of a Net computed and compare it with the reference: before timing, and of timed iterations."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker import steps
from bench.worker.batches import ParityBatch
from bench.worker.checks import distance, flat, is_finite
from bench.worker.replies import Check, CheckKind, FrameworkConditions, GradientCount, Output, Reading
from impls.net import Gradients, Sgd, Trained
from impls.weights import Weights

#: The method of a Net that computes an output.
METHODS = {Output.LOGITS: "forward", Output.GRADIENTS: "forward_backward", Output.TRAINED: "train_step"}
COPIED = 2**24  # bytes, of which the time of a copy is measured
SAME_BATCH = "two passes in a row computed the same batch: a Net alternates the two that it is given"


@dataclass(frozen=True)
class Values:
    """Values read from the handles of a pass: logits, loss and gradients, or what a training step left."""

    logits: np.ndarray | None = None
    loss: float = 0.0
    gradients: Gradients = field(default_factory=dict)
    trained: Trained | None = None

    @functools.cached_property
    def infinite(self) -> frozenset[str]:
        """Names of gradients with a value that is not finite."""
        return frozenset(name for name, array in flat(self.gradients).items() if not is_finite(array))

    @property
    def first(self) -> float:
        """The number that ``fetch`` copies: of the output, or of the gradient that is computed last."""
        if self.logits is not None:
            return float(self.logits.flat[0])
        arrays = self.trained.velocity if self.trained else self.gradients
        layer = next((name for name in arrays if name != "input"), "input")
        return float(next(iter(arrays[layer].values())).flat[0])

    def named(self) -> dict[str, Any]:
        """Arrays by the names of their files."""
        if self.logits is not None:
            return {"logits": self.logits}
        return {"loss": np.float32(self.loss), **flat(self.gradients)}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        if self.trained:
            read = (self.trained.parameters, self.trained.velocity)
            return sum(array.nbytes for kind in read for arrays in kind.values() for array in arrays.values())
        return sum(np.asarray(array).nbytes for array in self.named().values())


class Prover:
    """Proves one Net with two batches of a parity set, which it loads; ``composed`` makes those of a seed.

    A model that makes its own inputs has none, and is loaded without. ``weights`` are those that the Net was built
    with.
    """

    def __init__(self, net: Any, weights: Weights, composed: Callable[[int], list[ParityBatch]]):
        self.net, self.weights, self.composed = net, weights, composed
        self.batches: list[ParityBatch] = []

    def load(self, seed: int, *, labeled: bool = False) -> None:
        """Load the batches of a seed, with their labels if ``labeled``."""
        self.batches = self.composed(seed)
        pair = [batch.images() for batch in self.batches]
        self.net.load(pair * 2 if len(pair) == 1 else pair)
        if labeled:
            labels = [batch.labels for batch in self.batches]
            self.net.label(labels * 2 if len(labels) == 1 else labels)

    def read(self, output: Output, handles: Any, *, whole: bool = False) -> Values:
        """Read handles of a pass; unless ``whole``, gradients may be views in the Net's own layout."""
        if output == Output.LOGITS:
            return Values(logits=self.net.logits(handles))
        if output == Output.TRAINED:
            return Values(trained=self.net.trained(handles))
        gradients_of = self.net.gradients if whole else getattr(self.net, "gradient_views", self.net.gradients)
        loss, gradients = gradients_of(handles)
        return Values(loss=loss, gradients=gradients)

    def compare(self, values: Values, thorough: bool, made: int = 1) -> tuple[int, list[Check]]:
        """The batch that the values are nearest to, and the checks against that; of a training step, the last of those
        ``made`` since the restart."""
        if values.trained:
            return steps.checks(values.trained, self.weights, self.batches, made, steps.TIMED)
        state = self.net.state() if values.logits is not None else {}
        by_batch = [
            batch.gradient_checks(values.loss, values.gradients, False, values.infinite)
            if values.logits is None
            else batch.logits_checks(values.logits, state)
            for batch in self.batches
        ]
        number, checks = min(enumerate(by_batch), key=lambda each: distance(each[1]))
        if thorough and values.logits is None:
            checks = self.batches[number].gradient_checks(values.loss, values.gradients, True, values.infinite)
        return number, checks

    def prove(self, output: Output, thorough: bool, keep: Path | None) -> tuple[list[Check], GradientCount | None]:
        """Compare a pass on each batch, one after the other; save the values of the first batch in ``keep``.

        Returns the worse check of each array, and for a training pass the number of its gradients.
        """
        if output == Output.TRAINED:
            return [*self._prove_step(thorough), *self._prove_velocity(thorough)], None
        worst: dict[str, Check] = {}
        count = None
        seen: set[int] = set()
        for _ in self.batches:
            before = self.net.state()
            handles = getattr(self.net, METHODS[output])()
            self.net.wait(handles)
            values = self.read(output, handles, whole=thorough or keep is not None)
            number, checks = self.compare(values, thorough)
            batch = self.batches[number]
            if output == Output.GRADIENTS:
                count = batch.count(values.gradients, not values.infinite)
                checks += batch.state_checks(before, self.net.state())
            if number in seen and distance(checks) < np.inf:
                checks.append(Check(CheckKind.FAULT, SAME_BATCH, None))
            seen.add(number)
            for check in checks:
                other = worst.setdefault(check.what, check)
                if other.error is not None and (check.error is None or check.error > other.error):
                    worst[check.what] = check
            if keep is not None and number == 0:
                for name, array in (values.named() | {"input": batch.images()}).items():
                    np.save(keep / f"{name}.npy", array)
        return list(worst.values()), count

    def _prove_step(self, thorough: bool) -> list[Check]:
        """One training step: the change of every parameter, and the moving statistics."""
        before = self.net.state()
        values = self._steps(1, steps.PROVEN)
        number, checks = steps.checks(
            values, self.weights, self.batches, 1, steps.PROVEN, change=True, thorough=thorough
        )
        return checks + self.batches[number].state_checks(before, self.net.state())

    def _prove_velocity(self, thorough: bool) -> list[Check]:
        """Several training steps: the velocity of every parameter."""
        values = self._steps(steps.STEPS, steps.PROVEN_VELOCITY)
        _, checks = steps.checks(
            values, self.weights, self.batches, steps.STEPS, steps.PROVEN_VELOCITY, thorough=thorough
        )
        return checks

    def _steps(self, count: int, sgd: Sgd) -> Trained:
        self.net.restart(sgd)
        for _ in range(count):
            handles = self.net.train_step()
            self.net.wait(handles)
        trained: Trained = self.net.trained(handles)
        return trained

    def reading(
        self,
        iteration: int,
        handles: Any,
        output: Output | None,
        settings: FrameworkConditions,
        following: Callable[[], Any] | None = None,
    ) -> Reading:
        """Read a timed iteration: compare ``output``, or of an output that cannot be known require finite values.

        The pass ``following``, which is not timed, must be of the other batch. Training steps, all from a restart on,
        show their order themselves.
        """
        if output is None:
            began = time.perf_counter_ns()
            finite = all(np.isfinite(total) for total in _totals(handles))
            fault = "" if finite else "its output is not finite"
            return Reading(iteration, None, [], fault, time.perf_counter_ns() - began, 0, settings)
        began = time.perf_counter_ns()
        values = self.read(output, handles)
        read_ns = time.perf_counter_ns() - began
        batch, checks = self.compare(values, False, iteration + 1)
        size = values.nbytes
        fault = self._fetch_fault(values, handles)
        if following and values.trained is None and not fault and self._repeats(batch, values.first, output, following):
            fault = SAME_BATCH
        return Reading(iteration, batch, checks, fault, read_ns, _copy_ns(size), settings)

    def _repeats(self, batch: int, first: float, output: Output, run: Callable[[], Any]) -> bool:
        """Whether a pass computes ``batch`` again, whose number of ``fetch`` is ``first``; all is read if it may."""
        handles = run()
        self.net.wait(handles)
        number = self.net.fetch(handles) if self._fetches else first
        if np.isfinite(number) and not np.isclose(number, first, rtol=1e-2):
            return False
        return self.compare(self.read(output, handles), thorough=False)[0] == batch

    @property
    def _fetches(self) -> bool:
        """Whether the net has a ``fetch`` of its own."""
        return "fetch" not in getattr(self.net, "filled", ())

    def _fetch_fault(self, values: Values, handles: Any) -> str:
        """A ``fetch`` that does not copy the number it has to, so that it proves nothing of ``wait``."""
        if not self._fetches:
            return ""
        copied = self.net.fetch(handles)
        if isinstance(copied, float) and np.isclose(copied, values.first, rtol=1e-2, equal_nan=True):
            return ""
        return f"its fetch returned {copied!r:.40}, expected the number computed last, {values.first:.6g}"


def _copy_ns(size: int) -> int:
    """How long copying so many bytes takes in this process, now."""
    source = np.ones(COPIED, np.uint8)
    began = time.perf_counter_ns()
    source.copy()
    return (time.perf_counter_ns() - began) * size // COPIED


def _totals(handles: Any) -> Iterator[float]:
    """The sum of every array in the handles of a net that nothing is known of; of other objects nothing."""
    if isinstance(handles, dict):
        handles = list(handles.values())
    if isinstance(handles, list | tuple):
        for handle in handles:
            yield from _totals(handle)
    elif callable(getattr(handles, "detach", None)):  # a tensor of torch, whose bf16 numpy does not have
        yield float(handles.detach().float().sum())
    elif isinstance(handles, float) or hasattr(handles, "__array__"):
        yield float(np.sum(np.asarray(handles), dtype=np.float64))
