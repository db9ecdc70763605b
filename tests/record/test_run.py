"""A Run folder: the journal survives a kill, and derived CSVs are complete and unrounded."""

import csv
import functools
import re
import statistics

import pytest
from msgspec import structs
from runs import AA, QUIET, A, B, arms, event, make, turn, worker

from bench import UsageError
from bench.cases.protocol import Protocol
from bench.commands import results
from bench.output import run_table
from bench.record import csvfile
from bench.record.columns import COLUMNS, names
from bench.record.events import WeightsFile
from bench.record.journal import Journal, new_folder
from bench.record.pairs import within
from bench.record.run import Run

journal = functools.partial(make, rounds=3)


def block(case, **changes):
    place = {"group": 0, "round": 2, "attempt": 0}
    facts = {"fault": "", "changed": {}, "stop": "count"}
    return place | {"case_id": case.id} | facts | changes


def shown(run):
    run_table.run_table(run, within(run))


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_lead_iterations_are_stored_and_left_out(tmp_path):
    run = journal(tmp_path)
    assert run.samples(A) == [[1000] * 4, [1001] * 4, [1002] * 4]
    run.write()
    rows = table(tmp_path / "samples.csv")
    assert [row["phase"] for row in rows[:3]] == ["lead", "sample", "sample"]
    assert [row["valid"] for row in rows[:3]] == ["False", "True", "True"]


def test_the_summary_csv_is_unrounded_and_has_every_column(tmp_path):
    run = journal(tmp_path)
    run.write()
    row = table(tmp_path / "summary.csv")[0]
    samples = [1000.0] * 4 + [1001.0] * 4 + [1002.0] * 4
    assert list(row) == names(COLUMNS)
    assert float(row["mean_ms"]) == statistics.fmean(samples) / 1e6
    assert float(row["stddev_ms"]) == pytest.approx(statistics.stdev(samples) / 1e6, rel=1e-12)
    assert (row["rounds"], row["iterations"], row["valid"], row["trend"]) == ("3", "12", "True", "steady")
    assert row["params"] == "61100840"


def test_the_ratio_is_of_the_second_framework_to_the_first(tmp_path):
    (pair,) = within(journal(tmp_path))
    assert (pair.baseline, pair.candidate) == (A.id, B.id)
    assert pair.ratio.value.center == pytest.approx(1.5, rel=1e-3)


def test_an_unpaired_run_has_no_ratio(tmp_path):
    assert within(journal(tmp_path, protocol=Protocol(paired=False))) == []


def test_a_half_cycle_is_in_the_summary_and_not_in_the_ratio(tmp_path):
    journal(tmp_path, rounds=3)
    Journal(tmp_path).add(event("turn", **turn(B, [10**7], 10**12, round=3)))
    Journal(tmp_path).add(event("round", group=0, round=3, attempt=0, disturbed=""))
    run = Run(tmp_path)
    assert len(run.samples(B)) == 4
    (pair,) = within(run)
    assert (pair.ratio.rounds, pair.ratio.value.center) == (3, pytest.approx(1.5, rel=1e-3))


def test_a_void_round_is_read_and_not_counted(tmp_path):
    journal(tmp_path)
    Journal(tmp_path).add(event("void", group=0, round=1, attempt=0, reason="x died"))
    assert len(Run(tmp_path).samples(A)) == 2


def test_a_failed_case_keeps_its_reason_and_loses_its_ratio(tmp_path):
    journal(tmp_path)
    Journal(tmp_path).add(event("failed", case_id=B.id, reason="killed by SIGKILL"))
    run = Run(tmp_path)
    (pair,) = within(run)
    assert (pair.word, pair.reason, pair.ratio) == ("MISSING", f"{B.id} is not valid: killed by SIGKILL", None)
    row = run.row(B)
    assert (row["valid"], row["invalid_reason"], row["stop_reason"]) == (False, "killed by SIGKILL", "failed")


