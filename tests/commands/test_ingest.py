"""What pytest-benchmark stored becomes a Run; one of our own files gives back the Run it was made from."""

import json

import pytest
from click.testing import CliRunner
from pytest_benchmarks import MACHINE, stored
from runs import A, make

from bench.commands.cli import main
from bench.record import journal
from bench.record.run import Run


def session(folder, number, scale=1.0, side="a", minute=None, samples=20, **more):
    """One session of a suite of two benchmarks whose samples differ a little from session to session."""
    data = [scale * (0.010 + 0.00001 * number + 0.000001 * i) for i in range(samples)]
    both = [("test_f[torch-8]", data, {"params": {"framework": "torch", "batch": 8}, "group": "forward"})]
    both += [("test_g", [2 * one for one in data], {})]
    when = f"2026-01-01T00:{number if minute is None else minute:02}:00"
    return stored(folder, f"{side}{number}.json", *both, when=when, **more)


def ingest(*args, code=0):
    result = CliRunner().invoke(main, ["ingest", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def made(folder, *args):
    ingest(*args, "--out", folder)
    (one,) = folder.iterdir()
    return Run(one)


def test_a_session_is_a_round_and_a_benchmark_a_case(tmp_path):
    run = made(tmp_path / "out", *(session(tmp_path, number) for number in (2, 0, 1)))
    assert [case.id for case in run.cases] == ["t.py::test_f[torch-8]", "t.py::test_g"]
    first, second = run.rows()
    assert (first["framework"], first["batch"], first["pass"], first["rounds"]) == ("torch", 8, "forward", 3)
    assert (second["framework"], second["mode"], second["variant"], second["rounds"]) == ("other", "call", "test_g", 3)
    by_round = run.samples_by_round(run.cases[0])
    assert {round_: ns[0] for round_, ns in by_round.items()} == {0: 10_000_000, 1: 10_010_000, 2: 10_020_000}
    assert all(len(ns) == 20 for ns in by_round.values())


def test_unknown_axes_of_a_foreign_benchmark_stay_empty(tmp_path):
    row = made(tmp_path / "out", session(tmp_path, 0)).rows()[1]
    empty = "params macs gflop_per_s images_per_s peak_fraction steal_pct cores_used size parity_logits threads".split()
    assert {name: row[name] for name in empty} == dict.fromkeys(empty)
    assert "not_proven" in row["flags"].split()
    assert row["valid"]


def test_the_machine_is_kept_and_its_name_is_not(tmp_path):
    run = made(
        tmp_path / "out", session(tmp_path, 0, machine=MACHINE | {"node": "secret", "cpu": {"brand_raw": "Z80"}})
    )
    assert run.rows()[0]["device_name"] == "Z80"
    assert "secret" not in (run.folder / "run.jsonl").read_text()


def test_mirrored_sessions_are_compared_pair_by_pair(tmp_path):
    base = [session(tmp_path, number, minute=2 * number + number % 2) for number in range(5)]
    head = [session(tmp_path, n, 1.2, "b", minute=2 * n + 1 - n % 2, samples=20 + 2 * n) for n in range(5)]
    one, other = made(tmp_path / "one", *base), made(tmp_path / "two", *head)
    result = CliRunner().invoke(main, ["compare", str(one.folder), str(other.folder), "--json"])
    assert result.exit_code == 1, result.output
    cases = json.loads(result.stdout)["cases"]
    assert [case["verdict"] for case in cases] == ["SLOWER", "SLOWER"]
    assert cases[0]["ratio"] == pytest.approx(1.2, rel=1e-3)  # of sessions of unequal length


@pytest.mark.parametrize(("step", "later"), [(1, 10), (2, 1)])
def test_sessions_one_side_after_the_other_or_merely_alternating_decide_nothing(tmp_path, step, later):
    one = made(tmp_path / "one", *(session(tmp_path, number, minute=step * number) for number in range(5)))
    two = made(tmp_path / "two", *(session(tmp_path, n, 1.2, "b", minute=step * n + later) for n in range(5)))
    result = CliRunner().invoke(main, ["compare", str(one.folder), str(two.folder)])
    assert result.exit_code == 0
    assert "INCONCLUSIVE" in result.stdout
    assert "take base, head, head, base" in " ".join(result.stdout.split())


def test_one_session_under_two_names_is_not_two_rounds(tmp_path):
    first = session(tmp_path, 0)
    second = tmp_path / "copy.json"
    second.write_bytes(first.read_bytes())
    result = ingest(first, second, "--out", tmp_path / "out", code=2)
    assert "are the same session: expected each once" in result.stderr


def test_an_ingested_run_is_drawn_and_reported(tmp_path):
    run = made(tmp_path / "out", *(session(tmp_path, number) for number in range(3)))
    for *words, name in (("plot", "a.png"), ("plot", "--kind", "distribution", "b.png"), ("report", "c.html")):
        target = tmp_path / name
        result = CliRunner().invoke(main, [words[0], str(run.folder), *words[1:], "--output", str(target)])
        assert result.exit_code == 0, result.output
        assert target.stat().st_size > 10_000
    page = (tmp_path / "c.html").read_text()
    assert "another program measured this" in page
    assert "test_f[torch-8]" in page


def test_an_ingested_run_has_no_note_on_burn_in(tmp_path):
    assert made(tmp_path / "out", session(tmp_path, 0)).rows()[0]["flags"] == "not_proven"


def test_two_machines_are_not_one_run(tmp_path):
    other = session(tmp_path, 1, machine=MACHINE | {"python_version": "3.13.0"})
    result = ingest(session(tmp_path, 0), other, "--out", tmp_path / "out", code=2)
    assert "expected one python, found 3.12.1 in " in result.stderr
    assert "; 3.13.0 in " in result.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"release": "7"}, "system: Linux 7 x86_64, Linux 6 x86_64 in the baseline"),
        ({"python_version": "3.13.0"}, "python: 3.13.0, 3.12.1 in the baseline"),
    ],
)
def test_two_runs_of_other_machines_are_not_compared(tmp_path, changes, said):
    one = made(tmp_path / "one", session(tmp_path, 0))
    two = made(tmp_path / "two", session(tmp_path, 1, machine=MACHINE | changes))
    result = CliRunner().invoke(main, ["compare", str(one.folder), str(two.folder)])
    assert result.exit_code == 4
    assert said in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("benchmarks", "said"),
    [
        ([], "contains no benchmark"),
        ([{"name": "a", "stats": {"min": 1}}], "'a' has no samples; store them with pytest --benchmark-save-data"),
        ([{"name": "a", "stats": {"data": [1.0, -1.0]}}], "'a': sample 2: expected seconds above 0, found -1.0"),
        ([{"name": "a", "stats": {"data": ["x"]}}], "Expected `float`, got `str` - at `$.benchmarks[0].stats.data[0]`"),
        ([{"name": "a", "stats": {"data": [1.0]}}] * 2, "expected each benchmark once, found 'a' twice"),
        ("x", "Expected `array`, got `str` - at `$.benchmarks`"),
    ],
)
def test_a_file_that_cannot_become_a_run_says_why(tmp_path, benchmarks, said):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"benchmarks": benchmarks}))
    result = ingest(path, "--out", tmp_path / "out", code=2)
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"[" * 100_000, b'{"benchmarks": [NaN]}', b"\xff\xfe"])
def test_a_file_that_is_no_pytest_benchmark_json_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    result = ingest(path, "--out", tmp_path / "out", code=2)
    assert "expected a JSON that pytest-benchmark stored" in result.stderr


