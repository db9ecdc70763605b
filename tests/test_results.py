"""A Run folder: the journal survives a kill, and what is derived from it is whole and unrounded."""

import csv
import dataclasses
import statistics
from pathlib import Path

import pytest

from bench import UsageError, host, screen
from bench.case import Case
from bench.protocol import Protocol
from bench.results import SCHEMA, Journal, Run, new_folder
from bench.rows import COLUMNS

A = Case("owt", "torch", "eager", "cpu", "fp32", "nchw", 8, "forward")
B = dataclasses.replace(A, framework="tensorflow", mode="graph", layout="nhwc")
QUIET = {"wall_s": 1.0, "steal_s": 0.0, "foreign_s": 0.0, "psi_s": 0.0, "throttled": None}


def worker(case: Case, rate=None, *, parity=1e-7, matmul="fp32", other_frameworks=(), **conditions) -> dict:
    """What a Worker records of itself, but for those changes."""
    precision = {"matmul": {"error": 3e-7, "precision": matmul}, "conv": {"error": 3e-7, "precision": "fp32"}}
    alike = {"threads": 2, "onednn": True, "tf32": False, "device": "cpu", "layout": case.layout, "traces": {}}
    return {
        "worker": case.worker,
        "case_ids": [case.id],
        "versions": {case.framework: "1.0"},
        "parity": {"logits": parity, "loss": parity, "gradient": parity},
        "precision": precision,
        "gemm_gflop_per_s": rate,
        "conditions": alike | {"libraries": [], "other_frameworks": list(other_frameworks)} | conditions,
        "first_call_ns": None,
    }


def journal(folder: Path, rounds=3, slower=1.5, protocol=None, noise=QUIET, rate=None, unlike=None) -> Run:
    """A Run whose candidate takes ``slower`` times as long, with lead iterations that are far off."""
    made, unlike = Journal(folder), unlike or {}
    made.add(
        "run",
        run_id="r",
        name="n",
        schema=SCHEMA,
        threads=2,
        env={},
        weights=None,
        cases=[dataclasses.asdict(case) for case in (A, B)],
        protocol=dataclasses.asdict(protocol or Protocol(rounds=rounds)),
        fingerprint=host.fingerprint(),
    )
    for round_ in range(rounds):
        place = {"group": 0, "round": round_, "attempt": 0}
        for case in (A, B):
            made.add("worker", **place, **worker(case, rate, **(unlike if case is B else {})))
        for case, ns in ((A, 1000 + round_), (B, round((1000 + round_) * slower)), (B, None), (A, None)):
            ns = ns or round((1000 + round_) * (slower if case is B else 1))
            made.add(
                "turn",
                **place,
                case_id=case.id,
                cycle=0,
                lead=1,
                start_ns=[1, 2, 3],
                ns=[10**9, ns, ns],
                cpu_s=1.5,
                nivcsw=0,
                noise=noise,
            )
        for case in (A, B):
            made.add("block", **place, case_id=case.id, fault="", changed={}, peak_memory=2**20)
    made.add("end", reason="planned", failed={})
    return Run(folder)


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
    assert list(row) == COLUMNS
    assert float(row["mean_ms"]) == statistics.fmean(samples) / 1e6
    assert float(row["stddev_ms"]) == pytest.approx(statistics.stdev(samples) / 1e6, rel=1e-12)
    assert (row["rounds"], row["iterations"], row["valid"], row["trend"]) == ("3", "12", "True", "steady")
    assert row["params"] == "61100840"


def test_the_ratio_is_of_the_second_framework_to_the_first(tmp_path):
    (ratio,) = journal(tmp_path).ratios()
    assert (ratio["baseline"], ratio["candidate"]) == (A.id, B.id)
    assert ratio["ratio"] == pytest.approx(1.5, rel=1e-3)


def test_an_unpaired_run_has_no_ratio(tmp_path):
    assert journal(tmp_path, protocol=Protocol(paired=False)).ratios() == []


