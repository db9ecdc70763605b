"""Trainer: training steps of a Net on stored pictures. Nothing is timed here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker.messages import StartTraining
from bench.worker.pixels import map_stored
from impls.net import Gradients, Net, loss_of
from impls.preprocessing import augmented, color_shift
from impls.variants import Variant
from impls.weights import map_shared, shapes, write_shared


class Trainer:
    """Trains a Net, built with its initial weights, by the pass ``train_step`` that is timed."""

    def __init__(self, net: Net, variant: Variant, batch: int, request: StartTraining):
        self.net, self.variant, self.batch, self.seed = net, variant, batch, request.seed
        self.stored, self.preprocessing = map_stored(Path(request.pictures)), request.preprocessing
        self.colors = np.array(request.colors) if request.colors else None
        self.handles: Any = None
        net.restart(request.sgd, map_shared(Path(request.velocity)) if request.velocity else None)

    def train(self, rows: Sequence[int], epoch: int) -> list[float | None]:
        """A step per batch of these rows of the stored pictures; their losses, None and the last if not finite."""
        losses: list[float | None] = []
        for batch in self._batches(rows):
            self.net.load([self._augmented(batch, epoch)])
            self.net.label([self.stored.labels[batch].astype(np.int32)])
            self.handles = self.net.train_step()
            self.net.wait(self.handles)
            loss = loss_of(self.handles)
            losses.append(loss if np.isfinite(loss) else None)
            if losses[-1] is None:
                break
        return losses

    def _augmented(self, rows: Sequence[int], epoch: int) -> np.ndarray:
        size, noise, seed = self.preprocessing.size, self.preprocessing.color_noise, self.seed
        crops = np.stack([augmented(self.stored.pictures[row], size, seed, epoch, row) for row in rows])
        if self.colors is None:
            return self.preprocessing.normalized(crops)
        shifts = [color_shift(self.colors, noise, seed, epoch, row) for row in rows]
        return self.preprocessing.normalized(crops, np.stack(shifts))

    def save(self, weights: Path, velocity: Path) -> None:
        """Write what the last step left: parameters and moving statistics, and the velocity."""
        trained = self.net.trained(self.handles)
        for arrays, folder in (
            (trained.parameters, weights),
            (self.net.state(), weights),
            (trained.velocity, velocity),
        ):
            write_shared(self._canonical(arrays), folder)

    def _canonical(self, arrays: Gradients) -> Gradients:
        """In their own shapes: a kernel after a flatten may be (h, w, c, out)."""
        own = shapes(self.variant)
        return {
            layer: {name: array.reshape(own[layer][name]) for name, array in named.items()}
            for layer, named in arrays.items()
        }

    def _batches(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        return (rows[first : first + self.batch] for first in range(0, len(rows), self.batch))
