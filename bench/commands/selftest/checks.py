"""`selftest`: test the harness by measuring known durations.

Without a framework: a scripted clock, spins of known length, a device that is not waited for, the overhead with the
null Net, and the statistics on simulated data. With real Cases: a Case against itself (`--aa`), or slowed down by a
known share (`--power`). The latest result is stored next to the Runs, and each Run's header contains it.
"""

import functools
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.commands.requests import SelftestRequest
from bench.commands.selftest import simulate
from bench.commands.selftest.fakes import FakeClock, FakeDevice
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.worker_process import WorkerDied
from bench.machine import host
from bench.machine.lock import DeviceLock
from bench.output import console
from bench.record.selftest_store import store
from bench.stats.descriptive import Summary
from bench.worker.messages import MeasureOverhead
from bench.worker.timing import measure, spin, steady, sync_lag
from impls import weights

Row = dict[str, Any]


def main(request: SelftestRequest) -> int:
    from bench.commands.selftest import real_cases  # slow to import, and not needed for the checks

    if request.runs or request.aa or request.power:
        return real_cases.main(request)
    rows: list[Row] = []
    with DeviceLock(["cpu"], console.tell):
        for row in checks(request.thorough):
            rows.append(row)
            if not request.as_json:
                show(row)
    ok = all(row["ok"] for row in rows)
    where = store(request.out, "harness", ok, rows)
    if request.as_json:
        console.print_json({"ok": ok, "checks": rows})
    else:
        failed = sum(not row["ok"] for row in rows)
        print(f"{len(rows)} checks, " + (f"{failed} failed" if failed else "all passed") + f"; kept in {where}")
    return 0 if ok else 1


def show(row: Row) -> None:
    print(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['what']}: {row['found']} ({row['expected']})", flush=True)


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
    yield _exactly("100 iterations of 7 ns on a scripted clock", [7] * 100, ns.tolist())
    yield _exactly("they begin one after the other", list(range(0, 700, 7)), start_ns.tolist())
    for length in (1, 421_000_000, 10**12):
        summary = Summary.of([length] * 100)
        yield _exactly(f"mean and stddev of 100 x {length} ns", (length, 0.0), (summary.mean_ns, summary.stddev_ns))
    yield _exactly("stddev of 1 and 3", 2**0.5, Summary.of([1, 3]).stddev_ns)
    rules = Protocol()
    opened = next(n for n in range(1, 61) if n >= rules.burn_in and steady([5] * n, window=5, ratio=1.02))
    yield _exactly("the gate of a flat series opens at", 10, opened)
    ramp = [round(130 - 3 * n) for n in range(11)] + [100] * 60
    opened = next(n for n in range(10, 61) if steady(ramp[:n], window=5, ratio=1.02))
    yield _exactly("and after a ramp of ten it is past the ramp", True, opened > 11)
    yield _exactly(
        "iterations a Turn at 1, 60 and 300 ms", [5, 5, 1], [rules.turn_length([ms * 1e6]) for ms in (1, 60, 300)]
    )
    yield _exactly("cycles of 10 samples in Turns of 2", [2, 2, 1], rules.cycles(2))


def spins() -> Iterator[Row]:
    """Busy waits of known length: the median shows the overhead, the mean the effect of preemption."""
    for ms, n in ((1, 200), (5, 100), (20, 40), (100, 15)):
        _, samples_ns = measure(functools.partial(spin, ms * 1_000_000), lambda handles: None, n)
        bias_us = statistics.median(samples_ns) / 1e3 - ms * 1e3
        allowed_us = max(0.005 * ms * 1e3, 20.0)
        mean = statistics.fmean(samples_ns) / (ms * 1e6) - 1
        yield {
            "what": f"a spin of {ms} ms, {n} times: median off by",
            "expected": f"<= {allowed_us:g} us",
            "found": f"{bias_us:.1f} us; mean off by {mean:+.2%}",
            "ok": abs(bias_us) <= allowed_us,
        }


def missing_sync() -> Iterator[Row]:
    """An asynchronous device is timed to its end, and a missing wait is detected."""
    slow = FakeDevice(50.0)
    _, samples_ns = measure(slow.run, slow.wait, 10)
    shortest = min(samples_ns) / 50e6
    yield {
        "what": "a device that is done 50 ms after the call: shortest reading",
        "expected": ">= 99.0%",
        "found": f"{shortest:.1%}",
        "ok": shortest >= 0.99,
    }
    device = FakeDevice(5.0)

    def lags(wait: Any) -> int:
        found = (sync_lag(device.run, wait, device.fetch, 5e6) for _ in range(100))
        return sum(lag["copy_ns"] > lag["allowed_ns"] for lag in found)

    yield _exactly("the same without its wait: caught, of 100", 100, lags(lambda handles: None))
    yield _exactly("and with it: refused, of 100", 0, lags(device.wait))


def null_cost() -> Iterator[Row]:
    """The overhead per iteration of a Net that does nothing, in a real Worker."""
    case = Case("half_width", "null", "noop", "cpu", "fp32", "nhwc", 2, "forward", size=67)
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        folder = Path(scratch)
        try:
            weights.write_shared(weights.initial(case.net, 0), folder / "weights")
            process = WorkerSettings(host.usable_cores(), 60.0).start("null", case, folder / "workers").process
            process.ask(build_request(case, folder))
            ns = sorted(process.ask(MeasureOverhead(1000)))
            process.kill()
        except WorkerDied as died:
            raise UsageError(f"the null Net's Worker {died.reason}") from died
        except OSError as error:
            raise UsageError(f"cannot write to {folder.parent}: {error}; make room there, or set TMPDIR") from error
    for what, overhead_ns, most in (("median", statistics.median(ns), 2.0), ("p99", ns[990], 20.0)):
        yield {
            "what": f"what the harness adds to an iteration, {what}",
            "expected": f"<= {most:g} us",
            "found": f"{overhead_ns / 1e3:.2f} us",
            "ok": overhead_ns / 1e3 <= most,
        }


def _exactly(what: str, expected: Any, found: Any) -> Row:
    short = [text if len(text) < 40 else f"{text[:18]}..." for text in (str(expected), str(found))]
    return {"what": what, "expected": f"exactly {short[0]}", "found": short[1], "ok": found == expected}
