"""The one timing loop, under a fake clock: exact lengths, no bookkeeping of its own."""

import gc
import math
import threading
import time
import weakref

import numpy as np
import pytest

from bench.commands.selftest.fakes import FakeClock
from bench.stats.descriptive import Summary
from bench.worker.replies import SyncLag
from bench.worker.timing import measure, no_garbage_collection, steady, sync_lag


@pytest.mark.parametrize("n", [1, 2, 10, 100])
@pytest.mark.parametrize("length", [7, 300_000_000, 1_700_000_000])
def test_a_constant_pass_has_its_exact_length_and_no_spread(n, length):
    clock = FakeClock(10**12)
    start_ns, samples_ns = measure(lambda: clock.advance(length), lambda out: None, n, clock=clock)
    summary = Summary.of(list(samples_ns))
    assert list(samples_ns) == [length] * n
    assert list(start_ns) == [10**12 + i * length for i in range(n)]
    assert summary.mean_ns == length
    assert summary.stddev_ns == (None if n == 1 else 0)


def test_waiting_is_inside_the_clock():
    clock = FakeClock(10**12)
    _, samples_ns = measure(lambda: clock.advance(3), lambda out: clock.advance(40), 5, clock=clock)
    assert list(samples_ns) == [43] * 5


def test_wait_gets_the_handles_of_its_own_iteration():
    handles = iter(range(4))
    waited = []
    measure(lambda: next(handles), waited.append, 4)
    assert waited == [0, 1, 2, 3]


def test_outputs_are_released_outside_the_next_iteration():
    class Output:
        pass

    alive = weakref.WeakSet()

    def run():
        assert not alive, "the last iteration's output still lives when the next one starts"
        out = Output()
        alive.add(out)
        return out

    measure(run, lambda out: None, 3)


@pytest.mark.parametrize("n", [0, -1])
def test_less_than_one_iteration_is_an_error(n):
    with pytest.raises(ValueError, match=f"iterations: expected at least 1, found {n}"):
        measure(lambda: None, lambda out: None, n)


def test_garbage_collection_is_off_inside_and_on_again_after_an_error():
    def fail():
        with no_garbage_collection():
            seen.append(gc.isenabled())
            raise RuntimeError

    seen = []
    with pytest.raises(RuntimeError):
        fail()
    assert seen == [False]
    assert gc.isenabled()


class Queue:
    """A device under a fake clock: run() queues, fetch() waits for all that is queued."""

    def __init__(self, clock, length):
        self.clock, self.length, self.idle_at, self.runs = clock, length, 0, 0

    def run(self):
        self.runs += 1
        self.idle_at = max(self.idle_at, self.clock.now_ns) + self.length
        return self.runs

    def wait(self, handles):
        assert handles == self.runs, "not the last handles"
        self.clock.now_ns = max(self.clock.now_ns, self.idle_at)

    fetch = wait


class FakeDevice:
    """In real time: each iteration is done a while after the one before it, and run() returns at once."""

    def __init__(self, seconds):
        self.seconds, self.idle_at = seconds, 0.0

    def run(self):
        self.idle_at = max(self.idle_at, time.perf_counter()) + self.seconds
        done = threading.Event()
        timer = threading.Timer(self.idle_at - time.perf_counter(), done.set)
        timer.daemon = True
        timer.start()
        return done

    def wait(self, done):
        assert done.wait(10)

    fetch = wait


class TestSyncLag:
    def test_a_device_that_was_waited_for_has_its_output_at_once(self):
        device = Queue(clock := FakeClock(10**12), 3_000_000)
        found = sync_lag(device.run, device.wait, device.fetch, 3_000_000, clock=clock)
        assert found == SyncLag(7, 0, 2_100_000)
        assert device.runs == 7

    def test_a_device_that_was_not_waited_for_is_late_at_every_attempt(self):
        device = Queue(clock := FakeClock(10**12), 3_000_000)
        found = sync_lag(device.run, lambda handles: None, device.fetch, 3_000_000, clock=clock)
        assert found == SyncLag(7, 21_000_000, 2_100_000)
        assert device.runs == 3 * 7

    def test_a_copy_that_was_preempted_twice_is_forgiven(self):
        device, slow = Queue(clock := FakeClock(10**12), 50_000_000), iter([90_000_000, 90_000_000, 1000])
        found = sync_lag(device.run, device.wait, lambda handles: clock.advance(next(slow)), 50_000_000, clock=clock)
        assert found == SyncLag(1, 1000, 5_000_000)

    def test_the_first_attempt_in_time_is_the_last(self):
        device = Queue(clock := FakeClock(10**12), 50_000_000)
        sync_lag(device.run, device.wait, device.fetch, 50_000_000, clock=clock)
        assert device.runs == 1

    @pytest.mark.parametrize(
        ("length", "iterations", "allowed"),
        [(10_000, 20, 2_000_000), (1_000_000, 20, 2_000_000), (15e6, 2, 3_000_000), (20_000_000, 1, 2_000_000)],
    )
    def test_enough_is_queued_to_be_seen_and_no_more_than_twenty(self, length, iterations, allowed):
        device = Queue(clock := FakeClock(10**12), length)
        found = sync_lag(device.run, device.wait, device.fetch, length, clock=clock)
        assert (found.iterations, found.allowed_ns) == (iterations, allowed)

    def test_the_queueing_itself_is_not_in_the_copy(self):
        clock = FakeClock(10**12)
        found = sync_lag(lambda: clock.advance(10**9), lambda handles: None, lambda handles: None, 10**9, clock=clock)
        assert found.copy_ns == 0

    @pytest.mark.parametrize(("iteration_ns", "attempts"), [(0, 3), (math.nan, 3), (1, 0)])
    def test_no_length_and_no_attempt_are_errors(self, iteration_ns, attempts):
        with pytest.raises(ValueError, match="expected iteration_ns > 0 and attempts >= 1"):
            sync_lag(lambda: None, lambda handles: None, lambda handles: None, iteration_ns, attempts=attempts)

    @pytest.mark.parametrize("seconds", [0.05, 0.004])
    def test_a_real_device_is_rejected_without_a_wait_and_accepted_with_one(self, seconds):
        device = FakeDevice(seconds)
        found = sync_lag(device.run, lambda done: None, device.fetch, seconds * 1e9)
        assert found.copy_ns > found.allowed_ns
        found = sync_lag(device.run, device.wait, device.fetch, seconds * 1e9)
        assert found.copy_ns <= found.allowed_ns

    def test_a_sample_of_a_real_device_is_as_long_as_it_takes(self):
        device = FakeDevice(0.05)
        _, (with_wait,) = measure(device.run, device.wait, 1)
        _, (without,) = measure(device.run, lambda done: None, 1)
        assert without < 0.99 * 0.05e9 <= with_wait


