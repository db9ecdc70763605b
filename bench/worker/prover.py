"""Read what the passes of a Net computed and compare it with the reference: before timing, and of timed iterations."""

import functools
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker import steps
from bench.worker.batches import ParityBatch
from bench.worker.checks import distance, flat, is_finite
from bench.worker.replies import Check, CheckKind, FrameworkConditions, GradientCount, Output, Reading
from bench.worker.team_batches import TeamBatch
from impls.net import Gradients, Sgd, Trained
from impls.weights import Weights

#: The method of a Net that computes an output.
METHODS = {
    Output.LOGITS: "forward",
    Output.GRADIENTS: "forward_backward",
    Output.TRAINED: "train_step",
    Output.OWN: "apart",
    Output.REDUCED: "all_reduce",
}
COPIED = 2**24  # bytes, of which the time of a copy is measured
LEFT = "its gradients are of one batch and its loss is of the other: they are left from the pass before"
SAME_BATCH = "two passes in a row computed the same batch: a Net alternates the two that it is given"


@dataclass(frozen=True)
class Values:
    """Values read from the handles of a pass: logits, loss and gradients, what a training step left, or of a rank of a
    Team the sum over all ranks; ``apart`` are gradients of a rank's own batch."""

    logits: np.ndarray | None = None
    loss: float = 0.0
    gradients: Gradients = field(default_factory=dict)
    trained: Trained | None = None
    reduced: np.ndarray | None = None
    apart: bool = False

    @functools.cached_property
    def infinite(self) -> frozenset[str]:
        """Names of gradients with a value that is not finite."""
        return frozenset(name for name, array in flat(self.gradients).items() if not is_finite(array))

    def first(self, filter_: int = 0) -> float:
        """The number that ``fetch`` copies: of the output, or of the gradient that is computed last, whose last axis is
        that of the filters."""
        for array in (self.logits, self.reduced):
            if array is not None:
                return float(array.flat[0])
        arrays = self.trained.velocity if self.trained else self.gradients
        layer = next((name for name in arrays if name != "input"), "input")
        return float(next(iter(arrays[layer].values())).flat[filter_])

    def named(self) -> dict[str, Any]:
        """Arrays by the names of their files."""
        if self.logits is not None:
            return {"logits": self.logits}
        if self.reduced is not None:
            return {"reduced": self.reduced}
        return {"loss": np.float32(self.loss), **flat(self.gradients)}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        if self.trained:
            read = (self.trained.parameters, self.trained.velocity)
            return sum(array.nbytes for kind in read for arrays in kind.values() for array in arrays.values())
        return sum(np.asarray(array).nbytes for array in self.named().values())

    def digest(self, before: str = "") -> str:
        """Hash of what a reduction left, which follows one of others: it is the same on every rank of a Team.

        It covers every bit of all gradients, or of all parameters and velocities, or of the sum; no loss, which is that
        of the rank's own batch.
        """
        kinds = (self.trained.parameters, self.trained.velocity) if self.trained else (self.gradients,)
        named = [(f"{layer}/{name}", kind[layer][name]) for kind in kinds for layer in kind for name in kind[layer]]
        if self.reduced is not None:
            named = [("", self.reduced)]
        crc = int(before or "0", 16)
        for name, array in sorted(named, key=lambda pair: pair[0]):  # stable: parameters come before velocities
            crc = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(name.encode(), crc))
        return f"{crc:08x}"


