"""Scaling: efficiency, its split and the slowest rank, from synthetic Runs."""

import dataclasses

import pytest
import runs
import teams

from bench.record import scaling
from bench.record.run import Run


def of(run: Run, pass_: str) -> scaling.Scaling:
    (found,) = (each for each in scaling.scalings(run) if each.case.pass_ == pass_)
    return found


@pytest.mark.parametrize(("strong", "factor"), [(False, 1.0), (True, 0.5)])
def test_the_efficiency_is_time_on_one_device_over_that_on_all_for_the_same_images(tmp_path, strong, factor):
    found = of(teams.make(tmp_path / "run", strong=strong), "forward_backward")
    ideal = teams.ALONE["forward_backward"] / teams.TEAM["forward_backward"]
    assert found.efficiency.center == pytest.approx(factor * ideal, rel=1e-3)
    split = teams.TEAM["apart"] / teams.TEAM["forward_backward"]
    assert found.communication.center == pytest.approx(split, rel=1e-3)
    product = found.interference.center * found.communication.center
    assert found.efficiency.center == pytest.approx(product, rel=1e-3)


def test_exposed_and_hidden_are_of_the_pass_without_and_of_the_sum_alone(tmp_path):
    found = of(teams.make(tmp_path / "run"), "forward_backward")
    exposed = 10 * (teams.TEAM["forward_backward"] - teams.TEAM["apart"])
    assert found.exposed_ms.center == pytest.approx(exposed, rel=1e-3)
    assert found.hidden.center == pytest.approx(1 - exposed / (10 * teams.TEAM["all_reduce"]), rel=1e-2)
    assert found.exposed_resolved
    assert found.hidden_resolved


def test_the_bus_has_the_bytes_that_each_rank_sends_and_receives(tmp_path):
    run = teams.make(tmp_path / "run", worlds=(1, 4))
    found = of(run, "forward_backward")
    moved = 2 * 3 / 4 * 4 * found.case.net.params
    assert found.bus_gb_per_s == pytest.approx(moved / (found.all_reduce_ms / 1e3) / 1e9, rel=1e-3)


def test_a_reduction_that_costs_more_inside_than_alone_is_below_0(tmp_path):
    slower = {**teams.TEAM, "all_reduce": 0.5}
    found = of(teams.make(tmp_path / "run", slower=slower), "forward_backward")
    assert found.hidden.center < 0
    assert found.hidden_resolved


def test_devices_that_share_a_core_have_no_efficiency_but_communication(tmp_path):
    found = of(teams.make(tmp_path / "run", devices=teams.SHARED), "forward_backward")
    assert (found.efficiency, found.interference) == (None, None)
    assert found.communication is not None


def test_the_same_cores_of_other_machines_are_not_shared(tmp_path):
    devices = [{"cores": [0], "node": name, "machine": name} for name in ("a", "b")]
    assert of(teams.make(tmp_path / "run", devices=devices), "forward_backward").efficiency is not None


class TestSharedNets:
    ORIGINAL = dataclasses.replace(runs.A, variant="original")

    def test_the_efficiency_is_against_the_whole_net_on_one_device_and_has_no_parts(self, tmp_path):
        run = teams.make(tmp_path / "run", self.ORIGINAL, splits=("data", "towers"))
        (found,) = (each for each in scaling.scalings(run) if each.case.id.endswith("forward_backward-towers-x2"))
        ideal = teams.ALONE["forward_backward"] / teams.TEAM["forward_backward"]
        assert found.efficiency.center == pytest.approx(ideal, rel=1e-3)
        assert (found.interference, found.communication, found.bus_gb_per_s) == (None, None, None)

    @pytest.mark.parametrize(
        ("split", "pass_", "sent"),
        [
            ("data", "forward", 0),
            ("data", "forward_backward", 4 * 60_965_224),
            ("data", "apart", 0),
            ("data", "all_reduce", 4 * 60_965_224),
            ("towers", "forward", 16 * 304_752 // 2),
            ("towers", "train_step", 16 * 304_752),
            ("hybrid", "forward", 16 * 71_632 // 2),
            ("hybrid", "forward_backward", 16 * 71_632 + 9_336_320),
        ],
    )
    def test_what_two_devices_send_is_counted_from_the_layers(self, split, pass_, sent):
        case = dataclasses.replace(self.ORIGINAL, world=2, split=split, pass_=pass_)
        assert scaling.sent_bytes(case) == sent

    def test_of_four_devices_each_sends_more(self):
        case = dataclasses.replace(self.ORIGINAL, world=4, pass_="train_step")
        assert scaling.sent_bytes(case) == 1.5 * 4 * 60_965_224

    @pytest.mark.parametrize(
        "more",
        [
            {"framework": "tensorflow", "mode": "graph"},
            {"framework": "jax", "mode": "jit", "world": 4, "split": "hybrid"},
            {"precision": "bf16"},
        ],
    )
    def test_where_other_bytes_are_sent_it_is_not_known(self, more):
        case = dataclasses.replace(self.ORIGINAL, **{"world": 2, "split": "towers"} | more)
        assert scaling.sent_bytes(case) is None
        assert scaling.sent_bytes(dataclasses.replace(case, split="data", pass_="train_step")) is not None
