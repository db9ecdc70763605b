"""Run-to-run variability of stored A/A Runs: which Runs count, and for which Cases."""

import dataclasses
import math
import statistics

import pytest
from runs import AA, A, B, aa_runs, arms, make

from bench.cases.arm import Ab
from bench.record.aa_runs import find, is_aa, spread_of
from bench.record.pairs import within
from bench.stats import descriptive

BIG = {"base_ns": 1_000_000}


@pytest.fixture
def plain(tmp_path):
    """A Run to which the variability of stored Runs applies."""
    return make(tmp_path / "plain", [A], **BIG)


def test_three_runs_give_the_variability_between_runs(tmp_path, plain):
    stored = spread_of(aa_runs(tmp_path, 3, sd=0.01))
    sd, count = stored.between_runs(plain, A)
    centers = [0.99, 1.0, 1.01]
    assert count == 3
    assert sd == pytest.approx(statistics.stdev(map(math.log, centers)), rel=1e-3)


def test_two_runs_give_no_variability(tmp_path, plain):
    assert spread_of(aa_runs(tmp_path, 2)).between_runs(plain, A) is None


def test_the_margin_is_the_furthest_from_one_that_an_a_a_came_out(tmp_path, plain):
    runs = [aa_runs(tmp_path / str(off), 1, off=off)[0] for off in (0.01, -0.04, 0.03)]
    assert spread_of(runs).margin(plain, A) == pytest.approx(1 / 0.96 - 1, rel=1e-3)


def test_without_aa_runs_there_is_no_margin(plain):
    assert spread_of([]).margin(plain, A) == 0.0


def test_a_stored_margin_takes_away_what_it_was_seen_to_do_by_chance(tmp_path):
    run = make(tmp_path / "run", arms(A), ab=AA, slower={f"{A.id}-B": 1.04}, **BIG)
    assert [pair.word for pair in within(run)] == ["SLOWER"]
    (pair,) = within(run, spread_of(aa_runs(tmp_path, 1, off=0.05)))
    assert (pair.word, pair.margin) == ("SAME", pytest.approx(0.05, rel=1e-3))


def test_a_margin_below_what_was_asked_for_makes_nothing_narrower(tmp_path):
    (pair,) = within(
        make(tmp_path / "run", arms(A), ab=AA, **BIG), spread_of(aa_runs(tmp_path, 1, off=0.001)), margin=0.02
    )
    assert pair.margin == 0.02


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        (dataclasses.replace(A, batch=9), {}),
        (dataclasses.replace(A, pass_="forward_backward"), {}),
        (dataclasses.replace(A, threads=1), {}),
        (dataclasses.replace(A, size=96), {}),
        (dataclasses.replace(A, dropout=True), {}),
        (B, {}),
        (A, {"fingerprint": {"host": "another", "cpu": "a CPU", "usable_cores": 2, "system": "Linux 6 x86_64"}}),
        (A, {"fingerprint": {"host": "0123456789ab", "cpu": "another CPU", "usable_cores": 2}}),
        (A, {"env": {"X": "1"}}),
    ],
    ids=["batch", "pass", "threads", "size", "dropout", "framework", "host", "cpu", "env"],
)
def test_aa_runs_of_another_case_or_machine_are_ignored(tmp_path, plain, case, settings):
    runs = aa_runs(tmp_path, 3, case, off=0.05, **settings)
    stored = spread_of(runs)
    own = make(tmp_path / "own", [case], **BIG | settings)
    assert stored.margin(own, case) == pytest.approx(0.05, rel=1e-3)  # it is there, for its own
    assert (stored.margin(plain, A), stored.between_runs(plain, A)) == (0.0, None)


@pytest.mark.parametrize("ab", [Ab("slowdown", ("5", "5")), Ab("env:X", ("1", "1"))])
def test_two_equal_sides_that_are_not_as_usual_say_nothing_of_the_usual(tmp_path, plain, ab):
    runs = [make(tmp_path / str(n), arms(A, ab=ab), ab=ab, slower=1.1, **BIG) for n in range(3)]
    stored = spread_of(runs)
    assert (stored.margin(plain, A), stored.between_runs(plain, A)) == (0.0, None)


def test_a_run_of_too_few_rounds_says_nothing(tmp_path, plain):
    assert spread_of(aa_runs(tmp_path, 3, rounds=2)).between_runs(plain, A) is None


@pytest.mark.parametrize("settings", [{"rounds": 4}, {"disturbed": (0, 1)}])
def test_a_run_that_decides_nothing_widens_no_margin(tmp_path, plain, settings):
    assert spread_of(aa_runs(tmp_path, 3, off=0.15, **settings)).margin(plain, A) == 0.0
    assert spread_of(aa_runs(tmp_path / "whole", 3, off=0.15)).margin(plain, A) == pytest.approx(0.15, rel=0.01)


def test_stddev_between_runs_is_of_all_stored_runs(tmp_path, plain):
    runs = aa_runs(tmp_path, 5, sd=0.02)
    logs = [math.log(run.summary(run.cases[0]).center.center) for run in runs]
    assert spread_of(runs).between_runs(plain, A) == (pytest.approx(descriptive.stddev(logs)), 5)


class TestFind:
    def test_only_runs_of_two_equal_arms_count(self, tmp_path):
        aa_runs(tmp_path, 1)
        make(tmp_path / "plain", [A])
        ab = Ab("slowdown", ("0", "5"))
        make(tmp_path / "power", arms(A, ab=ab), ab=ab)
        found = {path.parent.name for path in tmp_path.glob("*/run.jsonl") if is_aa(path)}
        assert found == {"aa0"}

    def test_the_runs_that_are_compared_are_excluded(self, tmp_path):
        runs = aa_runs(tmp_path, 3)
        assert len(next(iter(find([tmp_path]).centers.values()))) == 3
        assert len(next(iter(find([tmp_path], but=[runs[0].folder]).centers.values()))) == 2

    def test_a_folder_named_twice_is_looked_at_once(self, tmp_path):
        aa_runs(tmp_path, 2)
        found = find([tmp_path, tmp_path / ".." / tmp_path.name])
        assert [len(centers) for centers in found.centers.values()] == [2]

    @pytest.mark.parametrize(
        "text",
        [b"", b"\n", b"not json\n", b"\xff\xfe\n", b"[1]\n", b'{"event":"run"}\n', b'{"event":"run","schema":99}\n'],
    )
    def test_a_foreign_folder_is_skipped(self, tmp_path, text):
        aa_runs(tmp_path, 1)
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "run.jsonl").write_bytes(text)
        assert len(find([tmp_path]).centers) == 1

    def test_an_a_a_that_cannot_be_read_is_passed_over(self, tmp_path):
        aa_runs(tmp_path, 2)
        path = tmp_path / "aa0" / "run.jsonl"
        path.write_text(path.read_text().replace('"variant":"owt"', '"variant":"vgg"'))
        assert [len(centers) for centers in find([tmp_path]).centers.values()] == [1]

    def test_a_folder_that_is_not_there_holds_none(self, tmp_path):
        assert find([tmp_path / "nowhere"]).centers == {}
