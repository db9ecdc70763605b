"""Ceiling: what a device does at best, as the Workers of a Run measured it between proof and burn-in."""

import statistics
from dataclasses import dataclass

from bench.cases.case import Case
from bench.record import events
from bench.record.recording import Recording, once
from bench.stats import descriptive
from impls import FRAMEWORKS

RATES = ("matmul_gflop_per_s", "conv_gflop_per_s", "copy_gb_per_s")


@dataclass(frozen=True)
class Ceiling:
    """In one precision, with one number of threads; None where nobody measured it."""

    matmul_gflop_per_s: float | None
    conv_gflop_per_s: float | None
    copy_gb_per_s: float | None

    @property
    def gflop_per_s(self) -> float | None:
        """The faster of product and convolution: what a pass could reach that were nothing but its multiply-adds."""
        return max((one for one in (self.matmul_gflop_per_s, self.conv_gflop_per_s) if one), default=None)


@once
def ceiling_of(run: Recording, case: Case) -> Ceiling:
    """The ceiling of a Case: of each Worker the median over Rounds, then the best Worker's, since what one framework
    reaches the device can do. Those of its own group where that was asked, and with its own number of threads."""
    if case.foreign or (not FRAMEWORKS[case.framework].peer and case.guest is None):
        return Ceiling(None, None, None)  # the null Net does nothing, and says so
    number, others = run.group_of[case.id], {other.worker: other for other in run.cases}
    alike = [
        one
        for one in run.counted(events.Ceiling)
        if (one.device, one.precision) == (case.device, case.precision)
        and (one.worker not in others or others[one.worker].preset == case.preset)
    ]
    threads = {name: other.threads for name, other in others.items()}
    here = [one for one in alike if one.group == number] or alike
    here = [one for one in here if threads.get(one.worker) == case.threads] or here
    beside = [one for one in run.counted(events.Worker) if one.group == number and case.precision == "fp32"]
    beside = [one for one in beside if threads.get(one.worker) == case.threads]
    numpy = [one.numpy_gflop_per_s for one in beside if one.numpy_gflop_per_s]
    rates = {}
    for what in RATES:
        found: dict[str, list[float]] = {}
        for one in here:
            if rate := getattr(one, what):
                found.setdefault(one.worker, []).append(rate)
        typical = [statistics.median(values) for values in found.values()]
        if what == "matmul_gflop_per_s" and numpy:
            typical.append(statistics.median(numpy))
        rates[what] = max(typical, default=None)
    return Ceiling(**rates)


def share(run: Recording, case: Case, summary: descriptive.Summary) -> float | None:
    """Algorithmic FLOP over time, as a share of the ceiling. Above 1 it takes a cleverer algorithm than multiplying
    matrices, or a machine that sped up meanwhile; far above it the work was not done."""
    rate = ceiling_of(run, case).gflop_per_s
    return 2 * case.macs * case.batch / summary.center.center / rate if rate else None


def over_witness(run: Recording, case: Case, summary: descriptive.Summary) -> float | None:
    """The same over a rate that the row's own framework had no part in, where there is one: numpy's. A net that leaves
    work out would raise its own ceiling."""
    numpy = [one.numpy_gflop_per_s for one in run.workers(case) if one.numpy_gflop_per_s]
    speed = 2 * case.macs * case.batch / summary.center.center
    return speed / max(numpy) if numpy else share(run, case, summary)
