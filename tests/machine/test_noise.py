"""Evidence of noise: what is read, how two readings are held together, and what it makes of a Block."""

import os
import time

import psutil
import pytest
from msgspec.structs import replace

from bench.machine import gpu, noise

STILL = noise.Snapshot(
    wall_s=100.0, steal_s=10.0, busy_s=50.0, psi_s=1.0, throttled=3.0, throttled_s=5.0, suspended_s=7.0
)
CORES = os.cpu_count() or 1


def turn(own_s: float = 0.0, **moved: object) -> noise.Noise:
    """A Turn of 2 s in which nothing happened but what is named, as what the second snapshot says more."""
    moved = {"wall_s": 2.0} | moved
    known = STILL._asdict()
    after = STILL._replace(**{name: known[name] + more for name, more in moved.items() if known.get(name) is not None})
    rest = {name: value for name, value in moved.items() if known.get(name) is None}
    return replace(noise.between(STILL, after, own_s), **rest)


class TestReading:
    def test_a_cpu_has_no_gpu_facts_and_none_of_them_is_zero(self):
        found = noise.snapshot("cpu")
        assert [found.sm_mhz, found.watts, found.temp_c, found.reasons, found.others] == [None] * 5

    def test_two_snapshots_and_their_difference_have_the_same_counters(self):
        first = noise.snapshot("cpu")
        moved = noise.between(first, noise.snapshot("cpu"), 0.0)
        assert 0 < moved.wall_s < 5
        assert moved.suspended_s is None or abs(moved.suspended_s) < noise.SUSPENDED_S

    def test_a_system_without_a_clock_that_counts_sleep_says_none(self, monkeypatch):
        monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
        assert noise.snapshot("cpu").suspended_s is None

    def test_a_preemption_between_two_clocks_does_not_look_like_sleep(self, monkeypatch):
        if not hasattr(time, "CLOCK_BOOTTIME"):
            pytest.skip("this system has no CLOCK_BOOTTIME")
        readings = iter(
            [0, 50_000_000, 50_000_001, 60_000_000, 60_000_100, 60_000_200, 70_000_000, 99_000_000, 99_000_100]
        )
        monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: next(readings))
        assert noise.snapshot("cpu").suspended_s == 100 / 1e9

    def test_what_a_gpu_reads_goes_into_the_snapshot_and_our_own_process_is_no_other(self, monkeypatch):
        read = {"sm_mhz": 1400, "watts": 300.5, "temp_c": 61, "reasons": 4, "pids": [os.getpid(), 1]}
        monkeypatch.setattr(gpu, "read", lambda device: dict(read))
        found = noise.snapshot("cuda")
        assert (found.sm_mhz, found.reasons, found.others) == (1400, 4, 1)

    def test_other_processes_are_those_that_are_not_ours(self):
        assert noise.count_others([1, os.getpid(), 4711**2]) == 2
        assert noise.count_others([psutil.Process().pid]) == noise.count_others([]) == 0

    def test_in_another_pid_namespace_the_number_of_others_is_unknown(self):
        assert noise.count_others([1]) is None
        assert noise.count_others(None) is None


