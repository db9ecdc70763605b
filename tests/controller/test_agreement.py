"""Whether arrays of a model agree with those of its port: what is allowed, and what is not decided."""

import numpy as np
import pytest

from bench.controller.agreement import WIDEST, change_point, gradient_point, matched

ONES = np.ones(4, np.float32)  # of norm 2


@pytest.mark.parametrize(
    ("factor", "noise", "ok"),
    [
        (1.04, 0.0, False),  # the norm
        (1.45, 0.9, True),
        (1.55, 0.96, False),  # with what is always allowed 0.53, above the ceiling
        (1.55, 1.2, None),
        (1.45, 1.2, True),
    ],
)
def test_a_gradient_is_allowed_half_of_itself_at_most(factor, noise, ok):
    found = gradient_point("w", np.float32(factor) * ONES, ONES, 1.0, noise, 2.0)
    assert (found and found.ok) is ok
    assert found is None or found.limit <= WIDEST


def test_a_gradient_that_is_rounding_beside_the_largest_is_none():
    found = gradient_point("bias", 1e-6 * ONES, -1e-6 * ONES, 1.0, 0.0, 1.0)
    assert found.ok
    assert not gradient_point("bias", 1e-6 * ONES, -1e-6 * ONES, 1.0, 0.0, 1e-3).ok


def test_changes_of_state_agree_like_outputs():
    assert change_point("mean", ONES * np.float32(1 + 5e-6), ONES, 1.0, 0.0).ok
    assert not change_point("mean", 2 * ONES, ONES, 1.0, 0.0).ok
    assert change_point("mean", 2 * ONES, ONES, 1.0, 9.0) is None
    assert change_point("mean", 0 * ONES, 0 * ONES, 1.0, 0.0).ok


def test_inputs_and_outputs_are_matched_by_name_then_by_order():
    assert matched(["z", "a"], ["a", "z"]) == [(0, 1), (1, 0)]
    assert matched(["x", "mask"], ["mask", "images"]) == [(0, 1), (1, 0)]
    assert matched(["0", "1"], ["a", "b"]) == [(0, 0), (1, 1)]
    assert matched([""], ["logits"]) == [(0, 0)]
    assert matched(["0", "1"], ["0"]) == [(0, 0)]
