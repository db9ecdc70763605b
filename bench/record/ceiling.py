"""Ceiling: the best rates of a device, measured by the Workers of a Run after the samples of its first Round."""

import statistics
from dataclasses import fields

from bench.cases.case import Case
from bench.record import events
from bench.record.recording import Recording, cached_per_case
from bench.stats import descriptive
from bench.worker.replies import CeilingRates
from impls import FRAMEWORKS

RATES = tuple(field.name for field in fields(CeilingRates))


class Ceiling(CeilingRates):
    """Best rates in one precision with one number of threads."""

    @property
    def gflop_per_s(self) -> float | None:
        """The faster of product and convolution: the limit of a pass that consists of multiply-adds only."""
        return max((rate for rate in (self.matmul_gflop_per_s, self.conv_gflop_per_s) if rate), default=None)


@cached_per_case
def ceiling_of(run: Recording, case: Case) -> Ceiling:
    """The ceiling of a Case: the median over Rounds of each Worker, then the best Worker's, since the device can do
    what any framework reaches. Measurements of its own group and with its own number of threads are preferred."""
    if case.foreign or (not FRAMEWORKS[case.framework].peer and case.guest is None):
        return Ceiling()  # the null Net does no work
    number, others = run.group_of[case.id], {other.worker: other for other in run.cases}
    alike = [
        event
        for event in run.counted(events.Ceiling)
        if (event.device, event.precision) == (case.device, case.precision)
        and (event.worker not in others or others[event.worker].preset == case.preset)
    ]
    threads = {name: other.threads for name, other in others.items()}
    nearest = [event for event in alike if event.group == number] or alike
    nearest = [event for event in nearest if threads.get(event.worker) == case.threads] or nearest
    numpy = [
        worker.numpy_gflop_per_s
        for worker in run.counted(events.Worker)
        if worker.group == number and case.precision == "fp32" and threads.get(worker.worker) == case.threads
        if worker.numpy_gflop_per_s
    ]
    rates = {}
    for name in RATES:
        by_worker: dict[str, list[float]] = {}
        for event in nearest:
            if rate := getattr(event, name):
                by_worker.setdefault(event.worker, []).append(rate)
        medians = [statistics.median(values) for values in by_worker.values()]
        if name == "matmul_gflop_per_s" and numpy:
            medians.append(statistics.median(numpy))
        rates[name] = max(medians, default=None)
    return Ceiling(**rates)


def counted_macs(run: Recording, case: Case) -> int | None:
    """Multiply-adds per image in this Pass; None for a net that is not proven, which may be another."""
    return None if case.foreign or case.input or not all(worker.proven for worker in run.workers(case)) else case.macs


def peak_fraction(run: Recording, case: Case, summary: descriptive.Summary) -> float | None:
    """Algorithmic FLOP per second over the ceiling; None without a ceiling. Above 1 the algorithm saves multiplications
    or the machine got faster meanwhile; far above 1 work was left out."""
    rate, macs = ceiling_of(run, case).gflop_per_s, counted_macs(run, case)
    return 2 * macs * case.batch / summary.center.center / rate if rate and macs else None


def independent_peak_fraction(run: Recording, case: Case, summary: descriptive.Summary) -> float | None:
    """The same over numpy's rate if that was measured: a framework that leaves work out would raise its own ceiling."""
    numpy = [worker.numpy_gflop_per_s for worker in run.workers(case) if worker.numpy_gflop_per_s]
    macs = counted_macs(run, case)
    if not numpy or not macs:
        return peak_fraction(run, case, summary)
    return 2 * macs * case.batch / summary.center.center / max(numpy)
