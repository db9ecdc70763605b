"""The two batches of each rank of a Team, and the values expected of passes that are reduced over all ranks."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.worker.batches import ParityBatch, has_batch_statistics, shuffle, units_of, weighted
from bench.worker.checks import canonical_shape, check, flat, malformed, sampled_places
from bench.worker.replies import Check, CheckKind
from impls import reference
from impls.net import Gradients, pattern
from impls.variants import Variant
from impls.weights import Weights

#: Units of the parity set. Two ranks with one unit each have the same sum in both batches if there are only two.
TEAM_UNITS = 3
MISREDUCED = 0.1  # relative error above which a gradient is another than the sum, and of what it is instead
EVERY_RANK = "every rank has it"
CHUNK = 2**22  # values of a pattern that are made at a time


@dataclass(frozen=True, eq=False)
class TeamBatch(ParityBatch):
    """The batch of one rank of a Team, by whose passes gradients are summed, or averaged, over the images of all ranks.

    Loss, logits and moving statistics are those of the rank's own images. ``everyone`` are the numbers of the images of
    all ranks, sorted by rank but not by place: (world, batch).
    """

    everyone: np.ndarray

    @functools.cached_property
    def gradient_shares(self) -> np.ndarray:
        """How often each unit of images occurs in the batches of all ranks."""
        return self._shares(self.everyone.ravel())

    @functools.cached_property
    def apart(self) -> ParityBatch:
        """The batch of this rank alone, as of a pass without the reduction."""
        return ParityBatch(self.variant, self.weights, self.folder, self.target, self.order)

    def reduced_checks(self, found: np.ndarray, thorough: bool) -> list[Check]:
        """Compare the sum of all ranks' ``pattern``, unless ``thorough`` in some values."""
        kind, what, size = CheckKind.REDUCED, "sum over all ranks", self.variant.params
        if fault := malformed(found, (size,)):
            return [Check(kind, what + fault, None)]
        places = np.arange(size) if thorough else sampled_places(size)
        return [check(kind, what, found[places], pattern_sum(len(self.everyone), places))]

    def has_loss(self, loss: float) -> bool:
        """Whether this is the loss of the rank's own images, within 1 %."""
        return bool(np.isclose(loss, self.shares @ self.values("loss"), rtol=1e-2))

    def misreduced(self, gradients: Gradients, other: "TeamBatch") -> str:
        """What gradients are that are not the sums over all ranks; empty if they are, or are nothing that is known.

        ``other`` is the rank's other batch.
        """
        found: dict[str, list[str]] = {}
        for key, array in flat(gradients).items():
            _, layer, name = key.split(".", 2)
            shape = self.weights[layer][name].shape
            if canonical_shape(array.shape, shape) == shape and (what := self._likely(key, array, shape, other)):
                found.setdefault(what, []).append(f"{layer}/{name}")
        if not found:
            return ""
        what, names = max(found.items(), key=lambda each: len(each[1]))
        return f"{len(names)} of {len(self.wanted)} gradients, {names[0]} first, are {what}"

    def _likely(self, key: str, array: np.ndarray, shape: tuple[int, ...], other: "TeamBatch") -> str:
        """What a gradient is that is far from the sum over all ranks and near to something else."""
        values, stored = self._comparable(key, array, shape, False)
        error = reference.relative_l2(values, weighted(self.gradient_shares, stored))
        if not error > MISREDUCED:
            return ""
        world = len(self.everyone)
        known = {
            "those of this rank alone: nothing reduced them": (self.shares, self.shares * world),
            "the average over the ranks, not their sum": (self.gradient_shares / world,),
            "those of the other batch": (other.gradient_shares,),
            **{
                f"those of rank {rank}'s batch: {EVERY_RANK}": (self._shares(order) * world,)
                for rank, order in enumerate(self.everyone)
            },
        }
        errors = {
            what: min(reference.relative_l2(values, weighted(shares, stored)) for shares in each)
            for what, each in known.items()
        }
        nearest = min(errors, key=errors.__getitem__)
        return nearest if errors[nearest] < MISREDUCED * error else ""


def pattern_sum(world: int, places: np.ndarray) -> np.ndarray:
    """What ``all_reduce`` of so many ranks leaves at these places, float32."""
    total = np.zeros(len(places), np.float32)
    for first in range(0, len(places), CHUNK):
        part = slice(first, first + CHUNK)
        for rank in range(world):
            total[part] += pattern(rank, places[part])
    return total


def compose_team(
    variant: Variant, weights: Weights, folder: Path, target: str, batch: int, seed: int, rank: int, world: int
) -> list[TeamBatch]:
    """Two batches of each rank of a Team, ``batch`` images per rank, of which those of ``rank`` are returned.

    A rank's two batches differ, those of neighbors differ, and the sums over all ranks differ. No part of the ranks
    has the mean composition of all, so a reduction over such a part shows. Another seed gives another assignment.
    Raises ValueError for fewer than 2 ranks, and for a parity set of fewer than three units.
    """
    units, each = units_of(folder, target)
    if world < 2 or not 0 <= rank < world:
        raise ValueError(f"expected a rank of 2 or more, found rank {rank} of {world}")
    if units < TEAM_UNITS:
        raise ValueError(f"{folder}: a Team needs a parity set of {TEAM_UNITS} units, found {units}")
    rng = np.random.Generator(np.random.PCG64([seed, batch, world]))
    names = rng.permutation(TEAM_UNITS)
    majorities = (np.arange(world) + rng.integers(2)) % 2  # of the first batch; the second has each one's next unit
    if world > TEAM_UNITS:  # of fewer ranks no part has the mean of all anyway
        majorities[rng.integers(world)] = 2
    together = has_batch_statistics(variant)
    fewer = [[0 if together else _fewer(batch, majority, rng) for majority in majorities] for _ in range(2)]
    own = np.random.Generator(np.random.PCG64([seed, batch, world, rank]))
    batches = []
    for later, counts in enumerate(fewer):
        few = np.arange(batch) < np.array(counts)[:, None]
        numbers = np.where(few, majorities[:, None] == 0, majorities[:, None]) + later
        everyone = names[numbers % TEAM_UNITS] * each + np.arange(batch) % each
        batches.append(TeamBatch(variant, weights, folder, target, shuffle(everyone[rank], own), everyone))
    return batches


def _fewer(batch: int, majority: int, rng: np.random.Generator) -> int:
    """How many images of a rank's batch are of another unit than its majority."""
    if batch <= 2:
        return int(batch == 2 and majority == 1)
    return int(rng.integers(1, max(1, batch // 4), endpoint=True))
