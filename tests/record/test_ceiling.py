"""The ceiling measured by the Workers of a Run, and peak fractions; memory; first calls."""

import dataclasses
from pathlib import Path

import pytest
from null_runs import NULL_CASE, run_cases
from runs import A, B, event, head, make, turn, worker

from bench.cases.arm import Ab
from bench.cases.protocol import Protocol
from bench.machine import noise
from bench.record import ceiling, events
from bench.record.ceiling import Ceiling
from bench.record.journal import Journal
from bench.record.run import Run
from bench.worker import probe
from bench.worker.replies import CeilingRates
from impls import null_alexnet
from impls.net import Build

BOTH = dataclasses.replace(A, pass_="forward_backward")
LOW, LARGE = (dataclasses.replace(A, **change) for change in ({"precision": "bf16"}, {"batch": 16}))
FLOP = 2 * A.macs * A.batch


def with_ceilings(run: Run, *found: dict, worker_name: str = A.worker, **shared) -> Run:
    """One event a dict of rates, in Rounds one after the other."""
    for round_, rates in enumerate(found):
        place = {"group": 0, "round": round_, "attempt": 0, "worker": worker_name}
        alike = {"precision": "fp32", "device": "cpu", **dict.fromkeys(ceiling.RATES)}
        Journal(run.folder).add(event("ceiling", **place | alike | rates | shared))
    return Run(run.folder)


def matmul(*rates):
    return [{"matmul_gflop_per_s": rate} for rate in rates]


class TestOf:
    def test_ceiling_of_a_worker_is_the_median_over_rounds(self, tmp_path):
        run = with_ceilings(make(tmp_path), *matmul(100.0, 900.0, 110.0))
        assert ceiling.ceiling_of(run, A) == Ceiling(110.0, None, None)

    def test_ceiling_of_several_workers_is_the_best_of_each_rate(self, tmp_path):
        ours = {"matmul_gflop_per_s": 100.0, "conv_gflop_per_s": 90.0, "copy_gb_per_s": 8.0}
        theirs = {"matmul_gflop_per_s": 80.0, "conv_gflop_per_s": 120.0, "copy_gb_per_s": 9.0}
        run = with_ceilings(with_ceilings(make(tmp_path), ours), theirs, worker_name=B.worker)
        assert ceiling.ceiling_of(run, A) == ceiling.ceiling_of(run, B) == Ceiling(100.0, 120.0, 9.0)
        assert ceiling.ceiling_of(run, A).gflop_per_s == 120.0

    def test_group_with_its_own_ceiling_uses_it(self, tmp_path):
        run = with_ceilings(make(tmp_path, [A, LARGE]), *matmul(100.0))
        assert ceiling.ceiling_of(run, LARGE).matmul_gflop_per_s == 100.0  # Workers that went on were asked once
        run = with_ceilings(run, *matmul(300.0), group=1)
        assert [ceiling.ceiling_of(run, one).matmul_gflop_per_s for one in (A, LARGE)] == [100.0, 300.0]

    def test_precisions_and_devices_are_kept_apart(self, tmp_path):
        run = make(tmp_path, [A, LOW])
        run = with_ceilings(run, *matmul(100.0))
        run = with_ceilings(run, *matmul(400.0), precision="bf16", group=1)
        run = with_ceilings(run, *matmul(9000.0), device="cuda")
        assert [ceiling.ceiling_of(run, one).matmul_gflop_per_s for one in (A, LOW)] == [100.0, 400.0]

    def test_arms_of_other_threads_have_each_its_own_numpys_too(self, tmp_path):
        ab = Ab("threads", ("1", "2"))
        one, two = ab.cases([A])
        run = make(tmp_path, [one, two], ab=ab, rounds=1)
        for name, rate, numpy in ((one.worker, 50.0, 55.0), (two.worker, 90.0, 99.0)):
            run = with_ceilings(run, *matmul(rate), worker_name=name)
            place = {"group": 0, "round": 0, "attempt": 0}
            Journal(tmp_path).add(event("worker", **place, **worker(one, numpy, worker=name)))
        assert [ceiling.ceiling_of(Run(tmp_path), case).matmul_gflop_per_s for case in (one, two)] == [55.0, 99.0]

    def test_numpys_product_counts_where_it_is_faster_in_fp32_only(self, tmp_path):
        run = with_ceilings(make(tmp_path, [A, LOW], rate=150.0), *matmul(100.0))
        run = with_ceilings(run, *matmul(80.0), precision="bf16", group=1)
        assert [ceiling.ceiling_of(run, one).matmul_gflop_per_s for one in (A, LOW)] == [150.0, 80.0]

    def test_a_ceiling_of_a_repeated_round_does_not_count(self, tmp_path):
        run = with_ceilings(make(tmp_path), *matmul(100.0, 900.0))
        Journal(tmp_path).add(event("void", group=0, round=1, attempt=0, reason="the machine was suspended"))
        assert ceiling.ceiling_of(Run(run.folder), A).matmul_gflop_per_s == 100.0

    def test_a_ceiling_that_was_not_measured_is_none(self, tmp_path):
        run = make(tmp_path)
        assert ceiling.ceiling_of(run, A) == Ceiling(None, None, None)
        assert ceiling.ceiling_of(run, A).gflop_per_s is None


