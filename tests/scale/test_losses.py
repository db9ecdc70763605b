"""Ranks that are killed or stopped and links that are cut, ten times each: one clock decides, and nothing stays."""

import os
import signal
import time

import pytest

from bench.cases.case import Case
from bench.controller import parity
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import Team
from bench.controller.worker_process import WorkerDied, started_by
from bench.worker.messages import CallFirst, Measure
from bench.worker.team_batches import TEAM_UNITS
from impls import FRAMEWORKS

LIMIT_S = 8.0
TIMES = int(os.environ.get("LOSSES", "10"))
MODES = {"torch": ("eager", "nchw"), "tensorflow": ("graph", "nhwc"), "jax": ("jit", "nhwc")}


@pytest.mark.parametrize("framework", MODES)
@pytest.mark.parametrize("how", ["kill", "stop", "cut"])
@pytest.mark.timeout(1800)
def test_a_lost_rank_is_known_within_the_limit_and_nothing_stays(framework, how, two_devices, two_nodes, tmp_path):
    pytest.importorskip(FRAMEWORKS[framework].package)
    mode, layout = MODES[framework]
    case = Case("half_width", framework, mode, "cpu", "fp32", layout, 1, "forward_backward", size=67, world=2)
    parity.prepare(case.net, tmp_path / "parity", batch=1, units=TEAM_UNITS)
    for number in range(TIMES):
        settings = WorkerSettings(1, 120.0, devices=two_devices, cache=tmp_path / "cache")
        team = settings.launch(f"team{number}", case, tmp_path)
        assert isinstance(team, Team)
        team.wait_until_configured()
        team.ask(build_request(case, tmp_path / "parity", passes=["forward_backward"]))
        team.ask(CallFirst("forward_backward"))
        victim, request = number % 2, Measure("forward_backward", 10**5)
        for each in (team, *team.ranks):
            each.limit_s = LIMIT_S
        team.send(request)
        time.sleep(0.2 + 0.1 * number)
        began = time.monotonic()
        if how == "cut":
            two_nodes.cut(two_devices[victim].node.name)
        else:
            os.kill(team.ranks[victim].process.pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        with pytest.raises(WorkerDied) as died:
            team.receive(request)
        took = time.monotonic() - began
        print(f"{framework} {how} rank {victim}: {took:.1f} s: {died.value.reason}")
        assert took < LIMIT_S + 5
        assert not [rank for rank in team.ranks if list(started_by(rank.mark))]
        if how == "cut":
            two_nodes.join(two_devices[victim].node.name)
        else:
            what = "killed by SIGKILL" if how == "kill" else "stopped: no answer to measure"
            assert died.value.reason.startswith(f"rank {victim} on {two_devices[victim].node.name}: {what}")
        ports = {address.rpartition(":")[2] for address in team.launch.settings.rank.addresses}
        assert not ports & set().union(*map(two_nodes.listening, two_nodes.addresses))
