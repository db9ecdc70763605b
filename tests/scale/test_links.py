"""Reductions over links of a known rate, next to the bytes over that rate."""

import statistics

import pytest
from namespaces import TCP_SHARE

from bench.cases.case import Case
from bench.controller import parity
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import Team
from bench.worker.messages import Measure
from bench.worker.team_batches import TEAM_UNITS

CASE = Case("half_width", "torch", "eager", "cpu", "fp32", "nchw", 1, "forward_backward", size=67, world=2)
PASSES = ("forward_backward", "apart", "all_reduce")


@pytest.fixture
def team(two_devices, tmp_path):
    pytest.importorskip("torch")
    parity.prepare(CASE.net, tmp_path / "parity", batch=1, units=TEAM_UNITS)
    made = WorkerSettings(1, 120.0, devices=two_devices).launch("team", CASE, tmp_path)
    assert isinstance(made, Team)
    made.wait_until_configured()
    made.ask(build_request(CASE, tmp_path / "parity", passes=PASSES))
    yield made
    made.kill()


def seconds(team: Team, method: str, n: int = 3) -> float:
    """Median of an iteration, after one that does not count."""
    return statistics.median(team.ask(Measure(method, n + 1)).ns[1:]) / 1e9


def wire_seconds(mbit: int) -> float:
    """2 (W - 1) / W S / B of two ranks: what each sends, over the rate of TCP's data."""
    return 4 * CASE.net.params / (mbit * 1e6 / 8 * TCP_SHARE)


@pytest.mark.parametrize("mbit", [100, 400, 1000])
def test_an_all_reduce_takes_what_its_bytes_take(mbit, team, two_nodes):
    two_nodes.limit(mbit)
    measured = seconds(team, "all_reduce")
    print(f"all_reduce at {mbit} Mbit/s: {measured:.3f} s, {measured / wire_seconds(mbit):.3f} of the model")
    assert measured == pytest.approx(wire_seconds(mbit), rel=0.05)


def test_a_step_over_a_slow_link_takes_what_its_bytes_take_and_the_forward_pass(team, two_nodes):
    two_nodes.limit(100)
    seconds(team, "forward_backward", 1)
    measured, apart = seconds(team, "forward_backward"), seconds(team, "apart")
    print(f"step at 100 Mbit/s: {measured:.3f} s, apart {apart:.3f} s, bytes alone {wire_seconds(100):.3f} s")
    assert wire_seconds(100) * 0.95 < measured < 1.1 * (wire_seconds(100) + apart)
