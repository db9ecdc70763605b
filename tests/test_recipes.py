"""Recipes of docs/fleet.md: scripts and manifests parse, and their commands plan all shards of one grid."""

import json
import os
import re
import shlex
import subprocess

import pytest
import yaml
from click.testing import CliRunner
from paths import ROOT

from bench.commands.cli import main, parse_words
from bench.commands.options import convert
from bench.commands.requests import RunRequest
from bench.controller import ray_fleet

PAGE = (ROOT / "docs/fleet.md").read_text()
#: Options of sbatch that the script may have: a misspelt one is refused by Slurm only when the job is submitted.
SBATCH = {"job-name", "array", "nodes", "exclusive", "mem", "time", "signal", "output"}
#: In place of the program: it keeps its words, one call per line, in one write, since nodes run at once.
PROGRAM = '#!/bin/sh\nwords=$(printf "%s\\t" "$@")\nprintf "%s\\n" "$words" >> "$CALLS"\n'


def blocks(language, heading):
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)


(SLURM,), (SSH,), (MANIFEST,) = blocks("bash", "Slurm"), blocks("bash", "ssh"), blocks("yaml", "Kubernetes")
JOB = yaml.safe_load(MANIFEST)
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


class Machine:
    """A machine whose alexnet-bench, ssh and rsync only note what they are told."""

    def __init__(self, folder):
        self.folder, self.calls = folder, folder / "calls"
        self.tool("home/.venv/bin/alexnet-bench", PROGRAM)
        self.tool("home/alexnet-bench/.venv/bin/alexnet-bench", PROGRAM)
        self.tool("bin/ssh", '#!/bin/sh\nshift\necho "$1" >> "$NODES"\ncd "$HOME" && exec sh -c "$2"\n')
        self.tool("bin/rsync", "#!/bin/sh\nexit 0\n")
        (folder / "home/.venv/bin/activate").write_text('PATH="$HOME/.venv/bin:$PATH"\n')

    def tool(self, path, script):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(script)
        (self.folder / path).chmod(0o755)

    def __call__(self, *words, **variables):
        places = {"HOME": self.folder / "home", "CALLS": self.calls, "NODES": self.folder / "nodes"}
        path = f"{self.folder / 'bin'}:{self.folder / 'home/.venv/bin'}:{os.environ['PATH']}"
        env = {"PATH": path, **{name: str(place) for name, place in places.items()}, **variables}
        subprocess.run(words, cwd=self.folder / "home", env=env, check=True, capture_output=True, text=True, timeout=60)

    def commands(self):
        return [line.split("\t")[:-1] for line in self.calls.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def plan(words):
    """What a command would measure, with the null framework, which every environment has."""
    assert words[0] == "run"
    parse_words("run", words[1:])
    framework = words.index("--framework") + 1
    words = [*words[:framework], "null", *words[framework + 1 :], "--dry-run", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def assert_one_grid(commands):
    """The commands are those of all shards of the grid of the page, each once."""
    (line,) = re.findall(r"^alexnet-bench (run .*) --shard 0/8 --dry-run", PAGE, flags=re.MULTILINE)
    expected, plans = plan(shlex.split(line))["cases"], [plan(words) for words in commands]
    assert sorted(case for each in plans for case in each["cases"]) == sorted(expected)
    assert len({each["shard"]["grid"] for each in plans}) == 1
    numbers = [each["shard"]["shard"].split("/") for each in plans]
    assert sorted(int(index) for index, _ in numbers) == list(range(len(plans)))
    assert {int(count) for _, count in numbers} == {len(plans)}
    assert all(each["cases"] for each in plans)
    assert len({words[words.index("--out") + 1] for words in commands}) == 1


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    monkeypatch.setattr("bench.controller.estimate.matrix_flops", lambda: 1e11)


OPTIONS = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", SLURM, flags=re.MULTILINE))


class TestSlurm:
    def test_the_script_has_known_options_before_its_first_command(self):
        head, _, commands = SLURM.partition("\n\n")
        assert head.startswith("#!/bin/bash\n#SBATCH ")
        assert "#SBATCH" not in commands  # Slurm reads none after a command
        assert set(OPTIONS) == SBATCH
        assert OPTIONS["exclusive"] == ""

    def test_the_tasks_of_the_array_are_the_shards(self, machine):
        first, last = map(int, OPTIONS["array"].split("-"))
        for task in range(first, last + 1):
            machine("bash", "-euc", SLURM, SLURM_ARRAY_TASK_ID=str(task))
        assert_one_grid(machine.commands())


class TestKubernetes:
    def test_the_manifest_is_an_indexed_job_with_a_pod_per_node(self):
        assert (JOB["apiVersion"], JOB["kind"]) == ("batch/v1", "Job")
        spec = JOB["spec"]
        assert spec["completionMode"] == "Indexed"
        assert spec["completions"] == spec["parallelism"]
        assert spec["backoffLimitPerIndex"] >= 1
        assert POD["restartPolicy"] == "Never"  # which backoffLimitPerIndex and podFailurePolicy need
        assert POD["hostNetwork"] is True
        (rule,) = POD["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert rule["labelSelector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        assert rule["topologyKey"] == "kubernetes.io/hostname"

    def test_results_go_to_a_volume(self):
        (mount,), (volume,) = CONTAINER["volumeMounts"], POD["volumes"]
        assert mount["name"] == volume["name"]
        assert f"--out {mount['mountPath']}/" in CONTAINER["args"][0]

    def test_a_failed_case_is_not_tried_again_and_a_lost_pod_is(self):
        (rule,) = JOB["spec"]["podFailurePolicy"]["rules"]
        assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailIndex", [1, 2])  # see the README's exit codes

    def test_a_pod_is_given_whole_cores(self):
        asked, most = CONTAINER["resources"]["requests"], CONTAINER["resources"]["limits"]
        assert asked == most
        assert asked["cpu"].isdecimal()

    def test_the_indices_of_the_job_are_the_shards(self, machine):
        for index in range(JOB["spec"]["completions"]):
            machine(*CONTAINER["command"], *CONTAINER["args"], JOB_COMPLETION_INDEX=str(index))
        assert_one_grid(machine.commands())


class TestSsh:
    def test_each_node_has_a_shard(self, machine):
        machine("bash", "-euc", SSH)
        assert_one_grid(machine.commands())
        nodes = (machine.folder / "nodes").read_text().split()
        assert len(set(nodes)) == len(nodes) == len(machine.commands())


class TestRay:
    def test_the_sweep_of_the_page_is_that_of_its_grid(self):
        """tests/scale/test_ray.py runs such a one."""
        (line,) = re.findall(r"^alexnet-bench (sweep .*--on ray://HEAD .*)$", PAGE, flags=re.MULTILINE)
        (run,) = re.findall(r"^alexnet-bench (run .*) --shard 0/8 --dry-run", PAGE, flags=re.MULTILINE)
        swept = parse_words("sweep", shlex.split(line)[1:])
        expected = parse_words("run", shlex.split(run)[1:])
        assert swept.on == "ray://HEAD:10001"
        assert convert(swept, RunRequest, out=expected.out) == expected

    def test_every_node_has_the_slot_and_a_token(self):
        starts = re.findall(r"^(.*ray start .*)$", "\n".join(blocks("sh", "Ray")), flags=re.MULTILINE)
        assert len(starts) == 2
        for line in starts:
            assert line.startswith("RAY_AUTH_MODE=token ray start ")
            assert f"--resources '{{\"{ray_fleet.SLOT}\": 1}}'" in line


def test_each_way_to_run_a_fleet_says_what_is_exclusive():
    table = PAGE.partition("\n## What a machine is kept free by\n")[2].partition("\n## ")[0]
    ways = re.findall(r"^\| (\w+) \|", table, flags=re.MULTILINE)
    assert ways == ["Slurm", "Kubernetes", "ssh", "Ray"]
    assert all(f"\n## {way}\n" in PAGE for way in ways)