class TestDifference:
    def test_the_workers_own_cpu_time_is_not_anothers(self):
        assert turn(busy_s=3.0, own_s=1.0).foreign_s == 2.0
        assert turn(busy_s=1.0, own_s=1.5).foreign_s == 0.0

    @pytest.mark.parametrize("name", ["steal_s", "psi_s", "throttled", "throttled_s", "suspended_s"])
    def test_a_source_that_is_absent_stays_none(self, name):
        absent = STILL._replace(**{name: None})
        assert getattr(noise.between(absent, absent, 0.0), name) is None

    def test_a_gpu_is_judged_by_both_ends(self):
        first = STILL._replace(sm_mhz=1400, watts=300.0, temp_c=60, reasons=0x4, others=0)
        last = STILL._replace(sm_mhz=1200, watts=200.0, temp_c=70, reasons=0x21, others=2)
        for found in (noise.between(first, last, 0.0), noise.between(last, first, 0.0)):
            assert (found.watts, found.temp_c) == (250.0, 70)
            assert (found.reasons, found.others) == (0x25, 2)

    def test_a_gpus_clock_is_not_that_from_which_it_comes(self):
        rest, busy = STILL._replace(sm_mhz=345), STILL._replace(sm_mhz=1980)
        for first, last, mhz in ((rest, busy, 1980), (busy, rest, 345), (rest, STILL, 345), (STILL, STILL, None)):
            found = noise.between(first, last, 0.0)
            assert (found.sm_mhz, found.sm_mhz_high) == (mhz, mhz)

    def test_a_gpu_is_judged_by_what_is_read_in_between_too(self):
        rest = STILL._replace(sm_mhz=345, watts=90.0, temp_c=40, reasons=0x1)
        end = rest._replace(sm_mhz=1700)
        busy = {"sm_mhz": 1980, "watts": 390.0, "temp_c": 60, "reasons": 0}
        found = noise.between(rest, end, 0.0, [busy, busy | {"sm_mhz": 1500, "reasons": 0x40}])
        assert (found.sm_mhz, found.sm_mhz_high) == (1500, 1980)
        assert (found.watts, found.temp_c, found.reasons) == (240.0, 60, 0x41)

    def test_memory_errors_are_what_the_counter_grew_by(self):
        first, last = STILL._replace(ecc_errors=2), STILL._replace(ecc_errors=3)
        found = noise.between(first, last, 0.0)
        assert found.ecc_errors == 1
        assert "1 error that ECC could not correct" in noise.invalid_reason([found])
        assert noise.between(STILL, last, 0.0).ecc_errors is None

    def test_a_gpu_is_judged_by_what_was_read_while_it_computed(self, monkeypatch):
        clocks = {5: 100, 12: 1900, 25: 200, 31: 1800, 45: 300}  # at ns; passes from 10 to 20 and from 30 to 40
        readings = [{"at_ns": at, "sm_mhz": mhz, "reasons": 0} for at, mhz in clocks.items()]
        monkeypatch.setattr(noise, "snapshot", lambda device: STILL)
        with noise.Observation("cpu") as seen:
            pass
        seen.sampler.readings += readings
        found = seen.noise(0.0, [10, 30], [10, 10])
        assert (found.sm_mhz, found.sm_mhz_high) == (1800, 1900)

    def test_what_reading_a_gpu_takes_is_not_anothers_time(self, monkeypatch):
        ends = iter([STILL, STILL._replace(busy_s=(STILL.busy_s or 0.0) + 3.0)])
        monkeypatch.setattr(noise, "snapshot", lambda device: next(ends))
        with noise.Observation("cpu") as seen:
            pass
        seen.sampler.cpu_s = 0.5
        assert seen.noise(1.0, [], []).foreign_s == pytest.approx(1.5)

    def test_gpu_reading_of_one_end_is_used_if_the_other_is_none(self):
        found = noise.between(STILL._replace(reasons=0x8), STILL, 0.0)
        assert (found.reasons, found.sm_mhz) == (0x8, None)


class TestPercent:
    def test_only_the_cores_that_are_ours_are_read_and_judged(self, monkeypatch):
        core = psutil.cpu_times()._replace
        busy = dict.fromkeys(psutil.cpu_times()._fields, 0.0)
        times = iter([[core(**busy)] * 4, [core(**busy | {"user": ran}) for ran in (9.0, 9.0, 1.0, 0.0)]])
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(times))
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3}, raising=False)
        moved = replace(noise.between(noise.snapshot("cpu"), noise.snapshot("cpu"), 0.0), wall_s=2.0)
        assert (moved.cores, moved.foreign_s) == (2, 1.0)
        assert noise.percentages([moved])["foreign_cpu_pct"] == 25.0

    def test_percent_are_of_all_cores_over_the_turns_own_time(self):
        moved = turn(busy_s=0.4 * CORES, psi_s=1.0, throttled_s=0.04 * CORES)
        found = noise.percentages([turn(steal_s=0.2 * CORES), turn(), turn(), moved])
        assert found == pytest.approx(
            {"steal_pct": 2.5, "foreign_cpu_pct": 5.0, "psi_some_pct": 12.5, "quota_pct": 0.5}
        )

    def test_less_than_a_second_says_nothing(self):
        found = noise.percentages([turn(wall_s=0.5, steal_s=0.5)])
        assert {name for name, value in found.items() if value is not None} == {"quota_pct"}

    def test_stops_of_a_quota_are_judged_in_less_than_a_second_too(self):
        assert "for 20 % of the CPU time" in noise.invalid_reason([turn(wall_s=0.1, throttled_s=0.02, quota=1.0)])

    def test_one_turn_without_a_source_is_enough_to_say_nothing(self):
        assert noise.percentages([turn(), replace(turn(), steal_s=None)])["steal_pct"] is None


