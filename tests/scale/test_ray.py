"""`sweep --on ray://HOST`, on nodes of a Ray cluster in network namespaces, with a token."""

import contextlib
import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import ray_nodes
from command import Command
from paths import ROOT
from ray_nodes import GRID

from bench.cases.case import groups
from bench.record.run import Run

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(900)

PAGE = (ROOT / "docs/fleet.md").read_text()
EIGHT = ("--batch", "1,2,3,4,5,6,7,8")
#: Of a node that lacks the program, wherever it is installed.
HIDDEN = """import sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "bench":
            raise ModuleNotFoundError("No module named 'bench'", name="bench")

sys.meta_path.insert(0, Finder)
"""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes, which stay for all tests of the module that leave them alive."""
    if why := ray_nodes.missing():
        pytest.skip(why)
    with ray_nodes.cluster(2) as made:
        yield made


class Watch(threading.Thread):
    """Looks at the `run` on each node again and again."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.stopped = cluster, threading.Event()
        self.most = dict.fromkeys(cluster.names, 0)
        self.seen = {name: set() for name in cluster.names}
        self.environments, self.niceness, self.blocked = [], set(), set()

    def run(self):
        while not self.stopped.wait(0.2):
            for name in self.cluster.names:
                there = self.cluster.shards(name)
                self.most[name] = max(self.most[name], len(there))
                for number in there.keys() - self.seen[name]:
                    with contextlib.suppress(psutil.Error, OSError):
                        process = there[number]
                        self.environments.append(process.environ())
                        self.niceness.add(process.nice())
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        self.blocked.add(int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16))
                        self.seen[name].add(number)


@pytest.fixture(scope="module")
def swept(cluster, tmp_path_factory):
    """The result of a sweep of eight groups on two nodes: its folder, what it printed, and what was seen meanwhile."""
    out = tmp_path_factory.mktemp("swept")
    (watch := Watch(cluster)).start()
    process = cluster.sweep(*EIGHT, "--json", "--out", str(out), ALEXNET_BENCH_SEED="5")
    printed, err = process.communicate(timeout=600)
    watch.stopped.set()
    watch.join()
    assert process.returncode == 0, err
    return out, json.loads(printed), err, watch


def runs_of(out):
    return [Run(path.parent) for path in sorted(out.glob("*/run.jsonl"))]


def by_host(runs):
    hosts = {}
    for run in runs:
        hosts.setdefault(run.head.fingerprint.host, []).append((run.events[0].time, run.events[-1].time))
    return {host: sorted(times) for host, times in hosts.items()}


