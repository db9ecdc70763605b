"""`selftest`: what is known beforehand comes out, and what is broken is found. The null Net stands in for cases."""

import dataclasses
import json

import pytest
from click.testing import CliRunner
from command import SMALL

import bench
from bench.commands.cli import main
from bench.commands.selftest import checks, real_cases
from bench.commands.selftest.fakes import FakeDevice
from bench.commands.selftest.real_cases import KnownComparison, aa_rows, power_rows
from bench.commands.selftest.row import Row
from bench.record import selftest_store
from bench.record.pairs import Pair
from bench.stats.ratio import Ratio, judge
from bench.stats.verdict import Word
from bench.worker import timing
from bench.worker.replies import SyncLag


def failed(rows):
    return [row.what for row in rows if not row.ok]


class TestChecks:
    def test_on_a_scripted_clock_every_figure_is_exact(self):
        rows = list(checks.fake_clock())
        assert len(rows) >= 9
        assert failed(rows) == []

    def test_a_loop_that_loses_an_iteration_is_found(self, monkeypatch):
        def short(run, wait, n, *, clock):
            start_ns, ns = timing.measure(run, wait, n, clock=clock)
            return start_ns[:-1], ns[:-1]

        monkeypatch.setattr(checks, "measure", short)
        assert failed(checks.fake_clock())[0] == "100 iterations of 7 ns on a scripted clock"

    def test_a_loop_that_adds_to_every_sample_is_found(self, monkeypatch):
        def slow(run, wait, n):
            start_ns, ns = timing.measure(run, wait, min(n, 3))
            return start_ns, [one + 600_000 for one in ns]

        monkeypatch.setattr(checks, "measure", slow)
        assert len(failed(checks.spins())) == 4

    def test_a_proof_of_waiting_that_sees_nothing_is_found(self, monkeypatch):
        monkeypatch.setattr(checks, "sync_lag", lambda *args: SyncLag(1, copy_ns=0, allowed_ns=1))
        assert failed(checks.missing_sync()) == ["missing waits detected, of 100"]

    def test_the_null_cost_is_that_of_a_real_worker(self):
        median, p99 = checks.null_cost()
        assert 0 < float(median.found.split()[0]) <= float(p99.found.split()[0])

    def test_a_fake_device_does_one_iteration_after_the_other(self):
        device = FakeDevice(5.0)
        _, ns = timing.measure(lambda: [device.run() for _ in range(3)][-1], device.wait, 1)
        assert ns[0] >= 15e6


class TestCommand:
    @pytest.fixture
    def few(self, monkeypatch):
        row = Row("one", "1", "1", True)
        monkeypatch.setattr(checks, "checks", lambda thorough: iter([row, row._replace(what="two")]))
        return row

    def test_the_result_is_stored_next_to_the_runs_and_printed(self, few, tmp_path):
        got = CliRunner().invoke(main, ["selftest", "--out", str(tmp_path / "results")])
        assert got.exit_code == 0, got.output
        assert "2 checks, all passed; kept in" in got.stdout
        kept = json.loads((tmp_path / "results" / "selftest.json").read_text())
        assert (kept["harness"]["ok"], [row["what"] for row in kept["harness"]["checks"]]) == (True, ["one", "two"])
        latest = selftest_store.latest(tmp_path / "results")["harness"]
        assert (latest.ok, latest.alexnet_bench, latest.made) == (True, bench.__version__, kept["harness"]["made"])

    def test_parts_of_the_selftest_are_stored_together(self, tmp_path):
        selftest_store.store(tmp_path, "harness", True, [])
        selftest_store.store(tmp_path, "aa", False, [])
        assert {what: part.ok for what, part in selftest_store.latest(tmp_path).items()} == {
            "harness": True,
            "aa": False,
        }

    def test_one_failed_check_is_exit_1_and_is_named(self, few, tmp_path, monkeypatch):
        monkeypatch.setattr(checks, "checks", lambda thorough: iter([few, few._replace(what="bad", ok=False)]))
        got = CliRunner().invoke(main, ["selftest", "--out", str(tmp_path)])
        assert got.exit_code == 1
        assert "FAIL  bad: 1 (1)" in got.stdout
        assert "2 checks, 1 failed" in got.stdout
        assert selftest_store.latest(tmp_path)["harness"].ok is False

    def test_selftest_prints_json_alone_on_stdout(self, few, tmp_path):
        got = CliRunner().invoke(main, ["selftest", "--json", "--out", str(tmp_path)])
        assert json.loads(got.stdout)["ok"] is True

    def test_a_damaged_selftest_file_holds_no_result(self, tmp_path):
        assert selftest_store.latest(tmp_path) == {}
        for text in ("[1, 2", "[1, 2]", '{"harness": 3}'):
            (tmp_path / "selftest.json").write_text(text)
            assert selftest_store.latest(tmp_path) == {}

    def test_a_folder_that_cannot_be_written_is_a_mistake(self, few, tmp_path):
        (tmp_path / "file").touch()
        got = CliRunner().invoke(main, ["selftest", "--out", str(tmp_path / "file")])
        assert got.exit_code == 2
        assert "choose another folder with --out" in got.stderr

    def test_aa_and_power_together_are_a_usage_error(self, tmp_path):
        got = CliRunner().invoke(main, ["selftest", "--aa", "--power", "5", "--out", str(tmp_path)])
        assert got.exit_code == 2
        assert "--aa, --power and RUN exclude each other" in got.stderr

    def test_a_run_that_is_not_of_a_known_slowdown_is_a_mistake(self, inline, tmp_path):
        made = inline("run", *SMALL, "--rounds", "1", "--no-gate", "--burn-in", "2")
        got = CliRunner().invoke(main, ["selftest", str(made.folder)])
        assert got.exit_code == 2
        assert "expected a Run of --ab slowdown=0,PERCENT" in got.stderr

    @pytest.mark.slow
    def test_selftest_passes(self, command, tmp_path):
        done = command("selftest", "--out", str(tmp_path / "kept"))
        assert done.code == 0, done.out
        assert "all passed" in done.out