def test_a_half_cycle_is_in_the_summary_and_not_in_the_ratio(tmp_path):
    journal(tmp_path, rounds=3)
    made = Journal(tmp_path)
    made.add(
        "turn",
        group=0,
        round=3,
        attempt=0,
        case_id=B.id,
        cycle=0,
        lead=0,
        start_ns=[9],
        ns=[10**7],
        cpu_s=1.0,
        nivcsw=0,
        noise=QUIET,
    )
    run = Run(tmp_path)
    assert len(run.samples(B)) == 4
    assert run.ratios()[0]["ratio"] == pytest.approx(1.5, rel=1e-3)


def test_a_void_round_is_read_and_not_counted(tmp_path):
    journal(tmp_path)
    Journal(tmp_path).add("void", group=0, round=1, attempt=0, reason="x died")
    assert len(Run(tmp_path).samples(A)) == 2


def test_a_failed_case_keeps_its_reason_and_loses_its_ratio(tmp_path):
    journal(tmp_path)
    Journal(tmp_path).add("failed", case_id=B.id, reason="killed by SIGKILL")
    run = Run(tmp_path)
    assert run.ratios() == []
    row = run.row(B)
    assert (row["valid"], row["invalid_reason"], row["stop_reason"]) == (False, "killed by SIGKILL", "failed")


def test_what_is_no_longer_equal_after_it_was_timed_is_invalid(tmp_path):
    journal(tmp_path)
    Journal(tmp_path).add(
        "block",
        group=0,
        round=2,
        attempt=0,
        case_id=A.id,
        fault="disagrees: loss is not finite",
        changed={},
        peak_memory=None,
    )
    assert Run(tmp_path).row(A)["invalid_reason"] == "after it was timed it disagrees: loss is not finite"


def test_what_retraced_while_it_was_timed_is_invalid(tmp_path):
    journal(tmp_path)
    changed = {"traces": [{"forward": 1}, {"forward": 2}]}
    place = {"group": 0, "round": 2, "attempt": 0}
    Journal(tmp_path).add("block", **place, case_id=A.id, fault="", changed=changed, peak_memory=None)
    reason = "conditions changed while it was timed: traces {'forward': 1} -> {'forward': 2}"
    assert Run(tmp_path).row(A)["invalid_reason"] == reason


class TestMatrixRate:
    GFLOP = 2 * 714_188_480 * 8 / 1e9  # owt forward, batch 8; 1001 ns a pass
    RATE = GFLOP / 1.001e-6

    def test_a_pass_below_it_is_plain(self, tmp_path):
        row = journal(tmp_path, rate=self.RATE * 1.1).row(A)
        assert (row["flags"], row["valid"], row["gemm_gflop_per_s"]) == ("", True, self.RATE * 1.1)

    def test_a_pass_above_it_is_flagged(self, tmp_path):
        row = journal(tmp_path, rate=self.RATE / 3.9).row(A)
        assert (row["flags"], row["valid"]) == ("above_gemm_rate", True)

    def test_a_pass_far_above_it_left_work_out(self, tmp_path):
        run = journal(tmp_path, rate=self.RATE / 4.5)
        row = run.row(A)
        assert (row["valid"], row["stop_reason"]) == (False, "failed")
        assert row["invalid_reason"] == "implausible: 4.5 times the machine's matrix rate, so work was left out"
        assert run.ratios() == []


class TestUnlikeConditions:
    def test_a_ratio_of_unlike_rows_is_incomparable_and_says_why(self, tmp_path):
        (ratio,) = journal(tmp_path, rounds=5, unlike={"onednn": False}).ratios()
        assert (ratio["verdict"], ratio["differs"]) == ("INCOMPARABLE", ["oneDNN off, on in the baseline"])

    def test_a_ratio_of_like_rows_is_not(self, tmp_path):
        (ratio,) = journal(tmp_path, rounds=5).ratios()
        assert (ratio["verdict"], ratio["differs"]) == ("SLOWER", [])

    def test_the_table_says_so_too(self, tmp_path, capsys):
        screen.run_table(journal(tmp_path, rounds=5, unlike={"matmul": "bf16"}))
        out = capsys.readouterr().out
        assert "unlike: 1.5" in out
        assert "forward tensorflow-graph: not the same conditions: matmul in bf16, fp32 in the baseline" in out

    def test_the_table_names_what_was_let_through_and_the_weights_file(self, tmp_path, capsys):
        run = journal(tmp_path, rounds=5)
        run.head |= {"env": {"DNNL_MAX_CPU_ISA": "SSE41"}, "weights": {"file": "a[1].npy", "sha256": "0123456789"}}
        screen.run_table(run)
        out = capsys.readouterr().out
        assert "let through to every Worker: DNNL_MAX_CPU_ISA=SSE41" in out
        assert "weights: a[1].npy (sha256 01234567)" in out

    def test_below_three_rounds_a_ratio_says_what_it_needs(self, tmp_path, capsys):
        screen.run_table(journal(tmp_path, rounds=2))
        assert "1.500 [needs 3 Rounds]" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("unlike", "flag"),
        [
            ({"matmul": "unknown"}, "unknown_precision"),
            ({"other_frameworks": ["jax"]}, "other_frameworks"),
            ({"libraries": [{"name": "libgomp.so.1", "inside": False}]}, "outside_libraries"),
        ],
    )
    def test_what_is_odd_is_flagged(self, tmp_path, unlike, flag):
        assert journal(tmp_path, unlike=unlike).row(B)["flags"] == flag