class TestGrid:
    def test_all_shards_come_back(self, swept):
        out, printed, err, _ = swept
        runs = runs_of(out)
        assert sorted(run.head.shard.number for run in runs) == [f"{index}/8" for index in range(8)]
        assert [len(groups(run.cases)) for run in runs] == [1] * 8
        assert all(row["valid"] for run in runs for row in run.rows())
        assert err.count(" came back from ") == 8
        assert printed["index"]["grid"]["missing_shards"] == []

    def test_journals_prove_one_at_a_time_per_node(self, swept):
        hosts = by_host(runs_of(swept[0]))
        assert len(hosts) == 2
        for times in hosts.values():
            for before, after in itertools.pairwise(times):
                assert before[1] < after[0]

    def test_nodes_measure_at_the_same_time(self, swept):
        """So the test above would see Runs that overlap."""
        one, other = by_host(runs_of(swept[0])).values()
        assert any(a[0] < b[1] and b[0] < a[1] for a in one for b in other)

    def test_a_node_is_never_given_two_shards(self, swept):
        """Not even one that waits for the lock of the machine."""
        watch = swept[3]
        assert set(watch.most.values()) == {1}
        assert sorted(number for seen in watch.seen.values() for number in seen) == [f"{n}/8" for n in range(8)]

    def test_nothing_that_ray_sets_reaches_a_run(self, swept):
        watch = swept[3]
        assert len(watch.environments) == 8
        names = {name for environment in watch.environments for name in environment}
        assert {name for name in names if name.startswith(("RAY_", "OMP_", "ALEXNET_BENCH_"))} == set()
        assert (watch.niceness, watch.blocked) == ({0}, {0})

    def test_options_of_the_environment_reach_every_node(self, swept):
        assert {run.protocol.seed for run in runs_of(swept[0])} == {5}

    def test_the_cpu_time_of_ray_is_in_the_rows(self, cluster, tmp_path):
        """It is that of other programs, which a row says of turns of more than a second."""
        long = ("--mode", "part", "--env", "NULL_NET=spin=20", "--iterations", "60", "--batch", "1", "--json")
        process = cluster.sweep(*long, "--out", str(tmp_path))
        printed, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        (row,) = json.loads(printed)["cases"]
        print(f"foreign CPU: {row['foreign_cpu_pct']} % of the machine; {row['flags']}")
        assert row["foreign_cpu_pct"] > 0

    def test_figures_have_the_shape_of_shards_and_merge(self, swept, tmp_path):
        out, printed, _, _ = swept
        command = Command(tmp_path)
        few = (*GRID, *EIGHT, "--seed", "5")
        for index in range(2):  # two of eight tell the shape
            assert command("run", *few, "--shard", f"{index}/8").code == 0
        folders = [str(path) for path in command.results.iterdir()]
        merged = command("merge", *folders, "--json", "--out", str(tmp_path / "merged"))
        index = json.loads(merged.out)["index"]
        assert index["grid"]["digest"] == printed["index"]["grid"]["digest"]
        assert index["grid"]["groups"] == printed["index"]["grid"]["groups"]
        assert index["runs"][0].keys() == printed["index"]["runs"][0].keys()
        rows = []
        for folder in (tmp_path / "merged", out / "merged"):
            with (folder / "merged.csv").open(newline="") as file:
                rows.append(list(csv.DictReader(file)))
        here, there = rows
        assert list(here[0]) == list(there[0])
        assert {row["case_id"] for row in here} < {row["case_id"] for row in there}
        filled = [{name for name, cell in row.items() if cell} for row in (here[0], there[0])]
        assert filled[0] ^ filled[1] <= {"flags", "quota_pct"}  # `ip netns exec` hides the files of a quota


def wait_for(what, process, seconds=120):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    return found


