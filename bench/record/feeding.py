"""Feeding: what a loader costs a training step, from the slots ``load``, ``train_step`` and ``fed`` of one Worker.

All from the centers of the three rows over their common Rounds; a sample of a loader is the mean of a turn.
"""

import dataclasses
import math
from dataclasses import dataclass
from statistics import median

from bench.cases.case import Case
from bench.cases.passes import FED, LOAD, STEP
from bench.record import events, validity
from bench.record.recording import Recording, cached_per_case
from bench.stats.descriptive import Interval


@dataclass(frozen=True)
class Feeding:
    """ms per batch of the three slots, and what follows, with 95 % intervals over Rounds:

    stall : 1 - step / fed, the share of the time in which the step waits for its loader; below 0 where fed is faster
    hidden : (load + step - fed) / min(load, step), 0 if one follows the other, 1 if the shorter costs nothing
    """

    case: Case
    load: Case
    load_ms: float
    step_ms: float
    fed_ms: float
    stall: Interval
    hidden: Interval

    @property
    def hidden_resolved(self) -> bool:
        """Whether its interval is narrower than from 0 to 1; it is not if one slot takes far less than the other."""
        low, high = self.hidden.low, self.hidden.high
        return low is not None and high is not None and high - low <= 1

    @property
    def bound(self) -> str:
        """The slot that takes longer alone, and so limits the fed step."""
        return LOAD.name if self.load_ms > self.step_ms else STEP.name


@cached_per_case
def feeding_of(run: Recording, case: Case) -> Feeding | None:
    """Of a fed Case; None for others, and unless all three slots are valid in a common Round."""
    if case.pass_ != FED.name:
        return None
    trio = (
        dataclasses.replace(case, pass_=LOAD.name),
        dataclasses.replace(case, pass_=STEP.name, loader=None),
        case,
    )
    if any(each not in run.cases or validity.invalid_reason(run, each) for each in trio):
        return None
    medians = [run.round_medians_ns(each) for each in trio]
    rounds = sorted(set.intersection(*(set(each) for each in medians)))
    if not rounds:
        return None
    loads, steps, feds = ([each[number] for number in rounds] for each in medians)
    load, step, fed = (Interval.of_logs(list(map(math.log, each))).center for each in (loads, steps, feds))
    step_over_fed = Interval.of_logs([math.log(step_ / fed_) for step_, fed_ in zip(steps, feds, strict=True)])
    shares = [(load_ + step_ - fed_) / min(load_, step_) for load_, step_, fed_ in zip(loads, steps, feds, strict=True)]
    hidden, spread = (load + step - fed) / min(load, step), Interval.of_values(shares)
    half = None if spread.high is None else spread.high - spread.center
    return Feeding(
        case,
        trio[0],
        load / 1e6,
        step / 1e6,
        fed / 1e6,
        stall=Interval(1 - step_over_fed.center, _less(1, step_over_fed.high), _less(1, step_over_fed.low)),
        hidden=Interval(hidden, _less(hidden, half), None if half is None else hidden + half),
    )


def _less(value: float, less: float | None) -> float | None:
    return None if less is None else value - less


def feedings(run: Recording) -> list[Feeding]:
    """Those of a Run, by Worker, then by number of loader workers."""
    return [feeding for case in run.cases if (feeding := feeding_of(run, case))]


def pixel_error(run: Recording, case: Case) -> float | None:
    """The largest error of a loader's pixels against float64, in steps of 255; that of ``load`` holds for ``fed``."""
    same = {each.id for each in run.cases if (each.worker, each.loader) == (case.worker, case.loader)}
    found = [proof.error for proof in run.counted(events.LoaderProof) if proof.case_id in same]
    return max(found, default=None) if case.loader is not None else None


def cpu_ms_per_image(run: Recording, case: Case) -> float | None:
    """CPU time of a Case's samples with a loader, worker processes included, per image."""
    turns = [turn for turn in run.turns_of(case) if turn.sample_cpu_s is not None]
    images = case.batch * sum(len(turn.ns) - turn.lead for turn in turns)
    return 1000 * sum(turn.sample_cpu_s or 0.0 for turn in turns) / images if images else None


def first_batch_ms(run: Recording, case: Case) -> float | None:
    """Median time from a loader's start to its first batch."""
    known = [turn.first_batch_ns for turn in run.turns_of(case) if turn.first_batch_ns is not None]
    return median(known) / 1e6 if known else None
