"""`sweep`: what it plans, what it refuses with and without Ray, and all shards of a grid on this machine."""

import dataclasses
import json
import os
import signal
import socket
import sys
import time

import pytest
from click.testing import CliRunner
from command import ONE_THREAD, Command
from fleets import shard

from bench.cases.parse import parse_cluster
from bench.commands import sweep
from bench.commands.cli import main, parse_words
from bench.commands.plan import one_shard, plan_run
from bench.commands.requests import RunRequest
from bench.controller import ray_fleet
from bench.controller.ray_fleet import Lost, Returned
from bench.controller.shard_run import Packed, packed
from bench.record.fleet import Fleet
from bench.record.run import Run

GRID = ("--framework", "null", *ONE_THREAD, "--variant", "half_width", "--size", "67", "--pass", "forward")
GRID += ("--mode", "noop,part", "--rounds", "2", "--iterations", "4", "--burn-in", "1", "--no-gate")
AN_ADDRESS = (
    "--on: expected ray://HOST or ray://HOST:PORT, the head of a cluster and the port of its server for clients"
)
TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def no_token(monkeypatch, tmp_path):
    """No token of whoever runs the tests, and none that a test leaves."""
    for name in TOKENS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def refusal(*words, **variables):
    """The one line on stderr with which it ends."""
    result = CliRunner(env=variables).invoke(main, ["sweep", *GRID, *words])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("alexnet-bench: ").strip()


class TestAddress:
    @pytest.mark.parametrize(
        "text",
        ["", "auto", "head:6379", "10.0.0.1:6379", "ray://", "ray://:10001", "ray://a:0", "ray://a:65536", "ray://a/b",
         "ray://a:1:2", "http://a", "RAY://a", "ray://a b", "ray://-a"],
    )  # fmt: skip
    def test_any_other_is_refused(self, text):
        assert AN_ADDRESS in refusal("--on", text)

    def test_without_a_port_it_is_that_for_clients(self):
        assert parse_cluster("--on", "ray://head") == "ray://head:10001"
        assert parse_cluster("--on", "ray://10.0.0.1:12345") == "ray://10.0.0.1:12345"


