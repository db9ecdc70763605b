"""Results of a Run and its Pairs as tables and sentences, shared by the terminal, Markdown and the report."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.cases.case import Case, groups
from bench.cases.passes import DIFFERENCES, place_of
from bench.machine.noise import NOISY
from bench.output import run_notes
from bench.output.labels import counted, label_of
from bench.output.tables import Cell, Column, Table, fraction, measured, with_interval
from bench.record import events
from bench.record.columns import BY_NAME, Row, Rows
from bench.record.pairs import Pair
from bench.record.run import Run
from bench.stats.descriptive import Interval

#: Headings of the figures of a Case; most are columns of summary.csv.
HEADINGS = {
    "time": "mean ± stddev ms (n)",
    **{name: BY_NAME[name].title for name in ("median_ms", "p95_ms", "images_per_s", "gflop_per_s", "peak_fraction")},
    **{name: f"{name} ms [95 %]" for name in DIFFERENCES},
    "ratio": "ratio [95 %]",
}
#: What makes a row noisy, by its column, in percent of the CPU time.
CAUSES = {column: BY_NAME[column].title.removesuffix(" %") for column in NOISY}
#: Figures that fit in 100 characters.
BRIEF = ("time", "images_per_s", "peak_fraction", "ratio")


@dataclass(frozen=True)
class CaseResult:
    """One Case: ``cells`` by the names of HEADINGS, and remarks on them."""

    case: Case
    cells: Mapping[str, Cell]
    faults: Sequence[str]
    """Why it has no figures, or how its baseline's conditions differ."""
    flags: str
    """With the noise that raised them."""
    ours: str
    """For a user's net, the time of ours over it."""

    @property
    def label(self) -> str:
        return label_of(self.case)

    @property
    def remarks(self) -> list[str]:
        return [text for text in (*self.faults, self.flags, self.ours) if text]


@dataclass(frozen=True)
class Group:
    """Cases that differ in pass and framework only: ``subject`` is what was timed, ``extent`` how often, ``where`` the
    versions and the device."""

    subject: str
    extent: str
    where: str
    cases: Sequence[CaseResult]

    def table(self) -> Table:
        """One row per Case, then each difference of each Case that has it."""
        columns = [Column("pass"), Column("framework")]
        columns += [Column(HEADINGS[name], numeric=True, narrow=name == "peak_fraction") for name in BRIEF]
        rows = [
            [Cell(result.case.pass_), Cell(result.label), *(result.cells[name] for name in BRIEF)]
            for result in self.cases
        ]
        rows += [
            [Cell(name), Cell(result.label), result.cells[name], Cell(""), Cell(""), Cell("")]
            for name in DIFFERENCES
            for result in self.cases
            if result.cells[name].text
        ]
        return Table(f"{self.subject}: {self.extent}", columns, rows, heads=1, grouped=True)


@dataclass(frozen=True)
class Results:
    """``given``: what a user set for all Cases, by name; ``arms``: the sides of an --ab; ``notes``: how to read it."""

    run: Run
    pairs: Sequence[Pair]
    rows: Rows
    cases: Mapping[str, CaseResult]
    """By Case id."""
    groups: Sequence[Group]
    given: Mapping[str, str]
    arms: Mapping[str, str]
    clock: Sequence[tuple[str, str]]
    no_ratio: str
    """Why there is no ratio."""
    notes: Sequence[str]


def results_of(run: Run, pairs: Sequence[Pair]) -> Results:
    rows = {row["case_id"]: row for row in run.rows()}
    ratios = {pair.candidate: pair for pair in pairs}
    baselines = {pair.baseline for pair in pairs if pair.ratio}
    cases = {
        case.id: _case_result(run, case, rows[case.id], ratios.get(case.id), case.id in baselines) for case in run.cases
    }
    return Results(
        run=run,
        pairs=pairs,
        rows=rows,
        cases=cases,
        groups=[_group(run, group, rows, cases) for group in groups(run.cases)],
        given=run_notes.given(run),
        arms=run_notes.arms(run),
        clock=run_notes.clock(run),
        no_ratio=run_notes.no_ratio(run, rows, pairs),
        notes=list(run_notes.notes(run, rows, pairs)),
    )


def mean_and_stddev(row: Row) -> Cell:
    """``mean ± stddev (n)``; without stddev for one sample."""
    around = "" if row["stddev_ms"] is None else f" ± {measured(row['stddev_ms']).text}"
    return Cell(f"{measured(row['mean_ms']).text}{around} ({row['iterations']})", row["mean_ms"])


def interval_text(value: Interval, paired: bool = True) -> str:
    """``center [low, high]``, or what an interval needs; of two Runs it may be unknown."""
    if value.low is None:
        return f"{value.center:.3f} [{'needs 3 Rounds' if paired else 'unknown'}]"
    return f"{value.center:.3f} [{value.low:.3f}, {value.high:.3f}]"


