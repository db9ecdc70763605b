"""Check training steps: the change and the velocity of every parameter, with those that follow from float64 gradients.

Parameters themselves are no evidence: a wrong step moves them by less than float32 resolves. A step at the rate of
PROVEN shows in their change. Several at the rate of TIMED show in the velocity, and leave the gradients as they were:
at 1e-6 three steps move a gradient by 3 to 30 %, at 1e-9 ten by up to 1 %, at 1e-10 by less than 6e-5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.worker.batches import ParityBatch
from bench.worker.checks import INFINITE, canonical_shape, check, distance, is_finite, misshapen, picked, sampled
from bench.worker.replies import Check, CheckKind
from impls import reference
from impls.net import Sgd, Trained
from impls.weights import Weights

#: Of what is timed: the operations are those of any rate.
TIMED = Sgd(lr=1e-10)
#: Of the step that proves the change of parameters, and of those that prove the velocity. A decay of 5e-4 left out of
#: a kernel or of biases moves some arrays by no more than the limit.
PROVEN, PROVEN_VELOCITY = Sgd(lr=1e-2, decay=0.05), Sgd(lr=1e-10, decay=0.05)
STEPS = 3  # that prove the velocity: dampening and a decoupled decay do not show in one
MANY = 10_000  # values of an array, of which some are so near 0 that the smallest update moves them
UNMOVED = " was not moved"


@dataclass(frozen=True)
class Expected:
    """Values of an array after some steps."""

    change: np.ndarray
    velocity: np.ndarray


def expected(weight: np.ndarray, gradients: Sequence[np.ndarray], sgd: Sgd) -> Expected:
    """Change and velocity after one step per gradient, oldest first, in their precision."""
    change, velocity = np.zeros_like(gradients[0]), np.zeros_like(gradients[0])
    for gradient in gradients:
        _, velocity = reference.update(weight + change, velocity, gradient, sgd)
        change = change + velocity
    return Expected(change, velocity)


def checks(
    trained: Trained,
    before: Weights,
    batches: Sequence[ParityBatch],
    steps: int,
    sgd: Sgd,
    *,
    change: bool = False,
    thorough: bool = False,
) -> tuple[int, list[Check]]:
    """The batch of the last step, to which the values are nearest, and the checks of velocity or ``change``.

    ``before`` are the parameters from which the steps began; unless ``thorough``, large arrays are compared in some
    values. The loss is compared after one step only, since steps change it.
    """
    by_batch = []
    for last, batch in enumerate(batches):
        order = [batches[(last + back) % len(batches)] for back in reversed(range(steps))]
        compared = _compare(trained, before, order, sgd, change, False)
        loss = [batch.entropy_check(trained.loss)] if steps == 1 else []
        by_batch.append((order, compared, loss))
    number, (order, compared, loss) = min(enumerate(by_batch), key=lambda each: distance(each[1][1]))
    if thorough:
        compared = _compare(trained, before, order, sgd, change, True)
    return number, compared + loss + _faults(trained, before)


def _compare(
    trained: Trained, before: Weights, order: Sequence[ParityBatch], sgd: Sgd, change: bool, thorough: bool
) -> list[Check]:
    kind = CheckKind.CHANGE if change else CheckKind.VELOCITY
    found = trained.parameters if change else trained.velocity
    compared = []
    for layer, name in dict.fromkeys([*_names(found), *order[0].parameters]):
        what = f"{kind} {layer}/{name}"
        array = found.get(layer, {}).get(name)
        if array is None or (layer, name) not in order[0].parameters:
            why = " is missing" if array is None else " is not one of a parameter"
            compared.append(Check(kind, what + why, None))
            continue
        weight = before[layer][name]
        if fault := misshapen(canonical_shape(array.shape, weight.shape), weight.shape):
            compared.append(Check(kind, what + fault, None))
            continue
        by_batch = {batch: batch.entropy_gradient(layer, name, thorough) for batch in order}
        gradients = [by_batch[batch] for batch in order]
        start, value = (picked(each, gradients[0].size).astype(gradients[0].dtype) for each in (weight, array))
        wanted = expected(start, gradients, sgd)
        pair = (value - start, wanted.change) if change else (value, wanted.velocity)
        compared.append(check(kind, what, *pair))
    return compared


def _faults(trained: Trained, before: Weights) -> list[Check]:
    """Arrays with a value that is not finite, and large ones of which no value was moved."""
    faults = []
    for kind, arrays in (("parameter", trained.parameters), ("velocity", trained.velocity)):
        for layer, name in _names(arrays):
            if not is_finite(arrays[layer][name]):
                faults.append(Check(CheckKind.FAULT, f"{kind} {layer}/{name}{INFINITE}", None))
    for layer, name in _names(trained.parameters):
        weight = before.get(layer, {}).get(name)
        if weight is not None and weight.size >= MANY and not _moved(trained.parameters[layer][name], weight):
            faults.append(Check(CheckKind.FAULT, f"parameter {layer}/{name}{UNMOVED}", None))
    return faults


def _moved(found: np.ndarray, before: np.ndarray) -> bool:
    if found.size != before.size or not np.array_equal(sampled(found).ravel(), sampled(before).ravel()):
        return True
    return not np.array_equal(found.reshape(before.shape), before)


def _names(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[tuple[str, str]]:
    return [(layer, name) for layer, named in arrays.items() for name in named]
