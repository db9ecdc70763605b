"""The two batches of the parity set, which a Net holds while it is timed, and the values expected of a pass on them."""

import dataclasses
import functools
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.worker.checks import (
    INFINITE,
    INPUT_GRADIENT,
    SAMPLED,
    canonical_shape,
    check,
    flat,
    malformed,
    misshapen,
    sampled,
    sampled_places,
)
from bench.worker.replies import Check, CheckKind, GradientCount
from impls import reference
from impls.layers import BatchNorm
from impls.net import Gradients, pattern
from impls.variants import Variant
from impls.weights import Weights

ORDERS = 64  # random orders of a batch, of which the best is taken
UNITS = 2  # of the parity set, of which the batches of a lone Net are composed
#: Those of a Team's batches. Two ranks with one unit each have the same sum in both batches if there are only two.
TEAM_UNITS = 3
MISREDUCED = 0.1  # relative error above which a gradient is another than the sum, and of what it is instead
EVERY_RANK = "every rank has it"
CHUNK = 2**22  # values of a pattern that are made at a time


def has_batch_statistics(variant: Variant) -> bool:
    """Whether the images of a batch depend on each other in training form."""
    return any(isinstance(layer, BatchNorm) for layer in variant.layers)


@dataclass(frozen=True, eq=False)
class ParityBatch:
    """A batch composed of the images of a parity set; ``order`` is the number of the image at each of its places.

    ``folder`` is that of the parity set, ``target`` the folder of expected values in it.
    """

    variant: Variant
    weights: Weights
    folder: Path
    target: str
    order: np.ndarray

    def images(self) -> np.ndarray:
        """(batch, h, w, channels), float32."""
        images: np.ndarray = np.load(self.folder / "images.npy")[self.order]
        return images

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """How often each unit of images occurs."""
        return self._shares(self.order)

    @functools.cached_property
    def gradient_shares(self) -> np.ndarray:
        """How often each unit of images occurs in the gradients of parameters."""
        return self.shares

    def _shares(self, order: np.ndarray) -> np.ndarray:
        units, count = len(self.values("loss")), len(self.values("logits"))
        shares: np.ndarray = np.bincount(order * units // count, minlength=units) * units / count
        return shares

    def values(self, name: str) -> np.ndarray:
        """Expected values, with a first axis of units or images."""
        values: np.ndarray = np.load(self.folder / self.target / f"{name}.npy", mmap_mode="r")
        return values

    @property
    def labels(self) -> np.ndarray:
        """(batch,), int32."""
        labels: np.ndarray = np.load(self.folder / "labels.npy")[self.order]
        return labels

    def entropy_check(self, found: float) -> Check:
        """Compare the mean cross-entropy, relative to the largest logit: it is a difference of logits."""
        expected = float(self.shares / self.shares.sum() @ self.values("entropy"))
        scale = max(expected, float(np.abs(self.values("logits")).max()))
        error = abs(found - expected) / scale if np.isfinite(found) else None
        return Check(CheckKind.LOSS, "cross-entropy", error, error)

    @functools.cached_property
    def parameters(self) -> dict[tuple[str, str], None]:
        """Layer and name of every parameter."""
        return dict.fromkeys(
            (layer.name, name) for layer, shape, _ in self.variant.placed() for name in layer.trainable(shape)
        )

    def entropy_gradient(self, layer: str, name: str, thorough: bool) -> np.ndarray:
        """Expected gradient of the cross-entropy, flat: float32 if ``thorough``, else sampled values in float64."""
        stored = self.values(f"entropy.{layer}.{name}")
        units = [unit.ravel() if thorough else sampled(unit).ravel().astype(np.float64) for unit in stored]
        shares = self.gradient_shares / self.gradient_shares.sum()
        parts = (unit.dtype.type(share) * unit for share, unit in zip(shares, units, strict=True) if share)
        return functools.reduce(np.add, parts)

    def logits_checks(self, logits: np.ndarray, state: Gradients) -> list[Check]:
        """Compare logits; those of a net with BatchNorm with the ``state`` that training passes have left."""
        if state:
            moved = {layer: arrays | state.get(layer, {}) for layer, arrays in self.weights.items()}
            expected = reference.forward(self.variant, moved, np.load(self.folder / "images.npy")).logits
        else:
            expected = self.values("logits")
        return [check(CheckKind.LOGITS, "logits", logits, expected[self.order])]

    def gradient_checks(
        self, loss: float, gradients: Gradients, thorough: bool, infinite: AbstractSet[str]
    ) -> list[Check]:
        """Compare the loss and every gradient; unless ``thorough``, large arrays in some values.

        ``infinite`` are the names of gradients with a value that is not finite. Missing and unexpected gradients fail:
        one of the images that was not asked for adds work to the pass.
        """
        expected = np.array(self.shares @ self.values("loss"))
        checks = [check(CheckKind.LOSS, "loss", np.array(loss), expected)]
        arrays, wanted = flat(gradients), self.wanted
        for key in dict.fromkeys([*arrays, *wanted]):
            what = "gradient " + key.removeprefix("gradient.").replace(".", "/")
            if key not in arrays or key not in wanted:
                why = "is missing" if key in wanted else "is not one of a parameter"
                checks.append(Check(CheckKind.GRADIENT, f"{what} {why}", None))
            elif key == INPUT_GRADIENT:
                checks.append(self._check_input_gradient(what, arrays[key]))
            else:
                fault = INFINITE if key in infinite else ""
                checks.append(self._check_gradient(key, what, arrays[key], thorough, fault))
        return checks

    def count(self, gradients: Gradients, finite: bool) -> GradientCount:
        """Count the gradients of parameters and any others."""
        names, wanted = flat(gradients).keys(), self.wanted.keys()
        return GradientCount(len(names & wanted), len(names - wanted), finite)

    @functools.cached_property
    def wanted(self) -> dict[str, None]:
        """The names of all expected gradients, sorted."""
        return dict.fromkeys(path.stem for path in sorted((self.folder / self.target).glob("gradient.*.npy")))

    def _check_gradient(self, key: str, what: str, found: np.ndarray, thorough: bool, fault: str) -> Check:
        _, layer, name = key.split(".", 2)
        shape = self.weights[layer][name].shape
        if fault := misshapen(canonical_shape(found.shape, shape), shape) or fault:
            return Check(CheckKind.GRADIENT, what + fault, None)
        found, stored = self._comparable(key, found, shape, thorough)
        return check(CheckKind.GRADIENT, what, found, weighted(self.gradient_shares, stored))

    def _comparable(
        self, key: str, found: np.ndarray, shape: tuple[int, ...], thorough: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """The values of a gradient that are compared, and those of each unit; of a large one some, or ``thorough``."""
        stored = self.values(key)
        whole = stored.shape[1:] == shape
        if found.size <= SAMPLED or (whole and thorough):
            return found.reshape(shape), stored
        return sampled(found), np.stack([sampled(unit) for unit in stored]) if whole else stored

    def _check_input_gradient(self, what: str, found: np.ndarray) -> Check:
        """Compare the gradient of each image; unlike that of a parameter, it is not a sum over images.

        For a BatchNorm alone the loss makes this gradient nearly zero (the arriving gradient is its own output, whose
        projection it removes), so the error is relative to the norm of the arriving gradient.
        """
        expected = self.values(INPUT_GRADIENT)[self.order]
        whole = check(CheckKind.GRADIENT, what, found, expected)
        if whole.error is None or not isinstance(self.variant.layers[0], BatchNorm):
            return whole
        arrived = float(np.linalg.norm(self.values("logits")[self.order]))
        error = whole.error * (float(np.linalg.norm(expected)) / arrived)
        return dataclasses.replace(whole, error=error, norm=error)

    def state_checks(self, before: Gradients, after: Gradients) -> list[Check]:
        """Compare the moving statistics after one training pass with those that follow from this batch."""
        checks = []
        for placed in self.variant.placed():
            layer = placed.layer
            if not isinstance(layer, BatchNorm):
                continue
            n = len(self.order) * placed.input[0] * placed.input[1]
            # such a batch has one unit; a dump has no statistics of its own
            mean, variance = np.load(self.folder / f"reference/statistics.{layer.name}.npy")[self.shares.argmax()]
            for name, new in (("moving_mean", mean), ("moving_variance", variance * n / (n - 1))):
                expected = (1 - layer.momentum) * before[layer.name][name] + layer.momentum * new
                checks.append(check(CheckKind.STATE, f"{layer.name}/{name}", after[layer.name][name], expected))
        return checks


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


def weighted(shares: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The sum of the units' values, each times its share, in their precision."""
    return np.asarray(sum(units.dtype.type(share) * unit for share, unit in zip(shares, units, strict=True) if share))


def pattern_sum(world: int, places: np.ndarray) -> np.ndarray:
    """What ``all_reduce`` of so many ranks leaves at these places, float32."""
    total = np.zeros(len(places), np.float32)
    for first in range(0, len(places), CHUNK):
        part = slice(first, first + CHUNK)
        for rank in range(world):
            total[part] += pattern(rank, places[part])
    return total


def compose(variant: Variant, weights: Weights, folder: Path, target: str, batch: int, seed: int) -> list[ParityBatch]:
    """Two batches of different composition, of the first two units of the parity set; one if it has one unit.

    Another seed gives batches that a Net has not seen.
    """
    units, each = _units(folder, target)
    rng = np.random.Generator(np.random.PCG64([seed, batch]))
    if units == 1:
        orders = [np.arange(each)]
    elif has_batch_statistics(variant):
        orders = [unit * each + shuffle(np.arange(batch) % each, rng) for unit in rng.permutation(UNITS)]
    else:
        fewer = rng.integers(1, max(1, batch // 4), endpoint=True)
        more = 0 if batch == 2 else fewer
        orders = [shuffle(places.astype(int), rng) for places in (np.arange(batch) < fewer, np.arange(batch) >= more)]
        if rng.integers(2):
            orders = [1 - order for order in orders]
    return [ParityBatch(variant, weights, folder, target, order) for order in orders]


def compose_team(
    variant: Variant, weights: Weights, folder: Path, target: str, batch: int, seed: int, rank: int, world: int
) -> list[TeamBatch]:
    """Two batches of each rank of a Team, ``batch`` images per rank, of which those of ``rank`` are returned.

    A rank's two batches differ, those of neighbors differ, and the sums over all ranks differ. No part of the ranks
    has the mean composition of all, so a reduction over such a part shows. Another seed gives another assignment.
    Raises ValueError for fewer than 2 ranks, and for a parity set of fewer than three units.
    """
    units, each = _units(folder, target)
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


def _units(folder: Path, target: str) -> tuple[int, int]:
    """How many units a parity set has, and of how many images each."""
    units, count = (len(np.load(folder / target / f"{name}.npy", mmap_mode="r")) for name in ("loss", "logits"))
    return units, count // units


def shuffle(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of random orders the one whose halves, and whose every second place, differ most from the whole in composition.

    A net that computed only such a part of the batch would have another result.
    """
    return max((rng.permutation(places) for _ in range(ORDERS)), key=_least_difference)


def _least_difference(places: np.ndarray) -> float:
    half = len(places) // 2
    parts = [part for part in (places[:half], places[half:], places[::2], places[1::2]) if len(part)]
    return min(abs(float(part.mean() - places.mean())) for part in parts)