class TestJudgement:
    def test_a_quiet_block_is_valid_and_not_noisy(self):
        assert noise.invalid_reason([turn(), turn()]) == ""
        assert noise.noise_flags([turn(), turn()]) == []

    @pytest.mark.parametrize(
        ("moved", "why"),
        [
            ({"steal_s": 0.3 * CORES}, "other virtual machines took 15 % of the CPU time (limit 10 %)"),
            ({"throttled_s": 0.22 * CORES}, "the CPU quota stopped it for 11 % of the CPU time (limit 10 %)"),
            ({"throttled_s": 0.44, "quota": 2.0}, "the CPU quota stopped it for 11 % of the CPU time (limit 10 %)"),
            ({"suspended_s": 0.0011}, "the machine was suspended for 0.0011 s"),
            ({"reasons": 0x8}, "the GPU slowed down: hardware slowdown (0x8)"),
            ({"reasons": 0x20}, "the GPU slowed down: thermal slowdown by software (0x20)"),
            ({"reasons": 0x40}, "the GPU slowed down: thermal slowdown by hardware (0x40)"),
            ({"reasons": 0x85}, "the GPU slowed down: power brake (0x80)"),
            ({"others": 1}, "1 other process computed on the GPU"),
            ({"others": 3}, "3 other processes computed on the GPU"),
        ],
    )
    def test_a_block_is_not_to_be_trusted_for_one_turn_and_says_why(self, moved, why):
        assert noise.invalid_reason([turn(**moved)]) == why
        assert noise.invalid_reason([turn(wall_s=0.01), turn(**moved), turn(wall_s=0.01)]) == why

    @pytest.mark.parametrize(
        "moved",
        [
            {"steal_s": 0.19 * CORES},
            {"throttled": 20.0, "throttled_s": 0.19 * CORES},
            {"suspended_s": 0.0009},
            {"reasons": 0x1 | 0x2 | 0x4 | 0x10 | 0x100},
            {"others": 0},
            {"psi_s": 2.0},
            {"busy_s": 2.0 * CORES},
        ],
    )
    def test_noise_below_its_limit_or_without_limit_leaves_a_block_valid(self, moved):
        assert noise.invalid_reason([turn(**moved)]) == ""

    def test_two_reasons_are_both_in_the_line(self):
        assert noise.invalid_reason([turn(throttled_s=1.0 * CORES, others=1)]).count("; ") == 1

    def test_a_long_series_of_tiny_clock_errors_is_no_suspension(self):
        assert noise.invalid_reason([turn(suspended_s=1e-5) for _ in range(1000)]) == ""

    @pytest.mark.parametrize(
        ("moved", "names"),
        [
            ({"steal_s": 0.03 * CORES}, ["steal_pct"]),
            ({"steal_s": 0.01 * CORES}, []),
            ({"busy_s": 0.12 * CORES}, ["foreign_cpu_pct"]),
            ({"busy_s": 0.08 * CORES}, []),
            ({"throttled_s": 0.03 * CORES}, ["quota_pct"]),
            ({"throttled": 2.0, "throttled_s": 0.01 * CORES}, []),
            ({"psi_s": 2.0}, []),
            ({"reasons": 0x4 | 0x1}, ["gpu_power_cap"]),
            ({"reasons": 0x1 | 0x2}, []),
        ],
    )
    def test_softer_evidence_is_named(self, moved, names):
        assert noise.noise_flags([turn(**moved)]) == names

    def test_turns_of_an_older_run_which_know_less_are_judged_by_what_they_know(self):
        old = noise.Noise(wall_s=2.0, steal_s=0.0, foreign_s=0.0, psi_s=0.0)
        assert noise.invalid_reason([old]) == ""
        assert noise.noise_flags([old]) == []


class TestControl:
    def test_a_control_is_two_times_and_the_state_of_the_machine(self):
        found = noise.control()
        assert found.control_cpu_ns > 1_000_000
        assert found.control_mem_ns > 100_000
        assert found.load1 >= 0
        assert found.mhz is None or found.mhz > 100
        assert found.temp_c is None or 0 < found.temp_c < 150

    def test_the_copy_is_of_64_mib_between_pages_of_their_own(self):
        source, target = noise._buffers()
        assert source.nbytes == target.nbytes == 64 << 20
        assert not (source == 0).any()
        assert source.ctypes.data != target.ctypes.data

    def test_a_control_off_the_median_of_all_is_found_by_either_of_its_times(self):
        times = [(100, 1000), (106, 1000), (105, 950), (100, 1000), (100, 940), (100, 1000)]
        assert noise.control_off([noise.Control(*both, load1=0.0, mhz=None, temp_c=None) for both in times]) == {1, 4}
        assert noise.control_off([]) == set()