def test_a_row_has_its_identity_and_the_worst_parity_of_all_its_workers(tmp_path):
    journal(tmp_path)
    bad = worker(A, parity=9e-7) | {"group": 0, "round": 1, "attempt": 0}
    Journal(tmp_path).add("worker", **bad)
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


def test_a_torn_last_line_is_a_killed_run_and_the_rest_is_read(tmp_path):
    journal(tmp_path)
    path = tmp_path / "run.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event":"turn","case_')
    assert len(Run(tmp_path).samples(A)) == 3


def test_a_broken_line_inside_is_reported_with_its_number(tmp_path):
    journal(tmp_path)
    path = tmp_path / "run.jsonl"
    lines = path.read_bytes().splitlines()
    lines[1] = b"not json"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(UsageError, match=r"run.jsonl, line 2: "):
        Run(tmp_path)


def test_a_newer_schema_is_refused(tmp_path):
    journal(tmp_path)
    path = tmp_path / "run.jsonl"
    path.write_text(path.read_text().replace(f'"schema":{SCHEMA}', '"schema":99'))
    with pytest.raises(UsageError, match=f"schema 99 is newer than {SCHEMA}: update alexnet-bench"):
        Run(tmp_path)


def test_an_older_schema_is_refused_too(tmp_path):
    journal(tmp_path)
    path = tmp_path / "run.jsonl"
    path.write_text(path.read_text().replace(f'"schema":{SCHEMA}', '"schema":1'))
    with pytest.raises(UsageError, match=f"schema 1 is older than {SCHEMA}: measure again, or plot its CSVs"):
        Run(tmp_path)


def test_a_folder_without_a_run_is_a_mistake(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read run.jsonl: No such file or directory"):
        Run(tmp_path)


def test_two_runs_of_one_second_get_folders_of_their_own(tmp_path):
    assert new_folder(tmp_path, "a") != new_folder(tmp_path, "a")


def test_a_name_with_a_slash_is_a_mistake(tmp_path):
    with pytest.raises(UsageError, match="--name: expected letters, digits"):
        new_folder(tmp_path, "../a")


def test_an_event_is_on_the_disk_when_add_returns(tmp_path):
    made = Journal(tmp_path)
    for number in range(3):
        made.add("x", number=number)
        assert len((tmp_path / "run.jsonl").read_bytes().splitlines()) == number + 1


class TestHost:
    def test_the_fingerprint_has_no_host_name_and_no_path(self):
        import platform

        text = str(host.fingerprint())
        assert platform.node() not in text
        assert str(Path.home()) not in text

    def test_absent_evidence_is_none_and_never_zero(self):
        before = {"wall_s": 0.0, "steal_s": None, "busy_s": 0.0, "psi_s": None, "throttled": None}
        got = host.noise(before, before | {"wall_s": 2.0, "busy_s": 3.0}, own_s=1.0)
        assert (got["steal_s"], got["psi_s"], got["foreign_s"]) == (None, None, 2.0)

    def test_less_than_a_second_says_nothing_about_noise(self):
        assert host.noise_percent([QUIET | {"wall_s": 0.5}])["steal_pct"] is None

    def test_usable_cores_are_at_least_one(self):
        assert host.usable_cores() >= 1
