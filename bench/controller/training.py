"""Train one framework's Net on stored pictures, epoch by epoch; every epoch ends with an evaluation and a checkpoint.

The order of the pictures, their crops and the initial weights are the same in every framework. What is computed is
proven equal step by step (``verify``); whole trainings part once rounding decides differently, and dropout draws its
own masks in each framework.
"""

import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bench import UsageError
from bench.cases.case import Case
from bench.controller.pool import WorkerPool
from bench.controller.settings import build_of
from bench.record.training import Checkpoint, Epoch, Result
from bench.worker.messages import BuildNet, ComputeLogits, SaveTrained, StartTraining, Train
from bench.worker.pixels import Stored
from impls import reference
from impls.net import Sgd
from impls.preprocessing import Preprocessing, principal_colors
from impls.variants import Variant
from impls.weights import Weights, map_shared, write_shared

CHUNK_S = 0.5  # of work per request: how often progress is shown and Ctrl-C heard


class Diverged(Exception):
    """A value that is not finite: which, and in which epoch and step."""


class Watcher(Protocol):
    """Told of every request's steps: how many of the epoch are done, the mean loss so far, images per second."""

    def on_steps(self, framework: str, epoch: int, done: int, total: int, loss: float, images_per_s: float) -> None: ...


@dataclass(frozen=True)
class Training:
    """What one framework is to do: ``case`` says in which Worker, ``epochs`` which ones."""

    case: Case
    variant: Variant
    start: Checkpoint
    epochs: range
    sgd: Sgd
    frozen: tuple[str, ...]
    preprocessing: Preprocessing
    pictures: Path
    stored: Stored

    def run(self, pool: WorkerPool, watcher: Watcher) -> Iterator[Checkpoint]:
        """Yield the checkpoint of each epoch; raises Diverged, WorkerDied, UsageError."""
        with tempfile.TemporaryDirectory(dir=pool.scratch) as scratch:
            folder = Path(scratch)
            self._start(pool, folder)
            for epoch in self.epochs:
                began = time.perf_counter()
                loss, images_per_s = self._train(pool, epoch, watcher)
                held_out_loss, predicted = self._evaluate(pool, folder)
                right = float(np.mean(predicted == self.stored.labels[self.stored.held_out]))
                facts = held_out_loss, right, len(predicted), images_per_s, time.perf_counter() - began
                found = Epoch(self.case.framework, epoch, loss, *facts)
                if not np.isfinite(held_out_loss):
                    raise Diverged(f"the held-out loss is not finite after epoch {epoch}")
                yield self._checkpoint(pool, folder, Result(found, self._predictions(predicted)))

    def _start(self, pool: WorkerPool, folder: Path) -> None:
        try:
            write_shared(self.start.weights, folder / "weights")
            if self.start.velocity:
                write_shared(self.start.velocity, folder / "velocity")
        except OSError as error:
            why = error.strerror or error  # numpy's error has the number of bytes and no reason
            raise UsageError(f"cannot write the weights to {folder}: {why}; make room there, or set TMPDIR") from error
        # another seed of the dropout after a resume: the masks of the first epochs are not repeated
        seed = (self.case.seed + self.epochs.start - 1) % 2**63
        built = dataclasses.replace(build_of(self.case), dropout=True, seed=seed, frozen=self.frozen)
        build = BuildNet(self.case.variant, self.case.size, str(folder), built, classes=self.variant.classes)
        pool.ask(self.case, build)
        velocity = str(folder / "velocity") if self.start.velocity else None
        colors = colors_of(self.stored, self.preprocessing)
        how = self.sgd, self.case.seed, velocity, [] if colors is None else colors.tolist()
        pool.ask(self.case, StartTraining(str(self.pictures), self.preprocessing, *how))

    def _train(self, pool: WorkerPool, epoch: int, watcher: Watcher) -> tuple[float, float]:
        """Train for an epoch; the mean loss, and images per second."""
        batch, rows = self.case.batch, order(np.flatnonzero(~self.stored.held_out), self.case.seed, epoch)
        steps, per_request, losses = len(rows) // batch, 1, list[float]()
        began = time.perf_counter()
        while len(losses) < steps:
            first = len(losses)
            chunk = rows[first * batch : min(first + per_request, steps) * batch]
            for number, loss in enumerate(pool.ask(self.case, Train(chunk, epoch)), first + 1):
                if loss is None:
                    raise Diverged(f"the loss is not finite in epoch {epoch}, step {number} of {steps}")
                losses.append(loss)
            step_s = (time.perf_counter() - began) / len(losses)
            per_request = max(1, int(CHUNK_S / step_s))
            watcher.on_steps(self.case.framework, epoch, len(losses), steps, float(np.mean(losses)), batch / step_s)
        return float(np.mean(losses)), batch / step_s

    def _evaluate(self, pool: WorkerPool, folder: Path) -> tuple[float, np.ndarray]:
        """Mean cross-entropy on the held-out pictures, and their predicted classes."""
        rows = np.flatnonzero(self.stored.held_out)
        at_once = self.case.batch * max(1, 256 // self.case.batch)
        logits = []
        for first in range(0, len(rows), at_once):
            file = folder / "logits.npy"
            chunk = rows[first : first + at_once].tolist()
            # of the middle alone, also where predictions are averaged over ten crops
            middle = dataclasses.replace(self.preprocessing, crops=1)
            pool.ask(self.case, ComputeLogits(str(self.pictures), chunk, middle, str(file)))
            logits.append(np.load(file)[:, 0].astype(np.float64))
        found = np.concatenate(logits)
        loss, _ = reference.cross_entropy(found, self.stored.labels[rows])
        return loss, found.argmax(1)

    def _predictions(self, predicted: np.ndarray) -> list[tuple[int, int, int]]:
        pairs = zip(self.stored.labels[self.stored.held_out].tolist(), predicted.tolist(), strict=True)
        return [(*pair, count) for pair, count in sorted(Counter(pairs).items())]

    def _checkpoint(self, pool: WorkerPool, folder: Path, result: Result) -> Checkpoint:
        """What the Worker holds after the epoch; frozen layers are as they were."""
        with tempfile.TemporaryDirectory(dir=folder) as saved:
            trained, velocity = Path(saved, "trained"), Path(saved, "velocity")
            pool.ask(self.case, SaveTrained(str(trained), str(velocity)))
            found, moving = (_copied(map_shared(folder)) for folder in (trained, velocity))
        for layer, its in found.items():
            for name, array in its.items():
                if not np.isfinite(array).all():
                    raise Diverged(f"{layer}/{name} is not finite after epoch {result.epoch.epoch}")
        weights = {layer: its | found.get(layer, {}) for layer, its in self.start.weights.items()}
        return Checkpoint(weights, moving, result)


def _copied(arrays: Weights) -> Weights:
    return {layer: {name: np.array(array) for name, array in its.items()} for layer, its in arrays.items()}


def colors_of(stored: Stored, preprocessing: Preprocessing) -> np.ndarray | None:
    """Principal colors of the pictures to train on, (3, 3); None where nothing is varied by them."""
    if not preprocessing.color_noise:
        return None
    return principal_colors(stored.pictures[row] for row in np.flatnonzero(~stored.held_out))


def order(rows: np.ndarray, seed: int, epoch: int) -> list[int]:
    """Rows in the order of an epoch, equal for every version of NumPy as crops are."""
    keys = np.random.PCG64([seed, epoch]).random_raw(len(rows))
    shuffled: list[int] = rows[np.argsort(keys, kind="stable")].tolist()
    return shuffled
