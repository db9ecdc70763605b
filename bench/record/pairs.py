"""Pairs: two Cases, or two Arms of one, compared, each with its Ratio and Verdict.

Within a Run both took turns, and a Ratio is from mirrored cycles. Between two Runs it is from the medians of their
Rounds, and needs the run-to-run variability of A/A Runs of the same machine.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.cases import arm
from bench.cases.case import LABELS, PRESETS, Case
from bench.record import conditions, validity
from bench.record.cycles import cycles_of
from bench.record.run import Run
from bench.record.spread import Spread
from bench.stats import ratio
from bench.stats.ratio import MARGIN, Ratio, Verdict
from bench.stats.verdict import Word
from impls import FRAMEWORKS

#: Nothing is decided if less than this share of the Rounds is undisturbed.
VALID_SHARE = 0.8


@dataclass
class Pair:
    """Two compared Cases. Without a verdict, ``word`` is INCOMPARABLE with ``differs``, else MISSING with ``why``."""

    case_id: str
    pass_: str
    baseline: str
    candidate: str
    ratio: Ratio | None = None
    margin: float = MARGIN
    differs: list[str] = field(default_factory=list)
    why: str = ""
    verdict: Verdict | None = None

    @property
    def word(self) -> Word:
        return self.verdict.word if self.verdict else Word.INCOMPARABLE if self.differs else Word.MISSING

    @property
    def reason(self) -> str:
        if self.differs:
            return "; ".join(self.differs)
        return self.why or (self.verdict.reason if self.verdict else "")

    def as_json(self) -> dict[str, Any]:
        value, verdict = (self.ratio.value if self.ratio else None), self.verdict
        return {
            "case_id": self.case_id,
            "pass": self.pass_,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "ratio": value.center if value else None,
            "ci95_low": value.low if value else None,
            "ci95_high": value.high if value else None,
            "verdict": self.word,
            "reason": self.reason,
            "rounds": self.ratio.rounds if self.ratio else None,
            "paired": self.ratio.paired if self.ratio else None,
            "margin": self.margin,
            "minimum_detectable": verdict.detectable if verdict else None,
            "rounds_needed": verdict.rounds_needed if verdict else None,
            "differs": self.differs,
        }


def within(run: Run, spread: Spread | None = None, margin: float = MARGIN) -> list[Pair]:
    """Compare the Cases of one Run.

    Each Case is paired with the most similar one of its group and pass, or with its Arm A, over Rounds that both
    completed. A pair is MISSING without such a Round, or if a Case is not valid. If ``differs`` is not empty, the Ratio
    is not judged. ``margin`` is the smallest difference to report, as a fraction; that of ``spread`` may be larger.

    Returns
    -------
    list of Pair
        One per Case that has a baseline; empty for an unpaired Protocol.
    """
    pairs = []
    for baseline, case in _partners(run):
        pair = Pair(case.id, case.pass_, baseline.id, case.id)
        pairs.append(pair)
        invalid = {side.id: reason for side in (baseline, case) if (reason := run.invalid_reason(side))}
        cycles = [] if invalid else cycles_of(run, baseline, case)
        if not cycles:
            pair.why = "; ".join(f"{name} is not valid: {reason}" for name, reason in invalid.items())
            pair.why = pair.why or "no Round has a whole cycle of both"
            continue
        pair.ratio = Ratio.of(cycles)
        pair.differs = validity.setting_differences(
            run.workers(baseline), run.workers(case), _meant(run, baseline, case)
        )
        pair.margin = max(margin, spread.margin(run, case) if spread else 0.0)
        pair.why = "".join(_disturbed((run, baseline), (run, case)))
    return _judge(pairs)


def _disturbed(*sides: tuple[Run, Case]) -> list[str]:
    """Why too few Rounds of the two sides are undisturbed; empty if enough are."""
    share = max(run.disturbed_share(case) for run, case in sides)
    return [f"noise disturbed {share:.0%} of its Rounds"] if 1 - share < VALID_SHARE else []


def _judge(pairs: list[Pair]) -> list[Pair]:
    """Set the verdicts of all pairs that can be compared, as one family, and return the pairs."""
    family = [pair for pair in pairs if pair.ratio and not pair.differs]
    verdicts = ratio.judge([pair.ratio for pair in family if pair.ratio], margins=[pair.margin for pair in family])
    for pair, verdict in zip(family, verdicts, strict=True):
        if pair.why:
            verdict = Verdict(Word.INCONCLUSIVE, pair.why, pair.margin, None, None)
        pair.verdict = verdict
    return pairs


def widest(run: Run, cases: Sequence[Case]) -> float:
    """The widest relative 95 % half-width of the Ratios of these Cases, or of their centers if there is no Ratio."""
    ids = {case.id for case in cases}
    values = [pair.ratio.value for pair in within(run) if pair.ratio and pair.candidate in ids]
    if not values:
        values = [summary.center for case in cases if (summary := run.summary(case))]
    widths = (math.sqrt(value.high / value.low) - 1 if value.low and value.high else math.inf for value in values)
    return max(widths, default=math.inf)


def _partners(run: Run) -> Iterator[tuple[Case, Case]]:
    """Yield (baseline, candidate) of a Run; a valid Case is preferred as the baseline."""
    if not run.protocol.paired:
        return
    valid_first = sorted(run.cases, key=lambda case: bool(run.invalid_reason(case)))
    sides = [case for case in valid_first if case.arm in (None, LABELS[0])]
    for case in run.cases:
        for key in _nearest(run):
            baseline = next((side for side in sides if key(side) == key(case)), None)
            if baseline and baseline is not case:
                yield baseline, case
                break


def _nearest(run: Run) -> list[Callable[[Case], tuple[object, ...]]]:
    """Keys of similarity, nearest first: the baseline of a Case is the first Case with an equal key.

    Of two Arms it is the other Arm. Else the first of the same framework and mode, which differs in layout, LRN, preset
    or net; then the first that compiles as it does, its fair peer; then the first of all.
    """

    def same(case: Case) -> tuple[object, ...]:
        return case.group, case.pass_, case.world

    ab = run.head.ab
    if not ab:
        return [lambda case: (*same(case), case.framework, case.mode), lambda case: (*same(case), case.compiled), same]
    if ab.key == "net":  # two nets may be of two frameworks
        return [same]
    # Arms of the same framework, and equal in every axis but the one that the Arms differ in
    axes = [axis for axis in (*arm.CASE_FIELDS, "guest") if ab.key != axis]
    return [lambda case: (*same(case), case.framework, *(getattr(case, axis) for axis in axes))]


def _meant(run: Run, *both: Case) -> tuple[str, ...]:
    """Conditions in which two Cases may differ, since those are compared or follow from what is compared. Without the
    preset `equal` a framework chooses its own settings."""
    ab = run.head.ab
    if any(case.preset != PRESETS[0] for case in both):
        return tuple(validity.ALIKE)
    if not ab:
        return ()
    everything = ("python", "net", "env", "slowdown")
    return tuple(validity.ALIKE) if ab.key.partition(":")[0] in everything else (ab.key,)


def between(base: Run, candidate: Run, spread: Spread, allow: Sequence[str] = (), margin: float = MARGIN) -> list[Pair]:
    """Compare two Runs, Case by Case.

    ``spread`` is the run-to-run variability of A/A Runs; ``allow`` names conditions that may differ, since those are
    compared; ``margin`` is the smallest difference to report, as a fraction.

    Returns
    -------
    list of Pair
        One per Case id of either Run; MISSING if a Run lacks the Case or it is not valid.
    """
    baselines, candidates = ({case.id: case for case in run.cases} for run in (base, candidate))
    pairs = []
    for case_id in dict.fromkeys([*baselines, *candidates]):
        case = baselines.get(case_id) or candidates[case_id]
        pair = Pair(case_id, case.pass_, case_id, case_id)
        pairs.append(pair)
        reasons = []
        for run, which, cases in ((base, "the baseline", baselines), (candidate, "the candidate", candidates)):
            if case_id not in cases:
                reasons.append(f"{which} {run.folder} lacks this case")
            elif reason := run.invalid_reason(cases[case_id]):
                reasons.append(f"not valid in {which}: {reason}")
        if reasons:
            pair.why = "; ".join(reasons)
            continue
        pair.differs = conditions.condition_differences(base, candidate, case, allow)
        if pair.differs:
            continue
        pair.margin = max(margin, *(spread.margin(run, case, "host" in allow) for run in (candidate, base)))
        medians = [list(run.round_medians_ns(case).values()) for run in (base, candidate)]
        reasons += _disturbed((base, case), (candidate, case))
        for run, which in ((base, "the baseline"), (candidate, "the candidate")):
            if (summary := run.summary(case)) and summary.trend in ("warming", "slowing"):
                reasons.append(f"{which} was {summary.trend} within its Rounds")
        if _zones_differ(_instants(base), _instants(candidate)):
            reasons.append("the dates of one side have a time zone and the other's have none, so they have no order")
        pair.why = "; ".join(reasons)
        known = (spread.between_runs(run, case, "host" in allow) for run in (candidate, base))
        run_spread, runs = next(filter(None, known), (None, 0))
        if taken_in_turn(base, candidate):
            pair.ratio = Ratio.of(_sessions(base, candidate, case))
        else:
            pair.ratio = Ratio.unpaired(*medians, run_spread=run_spread, runs=runs)
    return _judge(pairs)


def taken_in_turn(base: Run, candidate: Run) -> bool:
    """Whether the sessions of two Runs of another program were taken in mirrored order (base, candidate, candidate,
    base, ...), so that a steady drift of the machine cancels. With plain alternation it does not, and dates without a
    time zone have no order among those with one."""
    taken = [_instants(run) for run in (base, candidate)]
    if not all(taken) or len(taken[0]) != len(taken[1]) or _zones_differ(*taken) or set(taken[0]) & set(taken[1]):
        return False
    order = sorted((when, side) for side, times in enumerate(taken) for when in times)
    pairs = [(first[1], second[1]) for first, second in zip(order[::2], order[1::2], strict=True)]
    return pairs[0] in ((0, 1), (1, 0)) and all(pair == after[::-1] for pair, after in itertools.pairwise(pairs))


def _instants(run: Run) -> list[datetime]:
    """When each session was taken; empty unless all are known."""
    try:
        return [datetime.fromisoformat(text) for text in run.head.ingested.taken] if run.head.ingested else []
    except ValueError:
        return []


def _zones_differ(*sides: Sequence[datetime]) -> bool:
    """Whether only some dates have a time zone."""
    return len({when.tzinfo is None for side in sides for when in side}) > 1


def _sessions(base: Run, candidate: Run, case: Case) -> list[list[ratio.Cycle]]:
    """Each pair of neighboring sessions as one cycle."""
    before, after = base.samples_by_round(case), candidate.samples_by_round(case)
    return [[(before[number], after[number])] for number in sorted(before.keys() & after.keys())]


def describe_arm_of_run(run: Run, label: str) -> str:
    """Describe an Arm; an interpreter by its versions, since its path is not stored."""
    if run.head.ab is None:
        return ""
    words = arm.describe_arm(run.head.ab, label)
    if run.head.ab.key != "python":
        return words
    workers = [worker for case in run.cases if case.arm == label for worker in run.workers(case)]
    versions = {item for worker in workers for item in worker.versions.items() if item[0] in FRAMEWORKS}
    pythons = sorted({f"Python {worker.python}" for worker in workers})
    return ", ".join([*pythons, *sorted(f"{name} {version}" for name, version in versions)])
