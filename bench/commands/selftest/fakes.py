"""Test doubles with known durations, for the self-test: a scripted clock and an asynchronous device."""

import time
from typing import Any


class FakeClock:
    """A clock that changes only by ``advance``."""

    def __init__(self, now_ns: int = 0):
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, ns: int) -> None:
        self.now_ns += ns


class FakeDevice:
    """Executes iterations of ``ms`` one after the other; ``run`` returns at once."""

    def __init__(self, ms: float):
        self.ns, self.done_ns = int(ms * 1e6), 0

    def run(self) -> int:
        self.done_ns = max(self.done_ns, time.perf_counter_ns()) + self.ns
        return self.done_ns

    def wait(self, handles: Any) -> None:
        while (left_ns := handles - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / 1e9)

    fetch = wait
    """A copy to the host waits for the value."""
