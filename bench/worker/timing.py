"""The timing loop for burn-in and samples, the check that ``wait`` waits, and the test for a steady series."""

import contextlib
import gc
import math
import statistics
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.worker.replies import SyncLag


def measure(
    run: Callable[[], Any],
    wait: Callable[[Any], None],
    n: int,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    last: list[Any] | None = None,
) -> tuple["array[int]", "array[int]"]:
    """Sample one Pass n times; the device is idle before and after each iteration.

    Parameters
    ----------
    run : callable
        ``net.forward`` or ``net.forward_backward``: enqueues, returns device handles.
    wait : callable
        ``net.wait``: returns when the device has finished those handles; inside the clock.
    n : int
        Iterations, >= 1; else ValueError.
    clock : callable returning int, nanoseconds

    last : list, optional
        Gets the handles of the last iteration, to read its values.

    Returns
    -------
    start_ns, samples_ns : array of int, nanoseconds, length n
    """
    if n < 1:
        raise ValueError(f"iterations: expected at least 1, found {n}")
    start_ns, samples_ns = array("q", bytes(8 * n)), array("q", bytes(8 * n))
    for i in range(n):
        handles = None  # free outside the clock, or the iteration would time the release
        began = clock()
        handles = run()
        wait(handles)
        samples_ns[i] = clock() - began
        start_ns[i] = began
    if last is not None:
        last.append(handles)
    return start_ns, samples_ns


def spin(ns: int) -> None:
    """Busy-wait for ``ns`` nanoseconds, on the clock of the samples."""
    until = time.perf_counter_ns() + ns
    while time.perf_counter_ns() < until:
        pass


SYNC_ITERATIONS = 20  # most iterations queued without waiting
SYNC_QUEUE_NS = 20_000_000  # fewer, if they keep the device busy for this long
SYNC_COPY_NS = 2_000_000  # allowed for copying a small output from an idle device


def sync_lag(
    run: Callable[[], Any],
    wait: Callable[[Any], None],
    fetch: Callable[[Any], object],
    iteration_ns: float,
    *,
    attempts: int = 3,
    together: bool = False,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> SyncLag:
    """Test whether the device is idle when ``wait`` returns, by timing a copy to the host after it.

    If the device is still busy, the copy has to wait for it, at every attempt; a preempted copy is slow only once, so
    a single fast attempt is enough.

    Parameters
    ----------
    run, wait : callable
        As for ``measure``; several iterations are queued, and only the last one is waited for.
    fetch : callable
        Copies a value that is computed last from these handles to the host.
    iteration_ns : float, > 0
        Duration of one iteration, from burn-in.
    attempts : int, >= 1
    together : bool
        Make all attempts: ranks of a Team must run the same passes.
    clock : callable returning int, nanoseconds

    Returns
    -------
    SyncLag
        Of the first attempt within the allowed time, else of the last; if ``together``, the shortest.
    """
    if not iteration_ns > 0 or attempts < 1:
        raise ValueError(f"expected iteration_ns > 0 and attempts >= 1, found {iteration_ns} and {attempts}")
    iterations = min(SYNC_ITERATIONS, math.ceil(SYNC_QUEUE_NS / iteration_ns))
    allowed_ns = max(SYNC_COPY_NS, int(iterations * iteration_ns / 10))
    copies_ns = list[int]()
    for _ in range(attempts):
        for _ in range(iterations):
            handles = run()
        wait(handles)
        began = clock()
        fetch(handles)
        copies_ns.append(clock() - began)
        handles = None
        if copies_ns[-1] <= allowed_ns and not together:
            break
    return SyncLag(iterations, min(copies_ns) if together else copies_ns[-1], allowed_ns)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, then disable collection: inside an iteration it would count as the framework's time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def steady(samples_ns: Sequence[int], *, window: int, ratio: float) -> bool:
    """Whether burn-in has ended: samples no longer get faster.

    True if the median of the second-last ``window`` samples is at most ``ratio`` times that of the last ``window``.
    """
    if len(samples_ns) < 2 * window:
        return False
    earlier = statistics.median(samples_ns[-2 * window : -window])
    return earlier <= ratio * statistics.median(samples_ns[-window:])
