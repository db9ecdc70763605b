"""Which sessions of pytest-benchmark may share a Run, in which order, and what is kept of their samples."""

import json
import math

import pytest
from click.testing import CliRunner
from pytest_benchmarks import MACHINE, stored
from runs import HOST, A, aa_runs, make

from bench.commands.cli import main
from bench.record.run import Run

SPELT = {"fullname": "t.py::f"}
DATA = [0.005, 0.0051]


def invoke(*args):
    return CliRunner().invoke(main, list(map(str, args)))


def ingest(folder, *files, name="x"):
    return invoke("ingest", "--out", folder / "out", "--name", name, *files)


def made(folder, *files, name="x"):
    result = ingest(folder, *files, name=name)
    assert result.exit_code == 0, result.output
    return Run(next((folder / "out").glob(f"*-{name}")))


def session(folder, number, data=DATA, minute=None, zone="", said=None, **more):
    when = f"2026-01-01T00:{number if minute is None else minute:02}:00{zone}"
    return stored(folder, f"s{number}.json", ("f", data, SPELT | (said or {})), when=when, **more)


def commit(letter, dirty=False):
    return {"commit_info": {"id": letter * 40, "dirty": dirty}}


class TestSamplesBelowANanosecond:
    def test_they_keep_their_digits_in_the_samples_and_in_the_statistics(self, tmp_path):
        run = made(tmp_path, *(session(tmp_path, n, [3.34037e-08, 3.33955e-08]) for n in range(3)))
        assert run.samples(run.cases[0]) == [[33.4037, 33.3955]] * 3
        assert run.rows()[0]["center_ms"] == pytest.approx(33.3996e-6, rel=1e-9)
        run.write()
        assert ",33.4037,True" in (run.folder / "samples.csv").read_text()

    def test_a_difference_below_a_nanosecond_is_no_slowdown_of_three_percent(self, tmp_path):
        order = [0, 3, 4, 7, 8], [1, 2, 5, 6, 9]
        runs = []
        for name, ns, minutes in zip(("base", "head"), (33.39, 33.60), order, strict=True):
            folder = tmp_path / name
            folder.mkdir()
            data = [[(ns + 0.01 * (i % 3) + 0.001 * n) * 1e-9 for i in range(8)] for n in range(5)]
            files = [session(folder, n, data[n], minute) for n, minute in enumerate(minutes)]
            runs.append(made(folder, *files, name=name).folder)
        result = invoke("compare", *runs, "--json")
        (case,) = json.loads(result.stdout)["cases"]
        assert (case["verdict"], result.exit_code, round(case["ratio"], 3)) == ("SAME", 0, 1.006)

    def test_a_duration_of_a_hundred_thousandth_of_a_millisecond_is_printed_without_an_exponent(self, tmp_path):
        result = ingest(tmp_path, session(tmp_path, 0, [3.34e-08, 3.36e-08]))
        assert "0.0000335 ± " in result.stdout

    def test_samples_of_whole_nanoseconds_are_stored_once(self, tmp_path):
        run = made(tmp_path, session(tmp_path, 0))
        assert [turn.unrounded_ns for turn in run.turns] == [[]]

    @pytest.mark.parametrize(("value", "said"), [(0.0, "0.0"), (math.inf, "inf"), (math.nan, "nan")])
    def test_a_sample_that_is_no_duration_is_named(self, tmp_path, value, said):
        result = ingest(tmp_path, session(tmp_path, 0, [0.001, value]))
        assert result.exit_code == 2
        assert f"s0.json: 'f': sample 2: expected seconds above 0, found {said}" in result.stderr


class TestOneRun:
    @pytest.mark.parametrize(
        ("one", "other", "said"),
        [
            (commit("a"), commit("b"), ["expected one commit, found " + "a" * 40, "b" * 40]),
            (commit("a"), commit("a", dirty=True), ["a" * 40 + " with uncommitted changes"]),
            (commit("a"), {}, ["expected one commit, found ", "not stated"]),
            ({"said": {"options": {"timer": "perf_counter"}}}, {"said": {"options": {"timer": "time"}}},
             ["expected one clock of 't.py::f', found perf_counter in ", "time in "]),
            ({"said": {"options": {"disable_gc": True}}}, {}, ["without garbage collection"]),
            ({"machine": MACHINE | {"python_implementation": "PyPy"}}, {}, ["expected one python, found PyPy 3.12.1"]),
            ({"machine": MACHINE | {"python_compiler": "GCC 12"}}, {}, ["expected one python, found 3.12.1 GCC 12 "]),
            ({"machine": MACHINE | {"cpu": {"count": 4}}}, {}, ["expected one number of cores, found 4 in"]),
            ({"version": "4.0.0"}, {}, ["expected one version of pytest-benchmark, found 4.0.0"]),
            ({"zone": "Z"}, {}, ["expected one kind of date, found a time zone", "a date without a time zone"]),
            ({"said": {"params": {"batch": 8}}}, {}, ["expected the parameters of 't.py::f' as in"]),
        ],
    )  # fmt: skip
    def test_sessions_that_differ_are_refused_naming_both(self, tmp_path, one, other, said):
        result = ingest(tmp_path, session(tmp_path, 0, **one), session(tmp_path, 1, **other))
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert all(text in result.stderr for text in said)
        assert not (tmp_path / "out").exists()

    def test_the_commit_is_on_the_screen_and_in_run_jsonl(self, tmp_path):
        result = ingest(tmp_path, *(session(tmp_path, n, **commit("c")) for n in range(2)))
        assert "commit cccccccccccc" in result.stdout
        (folder,) = (tmp_path / "out").iterdir()
        assert Run(folder).head.ingested.commit == "c" * 40

    def test_sessions_of_one_changed_commit_have_a_flag(self, tmp_path):
        run = made(tmp_path, *(session(tmp_path, n, **commit("c", dirty=True)) for n in range(2)))
        assert "uncommitted" in run.rows()[0]["flags"].split()

    def test_two_runs_by_two_clocks_are_not_compared(self, tmp_path):
        for name in ("time", "perf_counter"):
            (tmp_path / name).mkdir()
            made(tmp_path / name, session(tmp_path / name, 0, said={"options": {"timer": name}}), name="r")
        runs = [next((tmp_path / name / "out").iterdir()) for name in ("time", "perf_counter")]
        result = invoke("compare", *runs)
        assert result.exit_code == 4
        assert "clock: perf_counter, time in the baseline" in " ".join(result.stdout.split())