def known(true, *logs):
    """One comparison whose Rounds gave these ratios."""
    made = Ratio.of([[([10**9], [round(10**9 * value)])] for value in logs])
    pair = Pair("case", "forward", "case-A", "case-B", made)
    (pair.verdict,) = judge([made])
    return KnownComparison(pair, made, true, 1)


class TestKnownCases:
    EQUAL = known(1.0, 1.001, 0.999, 1.002, 0.998, 1.0)
    OFF = known(1.0, 1.051, 1.049, 1.052, 1.048, 1.05)

    def test_equal_cases_that_come_out_equal_pass(self):
        assert failed(aa_rows([self.EQUAL] * 20)) == []

    def test_equal_cases_that_come_out_apart_fail(self):
        assert failed(aa_rows([self.OFF] * 20)) == [
            "A/A: |ratio - 1| at most 1.5%",
            "A/A: the 95 % interval covers 1",
            "A/A: called SLOWER or FASTER, of 20",
        ]

    def test_one_alarm_is_enough_and_few_shares_are_not_judged(self):
        assert failed(aa_rows([self.EQUAL, self.OFF])) == ["A/A: called SLOWER or FASTER, of 2"]

    def test_a_slowdown_that_is_found_passes_and_one_that_is_not_fails(self):
        found = dataclasses.replace(self.OFF, true=1.05)
        missed = dataclasses.replace(self.EQUAL, true=1.05)
        assert failed(power_rows([found] * 20, 0.05)) == []
        assert failed(power_rows([missed] * 20, 0.05)) == ["slowed by 5.0%: called SLOWER"]

    def test_a_slowdown_that_should_have_been_found_fails_with_few_comparisons_too(self):
        missed = known(1.05, 1.0491, 1.0489, 1.0492, 1.0488, 1.049)
        missed.pair.verdict = dataclasses.replace(missed.pair.verdict, word=Word.INCONCLUSIVE)
        assert failed(power_rows([missed] * 4, 0.05)) == ["slowed by 5.0%: called SLOWER"]

    def test_the_predicted_share_is_next_to_the_detected_share(self):
        row = next(power_rows([dataclasses.replace(self.OFF, true=1.03)] * 20, 0.03))
        assert row.found == "20 of 20 (100%); predicted 100%"

    def test_no_comparison_at_all_is_a_failure(self):
        assert failed(real_cases.report([])) == ["comparisons"]

    @pytest.mark.slow
    def test_real_workers_slowed_by_a_known_share_are_called_slower(self, command, tmp_path):
        spin = ("--mode", "part", "--env", "NULL_NET=spin=5", "--pass", "forward", "--rounds", "5")
        made = command("selftest", "--power", "20", *SMALL, *spin, "--json", "--out", str(tmp_path / "runs"))
        assert made.code == 0, made.err
        got = json.loads(made.out)
        (pair,) = got["comparisons"]
        assert (pair["true"], pair["verdict"]) == (1.2, "SLOWER")
        assert selftest_store.latest(tmp_path / "runs")["power"].ok
        again = CliRunner().invoke(main, ["selftest", "--json", *map(str, (tmp_path / "runs").glob("*/"))])
        assert json.loads(again.stdout) == got
