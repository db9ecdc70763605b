"""The one timing loop, under a fake clock: exact lengths, no bookkeeping of its own."""

import gc
import math
import weakref

import pytest

from bench.stats import Summary
from bench.timing import measure, no_garbage_collection, steady


class FakeClock:
    """Nanoseconds that pass only when somebody says so."""

    def __init__(self, now=10**12):
        self.now = now

    def __call__(self):
        return self.now

    def advance(self, ns):
        self.now += ns


@pytest.mark.parametrize("n", [1, 2, 10, 100])
@pytest.mark.parametrize("length", [7, 300_000_000, 1_700_000_000])
def test_a_constant_pass_has_its_exact_length_and_no_spread(n, length):
    clock = FakeClock()
    start_ns, samples_ns = measure(lambda: clock.advance(length), lambda out: None, n, clock=clock)
    summary = Summary.of(list(samples_ns))
    assert list(samples_ns) == [length] * n
    assert list(start_ns) == [10**12 + i * length for i in range(n)]
    assert summary.mean_ns == length
    assert summary.stddev_ns == (None if n == 1 else 0)


def test_waiting_is_inside_the_clock():
    clock = FakeClock()
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


class TestAncestorsBugs:
    """Three programs before ours published these; each old formula is shown to fail where ours is exact."""

    def test_burn_in_off_by_one_made_a_spread_of_ten_percent(self):
        n, burn_in, length = 100, 10, 300_000_000
        clock = FakeClock()
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
        assert Summary.of([1, 3]).stddev_ns == pytest.approx(math.sqrt(2))


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
