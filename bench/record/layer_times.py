"""Layer times: of each layer or module of a profiled net, forward and backward, and of the whole net; with the work and
roofline of those that are ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.cases.case import Case
from bench.cases.passes import PASSES, Difference, Timed
from bench.record import ceiling
from bench.record.columns import CsvColumn
from bench.record.net_parts import NetPart, parts_of
from bench.record.run import Run
from bench.stats import descriptive, roofline

WHOLE, SUM = "whole net", "sum of layers"
AXES_HELP = "whose layer it is, and how the net was run"
LAYER = "the layer of the net, its output and what it holds"
CALLS = "how often the net calls the layer: 1, but for a module of a user's model; its times are those of all calls"
TIMES = (
    "forward: geometric mean over Rounds. backward: both passes less forward, mean over Rounds; noise may make it 0 or "
    "negative"
)
WORK = (
    "operations of the whole batch, light layers included (in summary.csv gflop_per_s counts multiply-adds only); the "
    "bytes that must be moved at least; the first over the second"
)
RATES = "flop and bytes over the time"
PEAK = "multiply-adds only, over the ceiling; empty for a layer without any"
BOUND = "compute or memory, whichever takes longer at best"
ATTAINABLE = "the longer of the two; that over the time taken"
OVER_WHOLE = "in `sum of layers`: over the whole net's time, Round by Round, and its 95 % interval"
COLUMNS = (
    CsvColumn("variant", str, AXES_HELP),
    *(CsvColumn(name, str, LAYER) for name in ("layer", "kind")),
    *(CsvColumn(name, int, LAYER) for name in ("height", "width", "channels", "params", "macs")),
    CsvColumn("calls", int, CALLS),
    *(
        CsvColumn(name, str, AXES_HELP)
        for name in "net input framework mode device precision layout lrn preset".split()
    ),
    CsvColumn("batch", int, AXES_HELP),
    CsvColumn("pass", str, AXES_HELP),
    CsvColumn("rounds", int, TIMES),
    *(CsvColumn(name, float, TIMES) for name in ("center_ms", "ci95_low_ms", "ci95_high_ms")),
    CsvColumn("share_of_sum", float, "of the time of all layers in this pass"),
    *(CsvColumn(name, float, WORK) for name in ("flop", "bytes", "intensity")),
    *(CsvColumn(name, float, RATES) for name in ("gflop_per_s", "gb_per_s")),
    CsvColumn("peak_fraction", float, PEAK),
    CsvColumn("bound", str, BOUND),
    *(CsvColumn(name, float, ATTAINABLE) for name in ("attainable_ms", "of_attainable")),
    *(CsvColumn(f"sum_over_whole{end}", float, OVER_WHOLE) for end in ("", "_low", "_high")),
)
AXES = ("variant", "net", "input", "batch", "framework", "mode", "device", "precision", "layout", "lrn", "preset")

Row = dict[str, Any]
Medians = dict[str, dict[int, float]]  # ns, by pass and Round


def layer_rows(run: Run) -> Iterator[Row]:
    """Yield rows by column: per Worker, batch and pass or difference each layer, their sum and the whole net."""
    for wholes in _wholes(run):
        yield from LayerTimes(run, wholes).rows()


def timed_per_layer(passes: Iterable[str]) -> list[Timed]:
    """Of these passes and differences those that a layer has a time of: of a pass with a known difference only that."""
    known, timed = set(passes), list[Timed]()
    for pass_ in PASSES.values():
        if pass_.difference and pass_.difference.name in known:
            timed.append(pass_.difference)
        elif pass_.name in known:
            timed.append(pass_)
    return timed


def by_worker(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows by Worker and net."""
    grouped: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        grouped.setdefault(tuple(row[name] for name in AXES), []).append(row)
    return list(grouped.values())


def by_layer(rows: Iterable[Row]) -> dict[str, dict[str, Row]]:
    """Rows by layer, then by pass or difference."""
    grouped: dict[str, dict[str, Row]] = {}
    for row in rows:
        grouped.setdefault(row["layer"], {})[row["pass"]] = row
    return grouped


