"""`scale` as a command: which case it projects, over which links, and what it refuses."""

import dataclasses
import json

import pytest
import runs
import teams
from click.testing import CliRunner
from null_runs import NULL_CASE, run_cases

from bench.cases.arm import Ab
from bench.cases.teams import teams_of
from bench.commands.cli import main
from bench.controller.devices import Device
from bench.stats.links import PUBLISHED, Link
from bench.stats.projection import Step, project
from impls.variants import VARIANTS

OWT = VARIANTS["owt"]


def invoke(folder, *args):
    return CliRunner().invoke(main, ["scale", "--model", str(folder), *map(str, args)])


def as_json(folder, *args):
    result = invoke(folder, "--json", *args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return teams.make(tmp_path_factory.mktemp("teams") / "run").folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A Run on one device with two batches of forward_backward."""
    steps = [dataclasses.replace(runs.A, pass_="forward_backward", batch=batch) for batch in (8, 32)]
    return runs.make(tmp_path_factory.mktemp("alone") / "run", steps, base_ns=10**7).folder


class TestProjection:
    def test_the_training_step_is_projected_over_the_link_that_the_run_measured(self, run):
        found = as_json(run, "--devices", "8")
        assert found["case_id"] == "owt-torch-eager-cpu-fp32-b8-train_step"
        step = Step.of(OWT, "train_step", 8, 35.0, forward_ms=10.0, forward_backward_ms=30.0)
        assert found["step"]["measured"] is True
        assert found["step"]["ms"] == pytest.approx(step.ms, rel=1e-6)
        own = Link("this Run", OWT.params * 4 / 20e6)  # 2 (W - 1) / W is 1; 20 ms
        rows = [row for row in found["rows"] if row["link"] == "this Run"]
        assert [row["devices"] for row in rows] == [2, 8]
        for row in rows:
            projected = project(OWT, step, own, row["devices"])
            assert row["efficiency"] == pytest.approx(projected.efficiency, rel=1e-5)
            assert row["images_per_s"] == pytest.approx(projected.images_per_s, rel=1e-5)
        assert {row["link"] for row in found["rows"]} == {"this Run", *PUBLISHED}

    def test_what_was_measured_is_next_to_what_is_projected(self, run):
        found = as_json(run, "--devices", "2,8")["rows"]
        by_place = {(row["link"], row["devices"]): row["measured_efficiency"] for row in found}
        assert by_place.pop(("this Run", 2))["center"] == pytest.approx(0.7, rel=1e-6)
        assert set(by_place.values()) == {None}
        out = invoke(run, "--devices", "8").output
        assert "measured [95 %]" in out
        assert "70% [70, 70]" in out

    def test_the_link_of_a_run_is_that_of_most_devices(self, tmp_path):
        run = teams.make(tmp_path / "run", worlds=(1, 2, 4))
        found = as_json(run.folder, "--devices", "8")
        assert found["links"][0]["what"] == "the all-reduce alone, on 4 devices"
        assert found["links"][0]["gb_per_s"] == pytest.approx(1.5 * OWT.params * 4 / 20e6, rel=1e-6)
        assert [row["devices"] for row in found["rows"] if row["link"] == "this Run"] == [2, 4, 8]

    def test_the_pass_can_be_chosen(self, run):
        found = as_json(run, "--pass", "forward_backward", "--devices", "2", "--link", "port_100g")
        assert found["step"]["ms"] == pytest.approx(30.0, rel=1e-6)
        assert found["step"]["end_ms"] == found["step"]["ms"]

    def test_a_run_on_one_device_is_projected_over_published_links(self, alone):
        found = as_json(alone, "--batch", "32")
        assert [row["devices"] for row in found["rows"]] == [8, 64, 256] * len(PUBLISHED)
        assert found["step"] | {"images": 32, "measured": False} == found["step"]
        assert "measured" not in invoke(alone, "--batch", "32").output.splitlines()[3]

    def test_a_given_bandwidth_replaces_that_of_a_link(self, run):
        (row,) = as_json(run, "--devices", "8", "--bandwidth", "3")["rows"]
        step = Step.of(OWT, "train_step", 8, 35.0, forward_ms=10.0, forward_backward_ms=30.0)
        assert row["exposed_ms"] == pytest.approx(project(OWT, step, Link("", 3.0), 8).exposed_ms, rel=1e-5)
        found = as_json(run, "--devices", "8", "--bandwidth", "3", "--link", "h200_node")
        assert [(each["gb_per_s"], each["latency_us"], each["hops"]) for each in found["links"]] == [(3.0, 5.0, "tree")]
        found = as_json(run, "--devices", "8", "--bandwidth", "3", "--latency", "7")
        assert [(each["latency_us"], each["hops"]) for each in found["links"]] == [(7.0, "ring")]

    def test_strong_scaling_is_not_what_is_projected(self, tmp_path):
        run = teams.make(tmp_path / "run", strong=True)
        found = as_json(run.folder, "--devices", "2")
        assert found["step"]["images"] == 8
        assert all(row["measured_efficiency"] is None for row in found["rows"])

    def test_devices_that_share_a_core_have_no_link(self, tmp_path):
        run = teams.make(tmp_path / "run", devices=teams.SHARED)
        assert {row["link"] for row in as_json(run.folder, "--devices", "2")["rows"]} == set(PUBLISHED)

    def test_the_output_says_why_the_net_is_hard_where_links_are_from_and_what_is_left_out(self, run):
        result = invoke(run, "--devices", "8,64")
        text = " ".join(result.output.split())
        assert "owt: 96% of the 244.4 MB of its gradients are of dense layers, 92% of its multiply-adds are not" in text
        assert "Below 24.44 GB/s the reduction over many devices takes longer than this backward pass" in text
        assert "this Run: 12.22 GB/s (measured: the all-reduce alone, on 2 devices)." in text
        assert "(assumed: 8 H200 in a node" in text
        assert "Left out: the cores or SMs that a reduction takes" in text
        table = result.output.partition("One device, measured")[0]
        assert max(map(len, table.splitlines())) <= 100


class TestRefused:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--bandwidth", "0"], "--bandwidth: expected a number above 0, found '0'"),
            (["--bandwidth", "inf"], "--bandwidth: expected a number above 0, found 'inf'"),
            (["--latency", "-1"], "--latency: expected microseconds, 0 or above, found '-1'"),
            (["--devices", "1"], "--devices: expected a whole number from 2 to 131,072, found '1'"),
            (["--devices", "8,"], "--devices: expected a whole number from 2 to 131,072, found ''"),
            (["--link", "token_ring"], "unknown link 'token_ring': choose h200_node"),
            (["--link", "all", "--bandwidth", "3"], "--bandwidth: expected one --link whose bandwidth it replaces"),
            (["--pass", "forward"], "unknown pass 'forward': choose train_step or forward_backward"),
            (["--framework", "jax"], "on one device with framework jax, found none; `alexnet-bench run --pass"),
        ],
    )
    def test_bad_options_are_one_line(self, run, args, words):
        result = invoke(run, *args)
        assert result.exit_code == 2
        (line,) = result.output.splitlines()
        assert words in line

    def test_no_run_is_one_line(self, tmp_path):
        result = invoke(tmp_path / "nowhere")
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
        assert CliRunner().invoke(main, ["scale"]).exit_code == 2

    def test_several_cases_are_named(self, alone):
        result = invoke(alone)
        assert result.exit_code == 2
        assert "expected one case, found torch eager, forward + backward of owt at batch 8; torch" in result.output
        assert "choose with --framework, --variant, --batch" in result.output

    @pytest.mark.parametrize("kind", ["forward alone", "teams alone", "arms", "a failed step"])
    def test_runs_without_a_pass_to_project_are_refused(self, tmp_path, kind):
        step = dataclasses.replace(runs.A, pass_="train_step")
        cases = {
            "forward alone": [runs.A],
            "teams alone": list(teams_of([step], [2], False)),
            "arms": runs.arms(step, ab=Ab("mode", ("eager", "eager"))),
            "a failed step": [step],
        }
        run = runs.make(tmp_path / "run", cases[kind])
        if kind == "a failed step":
            failed = {"event": "failed", "group": 0, "round": 0, "attempt": 0, "case_id": step.id, "reason": "it broke"}
            runs.changed(run, failed)
        result = invoke(run.folder)
        assert result.exit_code == 2
        assert "expected a valid case of train_step or forward_backward of one of our nets" in result.output


@pytest.mark.process
def test_a_run_of_the_null_net_is_projected(tmp_path):
    cases = [dataclasses.replace(NULL_CASE, pass_=name) for name in ("forward", "forward_backward")]
    run = run_cases(tmp_path, list(teams_of(cases, [1, 2], False)), devices=[Device((0,)), Device((1,))], rounds=3)
    assert [run.invalid_reason(case) for case in run.cases] == [""] * len(run.cases)
    rows = as_json(run.folder, "--devices", "4")["rows"]
    own = [row for row in rows if row["link"] == "this Run"]
    assert [row["devices"] for row in own] == [2, 4]
    assert own[0]["measured_efficiency"]["center"] == run.row(run.cases[3])["efficiency"]
    assert 0 < own[1]["efficiency"] <= own[0]["efficiency"] <= 1
