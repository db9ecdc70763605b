"""A device that computes nothing: a clock of what was enqueued, in the order in which it was."""

import time


class Device:
    """One queue; it is done with all of it at ``done_ns``, on the clock of the samples."""

    def __init__(self) -> None:
        self.done_ns = 0

    def enqueue(self, ms: float) -> int:
        """Enqueue so much work; when it will be done."""
        self.done_ns = max(self.done_ns, time.perf_counter_ns()) + int(ms * 1e6)
        return self.done_ns

    def finish(self, done_ns: int | None = None) -> None:
        """Return when the queue is done, or has come to ``done_ns``."""
        until = self.done_ns if done_ns is None else done_ns
        if (left_ns := until - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / 1e9)


class Timer:
    """Implements impls.net.Timer; its clock runs ``factor`` times as fast as it should."""

    def __init__(self, device: Device, factor: float):
        self.device, self.factor = device, factor

    def mark(self) -> int:
        return self.device.enqueue(0)

    def wait(self, mark: int) -> None:
        self.device.finish(mark)

    def between_ns(self, first: int, last: int) -> int:
        return round(self.factor * (last - first))

    def block(self, ns: int) -> None:
        self.device.enqueue(ns / 1e6)


def spin(ms: float) -> None:
    """Keep the host busy for so long."""
    until = time.perf_counter_ns() + int(ms * 1e6)
    while time.perf_counter_ns() < until:
        pass
