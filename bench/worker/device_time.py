"""What a device itself takes for a pass, by its event timer, and what the host takes to enqueue it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.worker.replies import DeviceTime, TimerCheck

if TYPE_CHECKING:  # impls may be of an earlier revision
    from impls.net import Timer

PASSES = 5
LONG_NS = 500_000_000  # of all of them, where each takes long
ATTEMPTS = 3  # at enqueueing a pass before the device begins it
PAUSE_S = 0.02  # between the two events that are compared with the host's clock
MOST_BLOCK_NS = 200_000_000


def device_time(
    run: Callable[[], Any],
    wait: Callable[[Any], None],
    timer: "Timer",
    iteration_ns: int,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> DeviceTime:
    """Time passes on the device, each enqueued as a whole while a kernel before it keeps the device busy.

    Between events around a pass on an idle device there are gaps in which the device waits for the host; here there are
    none, unless the pass itself waits for the device.

    Parameters
    ----------
    run, wait : callable
        As for ``timing.measure``.
    timer : Timer
        Of the device that ``run`` computes on.
    iteration_ns : int
        Duration of a pass, from burn-in: of long ones fewer are timed.
    clock : callable returning int, nanoseconds
    """
    began = clock()
    handles = run()
    block_ns = _longer(clock() - began)
    wait(handles)
    device_ns, launches_ns, whole = list[int](), list[int](), True
    for _ in range(max(1, min(PASSES, LONG_NS // max(1, iteration_ns)))):
        for _ in range(ATTEMPTS):
            handles = None
            timer.block(block_ns)
            began = clock()
            first = timer.mark()
            called = clock()
            handles = run()
            launch_ns = clock() - called
            last = timer.mark()
            enqueued_ns = clock() - began
            wait(handles)
            timer.wait(last)
            if enqueued := enqueued_ns < block_ns:
                break
            block_ns = _longer(enqueued_ns)
        device_ns.append(timer.between_ns(first, last))
        launches_ns.append(launch_ns)
        whole &= enqueued
    return DeviceTime(device_ns, launches_ns, compare(timer, clock), whole)


def compare(timer: "Timer", clock: Callable[[], int] = time.perf_counter_ns) -> TimerCheck:
    """The time between two events of an idle device, and the least and the most that it can be by the host's clock."""
    before = clock()
    first = timer.mark()
    timer.wait(first)
    marked = clock()
    time.sleep(PAUSE_S)
    resumed = clock()
    last = timer.mark()
    timer.wait(last)
    return TimerCheck(timer.between_ns(first, last), resumed - marked, clock() - before)


def _longer(enqueued_ns: int) -> int:
    """How long the device is kept busy before a pass that took so long to enqueue."""
    return min(2 * enqueued_ns + 1_000_000, MOST_BLOCK_NS)