def versions_of(rows: Iterable[Row]) -> str:
    """Frameworks with their versions."""
    known = {f"{row['framework']} {row['framework_version']}" for row in rows if row["framework_version"]}
    return ", ".join(sorted(known))


def versions_on_device(rows: Sequence[Row]) -> str:
    return " on ".join(text for text in (versions_of(rows), str(rows[0]["device_name"])) if text)


def title_of(run: Run, cases: Sequence[Case], rows: Rows, varying: Sequence[str] = ()) -> tuple[str, str]:
    """What was timed, without the axes ``varying``; and how often."""
    case, protocol = cases[0], run.protocol
    done = max(rows[case_.id]["rounds"] for case_ in cases)
    some = "" if done == protocol.rounds else f"{done} of "
    if run.head.ingested:
        sessions = f"{some}{counted(protocol.rounds, 'session')} of {run.head.ingested.described}"
        return "" if "variant" in varying else case.variant, sessions
    *others, last = dict.fromkeys(rows[case_.id]["threads"] for case_ in cases)
    threads = " and ".join([*map(str, others), counted(last, "thread")])
    device = "" if "device" in varying else case.device
    if "threads" not in varying:
        device = f"{device} ({threads})" if device else threads
    parts = {
        "variant": "" if case.input else case.variant,
        "size": "" if case.input else f"{rows[case.id]['size']} px",
        "input": case.input and f"input {case.input}",
        "batch": f"batch {case.asked_batch}{_per(cases)}",
        "": device,
        "precision": case.precision,
    }
    texts = [text for axis, text in parts.items() if text and axis not in varying]
    texts += ["dropout on"] if case.dropout else []
    plans = [plan.iterations for plan in run.counted(events.Plan) if plan.group == run.group_of[case.id]]
    taken = " to ".join(map(str, sorted({min(plans), max(plans)}))) if plans else str(protocol.iterations)
    rounds = f"{some}{counted(protocol.rounds, 'Round')} x {taken}" if protocol.paired else "classic protocol"
    burn_in = " and ".join(map(str, dict.fromkeys(map(protocol.least_burn_in, range(protocol.rounds)))))
    return ", ".join(texts), f"{rounds} after {burn_in} burn-in"


def _per(cases: Sequence[Case]) -> str:
    """Whose batch it is, where Teams are among the Cases."""
    if all(case.world == 1 for case in cases):
        return ""
    return " of all devices" if cases[0].strong else " per device"


def _group(run: Run, group: Sequence[Case], rows: Rows, results: Mapping[str, CaseResult]) -> Group:
    cases = sorted(group, key=lambda case: (place_of(case.pass_), case.compiled))
    where = versions_on_device([rows[case.id] for case in cases])
    return Group(*title_of(run, cases, rows), where, [results[case.id] for case in cases])


def _case_result(run: Run, case: Case, row: Row, pair: Pair | None, baseline: bool) -> CaseResult:
    failed = row["invalid_reason"] not in ("", "not measured")
    faults = [f"not the same conditions: {difference}" for difference in (pair.differs if pair else ())]
    ours = ""
    if case.guest and pair and pair.ratio and any(other.id == pair.baseline and not other.guest for other in run.cases):
        ours = f"ours over {case.guest}: {interval_text(pair.ratio.value.inverse)}"
    if not row["valid"]:
        cells = dict.fromkeys(HEADINGS, Cell("")) | {"time": Cell("failed" if failed else "not measured")}
        return CaseResult(case, cells, [*faults, *([row["invalid_reason"]] if failed else [])], "", ours)
    cells = {
        "time": mean_and_stddev(row),
        **{name: measured(row[name]) for name in ("median_ms", "p95_ms", "images_per_s", "gflop_per_s")},
        "peak_fraction": fraction(row["peak_fraction"]),
        **{name: _difference(row, name) for name in DIFFERENCES},
        "ratio": _ratio(pair, baseline),
    }
    return CaseResult(case, cells, faults, " ".join(_flags(row)), ours)


def _difference(row: Row, difference: str) -> Cell:
    low, center, high = (row[f"{difference}_{name}ms"] for name in ("ci95_low_", "", "ci95_high_"))
    return Cell("not resolved") if center is None and low is not None else with_interval(center, low, high)


def _ratio(pair: Pair | None, baseline: bool) -> Cell:
    """The ratio, after the word of its verdict if that is not judged."""
    if not pair or not pair.ratio:
        return Cell("1", 1.0) if baseline else Cell("")
    word = f"{pair.word}: " if pair.differs else ""
    return Cell(word + interval_text(pair.ratio.value, pair.ratio.paired), pair.ratio.value.center)


def _flags(row: Row) -> Iterator[str]:
    yield row["flags"]
    known = [f"{row[column]:.0f} % {name}" for column, name in CAUSES.items() if row[column] is not None]
    known = [text for text in known if text != "0 % lost to the quota"]  # as on most machines
    if known and "noisy" in row["flags"].split():
        yield f"(CPU time: {', '.join(known)})"
