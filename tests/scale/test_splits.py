"""Bytes that ranks of a shared net really send each other, next to those that are counted from its rows."""

import pytest

from bench.cases.case import Case
from bench.controller import parity
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import Team
from bench.record.scaling import sent_bytes
from bench.worker.messages import Measure
from bench.worker.team_batches import TEAM_UNITS
from impls import FRAMEWORKS

PASSES = ("forward", "forward_backward")
LAYOUTS = {"torch": ("eager", "nchw"), "jax": ("jit", "nhwc")}
MORE = 5  # iterations


@pytest.mark.parametrize(
    ("framework", "variant", "split"),
    [
        ("torch", "original", "towers"),
        ("torch", "owt", "hybrid"),
        ("torch", "owt", "data"),
        ("jax", "original", "towers"),
        ("jax", "owt", "hybrid"),
    ],
)
@pytest.mark.timeout(900)
def test_what_is_sent_is_what_is_counted(framework, variant, split, two_devices, two_nodes, tmp_path):
    pytest.importorskip(FRAMEWORKS[framework].package)
    mode, layout = LAYOUTS[framework]
    case = Case(variant, framework, mode, "cpu", "fp32", layout, 1, PASSES[1], world=2, split=split)
    parity.prepare(case.net, tmp_path / "parity", batch=1, units=TEAM_UNITS)
    team = WorkerSettings(1, 300.0, devices=two_devices, cache=tmp_path / "cache").launch("team", case, tmp_path)
    assert isinstance(team, Team)
    try:
        team.wait_until_configured()
        team.ask(build_request(case, tmp_path / "parity", passes=PASSES))
        for name in PASSES:
            counted = sent_bytes(Case(variant, framework, mode, "cpu", "fp32", layout, 1, name, world=2, split=split))
            assert counted is not None
            team.ask(Measure(name, 2))  # the first has all gradients in one bucket, or compiles
            for node in two_nodes.addresses:
                before = two_nodes.sent(node)
                team.ask(Measure(name, MORE))
                found = (two_nodes.sent(node) - before) / MORE
                share = f", {found / counted:.3f} of it" if counted else ""
                print(
                    f"{framework} {variant} {split} {name}: {found / 1e3:,.1f} kB, counted {counted / 1e3:,.1f}{share}"
                )
                assert found == pytest.approx(counted, rel=0.05, abs=20_000)  # frames, and what keeps ranks in touch
    finally:
        team.kill()
