"""`selftest --aa` and `--power`: real Cases against themselves, unchanged or slowed down by a known share.

Both are Arms of one Run, evaluated as any Run. Existing Runs can be evaluated again.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.special import bdtr  # cumulative binomial

from bench import UsageError
from bench.commands.options import convert
from bench.commands.plan import plan_run
from bench.commands.requests import RunRequest, SelftestRequest
from bench.commands.results import measure
from bench.commands.selftest.row import Row, share_of
from bench.controller.pool import preflight
from bench.output import console, run_table
from bench.output.results_table import interval_text
from bench.output.tables import Cell, Column, Table
from bench.record import selftest_store
from bench.record.pairs import Pair, within
from bench.record.reasons import StopReason
from bench.record.run import Run
from bench.stats.ratio import Ratio, power
from bench.stats.verdict import Word

CLOSE = 0.015  # largest deviation of an A/A ratio from 1


@dataclasses.dataclass(frozen=True)
class KnownComparison:
    """A comparison with a known true ratio."""

    pair: Pair
    ratio: Ratio
    true: float
    family: int

    @property
    def off(self) -> float:
        """Relative deviation of the ratio from the true one."""
        return math.expm1(abs(math.log(self.ratio.value.center / self.true)))

    @property
    def covers(self) -> bool:
        low, high = self.ratio.value.low, self.ratio.value.high
        return low is not None and high is not None and low <= self.true <= high


def main(request: SelftestRequest) -> int:
    if sum(map(bool, (request.runs, request.aa, request.power))) > 1:
        raise UsageError("selftest: --aa, --power and RUN exclude each other")
    folders = request.runs or measured(request)
    runs = [Run(folder) for folder in folders]
    comparisons = [comparison for run in runs for comparison in comparisons_of(run)]
    rows = list(report(comparisons))
    ok, stored = all(row.ok for row in rows), [row._asdict() for row in rows]
    if not request.runs:
        selftest_store.store(request.out, "aa" if request.aa else "power", ok, stored)
    if request.as_json:
        pairs = [each.pair.as_json() | {"true": each.true} for each in comparisons]
        names = [run.folder.name for run in runs]
        console.print_json({"ok": ok, "runs": names, "comparisons": pairs, "checks": stored})
    else:
        print_table(comparisons)
        for row in rows:
            row.show()
    return 0 if ok else 1


def measured(request: SelftestRequest) -> list[Path]:
    """Make the Runs."""
    slowdown = f"{100 * (request.power or 0):g}"
    plan = plan_run(convert(request, RunRequest, ab=f"slowdown=0,{slowdown}"))
    preflight(plan.cases, plan.settings)
    folders = []
    for number in range(request.repeat):
        if request.repeat > 1:
            console.tell(f"Run {number + 1} of {request.repeat}")
        rules = dataclasses.replace(plan.protocol, seed=plan.protocol.seed + number)
        name = "aa" if request.aa else f"slowdown-{slowdown}"
        folder, reason = measure(dataclasses.replace(plan, protocol=rules), request.out, name)
        Run(folder).write()
        folders.append(folder)
        if reason == StopReason.INTERRUPTED:
            raise KeyboardInterrupt
    return folders


def comparisons_of(made: Run) -> Iterator[KnownComparison]:
    ab = made.head.ab
    if not ab or ab.key != "slowdown":
        raise UsageError(f"{made.folder}: expected a Run of --ab slowdown=0,PERCENT")
    true = (1 + float(ab.values[1]) / 100) / (1 + float(ab.values[0]) / 100)
    pairs = [(pair, pair.ratio) for pair in within(made) if pair.ratio and pair.verdict]
    if lost := [case.id for case in made.cases if made.invalid_reason(case)]:
        console.tell(f"{made.folder.name}: no comparison of {', '.join(lost)}")
    for pair, ratio in pairs:
        yield KnownComparison(pair, ratio, true, len(pairs))


def report(comparisons: Sequence[KnownComparison]) -> Iterator[Row]:
    """Rows for each true ratio."""
    if not comparisons:
        yield Row("comparisons", "at least 1", "none", False)
    for true in sorted({each.true for each in comparisons}):
        alike = [each for each in comparisons if each.true == true]
        yield from aa_rows(alike) if true == 1 else power_rows(alike, true - 1)


def aa_rows(comparisons: Sequence[KnownComparison]) -> Iterator[Row]:
    off = sorted(each.off for each in comparisons)
    furthest = f"; median {statistics.median(off):.2%}, furthest {off[-1]:.2%}"
    yield share_of(f"A/A: |ratio - 1| at most {CLOSE:.1%}", [each <= CLOSE for each in off], 0.95, furthest)
    yield share_of("A/A: the 95 % interval covers 1", [each.covers for each in comparisons], 0.85)
    alarms = sum(each.pair.word in (Word.SLOWER, Word.FASTER) for each in comparisons)
    yield Row(f"A/A: called SLOWER or FASTER, of {len(comparisons)}", "0", str(alarms), not alarms)
    yield _spread("A/A", comparisons)


def power_rows(comparisons: Sequence[KnownComparison], effect: float) -> Iterator[Row]:
    chances = [
        power(effect, spread, each.ratio.rounds, each.family, each.pair.margin)
        for each in comparisons
        if (spread := each.ratio.round_stddev) is not None
    ]
    detected = [each.pair.word == Word.SLOWER for each in comparisons]
    chance = statistics.fmean(chances) if chances else 0.0
    least = 0.9 if effect >= 0.05 - 1e-9 else 0.0
    row = share_of(f"slowed by {effect:.1%}: called SLOWER", detected, least, f"; predicted {chance:.0%}")
    # few comparisons, or a smaller effect
    unlikely = float(bdtr(sum(detected), len(detected), chance)) < 0.01
    yield row._replace(ok=row.ok and not unlikely)
    # not judged: a pass that follows a spin is slower by itself (its threads have gone to sleep), so more comes out
    center = statistics.median(each.ratio.value.center for each in comparisons)
    what, covers = f"slowed by {effect:.1%}: the 95 % interval covers it", [each.covers for each in comparisons]
    yield share_of(what, covers, 0.0, f"; median found {center - 1:.1%}")
    yield _spread(f"slowed by {effect:.1%}", comparisons)


def _spread(what: str, comparisons: Sequence[KnownComparison]) -> Row:
    spreads = [each.ratio.round_stddev for each in comparisons if each.ratio.round_stddev is not None]
    found = f"median {statistics.median(spreads):.2%}, largest {max(spreads):.2%}" if spreads else "unknown"
    return Row(f"{what}: stddev of the ratio from Round to Round", "reported", found, True)


def print_table(comparisons: Sequence[KnownComparison]) -> None:
    columns = [Column(name) for name in ("case", "true", "ratio [95 %]", "verdict")]
    rows = []
    for comparison in comparisons:
        pair = comparison.pair
        ratio = interval_text(comparison.ratio.value)
        rows.append(
            [Cell(text) for text in (pair.candidate.removesuffix("-B"), f"{comparison.true:.3f}", ratio, pair.word)]
        )
    run_table.print_table(Table("a case against itself", columns, rows))
