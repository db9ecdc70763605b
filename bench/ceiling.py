"""Ceiling: what a device does at best, as the Workers of a Run measured it between proof and burn-in."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.case import Case

if TYPE_CHECKING:
    from bench.results import Run

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


def of(run: Run, case: Case) -> Ceiling:
    """The ceiling of a Case: of each Worker the median over Rounds, then the best Worker's, since what one framework
    reaches the device can do. Those of its own group where that was asked, and with its own number of threads."""
    alike = [
        one for one in run.counted("ceiling") if (one["device"], one["precision"]) == (case.device, case.precision)
    ]
    number = run.group_of[case.id]
    here = [one for one in alike if one["group"] == number] or alike
    threads = {other.worker: other.threads for other in run.cases}
    here = [one for one in here if threads.get(one["worker"]) == case.threads] or here
    beside = [one for one in run.counted("worker") if one["group"] == number and case.precision == "fp32"]
    beside = [one for one in beside if threads.get(one["worker"]) == case.threads]
    numpy = [one["numpy_gflop_per_s"] for one in beside if one["numpy_gflop_per_s"]]
    rates = {}
    for what in RATES:
        found: dict[str, list[float]] = {}
        for one in here:
            if one[what]:
                found.setdefault(one["worker"], []).append(one[what])
        typical = [statistics.median(values) for values in found.values()]
        rates[what] = max([*typical, *(numpy if what == "matmul_gflop_per_s" else ())], default=None)
    return Ceiling(**rates)
