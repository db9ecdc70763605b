"""Whether the times of a device's own timer are believed."""

from typing import NamedTuple

import pytest

from bench.record import device_time
from bench.record.events import BurnIn, DeviceTime, Turn
from bench.worker.replies import TimerCheck


class Spun(NamedTuple):
    """A burn-in."""

    spin_ns: int


class Timed:
    """A Run of one Case: events of each kind."""

    def __init__(self, *events, samples=(5_100_000,) * 4, spin_ns=0):
        self.events = {DeviceTime: events, Turn: [self.turn(samples)] if samples else [], BurnIn: [Spun(spin_ns)]}

    def of_case(self, kind, case):
        return self.events[kind]

    @staticmethod
    def turn(samples):
        class Samples:
            ns, lead = list(samples), 1

        return Samples()


def measured(device_ms=5.0, launch_ms=0.5, device_ns=20_000_000, enqueued=True):
    check = TimerCheck(device_ns, 19_990_000, 20_050_000)
    times = [round(1e6 * each) for each in (device_ms, device_ms, 9 * device_ms)]
    return DeviceTime(0, 0, 0, "c", times, [round(1e6 * launch_ms)] * 3, check, enqueued)


class TestBelieved:
    def test_of_each_round_the_median_counts(self):
        found = device_time.on_device(Timed(measured(5.0), measured(5.1), measured(5.0)), None)
        assert found == device_time.OnDevice(5_000_000, 500_000)
        assert not found.launch_bound

    def test_a_host_that_takes_longer_bounds_the_pass(self):
        run = Timed(measured(1.0, launch_ms=4.0), samples=(4_400_000,) * 4)
        assert device_time.on_device(run, None).launch_bound

    def test_nothing_was_measured(self):
        assert device_time.on_device(Timed(), None) is None
        assert not device_time.timer_off(Timed(), None)

    def test_a_pass_with_gaps_has_no_time_and_no_flag(self):
        run = Timed(measured(), measured(enqueued=False))
        assert device_time.on_device(run, None) is None
        assert not device_time.timer_off(run, None)


class TestOff:
    @pytest.mark.parametrize(("device_ns", "off"), [(20_000_000, False), (19_000_000, True), (21_000_000, True)])
    def test_two_events_apart_otherwise_than_by_the_hosts_clock(self, device_ns, off):
        run = Timed(measured(), measured(device_ns=device_ns))
        assert device_time.timer_off(run, None) == off
        assert (device_time.on_device(run, None) is None) == off

    @pytest.mark.parametrize(
        ("device_ms", "launch_ms", "off"),
        [(5.0, 0.5, False), (5.5, 0.5, False), (6.0, 0.5, True), (2.0, 0.5, True), (2.0, 2.0, False)],
    )
    def test_a_pass_that_is_longer_than_a_sample_or_too_short_for_it(self, device_ms, launch_ms, off):
        assert device_time.timer_off(Timed(measured(device_ms, launch_ms)), None) == off

    def test_a_machine_that_is_slow_now_and_then_is_no_timer_that_lies(self):
        assert not device_time.timer_off(
            Timed(measured(), samples=(5_100_000, 5_100_000, 90_000_000, 90_000_000)), None
        )

    def test_what_an_ab_adds_to_a_pass_is_not_the_devices(self):
        samples = (20_100_000,) * 4
        assert device_time.timer_off(Timed(measured(), samples=samples), None)
        assert not device_time.timer_off(Timed(measured(), samples=samples, spin_ns=15_000_000), None)

    def test_without_samples_only_the_events_tell(self):
        assert not device_time.timer_off(Timed(measured(9.0), samples=()), None)
