"""The one timing loop, for burn-in and for samples, and the gate that says when a series is steady."""

import contextlib
import gc
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
) -> tuple[array, array]:
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
