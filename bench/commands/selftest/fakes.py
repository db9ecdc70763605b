"""Things whose duration is known beforehand, to hold the harness against: a scripted clock, a slow device."""

import time
from typing import Any


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now_ns: int = 0):
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, ns: int) -> None:
        self.now_ns += ns


class FakeDevice:
    """Takes ``ms`` for an iteration, one after the other, and lets the caller go on at once."""

    def __init__(self, ms: float):
        self.ns, self.done_ns = int(ms * 1e6), 0

    def run(self) -> int:
        self.done_ns = max(self.done_ns, time.perf_counter_ns()) + self.ns
        return self.done_ns

    def wait(self, handles: Any) -> None:
        while (left_ns := handles - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / 1e9)

    fetch = wait
    """A copy to the host cannot come before the value is there."""
