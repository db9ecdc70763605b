"""Frameworks' logits are compared by the largest difference, and another class is a tie only where rounding decides."""

import numpy as np
import pytest

from bench.controller.prediction import probabilities
from bench.record.differences import MOST_KEPT, Differences


def compared(*pairs):
    found = Differences()
    for number, pair in enumerate(pairs):
        logits = {name: np.array([each], np.float32) for name, each in zip("ab", pair, strict=True)}
        found.add(f"{number}.jpg", logits, {name: probabilities(each) for name, each in logits.items()})
    return found


def test_the_largest_difference_is_relative_to_the_largest_absolute_logit():
    found = compared(([1.0, -8.0], [1.5, -8.0]), ([2.0, 1.0], [2.25, 1.0]))
    assert (found.apart, found.scale, found.largest) == (0.5, 8.0, 0.0625)
    assert (found.pictures, found.differing, found.parted) == (2, 0, [])


def test_another_first_class_within_rounding_is_a_tie():
    found = compared(([10.0, 10.00001], [10.00001, 10.0]))
    assert (found.differing, found.ties) == (1, 1)
    assert dict(found.parted[0].classes) == {"a": 1, "b": 0}
    assert found.parted[0].margin < 2e-5


def test_another_first_class_by_more_than_rounding_is_none():
    found = compared(([10.0, 10.1], [10.1, 10.0]), ([800.0, 0.0], [0.0, 800.0]))
    assert (found.differing, found.ties) == (2, 0)
    assert found.parted[0].margin == pytest.approx(0.1 / 10.1, rel=1e-3)


def test_few_are_named_and_all_are_counted():
    found = compared(*[([0.0, 1.0], [1.0, 0.0])] * 50)
    assert (found.differing, len(found.parted)) == (50, MOST_KEPT)
