"""Checks of the harness without a framework, by measuring known durations.

A scripted clock, spins of known length, a device that is not waited for, the overhead with the null Net, and the
statistics on simulated data. The latest result is stored next to the Runs, and each Run's header contains it.
"""

import functools
import statistics
from collections.abc import Iterator
from typing import Any

from bench import UsageError
from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.cases.protocol import Protocol
from bench.commands.requests import SelftestRequest
from bench.commands.selftest import simulate
from bench.commands.selftest.fakes import FakeClock, FakeDevice
from bench.commands.selftest.row import Row, at_most_us, exactly
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.worker_process import WorkerDied
from bench.machine import host
from bench.machine.lock import lock_devices
from bench.machine.scratch import scratch_folder
from bench.output import console
from bench.record.selftest_store import store
from bench.stats.descriptive import Summary
from bench.worker.messages import MeasureOverhead
from bench.worker.timing import measure, spin, steady, sync_lag
from impls import weights


def main(request: SelftestRequest) -> int:
    rows: list[Row] = []
    with lock_devices(["cpu"], console.tell):
        for row in checks(request.thorough):
            rows.append(row)
            if not request.as_json:
                row.show()
    ok, stored = all(row.ok for row in rows), [row._asdict() for row in rows]
    where = store(request.out, "harness", ok, stored)
    if request.as_json:
        console.print_json({"ok": ok, "checks": stored})
    else:
        failed = sum(not row.ok for row in rows)
        console.say(f"{len(rows)} checks, " + (f"{failed} failed" if failed else "all passed") + f"; kept in {where}")
    return 0 if ok else 1


def checks(thorough: bool = False) -> Iterator[Row]:
    yield from fake_clock()
    yield from spins()
    yield from missing_sync()
    yield from null_cost()
    yield from simulate.report(thorough)


def fake_clock() -> Iterator[Row]:
    """On a scripted clock every figure is exact."""
    clock = FakeClock()
    start_ns, ns = measure(lambda: clock.advance(7), lambda handles: None, 100, clock=clock)
    yield exactly("100 iterations of 7 ns on a scripted clock", [7] * 100, ns.tolist())
    yield exactly("start times of these iterations", list(range(0, 700, 7)), start_ns.tolist())
    for length in (1, 421_000_000, 10**12):
        summary = Summary.of([length] * 100)
        yield exactly(f"mean and stddev of 100 x {length} ns", (length, 0.0), (summary.mean_ns, summary.stddev_ns))
    yield exactly("stddev of 1 and 3", 2**0.5, Summary.of([1, 3]).stddev_ns)
    rules = Protocol()
    opened = next(n for n in range(1, 61) if n >= rules.burn_in and steady([5] * n, window=5, ratio=1.02))
    yield exactly("the gate of a flat series opens at", 10, opened)
    ramp = [round(130 - 3 * n) for n in range(11)] + [100] * 60
    opened = next(n for n in range(10, 61) if steady(ramp[:n], window=5, ratio=1.02))
    yield exactly("the gate opens after a ramp of 10 iterations", True, opened > 11)
    yield exactly(
        "iterations per Turn at 1, 60 and 300 ms", [5, 5, 1], [rules.turn_length([ms * 1e6]) for ms in (1, 60, 300)]
    )
    yield exactly("cycles of 10 samples in Turns of 2", [2, 2, 1], rules.cycles(2))


def spins() -> Iterator[Row]:
    """Busy waits of known length: the median shows the overhead, the mean the effect of preemption."""
    for ms, n in ((1, 200), (5, 100), (20, 40), (100, 15)):
        _, samples_ns = measure(functools.partial(spin, ms * 1_000_000), lambda handles: None, n)
        bias_us = statistics.median(samples_ns) / 1e3 - ms * 1e3
        allowed_us = max(0.005 * ms * 1e3, 20.0)
        mean = statistics.fmean(samples_ns) / (ms * 1e6) - 1
        what, found = f"a spin of {ms} ms, {n} times: median off by", f"{bias_us:.1f} us; mean off by {mean:+.2%}"
        yield at_most_us(what, bias_us, allowed_us, found)


def missing_sync() -> Iterator[Row]:
    """An asynchronous device is timed to its end, and a missing wait is detected."""
    slow = FakeDevice(50.0)
    _, samples_ns = measure(slow.run, slow.wait, 10)
    shortest = min(samples_ns) / 50e6
    what = "a device that is done 50 ms after the call: shortest reading"
    yield Row(what, ">= 99.0%", f"{shortest:.1%}", shortest >= 0.99)
    device = FakeDevice(5.0)

    def lags(wait: Any) -> int:
        measured = (sync_lag(device.run, wait, device.fetch, 5e6) for _ in range(100))
        return sum(lag.copy_ns > lag.allowed_ns for lag in measured)

    yield exactly("missing waits detected, of 100", 100, lags(lambda handles: None))
    yield exactly("false alarms with a correct wait, of 100", 0, lags(device.wait))


def null_cost() -> Iterator[Row]:
    """The overhead per iteration of a Net that does nothing, in a real Worker."""
    case = Case("half_width", "null", "noop", "cpu", "fp32", "nhwc", 2, "forward", size=67)
    with scratch_folder() as folder:
        try:
            weights.write_shared(weights.initial(case.net, 0), folder / "weights")
            process = WorkerSettings(host.usable_cores(), 60.0).start("null", case, folder / "workers").process
            process.ask(build_request(case, folder))
            ns = sorted(process.ask(MeasureOverhead(1000, PASSES[case.pass_].method)))
            process.kill()
        except WorkerDied as died:
            raise UsageError(f"the null Net's Worker {died.reason}") from died
        except OSError as error:
            raise UsageError(f"cannot write to {folder.parent}: {error}; make room there, or set TMPDIR") from error
    for what, overhead_ns, most_us in (("median", statistics.median(ns), 2.0), ("p99", ns[990], 20.0)):
        overhead_us = overhead_ns / 1e3
        yield at_most_us(
            f"overhead of the harness per iteration, {what}", overhead_us, most_us, f"{overhead_us:.2f} us"
        )
