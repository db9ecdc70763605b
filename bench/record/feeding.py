"""Feeding: what a loader costs a training step, from the slots ``load``, ``train_step`` and ``fed`` of one Worker.

Means are compared, not medians: workers deliver in bursts, and what counts is how long all batches take.
"""

import dataclasses
from dataclasses import dataclass
from statistics import fmean

from bench.cases.case import Case
from bench.cases.passes import FED, LOAD, STEP
from bench.record import events, validity
from bench.record.recording import Recording, cached_per_case
from bench.stats.descriptive import Interval


@dataclass(frozen=True)
class Feeding:
    """Mean ms per batch of the three slots, and over Rounds with 95 % intervals:

    stall : 1 - step / fed, the share of the time in which the step waits for its loader
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
    trio = dataclasses.replace(case, pass_=LOAD.name), dataclasses.replace(case, pass_=STEP.name, loader=None), case
    if any(each not in run.cases or validity.invalid_reason(run, each) for each in trio):
        return None
    means = [{number: fmean(ns) for number, ns in run.samples_by_round(each).items()} for each in trio]
    rounds = sorted(set.intersection(*(set(each) for each in means)))
    if not rounds:
        return None
    triples = [(means[0][number], means[1][number], means[2][number]) for number in rounds]
    load, step, fed = (fmean(each) / 1e6 for each in zip(*triples, strict=True))
    return Feeding(
        case,
        trio[0],
        *(load, step, fed),
        stall=Interval.of_values([1 - step / fed for _, step, fed in triples]),
        hidden=Interval.of_values([(load + step - fed) / min(load, step) for load, step, fed in triples]),
    )


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
    known = sorted(turn.first_batch_ns for turn in run.turns_of(case) if turn.first_batch_ns is not None)
    return known[len(known) // 2] / 1e6 if known else None