def test_a_case_that_retraced_while_timed_is_invalid(tmp_path):
    journal(tmp_path)
    changed = {"traces": [{"forward": 1}, {"forward": 2}]}
    Journal(tmp_path).add(event("block", **block(A, changed=changed)))
    reason = "conditions changed while it was timed: traces {'forward': 1} -> {'forward': 2}"
    assert Run(tmp_path).row(A)["invalid_reason"] == reason


class TestCeiling:
    GFLOP = 2 * 714_188_480 * 8 / 1e9  # owt forward, batch 8; 1001 ns a pass
    RATE = GFLOP / 1.001e-6

    def test_a_pass_below_the_ceiling_has_no_flag(self, tmp_path):
        row = journal(tmp_path, rate=self.RATE * 1.1).row(A)
        assert (row["flags"], row["valid"]) == ("", True)
        assert row["ceiling_gflop_per_s"] == row["matmul_gflop_per_s"] == self.RATE * 1.1
        assert row["peak_fraction"] == pytest.approx(1 / 1.1)

    def test_a_pass_above_the_ceiling_is_flagged(self, tmp_path):
        row = journal(tmp_path, rate=self.RATE / 3.9).row(A)
        assert (row["flags"], row["valid"]) == ("above_ceiling", True)
        assert row["peak_fraction"] == pytest.approx(3.9)

    def test_a_pass_far_above_the_ceiling_is_invalid(self, tmp_path):
        run = journal(tmp_path, rate=self.RATE / 4.5)
        row = run.row(A)
        assert (row["valid"], row["stop_reason"]) == (False, "failed")
        assert row["invalid_reason"] == "implausible: 4.5 times the machine's ceiling, so work was left out"
        assert [(pair.word, pair.ratio) for pair in within(run)] == [("MISSING", None)]


class TestUnlikeConditions:
    def test_a_ratio_under_different_conditions_is_incomparable_with_a_reason(self, tmp_path):
        (pair,) = within(journal(tmp_path, rounds=5, unlike={"onednn": False}))
        assert (pair.word, pair.differs) == ("INCOMPARABLE", ["oneDNN off, on in the baseline"])

    def test_a_ratio_under_equal_conditions_is_judged(self, tmp_path):
        (pair,) = within(journal(tmp_path, rounds=5))
        assert (pair.word, pair.differs) == ("SLOWER", [])

    def test_the_table_shows_that_conditions_differ(self, tmp_path, capsys):
        shown(journal(tmp_path, rounds=5, unlike={"matmul": "bf16"}))
        out = capsys.readouterr().out
        assert "INCOMPARABLE: 1.5" in out
        assert "forward tensorflow graph: not the same conditions: matmul in bf16, fp32 in the baseline" in out

    def test_the_table_names_what_was_let_through_and_the_weights_file(self, tmp_path, capsys):
        run = journal(tmp_path, rounds=5)
        weights = WeightsFile("a[1].npy", "0123456789")
        run.head = structs.replace(run.head, env={"DNNL_MAX_CPU_ISA": "SSE41"}, weights=weights)
        shown(run)
        out = capsys.readouterr().out
        assert "environment variables passed to Workers: DNNL_MAX_CPU_ISA=SSE41" in out
        assert "weights: a[1].npy (sha256 01234567)" in out

    def test_below_three_rounds_a_ratio_says_what_it_needs(self, tmp_path, capsys):
        shown(journal(tmp_path, rounds=2))
        assert "1.500 [needs 3 Rounds]" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("unlike", "flag"),
        [
            ({"matmul": "unknown"}, "unknown_precision"),
            ({"other_frameworks": ["jax"]}, "other_frameworks"),
            ({"libraries": [{"name": "libgomp.so.1", "inside": False}]}, "outside_libraries"),
        ],
    )
    def test_unusual_conditions_are_flagged(self, tmp_path, unlike, flag):
        assert journal(tmp_path, unlike=unlike).row(B)["flags"] == flag


