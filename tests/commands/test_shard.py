"""`run --shard`: the shards of a grid, planned, measured, resumed and reproduced; and a shard without a group."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from command import ONE_THREAD, Inline

from bench.cases.case import groups
from bench.commands.cli import main
from bench.output import reproduce
from bench.record.events import Resume, Stop
from bench.record.fleet import Fleet
from bench.record.run import Run

pytestmark = pytest.mark.process

EIGHT = ("run", "--framework", "null", *ONE_THREAD, "--variant", "half_width", "--size", "67", "--pass", "forward")
EIGHT += ("--batch", "1,2,3,4,5,6,7,8", "--mode", "noop,part")
SHORT = ("--rounds", "2", "--iterations", "4", "--burn-in", "1", "--no-gate")


def planned(*args):
    """What `run --dry-run --json` says, and on stderr."""
    result = CliRunner().invoke(main, [*EIGHT, *SHORT, *args, "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """A dry run would time this machine."""
    monkeypatch.setattr("bench.controller.estimate.matrix_flops", lambda: 1e11)


class TestPlan:
    @pytest.mark.parametrize("count", [1, 3, 8, 11])
    def test_the_shards_are_the_grid(self, count):
        whole, _ = planned()
        plans = [planned("--shard", f"{index}/{count}")[0] for index in range(count)]
        assert sorted(case for plan in plans for case in plan["cases"]) == sorted(whole["cases"])
        assert sum(len(plan["groups"]) for plan in plans) == len(whole["groups"]) == 8
        assert {plan["shard"]["grid"] for plan in plans} == {plans[0]["shard"]["grid"]}
        assert whole["shard"] is None

    def test_the_speed_of_the_machine_changes_no_shard(self, monkeypatch):
        before, _ = planned("--shard", "0/3")
        monkeypatch.setattr("bench.controller.estimate.matrix_flops", lambda: 1e14)
        assert planned("--shard", "0/3")[0]["cases"] == before["cases"]

    @pytest.mark.parametrize("more", [("--rounds", "3"), ("--batch", "1,2"), ("--seed", "1"), ("--dropout",)])
    def test_another_grid_or_protocol_has_another_digest(self, more):
        assert planned(*more, "--shard", "0/2")[0]["shard"]["grid"] != planned("--shard", "0/2")[0]["shard"]["grid"]

    def test_a_dry_run_shows_the_groups_of_the_shard(self):
        result = CliRunner().invoke(main, [*EIGHT, *SHORT, "--shard", "0/4", "--dry-run"])
        assert result.stderr.startswith("alexnet-bench: --shard 0/4: 2 of the 8 groups of grid ")
        assert [line.split("-")[5] for line in result.stdout.splitlines()[:4]] == ["b1", "b1", "b8", "b8"]
        assert "4 cases; " in result.stdout

    def test_a_variable_gives_the_shard(self):
        result = CliRunner(env={"ALEXNET_BENCH_SHARD": "7/8"}).invoke(main, [*EIGHT, "--dry-run"])
        assert "--shard 7/8: 1 of the 8 groups" in result.stderr


class TestSurplus:
    """A shard without a group ends well: it must not fail the array of a fleet that is larger than the grid."""

    SAYS = "alexnet-bench: --shard 8/9: nothing to do: the grid has 8 groups, shards from 8 on have none\n"

    @pytest.mark.parametrize("more", [(), ("--dry-run",)])
    def test_it_says_so_in_one_line_and_makes_no_folder(self, inline, more):
        done = inline(*EIGHT, *SHORT, "--shard", "8/9", *more)
        assert (done.code, done.out, done.err) == (0, "", self.SAYS)
        assert not inline.results.exists()

    def test_its_json_is_empty(self, inline):
        done = inline(*EIGHT, *SHORT, "--shard", "8/9", "--json")
        assert (done.code, json.loads(done.out)) == (0, {"run": None, "cases": [], "ratios": []})
        plan, _ = planned("--shard", "8/9")
        assert (plan["cases"], plan["groups"], plan["expected_s"]) == ([], [], 0)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """The folders of the four shards of a grid of eight groups, by shard; measured in another order."""
    folders = {}
    for index in (2, 0, 3, 1):
        command = Inline(tmp_path_factory.mktemp(f"node{index}"))
        done = command(*EIGHT, *SHORT, "--shard", f"{index}/4")
        assert done.code == 0, done.err
        folders[index] = done.folder
    return dict(sorted(folders.items()))


@pytest.fixture
def cut(fleet, tmp_path):
    """A copy of a shard that was cut off after the first of its two groups."""
    folder = Path(shutil.copytree(fleet[1], tmp_path / fleet[1].name))
    lines = (folder / "run.jsonl").read_text().splitlines(keepends=True)
    stop = next(number for number, line in enumerate(lines) if '"event":"stop"' in line)
    (folder / "run.jsonl").write_text("".join(lines[: stop + 1]))
    return folder


class TestRuns:
    def test_their_union_is_the_grid_and_no_group_is_there_twice(self, fleet):
        runs = [Run(folder) for folder in fleet.values()]
        whole = planned()[0]["cases"]
        assert sorted(row["case_id"] for run in runs for row in run.rows() if row["valid"]) == sorted(whole)
        assert [len(groups(run.cases)) for run in runs] == [2] * 4

    def test_a_run_knows_its_shard_and_its_grid(self, fleet):
        for index, folder in fleet.items():
            run = Run(folder)
            assert folder.name.endswith(f"-half_width-shard-{index}-of-4")
            assert (run.head.shard.index, run.head.shard.count) == (index, 4)
            assert run.head.shard.grid == planned("--shard", "0/4")[0]["shard"]["grid"]
            assert [case.id for case in run.head.shard.cases] == planned()[0]["cases"]
            assert run.head.shard.own == run.cases

    def test_the_command_of_a_shard_measures_that_shard(self, fleet):
        for folder in fleet.values():
            run = Run(folder)
            words = shlex.split(reproduce.whole(run))
            result = CliRunner().invoke(main, [*words[1:], "--dry-run", "--json"])
            plan = json.loads(result.stdout)
            assert plan["cases"] == [case.id for case in run.cases]
            assert plan["shard"] == {"shard": run.head.shard.number, "grid": run.head.shard.grid}

    def test_the_aa_of_a_shard_has_both_arms_of_its_cases(self, fleet):
        run = Run(fleet[2])
        words = shlex.split(reproduce.against_itself(run))
        plan = json.loads(CliRunner().invoke(main, [*words[1:], "--dry-run", "--json"]).stdout)
        assert plan["cases"] == [f"{case.id}-{arm}" for case in run.cases for arm in "AB"]

    def test_a_shard_is_resumed_as_that_shard(self, cut, tmp_path):
        before = Run(cut)
        assert [stop.group for stop in before.events_of(Stop)] == [0]
        done = Inline(tmp_path).resume(cut)
        assert done.code == 0, done.err
        run = Run(cut)
        assert len(run.events_of(Resume)) == 1
        assert run.head == before.head
        assert [row["valid"] for row in run.rows()] == [True] * 4
        assert [run.samples(case) for case in run.cases[:2]] == [before.samples(case) for case in run.cases[:2]]

    def test_resume_takes_no_shard(self, cut):
        result = CliRunner().invoke(main, ["run", "--resume", str(cut), "--shard", "1/4"])
        assert result.exit_code == 2
        assert result.stderr == "alexnet-bench: --resume: the Run has its own settings; leave out --shard\n"

    def test_a_case_that_is_not_in_the_grid_is_an_invalid_header(self, cut):
        text = (cut / "run.jsonl").read_text()
        head, rest = text.split("\n", 1)
        facts = json.loads(head)
        facts["shard"]["cases"] = facts["shard"]["cases"][:2]
        (cut / "run.jsonl").write_text(json.dumps(facts) + "\n" + rest)
        result = CliRunner().invoke(main, ["report", str(cut)])
        assert result.exit_code == 2
        assert "invalid header in run.jsonl: a case that is not in the grid of its shard" in result.stderr


class TestMerge:
    def merge(self, tmp_path, *folders, more=()):
        out = tmp_path / "merged"
        result = CliRunner().invoke(main, ["merge", *map(str, folders), "--out", str(out), *more])
        assert result.exit_code in (0, 1), result.output
        return result, json.loads((out / "index.json").read_text())

    def test_all_shards_are_the_grid(self, fleet, tmp_path):
        result, index = self.merge(tmp_path, *fleet.values(), more=["--strict"])
        assert (result.exit_code, result.stderr) == (0, "")
        assert index["grid"]["missing_groups"] == index["grid"]["missing_shards"] == []
        assert sorted(number for run in index["runs"] for number in run["shown"]) == list(range(8))
        assert len(index["machines"]) == 1  # four Runs of this one
        for number in range(1, 9):
            assert f"half_width, 67 px, batch {number}, cpu, fp32: ms [95 %]" in result.stdout

    def test_a_missing_shard_is_named(self, fleet, tmp_path):
        result, index = self.merge(tmp_path, fleet[0], fleet[3], fleet[1])
        assert result.exit_code == 0
        assert "alexnet-bench: missing: shard 2/4, with 2 of the 8 groups of the grid, " in result.stderr
        assert index["grid"]["missing_shards"] == ["2/4"]
        assert [index["grid"]["groups"][number] for number in index["grid"]["missing_groups"]] == [
            [case.id for case in group] for group in groups(Run(fleet[2]).cases)
        ]

    def test_a_shard_that_was_cut_off_is_named(self, fleet, cut, tmp_path):
        result, index = self.merge(tmp_path, fleet[0], cut, fleet[2], fleet[3], more=["--strict"])
        assert result.exit_code == 1
        assert (
            f"{cut} was cut off: on the same machine, `alexnet-bench run --resume {cut}` continues it\n"
            in result.stderr
        )
        assert [run["finished"] for run in index["runs"]].count(False) == 1
        assert "not measured" in result.stdout

    def test_shards_and_a_whole_run_are_of_one_grid(self, fleet, tmp_path):
        """A Run that is no shard records no digest: it is computed from its Cases and Protocol."""
        head, _ = (fleet[0] / "run.jsonl").read_text().split("\n", 1)
        facts = json.loads(head)
        facts["cases"] = facts.pop("shard")["cases"]
        facts["run_id"] = "whole"
        (whole := tmp_path / "whole").mkdir()
        (whole / "run.jsonl").write_text(json.dumps(facts) + "\n")
        fleet = Fleet([Run(whole), Run(fleet[0])])
        assert len(fleet.groups) == 8
        assert fleet.missing == []
