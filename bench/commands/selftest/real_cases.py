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
from bench.commands.selftest import checks
from bench.controller import session
from bench.controller.pool import preflight
from bench.output import console, run_table
from bench.output.progress import Progress
from bench.output.results_table import ratio_text
from bench.output.tables import Cell, Column, Table
from bench.record import selftest_store
from bench.record.pairs import Pair, within
from bench.record.run import Run
from bench.stats import ratio
from bench.stats.verdict import Word

CLOSE = 0.015  # largest deviation of an A/A ratio from 1
ENOUGH = 20  # comparisons, below which shares are reported but not judged


@dataclasses.dataclass(frozen=True)
class Known:
    """A comparison with a known true ratio."""

    pair: Pair
    true: float
    family: int

    @property
    def off(self) -> float:
        """Relative deviation of the ratio from the true one."""
        assert self.pair.ratio
        return math.expm1(abs(math.log(self.pair.ratio.value.center / self.true)))

    @property
    def covers(self) -> bool:
        assert self.pair.ratio
        low, high = self.pair.ratio.value.low, self.pair.ratio.value.high
        return low is not None and high is not None and low <= self.true <= high


def main(request: SelftestRequest) -> int:
    if sum(map(bool, (request.runs, request.aa, request.power))) > 1:
        raise UsageError("selftest: expected one of --aa, --power and folders of Runs")
    folders = request.runs or measured(request)
    runs = [Run(folder) for folder in folders]
    known = [comparison for run in runs for comparison in comparisons(run)]
    rows = list(report(known))
    ok = all(row["ok"] for row in rows)
    if not request.runs:
        selftest_store.store(request.out, "aa" if request.aa else "power", ok, rows)
    if request.as_json:
        pairs = [one.pair.as_json() | {"true": one.true} for one in known]
        console.print_json({"ok": ok, "runs": [run.folder.name for run in runs], "comparisons": pairs, "checks": rows})
    else:
        print_table(known)
        for row in rows:
            checks.show(row)
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
        with Progress(rules) as progress:
            folder, reason = session.measure(
                plan.cases, rules, plan.settings, request.out, name, watcher=progress, waiting=console.tell
            )
        Run(folder).write()
        folders.append(folder)
        if reason == "interrupted":
            raise KeyboardInterrupt
    return folders


def comparisons(made: Run) -> Iterator[Known]:
    ab = made.head.ab
    if not ab or ab.key != "slowdown":
        raise UsageError(f"{made.folder}: expected a Run of --ab slowdown=0,PERCENT")
    true = (1 + float(ab.values[1]) / 100) / (1 + float(ab.values[0]) / 100)
    pairs = [pair for pair in within(made) if pair.ratio and pair.verdict]
    if lost := [case.id for case in made.cases if made.invalid_reason(case)]:
        console.tell(f"{made.folder.name}: no comparison of {', '.join(lost)}")
    for pair in pairs:
        yield Known(pair, true, len(pairs))


def report(known: Sequence[Known]) -> Iterator[checks.Row]:
    """Rows of what, expected, found, ok, for each true ratio."""
    if not known:
        yield {"what": "comparisons", "expected": "at least 1", "found": "none", "ok": False}
    for true in sorted({one.true for one in known}):
        here = [one for one in known if one.true == true]
        yield from of_equals(here) if true == 1 else of_slower(here, true - 1)


def of_equals(here: Sequence[Known]) -> Iterator[checks.Row]:
    off = sorted(one.off for one in here)
    furthest = f"; median {statistics.median(off):.2%}, furthest {off[-1]:.2%}"
    yield _share(f"A/A: |ratio - 1| at most {CLOSE:.1%}", [one.off <= CLOSE for one in here], 0.95, furthest)
    yield _share("A/A: the 95 % interval covers 1", [one.covers for one in here], 0.85)
    alarms = [one.pair.word for one in here if one.pair.word in (Word.SLOWER, Word.FASTER)]
    yield {
        "what": f"A/A: called SLOWER or FASTER, of {len(here)}",
        "expected": "0",
        "found": str(len(alarms)),
        "ok": not alarms,
    }
    yield _spread("A/A", here)


def of_slower(here: Sequence[Known], effect: float) -> Iterator[checks.Row]:
    chances = [
        ratio.power(effect, one.pair.ratio.spread, one.pair.ratio.rounds, one.family, one.pair.margin)
        for one in here
        if one.pair.ratio and one.pair.ratio.spread is not None
    ]
    found = [one.pair.word == Word.SLOWER for one in here]
    chance = statistics.fmean(chances) if chances else 0.0
    least = 0.9 if effect >= 0.05 - 1e-9 else 0.0
    row = _share(f"slowed by {effect:.1%}: called SLOWER", found, least, f"; predicted {chance:.0%}")
    # few comparisons, or a smaller effect
    unlikely = float(bdtr(sum(found), len(found), chance)) < 0.01
    yield row | {"ok": row["ok"] and not unlikely}
    # not judged: a pass that follows a spin is slower by itself (its threads have gone to sleep), so more comes out
    centers = statistics.median(one.pair.ratio.value.center for one in here if one.pair.ratio) - 1
    more = f"; median found {centers:.1%}"
    yield _share(f"slowed by {effect:.1%}: the 95 % interval covers it", [one.covers for one in here], 0.0, more)
    yield _spread(f"slowed by {effect:.1%}", here)


def _spread(what: str, here: Sequence[Known]) -> checks.Row:
    spreads = [one.pair.ratio.spread for one in here if one.pair.ratio and one.pair.ratio.spread is not None]
    found = f"median {statistics.median(spreads):.2%}, largest {max(spreads):.2%}" if spreads else "unknown"
    return {"what": f"{what}: sd of the ratio from Round to Round", "expected": "reported", "found": found, "ok": True}


def _share(what: str, hits: Sequence[bool], least: float, more: str = "") -> checks.Row:
    share = sum(hits) / len(hits)
    judged = len(hits) >= ENOUGH
    expected = "reported" if not least else f">= {least:.0%}" + ("" if judged else f", judged from {ENOUGH} on")
    found = f"{sum(hits)} of {len(hits)} ({share:.0%}){more}"
    return {"what": what, "expected": expected, "found": found, "ok": share >= least or not judged}


def print_table(known: Sequence[Known]) -> None:
    columns = [Column(name) for name in ("case", "true", "ratio [95 %]", "verdict")]
    rows = []
    for case in known:
        ratio = ratio_text(case.pair.ratio) if case.pair.ratio else "-"
        texts = (case.pair.candidate.removesuffix("-B"), f"{case.true:.3f}", ratio, case.pair.word)
        rows.append([Cell(text) for text in texts])
    run_table.print_table(Table("a case against itself", columns, rows))