def gone(cluster, seconds):
    """Whether no `run` is left on any node, and neither is a Worker."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        lines = [" ".join(psutil.Process(pid).cmdline()) for name in cluster.names for pid in cluster.pids(name)
                 if psutil.pid_exists(pid)]  # fmt: skip
        if not [line for line in lines if "bench run" in line or "bench.worker.main" in line]:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_the_children_and_keeps_what_came_back(cluster, tmp_path, number):
    process = cluster.sweep(*EIGHT, "--out", str(tmp_path))
    wait_for(lambda: list(tmp_path.glob("*/run.jsonl")), process)
    wait_for(lambda: all(cluster.shards(name) for name in cluster.names), process)
    process.send_signal(number)
    printed, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert gone(cluster, 1)
    runs = runs_of(tmp_path)
    assert 1 <= len(runs) < 8
    assert f"alexnet-bench: interrupted: {len(runs)} of 8 shards are there\n" in err
    assert "Traceback" not in err
    assert f"Index: {tmp_path}/merged/index.json" in printed


def test_children_end_with_a_sweep_that_is_killed(cluster, tmp_path):
    process = cluster.sweep(*EIGHT, "--out", str(tmp_path))
    wait_for(lambda: all(cluster.shards(name) for name in cluster.names), process)
    process.kill()
    process.communicate()
    began = time.monotonic()
    assert gone(cluster, 120)
    print(f"{time.monotonic() - began:.0f} s")


class TestRefused:
    def refusal(self, cluster, *words, program=("-m", "bench"), **variables):
        line = cluster.command("--batch", "1,2", *words, program=program)
        env = cluster.environment(**variables)
        done = subprocess.run(line, env=env, cwd=cluster.folder, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (2, "")
        (refused,) = [line for line in done.stderr.splitlines() if line.startswith("alexnet-bench: ")]
        assert "Traceback" not in done.stderr
        return refused.removeprefix(f"alexnet-bench: --on {cluster.address}:10001: ")

    def test_a_client_with_another_token(self, cluster):
        line = self.refusal(cluster, RAY_AUTH_TOKEN="0" * 32)
        assert line.startswith(
            "its server takes no client within 30 s: expected Ray's server for clients, with the token "
        )

    def test_a_client_without_a_token(self, cluster):
        line = self.refusal(cluster, "--insecure", RAY_AUTH_MODE="disabled")
        assert line.startswith("its server takes no client within 30 s: ")

    def test_another_version(self, cluster):
        code = "import ray; ray.__version__ = '2.0.1'; from bench.__main__ import main; main()"
        line = self.refusal(cluster, program=("-c", code))
        assert line.startswith("cannot connect with Ray 2.0.1, Python 3.")
        assert "Version mismatch: The cluster was started with: Ray: 2." in line

    def test_other_code(self, cluster):
        code = "from bench.machine import code; code.digest = lambda: '0123'; from bench.__main__ import main; main()"
        line = self.refusal(cluster, program=("-c", code))
        assert re.fullmatch(r"it has other code: digest \w{12}, here 0123; install the same on all nodes", line)


def test_a_cluster_that_asks_for_no_token_is_refused():
    if why := ray_nodes.missing():
        pytest.skip(why)
    with ray_nodes.cluster(1, slots={0: 2}, token="") as made:
        refused = TestRefused().refusal
        given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}
        give = "start Ray there with --resources '{\"bench_slot\": 1}'"
        assert refused(made, **given).endswith(f"has 2 bench_slot, expected 1; {give}")
        made.stop()
        made.start(made.names[0], slots=0)
        assert refused(made, **given) == f"no node has the resource bench_slot; {give}"
        made.stop()
        made.start(made.names[0])
        assert refused(made, **given).startswith("the cluster asks for no token; start all its nodes with ")
        process = made.sweep("--batch", "1", "--insecure", "--out", str(made.folder / "out"))
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        made.stop()
        (hidden := made.folder / "hidden").mkdir()
        (hidden / "sitecustomize.py").write_text(HIDDEN)
        made.start(made.names[0], PYTHONPATH=str(hidden))
        line = refused(made, "--insecure")
        assert line.startswith("a task cannot run this program: No module named 'bench'; expected alexnet-bench to be ")


@pytest.mark.parametrize("left", [1, 0])
def test_a_shard_of_a_killed_node_comes_back_from_another(left, tmp_path):
    """With no other node it is lost, and what came back before is kept."""
    if why := ray_nodes.missing():
        pytest.skip(why)
    slots = {} if left else {0: 0}
    with ray_nodes.cluster(2, slots=slots) as made:
        head, lost = made.names
        process = made.sweep("--batch", "1,2,3,4", "--out", str(tmp_path))
        if not left:
            wait_for(lambda: list(tmp_path.glob("*/run.jsonl")), process)
        number = wait_for(lambda: list(made.shards(lost)), process)[0]
        time.sleep(2)
        began = time.monotonic()
        made.kill(lost)
        _, err = process.communicate(timeout=300)
        print(f"{time.monotonic() - began:.0f} s\n{err}")
        runs = {run.head.shard.number: run for run in runs_of(tmp_path)}
        if left:
            assert process.returncode == 0, err
            assert sorted(runs) == ["0/4", "1/4", "2/4", "3/4"]
            assert f"shard {number} came back from {head} " in err
        else:
            assert process.returncode == 1, err
            assert len(runs) in (1, 2)
            assert f"alexnet-bench: shard {number} is lost: no node with bench_slot is left" in err
            assert (tmp_path / "merged/index.json").exists()


def test_the_recipe_of_the_page_measures_its_grid(tmp_path):
    if why := ray_nodes.missing():
        pytest.skip(why)
    pytest.importorskip("torch")
    (script,) = re.findall(r"^```bash\n(.*?)^```", PAGE.partition("### Two nodes")[2], flags=re.DOTALL | re.MULTILINE)
    (tools := tmp_path / "bin").mkdir()
    for name, module in (("alexnet-bench", "bench"), ("ray", "ray.scripts.scripts")):
        (tools / name).write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    log = tmp_path / "log"
    with log.open("wb") as out:  # not a pipe, which what Ray leaves behind would hold
        done = subprocess.run(["bash", "-c", script], env=env, cwd=tmp_path, stdout=out, stderr=out, timeout=600)
    assert done.returncode == 0, log.read_text()
    runs = runs_of(tmp_path / "results/grid")
    assert sorted(run.head.shard.number for run in runs) == ["0/4", "1/4", "2/4", "3/4"]
    assert all(row["valid"] for run in runs for row in run.rows())
    assert len(by_host(runs)) == 2
    shown = subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
    assert "node0" not in shown