class LayerTimes:
    """Times of one net in one Worker: of each pass of the whole, and of each layer."""

    def __init__(self, run: Run, wholes: Mapping[str, Case]):
        self.case = next(iter(wholes.values()))
        self.net, self.best = None if self.case.guest else self.case.net, ceiling.ceiling_of(run, self.case)
        self.whole = _medians(run, wholes)
        self.parts = parts_of(run, self.case)
        self.layers: dict[str, Medians] = {}
        for part in self.parts:
            medians = _medians(run, {pass_: part.case(run, case) for pass_, case in wholes.items()}, part.calls)
            if all(medians[timed.name] for timed in timed_per_layer(medians) if part.params or not timed.only_updates):
                self.layers[part.name] = medians
        workers = run.workers(self.case)
        self.params = self.net.params if self.net else workers[0].identity.params if workers else None
        self.about = {name: getattr(self.case, name) for name in AXES} | {"net": self.case.guest}
        self.width = roofline.value_bytes(self.case.precision)

    def rows(self) -> Iterator[Row]:
        for part in self.parts:
            if part.name in self.layers:
                yield from self._layer_rows(part)
        for pass_ in PASSES.values():
            for timed in (pass_.difference, pass_):
                if timed and timed.name in self.whole:
                    yield from self._total_rows(timed)

    def sums(self, pass_: str) -> dict[int, float]:
        """Sum of all layers in ns, by Round; empty if a layer is missing."""
        if any(part.name not in self.layers and not part.idle for part in self.parts):
            return {}
        layers = [medians[pass_] for medians in self.layers.values() if medians[pass_]]
        return {round_: sum(medians[round_] for medians in layers) for round_ in _common(layers)}

    def _layer_rows(self, part: NetPart) -> Iterator[Row]:
        facts = {"layer": part.name, "kind": part.kind, "params": part.params, "calls": part.calls}
        facts |= dict(zip(("height", "width", "channels"), part.shape, strict=False))
        facts |= {"macs": part.layer.macs} if part.layer else {}
        for timed in timed_per_layer(self.whole):
            if timed.only_updates and not part.params:
                continue
            pass_, work, macs = timed.name, None, 0
            if part.layer and part.alone:
                inside, macs = part.alone.input_gradient, timed.macs(part.alone)
                work = roofline.work(part.layer, self.case.batch, pass_, input_gradient=inside, width=self.width)
            times, total = _times(self.layers[part.name][pass_], isinstance(timed, Difference)), self.sums(pass_)
            whole_ns = fmean(total.values()) if total else 0.0
            share = times["center_ms"] * 1e6 / whole_ns if whole_ns > 0 else None
            yield self.about | facts | {"pass": pass_, "share_of_sum": share} | times | self._speed(times, work, macs)

    def _total_rows(self, timed: Timed) -> Iterator[Row]:
        pass_, net = timed.name, self.net
        whole, total = self.whole[pass_], self.sums(pass_)
        work = roofline.net_work(net, self.case.batch, pass_, width=self.width) if net else None
        macs = timed.macs(net) if net else 0
        both = [total[round_] / whole[round_] if whole[round_] > 0 else 0.0 for round_ in _common([total, whole])]
        for layer, medians in ((SUM, total), (WHOLE, whole)):
            if medians:
                times = _times(medians, isinstance(timed, Difference))
                params = sum(part.params for part in self.parts) if layer == SUM else self.params
                row = self.about | {"layer": layer, "pass": pass_, "params": params}
                row |= {"macs": net.macs} if net else {}
                yield row | times | self._speed(times, work, macs) | (_over_whole(both) if layer == SUM else {})

    def _speed(self, times: Row, work: roofline.Work | None, macs: int) -> Row:
        """Rates, and the bound of the roofline; only work for a backward pass that is not above 0, nothing of a part
        whose work is not known."""
        if work is None:
            return {}
        ms, best = times["center_ms"], self.best
        facts: Row = {"flop": work.flop, "bytes": work.bytes, "intensity": work.intensity}
        if ms <= 0:
            return facts
        facts |= {"gflop_per_s": work.flop / ms / 1e6, "gb_per_s": work.bytes / ms / 1e6}
        if best.gflop_per_s and macs:
            facts["peak_fraction"] = 2 * macs * self.case.batch / ms / 1e6 / best.gflop_per_s
        if best.gflop_per_s and best.copy_gb_per_s and work.flop:
            least_ms = roofline.attainable(work, best.gflop_per_s, best.copy_gb_per_s)
            bound = roofline.bound(work, best.gflop_per_s, best.copy_gb_per_s)
            facts |= {"bound": bound, "attainable_ms": least_ms, "of_attainable": least_ms / ms}
        return facts


def _wholes(run: Run) -> Iterator[dict[str, Case]]:
    """Per Worker of a whole net, its Cases by pass; Workers that lack a pass are left out."""
    by_worker: dict[tuple[object, ...], dict[str, Case]] = {}
    names = [pass_.name for pass_ in PASSES.values() if any(case.pass_ == pass_.name for case in run.cases)]
    for case in run.cases:
        if case.whole and case.pass_ in names:
            by_worker.setdefault((case.group, case.worker), {})[case.pass_] = case
    yield from (cases for cases in by_worker.values() if len(cases) == len(names))


def _medians(run: Run, cases: Mapping[str, Case], calls: int = 1) -> Medians:
    """Medians in ns, ``calls`` of them together, by pass or difference of two passes, then by Round."""
    known: Medians = {pass_: {} for pass_ in cases}
    for pass_, case in cases.items():
        if case in run.cases and not run.invalid_reason(case):
            known[pass_] = {round_: calls * ns for round_, ns in run.round_medians_ns(case).items()}
    for pass_, less in ((timed.name, timed.difference) for timed in PASSES.values() if timed.difference):
        if pass_ in cases and less.less in cases:
            rounds = _common([known[pass_], known[less.less]])
            known[less.name] = {number: known[pass_][number] - known[less.less][number] for number in rounds}
    return known


def _common(by_round: Sequence[Mapping[int, float]]) -> list[int]:
    """Rounds that all of these have."""
    return sorted(set.intersection(*map(set, by_round))) if by_round else []


def _times(medians: Mapping[int, float], differences: bool) -> Row:
    """Center and interval over Rounds; for differences, which may be near 0 or negative, the arithmetic mean."""
    values = [medians[round_] for round_ in sorted(medians)]
    if differences:
        difference = descriptive.less(values, [0.0] * len(values))
        center, low, high = difference.mean_ns, difference.low_ns, difference.high_ns
    else:
        interval = descriptive.Interval.of_logs([math.log(value) for value in values])
        center, low, high = interval.center, interval.low, interval.high
    figures = {"center_ms": center, "ci95_low_ms": low, "ci95_high_ms": high}
    return {"rounds": len(values)} | {name: None if value is None else value / 1e6 for name, value in figures.items()}


def _over_whole(both: Sequence[float]) -> Row:
    """Sum of the layers over the whole net and its interval, from one ratio per Round; empty if one is not above 0."""
    if not both or min(both) <= 0:
        return {}
    interval = descriptive.Interval.of_logs([math.log(value) for value in both])
    names = ("sum_over_whole", "sum_over_whole_low", "sum_over_whole_high")
    return dict(zip(names, (interval.center, interval.low, interval.high), strict=True))
