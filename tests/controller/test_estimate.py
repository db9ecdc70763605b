"""The estimated plan and time of a Run."""

import dataclasses
import math

import pytest

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller import estimate

RULES = Protocol(iterations=20, burn_in_later=4, least_iterations=4)
SMALL = Case("owt", "torch", "eager", "cpu", "fp32", "nchw", 1, "forward")
LARGE = dataclasses.replace(SMALL, batch=32)


@pytest.fixture(autouse=True)
def rate(monkeypatch):
    monkeypatch.setattr(estimate, "matrix_flops", lambda: 1e11)


@pytest.mark.parametrize(
    ("total", "needs", "found"),
    [
        (100, [10, 300], [10, 90]),
        (100, [300, 10], [90, 10]),
        (100, [300, 500], [50, 50]),
        (100, [20, 60], [30, 70]),  # the rest is divided
        (90, [5, 500, 20], [5, 65, 20]),
        (0, [5, 5], [0, 0]),
    ],
)
def test_a_group_that_needs_less_than_an_equal_share_leaves_the_rest_to_others(total, needs, found):
    assert estimate.shares(total, needs) == found


def test_without_a_limit_every_group_has_all_its_rounds():
    plans = estimate.expect([SMALL, LARGE], RULES)
    assert [(plan.rounds, plan.iterations) for plan in plans] == [(5, 20), (5, 20)]
    assert plans[0].seconds < plans[1].seconds


def test_with_a_limit_only_the_large_group_has_fewer_iterations():
    whole_s = sum(plan.seconds for plan in estimate.expect([SMALL, LARGE], RULES))
    limited = dataclasses.replace(RULES, max_time_s=0.8 * whole_s)
    small, large = estimate.expect([SMALL, LARGE], limited)
    assert (small.rounds, small.iterations, large.rounds) == (5, 20, 5)
    assert 4 <= large.iterations < 20
    assert small.seconds + large.seconds <= 0.8 * whole_s


def test_a_net_of_unknown_cost_has_no_time_and_an_equal_share():
    mine = dataclasses.replace(LARGE, guest="mine.Net")
    assert estimate.expect([SMALL, mine], RULES, [mine])[1] == (20, 5, None)
    limited = dataclasses.replace(RULES, max_time_s=60.0)
    small, found = estimate.expect([SMALL, mine], limited, [mine])
    assert (small, found) == (estimate.expect([SMALL], dataclasses.replace(RULES, max_time_s=30.0))[0], (20, 5, None))


def test_an_infinite_need_takes_what_others_leave():
    assert estimate.shares(100, [10, math.inf]) == [10, 90]
    assert estimate.shares(100, [math.inf, 80, math.inf]) == [100 / 3] * 3


def test_devices_share_the_cores_and_each_rank_has_a_start():
    step = dataclasses.replace(LARGE, pass_="train_step")
    alone, team = (dataclasses.replace(step, world=world) for world in (1, 2))
    (one,), (half,) = (estimate.expect([alone], RULES, devices=devices) for devices in (1, 2))
    assert half.seconds > 1.5 * one.seconds
    (both,) = estimate.expect([team], RULES, devices=2)
    assert both.seconds == pytest.approx(half.seconds + estimate.START_S + estimate.CEILING_S + 4 * estimate.LATER_S)