class Prover:
    """Proves one Net with two batches of a parity set, which it loads; ``composed`` makes those of a seed.

    A model that makes its own inputs has none, and is loaded without. ``weights`` are those that the Net was built
    with. ``digests`` are those of what was proven of a rank of a Team, by output.
    """

    def __init__(self, net: Any, weights: Weights, composed: Callable[[int], Sequence[ParityBatch]]):
        self.net, self.weights, self.composed = net, weights, composed
        self.batches: list[ParityBatch] = []
        self.digests: dict[Output, str] = {}

    def load(self, seed: int, *, labeled: bool = False) -> None:
        """Load the batches of a seed, with their labels if ``labeled``."""
        self.batches = list(self.composed(seed))
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
        if output == Output.REDUCED:
            return Values(reduced=self.net.reduced(handles))
        if output == Output.OWN:
            loss, gradients = self.net.own_gradients(handles)
            return Values(loss=loss, gradients=gradients, apart=True)
        gradients_of = self.net.gradients if whole else getattr(self.net, "gradient_views", self.net.gradients)
        loss, gradients = gradients_of(handles)
        return Values(loss=loss, gradients=gradients)

    def compare(self, values: Values, thorough: bool, made: int = 1) -> tuple[int | None, list[Check]]:
        """The batch that the values are nearest to, and the checks against that; of a training step, the last of those
        ``made`` since the restart. The sum of patterns is of no batch."""
        if values.trained:
            return steps.checks(values.trained, self.weights, self.batches, made, steps.TIMED)
        if values.reduced is not None:
            return None, self.team[0].reduced_checks(values.reduced, thorough)
        batches = [batch.apart for batch in self.team] if values.apart else self.batches
        state = self.net.state() if values.logits is not None else {}
        by_batch = [
            batch.gradient_checks(values.loss, values.gradients, False, values.infinite)
            if values.logits is None
            else batch.logits_checks(values.logits, state)
            for batch in batches
        ]
        number, checks = min(enumerate(by_batch), key=lambda each: distance(each[1]))
        if thorough and values.logits is None:
            checks = batches[number].gradient_checks(values.loss, values.gradients, True, values.infinite)
        if self.team and values.gradients and not values.apart:
            first, second = self.team if number == 0 else reversed(self.team)
            stale = LEFT if second.has_loss(values.loss) and not first.has_loss(values.loss) else ""
            if why := first.misreduced(values.gradients, second) or stale:
                checks = [*checks, Check(CheckKind.FAULT, why, None)]
        return number, checks

    @property
    def team(self) -> list[TeamBatch]:
        """The batches of a rank of a Team; none of a lone Net."""
        return [batch for batch in self.batches if isinstance(batch, TeamBatch)]

    def digest(self, output: Output, values: Values, before: str = "") -> str:
        """The digest of what a rank of a Team holds after a reduction; empty without one."""
        reduced = output in (Output.GRADIENTS, Output.TRAINED, Output.REDUCED)
        return values.digest(before) if self.team and reduced else ""

    def prove(self, output: Output, thorough: bool, keep: Path | None) -> tuple[list[Check], GradientCount | None]:
        """Compare a pass on each batch, one after the other; save the values of the first batch in ``keep``.

        Returns the worse check of each array, and for a training pass the number of its gradients.
        """
        if output == Output.TRAINED:
            self.digests.pop(output, None)
            return [*self._prove_step(thorough), *self._prove_velocity(thorough)], None
        worst: dict[str, Check] = {}
        count, digest = None, ""
        seen: set[int] = set()
        for _ in self.batches:
            before = self.net.state()
            handles = getattr(self.net, METHODS[output])()
            self.net.wait(handles)
            values = self.read(output, handles, whole=thorough or keep is not None)
            number, checks = self.compare(values, thorough)
            digest = self.digest(output, values, digest)
            batch = self.batches[number or 0]
            if output in (Output.GRADIENTS, Output.OWN):
                count = batch.count(values.gradients, not values.infinite)
                checks += batch.state_checks(before, self.net.state())
            if number in seen and distance(checks) < np.inf:
                checks.append(Check(CheckKind.FAULT, SAME_BATCH, None))
            if number is not None:
                seen.add(number)
            for check in checks:
                other = worst.setdefault(check.what, check)
                if other.error is not None and (check.error is None or check.error > other.error):
                    worst[check.what] = check
            if keep is not None and number == 0:
                for name, array in (values.named() | {"input": batch.images()}).items():
                    np.save(keep / f"{name}.npy", array)
        if digest:
            self.digests[output] = digest
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
        if digest := self.digest(Output.TRAINED, Values(trained=trained), self.digests.get(Output.TRAINED, "")):
            self.digests[Output.TRAINED] = digest
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
        size, digest = values.nbytes, self.digest(output, values)
        copied = self.net.fetch(handles) if self._fetches else self._first(values)
        fault = self._fetch_fault(values, copied)
        repeatable = batch is not None and values.trained is None
        ready = repeatable and (self.team or not fault)  # ranks of a Team must make the same passes
        if following and ready and self._repeats(batch, copied, output, following):
            fault = fault or SAME_BATCH
        return Reading(iteration, batch, checks, fault, read_ns, _copy_ns(size), settings, digest)

    def _repeats(self, batch: int | None, first: float, output: Output, run: Callable[[], Any]) -> bool:
        """Whether a pass computes ``batch`` again, whose number of ``fetch`` is ``first``; all is read if it may."""
        handles = run()
        self.net.wait(handles)
        number = self.net.fetch(handles) if self._fetches else first
        if np.isfinite(number) and not np.isclose(number, first, rtol=1e-2) and not self._shared:
            return False
        return self.compare(self.read(output, handles), thorough=False)[0] == batch

    @property
    def _fetches(self) -> bool:
        """Whether the net has a ``fetch`` of its own."""
        return "fetch" not in getattr(self.net, "filled", ())

    def _fetch_fault(self, values: Values, copied: Any) -> str:
        """A ``fetch`` that does not copy the number it has to, so that it proves nothing of ``wait``."""
        if not self._fetches:
            return ""
        expected = self._first(values)
        if isinstance(copied, float) and np.isclose(copied, expected, rtol=1e-2, equal_nan=True):
            return ""
        return f"its fetch returned {copied!r:.40}, expected the number computed last, {expected:.6g}"

    def _first(self, values: Values) -> float:
        return values.first(getattr(self.net, "first_filter", 0))

    @property
    def _shared(self) -> bool:
        """Whether ranks share the net, and send each other what they have of an output when it is read: all of them
        read it, or none."""
        return hasattr(self.net, "first_filter")


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
