"""The one timing loop, for burn-in and for samples; the proof that waiting waits; the gate of a steady series."""

import contextlib
import gc
import math
import statistics
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def measure(
    run: Callable[[], Any],
    wait: Callable[[Any], None],
    n: int,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
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

    Returns
    -------
    start_ns, samples_ns : array of int, nanoseconds, length n
    """
    if n < 1:
        raise ValueError(f"iterations: expected at least 1, found {n}")
    start_ns, samples_ns = array("q", bytes(8 * n)), array("q", bytes(8 * n))
    for i in range(n):
        began = clock()
        handles = run()
        wait(handles)
        samples_ns[i] = clock() - began
        start_ns[i] = began
        handles = None  # freed here, else the next iteration pays for the release
    return start_ns, samples_ns


def spin(ns: int) -> None:
    """Busy for that long, on the clock of the samples."""
    until = time.perf_counter_ns() + ns
    while time.perf_counter_ns() < until:
        pass


SYNC_ITERATIONS = 20  # at most this many are queued unwaited
SYNC_QUEUE_NS = 20_000_000  # or as many as keep a device busy for this long
SYNC_COPY_NS = 2_000_000  # what a copy of a small output may take on an idle device


def sync_lag(
    run: Callable[[], Any],
    wait: Callable[[Any], None],
    fetch: Callable[[Any], object],
    iteration_ns: float,
    *,
    attempts: int = 3,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, int]:
    """Whether the device is idle when ``wait`` returns: if it is not, a copy to the host has to wait for the rest.

    No sample is taken here. A copy that was preempted is slow once, a device that was not waited for is slow every
    time, so one attempt in time is enough.

    Parameters
    ----------
    run, wait : callable
        As for ``measure``; several iterations are queued, and only the last one is waited for.
    fetch : callable
        Copies a number of these handles, one that is computed last, to the host.
    iteration_ns : float, > 0
        How long an iteration takes, from burn-in.
    attempts : int, >= 1
    clock : callable returning int, nanoseconds

    Returns
    -------
    iterations, copy_ns, allowed_ns : int
        Of the first attempt whose copy took no longer than allowed, else of the last one.
    """
    if not iteration_ns > 0 or attempts < 1:
        raise ValueError(f"expected iteration_ns > 0 and attempts >= 1, found {iteration_ns} and {attempts}")
    iterations = min(SYNC_ITERATIONS, math.ceil(SYNC_QUEUE_NS / iteration_ns))
    allowed_ns = max(SYNC_COPY_NS, int(iterations * iteration_ns / 10))
    for _ in range(attempts):
        for _ in range(iterations):
            handles = run()
        wait(handles)
        began = clock()
        fetch(handles)
        copy_ns = clock() - began
        handles = None
        if copy_ns <= allowed_ns:
            break
    return {"iterations": iterations, "copy_ns": copy_ns, "allowed_ns": allowed_ns}


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, then not until the end: a collection inside an iteration would be billed to the framework."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def steady(samples_ns: Sequence[int], *, window: int, ratio: float) -> bool:
    """Whether burn-in has ended: the median of the ``window`` samples before the last ``window`` is at most ``ratio``
    times the last ones', so nothing is getting faster any more."""
    if len(samples_ns) < 2 * window:
        return False
    earlier = statistics.median(samples_ns[-2 * window : -window])
    return earlier <= ratio * statistics.median(samples_ns[-window:])
