"""What the harness adds to an iteration: pytest tests/speed/test_harness.py -s prints it. Goal: at most 2 us."""

import pytest

from bench.worker.timing import measure

ITERATIONS = 1000


@pytest.mark.benchmark(group="measure() of a Net that does nothing, 1,000 iterations")
def test_null_iteration(benchmark):
    benchmark(measure, lambda: None, lambda handles: None, ITERATIONS)
    _, samples_ns = measure(lambda: None, lambda handles: None, ITERATIONS)
    benchmark.extra_info["median_sample_ns"] = sorted(samples_ns)[ITERATIONS // 2]
    if benchmark.stats:  # None under --benchmark-disable
        benchmark.extra_info["median_us_an_iteration"] = benchmark.stats.stats.median * 1e6 / ITERATIONS
        print(f"\nharness: {benchmark.extra_info['median_us_an_iteration']:.3f} us a timed iteration (goal: 2)")