class TestToken:
    SAYS = (
        "--on ray://head:10001: no token here: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as "
        "where the cluster was started, or pass --insecure: without one, whoever reaches the ports of a cluster can "
        "run programs on its nodes"
    )

    @pytest.mark.parametrize(
        "variables",
        [{}, {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_TOKEN": " "}, {"RAY_AUTH_TOKEN_PATH": "/dev/null"},
         {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "secret"}, {"RAY_AUTH_TOKEN_PATH": "no-such-file"}],
    )  # fmt: skip
    def test_an_address_without_one_is_refused(self, variables):
        assert refusal("--on", "ray://head", **variables) == self.SAYS

    def test_it_is_where_ray_looks_for_it(self, monkeypatch, tmp_path):
        (tmp_path / "token").write_text("secret")
        (tmp_path / "home/.ray").mkdir(parents=True)
        assert not ray_fleet.has_token()
        for name, value in (("RAY_AUTH_TOKEN", "secret"), ("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))):
            with monkeypatch.context() as patch:
                patch.setenv(name, value)
                assert ray_fleet.has_token()
        (tmp_path / "home/.ray/auth_token").write_text("secret")
        ray_fleet.require_token("ray://head:10001")
        assert os.environ["RAY_AUTH_MODE"] == "token"

    def test_insecure_is_about_a_cluster(self):
        assert refusal("--insecure") == "--insecure: it is about a cluster: pass --on ray://HOST too"


class TestRay:
    @pytest.mark.parametrize("more", [("--insecure",), ()])
    def test_without_the_package_the_extra_is_named(self, monkeypatch, more):
        monkeypatch.setitem(sys.modules, "ray", None)
        variables = {} if more else {"RAY_AUTH_TOKEN": "secret"}
        assert refusal("--on", "ray://head", *more, **variables).startswith(
            "--on needs Ray, of the version of the cluster: pip install 'alexnet-bench[ray]' ("
        )

    def test_a_closed_port_is_named(self):
        pytest.importorskip("ray")
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            line = refusal("--insecure", "--on", f"ray://127.0.0.1:{port}")
        assert line.startswith(f"--on ray://127.0.0.1:{port}: nothing answers there: Connection refused; expected the ")

    def test_an_unknown_host_is_named(self):
        pytest.importorskip("ray")
        line = refusal("--insecure", "--on", "ray://no-such-host.invalid")
        assert line.startswith("--on ray://no-such-host.invalid:10001: nothing answers there: ")


class TestPlan:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--shards", "0"), "--shards: expected a whole number from 1 to 100,000, found '0'"),
            (("--batch", "0"), "--batch: expected a whole number from 1 to 65,536, found '0'"),
            (("--preprocessing", "caffe"), "--preprocessing: pictures are for loaders: pass --loaders 0,2 too"),
            (("--weights", "no-such.npy"), "--weights: "),
        ],
    )
    def test_what_run_refuses_is_refused_before_anything_is_started(self, words, message):
        assert message in refusal(*words)

    @pytest.mark.parametrize("option", ["--shard=0/2", "--resume=a", "--nodes=n1", "--launch=ssh", "--dry-run"])
    def test_options_of_a_single_run_are_not_there(self, option):
        result = CliRunner().invoke(main, ["sweep", option])
        assert result.exit_code == 2
        assert "No such option" in result.stderr

    def test_frameworks_are_named(self):
        named = sweep.named(RunRequest())
        assert {case.framework for case in plan_run(RunRequest()).cases} == set(named.framework.split(","))
        assert sweep.named(RunRequest(framework="null")).framework == "null"

    def planned(self, monkeypatch, *words):
        """The Sweep of these words, which measures nothing."""
        found = []
        monkeypatch.setattr(sweep.Sweep, "measure_here", lambda self: found.append(self))
        assert CliRunner().invoke(main, ["sweep", *GRID, "--batch", "1,2,3,4,5", *words]).exit_code == 0
        return found[0]

    def test_there_is_one_shard_per_group(self, monkeypatch):
        planned = self.planned(monkeypatch)
        assert (planned.shards, planned.count) == ([0, 1, 2, 3, 4], 5)

    def test_shards_without_a_group_are_not_started(self, monkeypatch):
        planned = self.planned(monkeypatch, "--shards", "7")
        assert (planned.shards, planned.count) == ([0, 1, 2, 3, 4], 7)
        assert self.planned(monkeypatch, "--shards", "2").shards == [0, 1]

    def test_a_shard_is_asked_for_with_the_same_grid(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ALEXNET_BENCH_BATCH", "1,2")
        planned = self.planned(monkeypatch, "--out", str(tmp_path), "--target-ci", "2.3")
        request = parse_words("run", [*planned.words, "--shard", "1/5"])
        assert request.out == RunRequest().out
        assert one_shard(plan_run(request), 1, 5).shard.grid == planned.grid
        assert planned.grid != self.planned(monkeypatch).grid  # --target-ci is there

    def test_devices_are_those_of_the_nodes(self, monkeypatch):
        """This machine, which may measure nothing, need not have as many cores."""
        planned = self.planned(monkeypatch, "--devices", "1,64")
        assert "--devices=1,64" in planned.words
        assert not [word for word in planned.words if "oversubscribe" in word]


class TestTake:
    """What comes back from a node."""

    @pytest.fixture
    def one(self, tmp_path):
        run = shard(tmp_path / "node/shard-1-of-4", 1, 4)
        return run, sweep.Sweep(tmp_path / "out", [], dataclasses.replace(run.head.shard))

    def test_a_run_is_kept_and_said(self, one, capsys):
        run, ours = one
        ours.take(1, Returned("node1 (10.0.0.2)", 61.4, packed(0, run.folder.parent, b""), "measured at nice 15"))
        assert [each.folder for each in ours.runs] == [ours.out / "shard-1-of-4"]
        assert not ours.failed
        assert capsys.readouterr().err == (
            "alexnet-bench: node1 (10.0.0.2): measured at nice 15\n"
            f"alexnet-bench: shard 1/4 came back from node1 (10.0.0.2) after 61 s: {ours.out}/shard-1-of-4\n"
        )
        ours.take(1, Returned("node1 (10.0.0.2)", 61.4, Packed(1, "", (), "a\nb"), "measured at nice 15"))
        assert capsys.readouterr().err == "alexnet-bench: shard 1/4 on node1 (10.0.0.2): b\n"
        assert ours.failed

    def test_a_case_that_failed_there_is_a_failure(self, one):
        run, ours = one
        ours.take(1, Returned("node1", 1, packed(1, run.folder.parent, b""), ""))
        assert (len(ours.runs), ours.failed) == (1, True)

    def test_a_lost_shard_is_named(self, one, capsys):
        _, ours = one
        ours.take(3, Lost("The node died"))
        assert capsys.readouterr().err == "alexnet-bench: shard 3/4 is lost: The node died\n"
        assert (ours.runs, ours.failed) == ([], True)

    def test_a_run_of_another_grid_is_no_part_of_the_index(self, one, capsys):
        run, ours = one
        ours.grid = "0123"
        ours.take(1, Returned("node1", 1, packed(0, run.folder.parent, b""), ""))
        assert (ours.runs, ours.failed) == ([], True)
        assert "expected a shard of grid 0123, found " in capsys.readouterr().err

    def test_what_is_no_run_is_not_written(self, one, capsys):
        _, ours = one
        ours.take(1, Returned("node1", 1, Packed(0, "../x", (("run.jsonl", b""),), ""), ""))
        assert ours.failed
        assert "shard 1/4 on node1: expected the name of a file in a Run, found '../x'" in capsys.readouterr().err
        assert not ours.out.exists()

    def test_nothing_at_all_is_an_empty_index(self, one, capsys):
        _, ours = one
        ours.failed = True
        assert ours.finish(as_json=True) == 1
        assert json.loads(capsys.readouterr().out) == {"index": None, "cases": []}


@pytest.mark.process
class TestHere:
    def test_all_shards_are_measured_and_merged(self, tmp_path):
        command = Command(tmp_path)
        done = command("sweep", *GRID, "--batch", "1,2,3", "--shards", "2", "--json", "--out", str(command.results))
        assert done.code == 0, done.err
        assert "alexnet-bench: 2 shards of 3 groups, grid " in done.err
        runs = [Run(path.parent) for path in sorted(command.results.glob("*/run.jsonl"))]
        assert [run.head.shard.number for run in runs] == ["0/2", "1/2"]
        fleet = Fleet(runs)
        assert (fleet.missing, fleet.unfinished, len(fleet.machines)) == ([], [], 1)
        data = json.loads(done.out)
        assert data["index"] == json.loads((command.results / "merged/index.json").read_text())
        assert [row["valid"] for row in data["cases"]] == [True] * 6
        first, second = (run.events for run in runs)
        assert first[-1].time < second[0].time

    def test_interrupted_it_keeps_what_is_there(self, tmp_path):
        command = Command(tmp_path)
        process = command.start("sweep", *GRID, "--batch", "1,2,3", "--out", str(command.results))
        journals = lambda: sorted(command.results.glob("*/run.jsonl"))  # noqa: E731
        while len(journals()) < 2 or journals()[1].stat().st_size < 5000:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        done = command.finish(process)
        assert done.code == 130, done.err
        assert "alexnet-bench: interrupted: 2 of 3 shards are there\n" in done.err
        assert "alexnet-bench: missing: shard 2/3, with 1 of the 3 groups of the grid" in done.err
        assert "continues it\n" in done.err  # the second
        assert len(journals()) == 2
        assert (command.results / "merged/index.json").exists()

    def test_a_run_that_is_refused_ends_it(self, tmp_path):
        command = Command(tmp_path)
        done = command("sweep", *GRID, "--batch", "1,2", "--device", "cuda", "--out", str(command.results))
        assert (done.code, done.out) == (2, "")
        reason, refused = done.err.splitlines()[-2:]
        assert reason.startswith("alexnet-bench: device 'cuda' asked for, the null Net has cpu only: it is not built ")
        assert refused == "alexnet-bench: shard 0/2 was refused, for the reason above"
        assert not command.results.exists()

    def test_a_later_run_that_is_refused_leaves_the_others(self, monkeypatch, tmp_path, capsys):
        run = shard(tmp_path / "node/grid-shard-0-of-4", 0, 4)
        ours = sweep.Sweep(tmp_path / "out", [], run.head.shard)

        def run_shard(words, index, count, out):
            if index == 0:
                packed(0, run.folder.parent, b"").unpack(out)
            return 0 if index == 0 else 2

        monkeypatch.setattr("bench.controller.shard_run.run_shard", run_shard)
        ours.measure_here()
        assert (len(ours.runs), ours.failed) == (1, True)
        assert capsys.readouterr().err.endswith("shard 1/4 was refused, for the reason above\n")