class TestOrder:
    def test_dates_of_several_zones_are_ordered_as_instants(self, tmp_path):
        files = [
            session(tmp_path, n, [0.001 * (n + 1)], minute, zone)
            for n, (minute, zone) in enumerate([(30, "+01:00"), (10, "+00:30"), (20, "+01:00")])
        ]  # 23:30, 23:40 and 23:20 of the day before
        run = made(tmp_path, *files)
        assert [ns[0] for ns in run.samples(run.cases[0])] == [3_000_000, 1_000_000, 2_000_000]

    def test_a_date_that_is_none_is_named(self, tmp_path):
        result = ingest(tmp_path, stored(tmp_path, "a.json", ("f", DATA, {}), when="yesterday"))
        assert result.exit_code == 2
        assert "a.json: expected a date and time in ISO 8601, found 'yesterday'" in result.stderr

    def test_sessions_without_a_date_are_in_the_order_given_and_that_is_said(self, tmp_path):
        result = ingest(
            tmp_path, *(stored(tmp_path, name, ("f", [s], {}), when=None) for name, s in (("b", 1), ("a", 2)))
        )
        assert "no session has a date: Rounds are in the order of the files given" in result.stderr

    def test_a_side_with_and_a_side_without_time_zones_have_no_order(self, tmp_path):
        runs = []
        for name, zone, minutes in (("base", "Z", (0, 3, 4, 7, 8)), ("head", "", (1, 2, 5, 6, 9))):
            (tmp_path / name).mkdir()
            files = [session(tmp_path / name, n, minute=m, zone=zone) for n, m in enumerate(minutes)]
            runs.append(made(tmp_path / name, *files).folder)
        result = invoke("compare", *runs)
        assert "INCONCLUSIVE" in result.stdout
        assert "so they have no order" in " ".join(result.stdout.split())


class TestHostNames:
    def test_new_host_names_of_one_machine_are_one_run_and_that_is_said(self, tmp_path):
        files = [session(tmp_path, n, machine=MACHINE | {"node": f"container{n}"}) for n in range(3)]
        result = ingest(tmp_path, *files)
        assert result.exit_code == 0
        assert "3 host names, one machine as far as the files say" in result.stderr
        (folder,) = (tmp_path / "out").iterdir()
        assert Run(folder).rows()[0]["rounds"] == 3
        assert len(Run(folder).head.ingested.hosts) == 3

    def test_compare_names_the_option_for_a_new_host_name(self, tmp_path):
        two = make(tmp_path / "a", [A]), make(tmp_path / "b", [A], fingerprint=HOST | {"host": "new"})
        result = invoke("compare", *(run.folder for run in two))
        assert result.exit_code == 4
        assert "a host name; the rest of the machine is equal, as in a new container: --allow host" in " ".join(
            result.stdout.split()
        )

    def test_runs_against_itself_count_under_any_host_name_if_that_is_allowed(self, tmp_path):
        for number, run in enumerate(aa_runs(tmp_path, 3, A, sd=0.002)):
            file = run.folder / "run.jsonl"
            file.write_text(file.read_text().replace(HOST["host"], f"container{number}"))
        two = [make(tmp_path / name, [A], base_ns=1_000_000) for name in ("base", "candidate")]
        file = two[1].folder / "run.jsonl"
        file.write_text(file.read_text().replace(HOST["host"], "new"))
        result = invoke("compare", *(run.folder for run in two), "--allow", "host", "--json")
        assert [case["verdict"] for case in json.loads(result.stdout)["cases"]] == ["SAME"]


@pytest.mark.parametrize("value", [math.inf, math.nan, None, True, {"a": [1]}, [1.5], ""])
def test_a_parameter_of_any_kind_is_no_axis_and_no_sample(tmp_path, value):
    said = {"params": {"limit": value, "batch": value, "mode": value, "threads": value}}
    run = made(tmp_path, session(tmp_path, 0, said=said))
    (row,) = run.rows()
    assert (row["batch"], row["mode"], row["threads"]) == (None, "call", None)