class TestAncestorsBugs:
    """Three programs before ours published these; each old formula is shown to fail where ours is exact."""

    def test_burn_in_off_by_one_made_a_spread_of_ten_percent(self):
        n, burn_in, length = 100, 10, 300_000_000
        clock = FakeClock(10**12)
        kept = [length for i in range(n + burn_in) if i > burn_in]  # the old loop: n - 1 samples, divided by n
        old_mean = sum(kept) / n
        old_stddev = math.sqrt(sum(x * x for x in kept) / n - old_mean**2)
        assert old_stddev / old_mean == pytest.approx(0.1005, abs=1e-4)
        measure(lambda: clock.advance(10**9), lambda out: None, burn_in, clock=clock)
        _, samples = measure(lambda: clock.advance(length), lambda out: None, n, clock=clock)
        assert len(samples) == n
        assert Summary.of(list(samples)).stddev_ns == 0

    @pytest.mark.parametrize("seconds", [0.3, 1.7])
    def test_mean_of_squares_less_square_of_mean_goes_wrong(self, seconds):
        durations = [seconds] * 100
        mean = sum(durations) / 100
        assert sum(x * x for x in durations) / 100 - mean * mean != 0
        assert Summary.of([int(seconds * 1e9)] * 100).stddev_ns == 0

    def test_the_same_in_float32_nanoseconds_is_a_spread_of_a_quarter_of_a_millisecond(self):
        x, total, squared = np.float32(421_000_000), np.float32(0), np.float32(0)
        for _ in range(100):
            total, squared = total + x, squared + x * x
        assert abs(squared / np.float32(100) - (total / np.float32(100)) ** 2) > 1e9
        assert Summary.of([421_000_000] * 100).stddev_ns == 0

    @pytest.mark.parametrize("length", [7, 300_000_000, 1_700_000_000])
    def test_a_constant_series_has_no_spread_at_any_offset(self, length):
        assert Summary.of([length + 10**12] * 100).stddev_ns == 0

    @pytest.mark.parametrize(("n", "cv"), [(10, 1 / 3), (100, 0.1005)])
    def test_a_sample_too_few_in_the_sums_is_a_mean_too_low_and_a_spread_from_nothing(self, n, cv):
        kept = [0.25] * (n - 1)
        mean = sum(kept) / n
        assert mean == pytest.approx(0.25 * (1 - 1 / n))
        assert math.sqrt(sum(x * x for x in kept) / n - mean**2) / mean == pytest.approx(cv, abs=1e-4)

    def test_a_far_offset_does_not_change_the_spread(self):
        samples = [1, 3, 2, 7]
        shifted = [sample + 10**12 for sample in samples]
        assert Summary.of(shifted).stddev_ns == pytest.approx(Summary.of(samples).stddev_ns, rel=1e-12)

    def test_squares_that_start_at_a_tenth_hide_every_spread_below_31_ms(self):
        samples = [420_000_000 + i % 2 for i in range(100)]
        total, squared = 0.0, 0.1
        for sample in samples:
            total += sample / 1e9
            squared += (sample / 1e9) ** 2
        assert math.sqrt(squared / 100 - (total / 100) ** 2) > 0.0316
        assert Summary.of(samples).stddev_ns < 1

    def test_the_divisor_is_n_minus_one(self):
        assert Summary.of([1, 3]).stddev_ns == pytest.approx(1.4142, abs=1e-4)


class TestGate:
    def test_a_flat_series_is_steady_after_two_windows(self):
        assert not steady([100] * 9, window=5, ratio=1.02)
        assert steady([100] * 10, window=5, ratio=1.02)

    def test_a_falling_series_is_not_steady(self):
        assert not steady([200 - 5 * i for i in range(10)], window=5, ratio=1.02)

    def test_a_rising_series_is_steady_since_nothing_warms_up_any_more(self):
        assert steady([100 + 5 * i for i in range(10)], window=5, ratio=1.02)

    def test_only_the_end_counts(self):
        assert steady([1000] * 30 + [100] * 10, window=5, ratio=1.02)