def test_workers_that_go_on_are_asked_once_a_round_and_once_more_where_that_was_void(tmp_path, monkeypatch):
    monkeypatch.setattr(noise, "invalid_reason", lambda around: "the machine was suspended")
    cases = [dataclasses.replace(NULL_CASE, variant=f"half_width.relu{number}") for number in (1, 2)]
    run = run_cases(tmp_path, cases, "pass", rounds=1, shared_workers=True, noise_repeats=1)
    assert [(one.group, one.attempt) for one in run.events_of(events.Ceiling)] == [(0, 0), (0, 1)]
    assert [(one.group, one.attempt) for one in run.events_of(events.Void)] == [(0, 0)]


class TestRows:
    def row(self, folder, gflop_per_s, case=A, **settings):
        """Of a Case that reaches 100 GFLOP/s, under such a ceiling."""
        run = make(folder, [case], base_ns=2 * case.macs * case.batch // 100, rounds=2, **settings)
        shared = {"precision": case.precision}
        return with_ceilings(run, *[{"conv_gflop_per_s": gflop_per_s, "copy_gb_per_s": 8.0}], **shared).row(case)

    @pytest.mark.parametrize(
        ("gflop_per_s", "fraction", "flag", "valid"),
        [
            (200.0, 0.5, False, True),
            (80.0, 1.25, True, True),
            (26.0, 100 / 26, True, True),
            (24.0, 100 / 24, True, False),
        ],
    )
    def test_the_peak_fraction_is_not_clamped_and_one_above_1_is_flagged(
        self, tmp_path, gflop_per_s, fraction, flag, valid
    ):
        row = self.row(tmp_path, gflop_per_s)
        assert row["peak_fraction"] == pytest.approx(fraction, rel=1e-4)
        assert ("above_ceiling" in row["flags"].split(), row["valid"]) == (flag, valid)
        assert (row["ceiling_gflop_per_s"], row["conv_gflop_per_s"], row["copy_gb_per_s"]) == (
            gflop_per_s,
            gflop_per_s,
            8,
        )

    def test_the_work_is_twice_the_multiply_adds_of_the_pass(self, tmp_path):
        assert BOTH.macs > 2 * A.macs
        assert self.row(tmp_path, 100.0, BOTH)["peak_fraction"] == pytest.approx(1, rel=1e-4)

    def test_without_a_ceiling_the_columns_are_empty(self, tmp_path):
        run = make(tmp_path)
        row = run.row(A)
        names = ("peak_fraction", "ceiling_gflop_per_s", *ceiling.RATES)
        assert [row[name] for name in names] == [None] * 5
        assert "above_ceiling" not in row["flags"].split()
        run.write()
        header, first, *_ = (line.split(",") for line in (tmp_path / "summary.csv").read_text().splitlines())
        assert [first[header.index(name)] for name in names] == [""] * 5

    def flags(self, folder, case, **said):
        run = make(folder, [case], rounds=1)
        place = {"group": 0, "round": 0, "attempt": 0}
        Journal(folder).add(event("worker", **place, **worker(case) | said))
        return Run(run.folder).row(case)["flags"].split()

    @pytest.mark.parametrize(
        ("case", "bf16", "flagged"), [(LOW, False, True), (LOW, True, False), (LOW, None, False), (A, False, False)]
    )
    def test_bf16_that_the_device_does_not_compute_itself_is_flagged(self, tmp_path, case, bf16, flagged):
        conditions = worker(case)["conditions"] | {"bf16": bf16}
        assert ("bf16_emulated" in self.flags(tmp_path, case, conditions=conditions)) is flagged

    @pytest.mark.parametrize("proven", [True, False])
    def test_a_net_that_could_not_be_proven_is_flagged(self, tmp_path, proven):
        assert ("not_proven" in self.flags(tmp_path, A, proven=proven)) is not proven


class TestMemory:
    def row(self, folder, *peaks):
        journal, place = Journal(folder), {"group": 0, "round": 0, "attempt": 0}
        folder.mkdir(exist_ok=True)
        journal.add(event("run", **head([A], Protocol(rounds=1))))
        journal.add(event("worker", **place, **worker(A)))
        for number, (allocator, process) in enumerate(peaks):
            taken = turn(A, [1000], 1 + 1000 * number)
            journal.add(event("turn", **taken | {"allocator_peak": allocator, "process_peak": process}))
        journal.add(event("round", **place, disturbed=""))
        return Run(folder).row(A)

    def test_the_most_of_any_turn_is_the_peak_allocator_and_process_apart(self, tmp_path):
        row = self.row(tmp_path, (2**21, 2**22), (2**23, 2**20), (2**20, 2**24))
        assert (row["peak_memory_mib"], row["peak_rss_mib"]) == (8, 16)

    def test_memory_that_was_not_measured_is_empty_and_not_zero(self, tmp_path):
        row = self.row(tmp_path, (None, None), (None, 0))
        assert (row["peak_memory_mib"], row["peak_rss_mib"]) == (None, 0)


class TestFirstCalls:
    COMPILED = dataclasses.replace(A, mode="compile")

    def row(self, folder, case, *calls):
        """Of (cache, ms) for each Round."""
        journal = Journal(folder)
        journal.add(event("run", **head([case], Protocol(rounds=len(calls)))))
        for round_, (cache, ms) in enumerate(calls):
            place = {"group": 0, "round": round_, "attempt": 0}
            said = worker(case, compile_cache=cache, first_call_ns={"forward": ms * 10**6})
            journal.add(event("worker", **place, **said))
            journal.add(event("turn", **turn(case, [1000], 1 + 1000 * round_) | place))
            journal.add(event("round", **place, disturbed=""))
        row = Run(folder).row(case)
        return row["first_call_ms"], row["first_call_warm_ms"], row["compile_cache"]

    def test_cold_is_round_0_and_warm_the_median_of_the_rest(self, tmp_path):
        calls = (("cold", 900), ("warm", 50), ("warm", 70), ("warm", 60))
        assert self.row(tmp_path, self.COMPILED, *calls) == (900, 60, "cold warm warm warm")

    def test_a_round_0_that_found_a_warm_cache_has_no_cold_call(self, tmp_path):
        assert self.row(tmp_path, self.COMPILED, ("warm", 50)) == (None, 50, "warm")

    def test_a_mode_that_compiles_nothing_has_no_cache(self, tmp_path):
        assert self.row(tmp_path, A, (None, 9), (None, 5)) == (9, 5, None)

    def test_a_cache_that_keeps_nothing_is_seen(self, tmp_path):
        assert self.row(tmp_path, self.COMPILED, ("cold", 900), ("cold", 800))[2] == "cold cold"


class TestProbe:
    def test_rates_are_twice_the_multiply_adds_over_the_median_call(self, monkeypatch):
        """A clock by script: the first two calls do not count, and of the others neither best nor worst decides."""
        built = []
        monkeypatch.setattr(
            probe, "measure", lambda run, wait, n: (None, [10**9] * (n - 5) + [1, 2, 10**6, 10**8, 10**8])
        )
        monkeypatch.setattr(probe, "copy_rate", lambda threads: 10.0 * threads)

        def build(variant, weights, how):
            built.append((variant.name, variant.part, how.batch))
            return null_alexnet.build(variant, weights, how)

        found = probe.ceiling(build, lambda batch: Build(batch, "cpu", "fp32", "noop", "nhwc"), 2)
        assert built == [("matmul", True, 2048), ("conv", True, 8)]
        assert found.matmul_gflop_per_s == 2 * 2048**3 / 1e6
        assert found.conv_gflop_per_s == 2 * 28 * 28 * 9 * 256 * 256 * 8 / 1e6
        assert found.copy_gb_per_s == 20

    def test_a_process_without_a_framework_has_numpys_product_and_no_convolution(self, monkeypatch):
        monkeypatch.setattr(probe, "copy_rate", lambda threads: 10.0 * threads)
        monkeypatch.setattr(probe, "numpy_matrix_rate", lambda: 7.0)
        assert probe.numpy_ceiling(3) == CeilingRates(7.0, None, 30.0)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_a_copy_is_read_and_written_by_so_many_threads_at_once(self, monkeypatch, threads):
        pools = []
        pool = probe.ThreadPoolExecutor
        monkeypatch.setattr(probe, "ThreadPoolExecutor", lambda n: pools.append(n) or pool(n))
        assert probe.copy_rate(threads, mib=1) > 0
        assert pools == [threads]

    def test_a_copy_counts_what_is_read_and_what_is_written(self, monkeypatch):
        monkeypatch.setattr(probe, "measure", lambda run, wait, n: (run(), [10**9] + [10**6] * (n - 1)))
        assert probe.copy_rate(2, mib=1) == 2 * 2**20 / 1e6

    @pytest.mark.parametrize(
        ("text", "has"),
        [
            ("processor\t: 0\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n", True),
            ("flags\t\t: fpu avx512_bf16\n", True),
            ("Features\t: fp asimd bf16 i8mm\n", True),
            ("flags\t\t: fpu avx512f notbf16\nbugs\t\t: bf16\n", False),
            ("processor\t: 0\n", None),
        ],
    )
    def test_whether_a_cpu_computes_bf16_itself_is_in_its_flags(self, monkeypatch, text, has):
        monkeypatch.setattr(Path, "read_text", lambda self, **how: text)
        assert probe.low_precision_hardware() is has

    def test_bf16_hardware_is_unknown_without_proc_cpuinfo(self, monkeypatch):
        def missing(self, **how):
            raise FileNotFoundError

        monkeypatch.setattr(Path, "read_text", missing)
        assert probe.low_precision_hardware() is None
