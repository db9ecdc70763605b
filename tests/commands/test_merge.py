"""`merge`: Runs of one grid by machine, in a table, an index and a CSV; and Runs that are not of one grid."""

import csv
import dataclasses
import json
import re
import shutil

import pytest
from click.testing import CliRunner
from fleets import GRID, shard, shards
from hostile import run_with_text
from paths import ROOT
from runs import AA, HOST, A, B, arms, make

from bench.cases.arm import Ab
from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.record.columns import COLUMNS, names
from bench.record.fleet import Fleet
from bench.record.run import Run
from bench.stats.verdict import Word

FEW = [dataclasses.replace(case, batch=batch) for batch in (1, 8) for case in (A, B)]
FINE = "expected Runs of one grid, made with the same options but for --shard"


def merge(*words):
    return CliRunner().invoke(main, ["merge", *map(str, words)])


def merged(folder, *runs, more=()):
    """The result of `merge` of these Runs, its index, and the rows of its CSV."""
    result = merge(*(run.folder for run in runs), "--out", folder / "out", *more)
    assert result.exit_code in (0, 1), result.output
    with open(folder / "out/merged.csv", newline="") as file:
        return result, json.loads((folder / "out/index.json").read_text()), list(csv.DictReader(file))


def refusal(folder, *runs):
    result = merge(*(getattr(run, "folder", run) for run in runs), "--out", folder / "out")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert not (folder / "out").exists()
    (line,) = result.stderr.splitlines()
    return line.removeprefix("alexnet-bench: ")