def test_a_row_has_its_identity_and_the_worst_parity_of_all_its_workers(tmp_path):
    journal(tmp_path)
    bad = worker(A, parity=9e-7) | {"group": 0, "round": 1, "attempt": 0}
    Journal(tmp_path).add(event("worker", **bad))
    row = Run(tmp_path).row(A)
    net = A.net
    assert (row["variant_hash"], row["params"], row["macs"]) == (net.hash, net.params, net.macs)
    assert (row["parity_logits"], row["parity_loss"], row["parity_gradients"]) == (9e-7, 9e-7, 9e-7)
    assert (row["precision_matmul"], row["precision_conv"], row["onednn"]) == ("fp32", "fp32", True)
    assert row["cores_used"] == pytest.approx(1.5)


def test_other_conditions_have_another_hash(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    alike, other = journal(tmp_path / "a"), journal(tmp_path / "b", unlike={"onednn": False})
    assert alike.row(A)["conditions_hash"] == other.row(A)["conditions_hash"]
    assert alike.row(B)["conditions_hash"] != other.row(B)["conditions_hash"]


def test_a_noisy_run_says_so(tmp_path):
    loud = QUIET | {"steal_s": 1.0}
    assert "noisy" in journal(tmp_path, noise=loud).row(A)["flags"]


def test_a_quiet_run_has_no_flags(tmp_path):
    assert journal(tmp_path).row(A)["flags"] == ""


class TestDisturbedRounds:
    """Rounds that noise disturbed are stored and not counted, unless there are no others."""

    def test_a_disturbed_round_is_in_no_number(self, tmp_path):
        run = journal(tmp_path, rounds=6, disturbed=[2])
        row = run.row(A)
        assert list(run.samples_by_round(A)) == [0, 1, 3, 4, 5]
        assert (row["rounds"], row["rounds_disturbed"], row["flags"], row["valid"]) == (5, 1, "rounds_disturbed", True)
        (pair,) = within(run)
        assert (pair.ratio.rounds, pair.word) == (5, "SLOWER")  # one of six is below a fifth

    def test_samples_of_a_disturbed_round_are_stored_as_not_valid(self, tmp_path):
        journal(tmp_path, disturbed=[0]).write()
        rows = [row for row in table(tmp_path / "samples.csv") if row["phase"] == "sample"]
        assert {row["valid"] for row in rows if row["round"] == "0"} == {"False"}
        assert {row["valid"] for row in rows if row["round"] != "0"} == {"True"}

    def test_more_than_a_fifth_disturbed_decides_nothing(self, tmp_path):
        (pair,) = within(journal(tmp_path, rounds=8, disturbed=[1, 4]))
        assert (pair.word, pair.reason, pair.ratio.rounds) == ("INCONCLUSIVE", "noise disturbed 25% of its Rounds", 6)

    def test_a_fifth_disturbed_still_decides(self, tmp_path):
        (pair,) = within(journal(tmp_path, rounds=10, disturbed=[1, 4]))
        assert (pair.word, pair.ratio.rounds) == ("SLOWER", 8)

    def test_if_all_rounds_are_disturbed_all_count_with_a_flag(self, tmp_path):
        run = journal(tmp_path, rounds=5, disturbed=range(5))
        row = run.row(A)
        assert (row["rounds"], row["flags"], row["valid"]) == (5, "every_round_disturbed", True)
        (pair,) = within(run)
        assert (pair.word, pair.reason) == ("INCONCLUSIVE", "noise disturbed 100% of its Rounds")
        assert pair.ratio.value.center == pytest.approx(1.5, rel=1e-3)

    def test_the_repeat_of_a_disturbed_round_takes_its_place(self, tmp_path):
        journal(tmp_path, disturbed=[1])
        place = {"group": 0, "round": 1, "attempt": 1}
        made = Journal(tmp_path)
        made.add(event("void", **place | {"attempt": 0}, reason="the machine was suspended"))
        made.add(event("turn", **turn(A, [77, 77], 10**12, **place)))
        made.add(event("round", **place, disturbed=""))
        assert Run(tmp_path).samples_by_round(A)[1] == [77, 77]


class TestStopReason:
    def test_each_group_has_its_own_stop_reason(self, tmp_path):
        assert journal(tmp_path, stop="target").row(A)["stop_reason"] == "target"

    def test_a_group_that_never_came_to_its_end_was_interrupted(self, tmp_path):
        journal(tmp_path)
        path = tmp_path / "run.jsonl"
        kept = [line for line in path.read_text().splitlines() if '"event":"stop"' not in line]
        path.write_text("\n".join(kept) + "\n")
        assert Run(tmp_path).stop_reason(A) == "interrupted"

    def test_after_a_resume_the_last_stop_reason_counts(self, tmp_path):
        journal(tmp_path, stop="time_cap")
        Journal(tmp_path).add(event("stop", group=0, reason="planned"))
        assert Run(tmp_path).stop_reason(A) == "planned"


def test_a_folder_without_a_run_is_a_mistake(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read run.jsonl: No such file or directory"):
        Run(tmp_path)


def test_two_runs_of_one_second_get_folders_of_their_own(tmp_path):
    assert new_folder(tmp_path, "a") != new_folder(tmp_path, "a")


def test_a_run_with_ab_prints_its_verdict(tmp_path, capsys):
    both = arms(A)
    run = make(tmp_path / "run", both, ab=AA, rounds=5, slower={both[1].id: 1.1}, base_ns=10**8)
    assert results.show(run, "planned", as_json=False) == 1
    out = capsys.readouterr().out
    assert "A: slowdown 0 %; B: slowdown 0 %" in out
    assert re.search(r"owt-torch-eager-cpu-fp32-b8-forward\s+1\.100 \[1\.100, 1\.100\]\s+SLOWER", out)


class TestCutOff:
    def extra(self, tmp_path):
        """One more turn of each Case, in a Round that was cut off."""
        made = Journal(tmp_path)
        for number, case in enumerate((A, B, B, A)):
            made.add(event("turn", **turn(case, [5000, 5000], 10**9 + 20_000 * number, round=3)))
        return Run(tmp_path)

    def test_a_round_that_was_cut_off_is_kept_and_does_not_count(self, tmp_path):
        journal(tmp_path)
        run = self.extra(tmp_path)
        assert (len(run.samples(A)), within(run)[0].ratio.rounds) == (3, 3)
        assert "cut_off" not in run.row(A)["flags"]
        run.write()
        cut = [row for row in table(tmp_path / "samples.csv") if row["round"] == "3"]
        assert [row["valid"] for row in cut] == ["False"] * 8

    def test_a_cut_off_round_is_used_and_flagged_if_there_is_no_other(self, tmp_path):
        journal(tmp_path, rounds=0)
        run = self.extra(tmp_path)
        assert run.samples(A) == [[5000] * 4]
        assert "cut_off" in run.row(A)["flags"].split()

    def test_a_full_disk_keeps_what_was_there_and_says_how_to_go_on(self, tmp_path, monkeypatch):
        run = journal(tmp_path)
        made = Journal(tmp_path)
        before = (tmp_path / "run.jsonl").read_bytes()

        def full(fd):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("bench.record.journal.os.fsync", full)
        with pytest.raises(UsageError, match="No space left on device; what was measured before is kept"):
            made.add(event("void", group=0, round=0, attempt=0, reason="x"))
        assert (made.broken, (tmp_path / "run.jsonl").read_bytes()) == (True, before)
        assert len(Run(tmp_path).events) == len(run.events)


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+SUM(A1)", "'+SUM(A1)"),
        ("-2+cmd", "'-2+cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=cmd", "'\t=cmd"),
        ("\r=cmd", "'\r=cmd"),
        *((text, text) for text in ("- 17 -", "-", "-3.5", "-1e-05", "-inf", "a=b", "'=cmd", "owt", "")),
        *((-3.5, "-3.5"), (-17, "-17"), (-1e-05, "-1e-05"), (None, ""), (False, "False")),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_text(tmp_path, cell, written):
    csvfile.write(tmp_path / "a.csv", ["cell", "end"], [{"cell": cell, "end": 1, "left out": 2}])
    assert table(tmp_path / "a.csv") == [{"cell": written, "end": "1"}]


def test_an_event_is_on_the_disk_when_add_returns(tmp_path):
    made = Journal(tmp_path)
    for number in range(3):
        made.add(event("stop", group=number, reason="planned"))
        assert len((tmp_path / "run.jsonl").read_bytes().splitlines()) == number + 1
