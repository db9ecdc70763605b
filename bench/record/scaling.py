"""Scaling: what a pass of a Team costs next to the same pass of one device, and where the rest goes.

All ratios are of mirrored turns in one Run. The two witnesses split the efficiency of forward_backward: `apart` lacks
the reduction, `all_reduce` is nothing else.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.cases.case import WITNESSED, Case
from bench.cases.passes import ALL_REDUCE, APART, PASSES
from bench.record import validity
from bench.record.cycles import ratio_of
from bench.record.recording import Recording, cached_per_case
from bench.stats.descriptive import Interval
from bench.stats.projection import VALUE_BYTES
from impls import FRAMEWORKS
from impls.splits import DATA, part_of


@dataclass(frozen=True)
class Slowest:
    """The rank that is slowest in ``apart``, where none waits for another.

    ``behind`` is its mean time over that of all ranks, less 1; ``share`` that of the iterations in which it was last.
    """

    rank: int
    behind: float
    share: float


@dataclass(frozen=True)
class Scaling:
    """Figures of a pass of a Team, with 95 % intervals over Rounds.

    efficiency : time on one device over that on all, of the whole batch: 1 is ideal; None where ranks share a core
    interference : one device over `apart`; communication : `apart` over the pass; their product is the efficiency
    exposed_ms : the pass less `apart`, per iteration; hidden : 1 - exposed / `all_reduce`
    bus_gb_per_s : 2 (W - 1) / W times the bytes of all gradients over the time of `all_reduce`, as nccl-tests has it

    What needs a witness is None without it. ``hidden`` is below 0 where the reduction costs more inside the pass than
    alone.
    """

    case: Case
    efficiency: Interval | None
    interference: Interval | None = None
    communication: Interval | None = None
    all_reduce_ms: float | None = None
    bus_gb_per_s: float | None = None
    exposed_ms: Interval | None = None
    hidden: Interval | None = None
    slowest: Slowest | None = None

    @property
    def exposed_resolved(self) -> bool:
        """Whether the interval of the exposed time is above 0."""
        return self.exposed_ms is not None and (self.exposed_ms.low or 0) > 0

    @property
    def hidden_resolved(self) -> bool:
        """Whether its interval is narrower than from 0 to 1."""
        if self.hidden is None or self.hidden.low is None or self.hidden.high is None:
            return False
        return self.hidden.high - self.hidden.low <= 1


@cached_per_case
def scaling_of(run: Recording, case: Case) -> Scaling | None:
    """Of a Case of a Team that is no witness; None for others, and unless both sides are valid in a common Round."""
    if case.world == 1 or case.pass_ in (APART.name, ALL_REDUCE.name):
        return None
    alone = alone_of(case)
    if not all(_valid(run, each) for each in (alone, case)):
        return None
    factor = 1 / case.world if case.strong else 1.0
    whole = None if shares_cores(run) else _ratio(run, case, alone, factor)
    apart, alone_sum = (dataclasses.replace(case, pass_=witness.name) for witness in (APART, ALL_REDUCE))
    if case.pass_ != WITNESSED or not all(_valid(run, each) for each in (apart, alone_sum)):
        return Scaling(case, whole)
    team, own, reduction = (run.round_medians_ns(each) for each in (case, apart, alone_sum))
    rounds = sorted(team.keys() & own.keys() & reduction.keys())
    if not rounds:
        return Scaling(case, whole)
    exposed = [(team[number] - own[number]) / 1e6 for number in rounds]
    hidden = [1 - 1e6 * ms / reduction[number] for ms, number in zip(exposed, rounds, strict=True)]
    sum_ms = Interval.of_logs([math.log(reduction[number]) for number in rounds]).center / 1e6
    return Scaling(
        case,
        whole,
        interference=None if shares_cores(run) else _ratio(run, apart, alone, factor),
        communication=_ratio(run, case, apart),
        all_reduce_ms=sum_ms,
        bus_gb_per_s=bus_gb_per_s(run, alone_sum),
        exposed_ms=Interval.of_values(exposed),
        hidden=Interval.of_values(hidden),
        slowest=slowest_of(run, apart),
    )


def alone_of(case: Case) -> Case:
    """The Case of one device that a Team's is compared with."""
    return dataclasses.replace(case, world=1, batch=case.asked_batch, split=DATA)


def shares_cores(run: Recording) -> bool:
    """Whether several devices of a Run share a core, so that no efficiency is one."""
    cores = [(device.machine, core) for device in run.head.devices for core in device.cores]
    return len(set(cores)) < len(cores)


def slowest_of(run: Recording, apart: Case) -> Slowest | None:
    """Which rank is slowest without reduction; None without samples."""
    samples: list[Sequence[int]] = []
    for turn in run.turns_of(apart):
        samples += list(zip(*(each[turn.lead :] for each in turn.rank_ns), strict=True))
    if not samples:
        return None
    means = [fmean(each) for each in zip(*samples, strict=True)]
    rank = max(range(len(means)), key=means.__getitem__)
    last = sum(max(each) == each[rank] for each in samples)
    return Slowest(rank, means[rank] / fmean(means) - 1, last / len(samples))


def bus_gb_per_s(run: Recording, case: Case) -> float | None:
    """Bus bandwidth of `all_reduce` as nccl-tests defines it; None for other Cases."""
    summary = run.summary(case) if case.pass_ == ALL_REDUCE.name else None
    sent = sent_bytes(case)
    return sent / summary.center.center if summary and sent else None  # bytes per ns are GB/s


def sent_bytes(case: Case) -> float | None:
    """Bytes that a rank sends in one iteration, counted from the layers with values of float32: what it sends for other
    ranks to compute, and 2 (W - 1) / W times the gradients that are summed over ranks. None for one device, and for a
    shared net of which a framework sends more, or values of bf16."""
    if case.world == 1:
        return None
    counted = FRAMEWORKS[case.framework].counted_world or case.world
    if case.split != DATA and (case.world > counted or case.precision == "bf16"):
        return None
    exchanged, summed = 0.0, case.net.params
    if case.split != DATA:
        part = part_of(case.net, case.split, case.world)
        exchanged, summed = part.sent * case.images, part.summed
    if not PASSES[case.pass_].training and case.pass_ != ALL_REDUCE.name:
        exchanged, summed = exchanged / 2, 0
    if case.pass_ == APART.name:
        summed = 0
    return VALUE_BYTES * (exchanged + 2 * (case.world - 1) / case.world * summed)


def scalings(run: Recording) -> list[Scaling]:
    """Those of a Run, in the order of its Cases."""
    return [found for case in run.cases if (found := scaling_of(run, case))]


def _valid(run: Recording, case: Case) -> bool:
    return case in run.cases and not validity.invalid_reason(run, case)


def _ratio(run: Recording, baseline: Case, candidate: Case, factor: float = 1.0) -> Interval | None:
    """Time of the candidate over that of the baseline, times ``factor``; None without a common Round."""
    found = ratio_of(run, baseline, candidate)
    if found is None:
        return None
    value = found.value
    low, high = (None if end is None else factor * end for end in (value.low, value.high))
    return Interval(factor * value.center, low, high)