def test_hostile_names_are_kept_in_one_line_and_tell_two_apart(tmp_path):
    names = ["a\x1b[31m\nb", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "x" * 5000, "x" * 5000 + "y"]
    path = stored(tmp_path, "a.json", *((name, [0.001, 0.002], {}) for name in names))
    run = made(tmp_path / "out", path)
    assert len({case.id for case in run.cases}) == 5
    assert not any(len(case.id) > 200 or "\n" in case.id or "\x1b" in case.id for case in run.cases)


class TestOurOwn:
    def file(self, folder, run, **changes):
        enclosed = {"run_jsonl": journal.pack(run.folder), "run_id": run.folder.name} | changes
        return stored(folder, "ours.json", alexnet_bench=enclosed)

    def test_an_enclosed_run_is_restored_to_the_byte(self, tmp_path):
        run = make(tmp_path / "a-run", [A])
        back = made(tmp_path / "out", self.file(tmp_path, run))
        assert back.folder.name == "a-run"
        assert (back.folder / "run.jsonl").read_bytes() == (run.folder / "run.jsonl").read_bytes()

    def test_a_run_that_exists_already_is_left_alone(self, tmp_path):
        path = self.file(tmp_path, make(tmp_path / "out" / "a-run", [A]))
        assert "already holds this Run" in ingest(path, "--out", tmp_path / "out").stderr

    def test_another_run_of_the_same_name_is_not_overwritten(self, tmp_path):
        path = self.file(tmp_path, make(tmp_path / "a-run", [A]))
        there = make(tmp_path / "out" / "a-run", [A], rounds=3)
        before = (there.folder / "run.jsonl").read_bytes()
        assert "exists and holds another Run" in ingest(path, "--out", tmp_path / "out", code=2).stderr
        assert (there.folder / "run.jsonl").read_bytes() == before

    @pytest.mark.parametrize("name", ["../a", "/a", "", "..", "a" * 300])
    def test_a_name_that_leaves_the_folder_is_refused(self, tmp_path, name):
        path = self.file(tmp_path, make(tmp_path / "a-run", [A]), run_id=name)
        assert "expected the name of a Run" in ingest(path, "--out", tmp_path / "out", code=2).stderr

    def test_a_damaged_enclosed_run_is_refused(self, tmp_path):
        path = self.file(tmp_path, make(tmp_path / "a-run", [A]), run_jsonl="H4sIAAAA")
        assert "was changed after it was stored" in ingest(path, "--out", tmp_path / "out", code=2).stderr

    def test_an_enclosed_file_without_a_run_leaves_no_folder(self, tmp_path):
        run = make(tmp_path / "a-run", [A])
        (run.folder / "run.jsonl").write_text("{}\n")
        assert "no Run there" in ingest(self.file(tmp_path, run), "--out", tmp_path / "out", code=2).stderr
        assert not list((tmp_path / "out").iterdir())

    def test_json_of_two_enclosed_runs_is_refused(self, tmp_path):
        path = self.file(tmp_path, make(tmp_path / "a-run", [A]))
        other = tmp_path / "other.json"
        other.write_bytes(path.read_bytes())
        result = ingest(path, other, "--out", tmp_path / "out", "--json", code=2)
        assert "--json: expected one file that contains a Run, found 2" in result.stderr

    def test_enclosed_runs_and_foreign_files_are_not_mixed(self, tmp_path):
        ours = self.file(tmp_path, make(tmp_path / "a-run", [A]))
        result = ingest(ours, session(tmp_path, 0), "--out", tmp_path / "out", code=2)
        assert "ingest them separately" in result.stderr