def cells(text):
    """The lines of all tables, by cells."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines() if re.search(r"\S  +\S", line)]


class TestMachines:
    @pytest.fixture
    def two(self, tmp_path):
        """The same Cases on two machines, of which the second is twice as fast; there the other Case is slower."""
        base = {"protocol": Protocol(rounds=3, iterations=4), "rounds": 3, "cases": FEW}
        one = make(tmp_path / "one", **base, base_ns=2_000_000, slower=1.5, run_id="one")
        machine = HOST | {"host": "another", "cpu": "another CPU", "python": "3.13.1"}
        other = make(tmp_path / "other", **base, base_ns=1_000_000, slower=0.5, run_id="other", fingerprint=machine)
        return one, other

    def test_machines_are_columns_next_to_each_other(self, tmp_path, two):
        result, index, _ = merged(tmp_path, *two)
        one, other = index["machines"]
        tables = result.stdout.split("ms [95 %]")[1:]
        assert len(tables) == 2  # batch 1 and batch 8
        rows = cells(tables[0])
        assert rows[0] == ["pass", "framework", one, other]
        assert rows[1] == ["forward", "torch eager", "2 [2, 2]", "1 [1, 1]"]
        assert rows[2] == ["tensorflow graph", "3 [3, 3]", "0.5 [0.5, 0.5]"]

    def test_ratios_are_those_of_each_run_and_none_is_between_machines(self, tmp_path, two):
        result, _, _ = merged(tmp_path, *two)
        rows = cells(result.stdout.split("ms [95 %]")[1])
        assert rows[3] == ["ratio", "torch eager", "1", "1"]
        assert rows[4] == ["tensorflow graph", "1.500 [1.500, 1.500]", "0.500 [0.500, 0.500]"]
        assert not [word for word in Word if word in result.stdout]
        assert "Their figures are not pooled, and no verdict compares them" in result.stdout

    def test_a_machine_is_described_with_what_it_differs_in(self, tmp_path, two):
        result, index, _ = merged(tmp_path, *two)
        one, other = index["machines"]
        assert f"{one}: a CPU, 2,048 MiB, Linux 6 x86_64, host 0123456789ab, python None; 1 Run: one\n" in result.stdout
        assert f"{other}: another CPU, 2,048 MiB, Linux 6 x86_64, host another, python 3.13.1; 1 Run" in result.stdout

    @pytest.mark.parametrize(
        ("change", "machines"),
        [
            *(({name: value}, 2) for name, value in {"host": "x", "cpu": "x", "python": "3.12.1", "code": "1"}.items()),
            *(({"packages": {"numpy": "1"}}, 2), ({"affinity": "0-1"}, 2), ({"memory_mib": 4096}, 2)),
            *(({"load_1min": 0.7}, 1), ({"commit": "0123"}, 1)),
        ],
    )
    def test_a_machine_is_its_fingerprint_without_what_passes(self, tmp_path, change, machines):
        runs = [
            make(tmp_path / name, FEW, run_id=name, fingerprint=HOST | more)
            for name, more in (("a", {}), ("b", change))
        ]
        _, index, _ = merged(tmp_path, *runs)
        assert len(index["machines"]) == machines

    def test_a_fourth_machine_has_a_table_of_its_own(self, tmp_path):
        runs = [
            make(tmp_path / name, [A, B], run_id=name, fingerprint=HOST | {"host": name})
            for name in ("a", "b", "c", "d")
        ]
        result, index, _ = merged(tmp_path, *runs)
        heads = [line.split()[2:] for line in result.stdout.splitlines() if line.startswith(" pass")]
        assert heads == [list(index["machines"])[:3], list(index["machines"])[3:]]
        assert max(map(len, result.stdout.split("ms [95 %]")[1].splitlines())) <= 100

    def test_two_arms_have_their_ratio(self, tmp_path):
        both = arms(A)
        runs = [make(tmp_path / "a", both, ab=AA, slower=1.25, run_id="a")]
        result, _, _ = merged(tmp_path, *runs)
        assert ["torch eager B", "1.250 [1.250, 1.250]"] in cells(result.stdout)


class TestTwice:
    def test_both_runs_of_a_group_are_kept_and_the_newest_is_shown(self, tmp_path):
        runs = [
            shard(tmp_path / name, 0, 4, machine="m", base_ns=ns) for name, ns in (("old", 10**6), ("new", 4 * 10**6))
        ]
        result, index, rows = merged(tmp_path, *reversed(runs))
        assert [(run["run_id"], run["groups"], run["shown"]) for run in index["runs"]] == [
            ("old", [0, 7], []),
            ("new", [0, 7], [0, 7]),
        ]
        assert {row["run_id"] for row in rows} == {"old", "new"}
        assert len(rows) == 8
        assert "4 [4, 4]" in result.stdout
        assert "1 [1, 1]" not in result.stdout
        assert "more than once the newest Run is shown" in result.stdout

    def test_a_newer_run_without_a_valid_row_hides_no_older_one(self, tmp_path):
        old = shard(tmp_path / "old", 0, 4, machine="m")
        new = shard(tmp_path / "new", 0, 4, machine="m", rounds=0)
        _, index, _ = merged(tmp_path, old, new)
        assert [run["shown"] for run in index["runs"]] == [[0, 7], []]

    def test_the_same_run_twice_is_refused(self, tmp_path):
        run = shard(tmp_path / "run", 0, 4)
        copy = shutil.copytree(run.folder, tmp_path / "copy")
        expected = f"{run.folder} and {copy} are both Run run: expected each Run once"
        assert refusal(tmp_path, run, copy) == expected
        assert refusal(tmp_path, run, run) == expected.replace(str(copy), str(run.folder))

    def test_runs_of_two_machines_may_have_one_id(self, tmp_path):
        runs = [shard(tmp_path / f"{index}/same", index, 4) for index in (0, 1)]
        _, index, _ = merged(tmp_path, *runs)
        assert [run["run_id"] for run in index["runs"]] == ["same", "same"]
        assert sum(len(run["shown"]) for run in index["runs"]) == 4


class TestMissing:
    def test_each_is_named_and_only_strict_fails(self, tmp_path):
        runs = shards(tmp_path, 4, 0, 2)
        result, index, _ = merged(tmp_path, *runs)
        assert result.exit_code == 0
        assert "missing: shard 1/4, 3/4, with 4 of the 8 groups of the grid, which begin with owt-" in result.stderr
        assert index["grid"]["missing_shards"] == ["1/4", "3/4"]
        assert merged(tmp_path, *runs, more=["--strict"])[0].exit_code == 1

    def test_a_shard_without_a_group_is_not_missing(self, tmp_path):
        result, index, _ = merged(tmp_path, *shards(tmp_path, 12), more=["--strict"])
        assert (result.exit_code, result.stderr) == (0, "")
        assert index["grid"]["missing_shards"] == []

    def test_shards_of_other_numbers_make_up_one_grid(self, tmp_path):
        runs = [*shards(tmp_path, 2, 0), *shards(tmp_path, 4, 1, 3)]
        result, index, _ = merged(tmp_path, *runs)
        held = {number for run in index["runs"] for number in run["groups"]}
        assert sorted(held | set(index["grid"]["missing_groups"])) == list(range(8))
        assert "missing: shard 1/2" in result.stderr

    def test_an_interrupted_run_is_named(self, tmp_path):
        runs = [*shards(tmp_path, 2, 0), *shards(tmp_path, 2, 1, stop="interrupted")]
        result, _, _ = merged(tmp_path, *runs, more=["--strict"])
        assert result.exit_code == 1
        assert re.findall(r"alexnet-bench: (\S+) was cut off", result.stderr) == [str(runs[1].folder)]


class TestFiles:
    def test_the_csv_has_the_rows_of_all_runs_with_run_and_machine(self, tmp_path):
        runs = shards(tmp_path, 4)
        _, index, rows = merged(tmp_path, *runs)
        assert list(rows[0]) == ["run", "machine", *names(COLUMNS)]
        assert len(rows) == len(GRID)
        wanted = {row["case_id"]: row for run in runs for row in run.rows()}
        assert {row["case_id"]: float(row["center_ms"]) for row in rows} == {
            name: row["center_ms"] for name, row in wanted.items()
        }
        assert {(row["run"], row["machine"]) for row in rows} == {
            (run["path"], run["machine"]) for run in index["runs"]
        }

    def test_paths_are_relative_to_the_files(self, tmp_path, monkeypatch):
        runs = shards(tmp_path / "results/grid", 2)
        monkeypatch.chdir(tmp_path / "results")
        assert merge("grid/shard-0-of-2", "grid/shard-1-of-2", "--out", "elsewhere/out").exit_code == 0
        shutil.move(tmp_path / "results", tmp_path / "moved")
        out = tmp_path / "moved/elsewhere/out"
        index = json.loads((out / "index.json").read_text())
        assert [run["path"] for run in index["runs"]] == ["../../grid/shard-0-of-2", "../../grid/shard-1-of-2"]
        assert [Run(out / run["path"]).head.run_id for run in index["runs"]] == [run.head.run_id for run in runs]
        assert str(tmp_path) not in (out / "index.json").read_text() + (out / "merged.csv").read_text()

    def test_the_index_says_what_each_run_has(self, tmp_path):
        runs = shards(tmp_path, 4)
        _, index, _ = merged(tmp_path, *runs)
        assert index["schema"] == 1
        assert index["grid"]["digest"] == runs[0].head.shard.grid
        assert [case for group in index["grid"]["groups"] for case in group] == [case.id for case in GRID]
        for run, listed in zip(runs, index["runs"], strict=True):
            assert listed["shard"] == run.head.shard.number
            ids = [case for number in listed["groups"] for case in index["grid"]["groups"][number]]
            assert ids == [case.id for case in run.cases]
            assert index["machines"][listed["machine"]]["host"] == run.head.fingerprint.host

    def test_no_journal_is_written_and_a_second_merge_replaces_the_first(self, tmp_path):
        runs = shards(tmp_path, 4)
        merged(tmp_path, *runs[:2])
        _, index, rows = merged(tmp_path, *runs)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.json", "merged.csv"]
        assert (len(index["runs"]), len(rows)) == (4, 16)

    def test_json_on_stdout_is_the_index_and_the_rows(self, tmp_path):
        result, index, rows = merged(tmp_path, *shards(tmp_path, 4), more=["--json"])
        printed = json.loads(result.stdout)
        assert printed["index"] == index
        assert [row["case_id"] for row in printed["cases"]] == [row["case_id"] for row in rows]

    def test_the_csv_can_be_plotted_and_the_runs_reported(self, tmp_path):
        runs = [shard(tmp_path / f"shard-{index}", index, 4, cases=FEW) for index in (0, 1)]
        merged(tmp_path, *runs)
        plot = ["plot", tmp_path / "out/merged.csv", "--output", tmp_path / "a.svg"]
        report = ["report", *(run.folder for run in runs), "--output", tmp_path / "page.html"]
        assert [CliRunner().invoke(main, list(map(str, words))).exit_code for words in (plot, report)] == [0, 0]
        assert "1/4: 1 of the 2 groups of grid" in (tmp_path / "page.html").read_text()


class TestRefused:
    def test_another_protocol(self, tmp_path):
        one, other = shard(tmp_path / "a", 0, 4), shard(tmp_path / "b", 1, 4, protocol=Protocol(rounds=4, iterations=4))
        said = f"incompatible Runs: {other.folder} has protocol rounds 4, {one.folder} has 3; {FINE}"
        assert refusal(tmp_path, one, other) == said

    def test_another_grid(self, tmp_path):
        one, other = shard(tmp_path / "a", 0, 4), shard(tmp_path / "b", 1, 4, cases=GRID[2:])
        has = f"{other.folder} has grid {other.head.shard.grid} (code None), {one.folder} has {one.head.shard.grid}"
        assert refusal(tmp_path, one, other) == f"incompatible Runs: {has} with {GRID[0].id}; {FINE}"

    def test_another_order_of_the_grid(self, tmp_path):
        """The numbers of groups would not be the same."""
        one, other = shard(tmp_path / "a", 0, 4), shard(tmp_path / "b", 1, 4, cases=GRID[::-1])
        assert refusal(tmp_path, one, other).startswith(f"incompatible Runs: {other.folder} has grid ")

    def test_other_work_under_the_same_ids(self, tmp_path):
        """As of another version of this program, whose variant has other layers."""
        one = shard(tmp_path / "a", 0, 4)
        old = dataclasses.asdict(dataclasses.replace(one.head.shard, index=1, grid="0123456789abcdef"))
        other = make(tmp_path / "b", GRID[2:4], run_id="b", protocol=one.protocol, shard=old)
        said = (
            f"{other.folder} has grid 0123456789abcdef (code None), {one.folder} has {one.head.shard.grid} (code None)"
        )
        assert refusal(tmp_path, one, other) == f"incompatible Runs: {said}; {FINE}"

    @pytest.mark.parametrize(
        ("then", "now", "says"),
        [
            (
                {"guests": [{"file": "n.py", "function": "f", "sha256": "a" * 64, "label": "n", "arm": None}]},
                {"guests": [{"file": "n.py", "function": "f", "sha256": "b" * 64, "label": "n", "arm": None}]},
                "--net n.py:f bbbbbbbb, {} has aaaaaaaa",
            ),
            ({"ab": AA}, {"ab": Ab("slowdown", ("0", "5"))}, "--ab slowdown=0,5, {} has slowdown=0,0"),
            ({"ab": AA}, {}, "--ab None, {} has slowdown=0,0"),
        ],
    )
    def test_other_nets_or_sides(self, tmp_path, then, now, says):
        one, other = (make(tmp_path / name, arms(A), run_id=name, **facts) for name, facts in (("a", then), ("b", now)))
        said = says.format(one.folder)
        assert refusal(tmp_path, one, other) == f"incompatible Runs: {other.folder} has {said}; {FINE}"

    def test_a_folder_that_is_no_run(self, tmp_path):
        run = shard(tmp_path / "run", 0, 4)
        (empty := tmp_path / "empty").mkdir()
        (file := tmp_path / "file").touch()
        needs = "merge needs folders of `run`, found"
        assert refusal(tmp_path, run, empty) == f"{empty}: {needs} no run.jsonl there; leave it out"
        assert refusal(tmp_path, file) == f"{file}: {needs} a file; leave it out"
        assert refusal(tmp_path, tmp_path / "no") == f"{tmp_path / 'no'}: {needs} no such folder; leave it out"
        (empty / "run.jsonl").touch()
        assert refusal(tmp_path, run, empty) == f"{empty}: no Run there, run.jsonl has no header"

    def test_the_result_of_an_earlier_merge(self, tmp_path):
        run = shard(tmp_path / "run", 0, 4)
        merged(tmp_path, run)
        shutil.move(tmp_path / "out", before := tmp_path / "before")
        expected = f"{before}: merge needs folders of `run`, found the result of an earlier `merge`; leave it out"
        assert refusal(tmp_path, run, before) == expected

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        run = shard(tmp_path / "run", 0, 4)
        (file := tmp_path / "file").touch()
        result = merge(run.folder, "--out", run.folder)
        assert result.exit_code == 2
        assert result.stderr == f"alexnet-bench: --out: {run.folder} is the folder of a Run; expected one of its own\n"
        result = merge(run.folder, "--out", file / "in")
        assert result.exit_code == 2
        said = f"cannot write to {file / 'in'}: Not a directory; choose another folder with --out"
        assert result.stderr == f"alexnet-bench: {said}\n"

    def test_nothing(self):
        result = merge()
        assert result.exit_code == 2
        assert "Missing argument" in result.stderr


def test_what_a_run_holds_is_printed_without_controls(tmp_path):
    odd = "a\x1b[31mred\x07\x9b2J\x7f\u202egnp"
    run_with_text(tmp_path / "run", odd)
    result = merge(tmp_path / "run", "--out", tmp_path / "out")
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert [line for line in result.output.split("\n") if not line.isprintable()] == []


def test_a_run_of_before_is_of_one_machine(tmp_path):
    """Reference Runs have schema 4, without times."""
    fleet = Fleet([Run(ROOT / "results/reference/cpu-2-cores")])
    assert len(fleet.groups) == len(fleet.machines) == 1
    assert list(fleet.shown(0)) == list(fleet.machines)
