"""Times by a device's event timer, on the null device with a clock of the test."""

import pytest

from bench.worker import device_time
from impls import null_device


class Host:
    """A clock that the test moves, for the host and for its device."""

    def __init__(self, monkeypatch):
        self.ns = 10**9
        monkeypatch.setattr(null_device.time, "perf_counter_ns", self)
        monkeypatch.setattr(null_device.time, "sleep", self.sleep)  # the same module is device_time's

    def __call__(self):
        return self.ns

    def sleep(self, seconds):
        self.ns += round(1e9 * seconds)


@pytest.fixture
def timed(monkeypatch):
    """Time a pass that takes ``device_ms`` on the device after ``launch_ms`` on the host."""
    host = Host(monkeypatch)

    def time(device_ms, launch_ms, factor=1.0, waits=False):
        device = null_device.Device()

        def run():
            host.sleep(launch_ms / 1e3)
            device.enqueue(device_ms)
            if waits:
                device.finish()

        timer = null_device.Timer(device, factor)
        iteration_ns = round(1e6 * (device_ms + launch_ms))
        return device_time.device_time(run, lambda handles: device.finish(), timer, iteration_ns, clock=host)

    return time


class TestPass:
    @pytest.mark.parametrize("launch_ms", [0.1, 2, 30])
    def test_the_device_is_timed_without_the_host(self, timed, launch_ms):
        found = timed(5, launch_ms)
        assert found.device_ns == [5_000_000] * device_time.PASSES
        assert found.launch_ns == [round(launch_ms * 1e6)] * device_time.PASSES
        assert found.enqueued

    @pytest.mark.parametrize(("device_ms", "passes"), [(90, 5), (240, 2), (3000, 1)])
    def test_of_long_passes_fewer_are_timed(self, timed, device_ms, passes):
        assert len(timed(device_ms, 1).device_ns) == passes

    def test_a_host_that_becomes_slower_is_waited_for_longer(self, timed, monkeypatch):
        too_short = iter([10**5])
        monkeypatch.setattr(device_time, "_longer", lambda ns: next(too_short, 2 * ns))
        found = timed(5, 1)
        assert found.enqueued
        assert set(found.device_ns) == {5_000_000}

    def test_a_pass_that_waits_for_the_device_is_not_enqueued_before_it_begins(self, timed):
        assert not timed(5, 1, waits=True).enqueued

    def test_a_pass_that_takes_too_long_to_enqueue_is_not_either(self, timed):
        assert not timed(5, device_time.MOST_BLOCK_NS / 1e6 + 1).enqueued


class TestTimer:
    @pytest.mark.parametrize("factor", [0.5, 1, 1.5])
    def test_two_events_are_compared_with_the_hosts_clock(self, timed, factor):
        check = timed(5, 1, factor).timer
        assert check.least_ns == check.most_ns == round(1e9 * device_time.PAUSE_S)
        assert check.device_ns == round(factor * check.least_ns)
