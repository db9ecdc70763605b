"""Faults planted in the reduction of torch's Team: each is refused, and the refusal says which it is.

One Team of two ranks, whose code is a copy that builds the faulty Net of the name in a file.
"""

import re
import shutil

import pytest
from paths import ROOT

from bench.cases.case import Case
from bench.controller import gate, parity
from bench.controller.devices import Device
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import Team
from bench.worker.messages import CallFirst, Measure, Verify
from bench.worker.replies import Output
from bench.worker.team_batches import TEAM_UNITS

pytestmark = pytest.mark.process

CASE = Case("half_width", "torch", "eager", "cpu", "fp32", "nchw", 2, "forward_backward", size=67, world=2)
PLANTS = """

import time
from pathlib import Path
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

Honest = TeamNet

class NoSync(Honest):
    def forward_backward(self):
        with self.parallel.no_sync():
            return super().forward_backward()

class AutogradGrad(Honest):
    differentiate = torch_alexnet.Net.differentiate

class InnerModule(Honest):
    def __init__(self, *args):
        super().__init__(*args)
        self.trainee = self.training

class Average(Honest):
    def gradient_views(self, handles):
        return self.own_gradients(handles)

class EqualShards(Honest):
    def load(self, batches):
        shared = [torch.from_numpy(batch.copy()) for batch in batches]
        for each in shared:
            dist.broadcast(each, 0)
        super().load([each.numpy() for each in shared])

class BucketIgnored(Honest):
    def __init__(self, *args):
        torch.nn.Sequential._ddp_params_and_buffers_to_ignore = ["conv1.kernel"]
        super().__init__(*args)
        del torch.nn.Sequential._ddp_params_and_buffers_to_ignore

class HalfPrecision(Honest):
    def __init__(self, *args):
        super().__init__(*args)
        self.parallel.register_comm_hook(None, fp16_compress_hook)

class Stale(Honest):
    def forward_backward(self):
        loss, *gradients = super().forward_backward()
        before, self.kept = getattr(self, "kept", gradients), gradients
        return (loss, *before)

class SlowFill(Honest):
    def fill(self):
        super().fill()
        time.sleep(0.5)

def TeamNet(*args):
    return globals()[Path("PLANTED").read_text()](*args)
"""
OWN = "those of this rank alone: nothing reduced them"
PLANTED = {
    "NoSync": OWN,
    "AutogradGrad": OWN,
    "InnerModule": OWN,
    "Average": "the average over the ranks, not their sum",
    "EqualShards": "those of rank 0's batch: every rank has it",
    "BucketIgnored": f"1 of 18 gradients, conv1/kernel first, are {OWN}",
    "HalfPrecision": r"disagrees with the float64 reference in \d+ of \d+ arrays, worst gradient .*: off by \d\.\de-04",
    "Stale": "its gradients are of one batch and its loss is of the other: they are left from the pass before",
}


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(ROOT / "impls", folder / "impls")
    source = folder / "impls" / "torch_team.py"
    source.write_text(source.read_text() + PLANTS.replace("PLANTED", str(folder / "planted")))
    parity.prepare(CASE.net, folder / "parity", batch=CASE.batch, units=TEAM_UNITS, labeled=True)

    class Copied(WorkerSettings):
        def package(self, case):
            return folder / "impls"

    made = Copied(1, 120.0, devices=[Device((0,)), Device((0,))]).launch("team", CASE, folder / "logs")
    assert isinstance(made, Team)
    made.wait_until_configured()
    yield made, folder
    made.kill()


def refusal(made: Team, folder, name: str) -> str:
    """What the gate says of this Net."""
    (folder / "planted").write_text(name)
    made.ask(build_request(CASE, folder / "parity", passes=["forward_backward"]))
    for _ in range(2):  # DistributedDataParallel makes its buckets anew after the first
        made.ask(CallFirst("forward_backward"))
    verified = made.ask(Verify([Output.GRADIENTS], thorough=False, target="reference"))
    return gate.value_fault(parity.judge(verified.checks, parity.LIMITS["fp32"]))


def test_an_honest_net_passes(team):
    assert refusal(*team, "Honest") == ""


def test_the_witnesses_are_proven_and_so_is_a_sum_after_hundreds_of_others(team):
    """Summed in place, values are doubled every time: they are set anew before they are too large."""
    made, folder = team
    assert refusal(made, folder, "Honest") == ""
    checks = made.ask(Verify([Output.OWN, Output.REDUCED], thorough=False, target="reference")).checks
    assert gate.value_fault(parity.judge(checks, parity.LIMITS["fp32"])) == ""
    for _ in range(2):
        measured = made.ask(Measure("all_reduce", 300, reads=[150, 299], output=Output.REDUCED))
        assert len(measured.ns) == 300
        for reading in measured.readings:
            judged = parity.judge(reading.checks, parity.LIMITS["fp32"])
            assert [check.kind for check in judged] == ["reduced"]
            assert gate.value_fault(judged) + reading.fault == ""


def test_setting_the_values_of_a_sum_is_not_a_time_that_samples_must_add_up_to(team):
    made, folder = team
    assert refusal(made, folder, "SlowFill") == ""
    measured = made.ask(Measure("all_reduce", 40))  # set at the begin, before the first and after 32
    assert measured.aside_ns >= 3 * 0.5e9
    assert max(measured.ns) < 0.5e9


@pytest.mark.parametrize("name", PLANTED)
def test_a_reduction_that_is_none_is_refused_by_name(team, name):
    assert re.search(PLANTED[name], found := refusal(*team, name)), found
