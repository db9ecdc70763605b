"""Findings of a Run in sentences, the verdict first, and cautions about them."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.cases.case import LABELS, Case
from bench.cases.passes import LOAD, PASSES
from bench.machine.noise import NOISY
from bench.output import run_notes, verdicts
from bench.output.console import number, percent, problem_lines
from bench.output.labels import counted, describe, label_of, some_of
from bench.output.page.table import whole_nets
from bench.output.results_table import CAUSES, interval_text
from bench.record.columns import Rows
from bench.record.events import End
from bench.record.flags import FLAGS
from bench.record.pairs import Pair, describe_arm_of_run
from bench.record.run import Run
from bench.record.scaling import scalings
from bench.stats.descriptive import LEAST_ROUNDS
from bench.stats.verdict import Word

FEW = 6  # comparisons; with more, only the extreme ones get a sentence


@dataclass(frozen=True)
class Finding:
    """A sentence on results; ``word`` is its verdict, None if nothing is compared, ``because`` the reasons."""

    text: str
    word: Word | None = None
    because: str = ""
    failed: bool = False


def list_findings(run: Run, rows: Rows, pairs: Sequence[Pair]) -> list[Finding]:
    """List findings, the most important first; for a Run without comparisons its times, and why there is no ratio."""
    first, *others = [*_scalings(run, rows), *_list_measured(run, rows, pairs)]
    return [first, *find_failures(rows), *others]


def _scalings(run: Run, rows: Rows) -> Iterator[Finding]:
    """Yield the efficiency of each pass of a Team."""
    for each in scalings(run):
        if value := each.efficiency:
            how = f" [{percent(value.low)}, {percent(value.high)}]" if value.low and value.high else ""
            yield Finding(
                f"{label_of(each.case)} run {_work(run, each.case)} at {number(rows[each.case.id]['images_per_s'])} "
                f"images/s, {percent(value.center)}{how} of the ideal, {each.case.world} times one device."
            )


def find_failures(rows: Rows) -> Iterator[Finding]:
    """Yield a finding if cases failed; those not started count as interrupted."""
    if failed := sum(row["invalid_reason"] not in ("", "not measured") for row in rows.values()):
        count = f"{failed} of {len(rows)} cases {'has' if failed == 1 else 'have'}"
        yield Finding(f"{count} no valid row; “Before you quote it” says why.", failed=True)


def _list_measured(run: Run, rows: Rows, pairs: Sequence[Pair]) -> list[Finding]:
    whole = {case.id: case for case in whole_nets(run)}
    pairs = [pair for pair in pairs if pair.candidate in whole]
    compared = [pair for pair in pairs if pair.ratio]
    if not compared:
        return [*_times(run, rows, list(whole.values())), Finding(run_notes.no_ratio(run, rows, pairs))]
    ranked = sorted(compared, key=_weight) if run.head.ab else compared
    if len(ranked) > FEW:
        first = {
            (pair.pass_, label_of(whole[pair.baseline])): pair for pair in sorted(ranked, key=_weight, reverse=True)
        }
        chosen = [pair for pair in ranked if pair in first.values()][:FEW]
        more = f"In the table of results: {counted(len(ranked) - len(chosen), 'more comparison')}"
        others = Finding(f"{more}; above is only the most extreme one per pass and baseline.")
        return [*(_compare(run, pair, whole, pair is chosen[0]) for pair in chosen), others]
    return [_compare(run, pair, whole, pair is ranked[0]) for pair in ranked]


def _weight(pair: Pair) -> tuple[int, float]:
    """Sort key: decided before undecided, slower first, then the farthest from 1."""
    return list(Word).index(pair.word), -abs(pair.ratio.log if pair.ratio else 0.0)


def _compare(run: Run, pair: Pair, cases: Mapping[str, Case], first: bool) -> Finding:
    """Describe one ratio, candidate over baseline, with its interval."""
    assert pair.ratio
    base, candidate, value = cases[pair.baseline], cases[pair.candidate], pair.ratio.value
    ratio = f"{value.center:.3f}" if value.low is None else interval_text(value)
    times = "times " if value.center >= 1 else "of "
    rounds = counted(pair.ratio.rounds, "Round")
    how = f"95 % interval over {rounds}" if value.low is not None else f"{rounds}: too few for an interval"
    if ab := run.head.ab:
        a, b = (f"{label} ({describe_arm_of_run(run, label)})" for label in LABELS)
        known = [name for name in (candidate.framework, candidate.mode) if name != ab.values[1]]
        by = "" if ab.key == "net" else f" in {' '.join(known)}"
        text = f"{b} takes {ratio} {times}the time of {a} for {_work(run, candidate)}{by} ({how})."
    else:
        text = f"{label_of(candidate)} runs {_work(run, candidate)} in {ratio} {times}{label_of(base)}’s time ({how})."
    if pair.differs:
        return Finding(text, pair.word, f"Not judged, conditions differ: {pair.reason}.")
    because = []
    if first or not pair.word.decides:
        margin, reason = f"{100 * pair.margin:.2g} %", verdicts.because(pair)
        because.append(pair.word.sentence.format(margin=margin, reason=reason))
    compiled = [case for case in (base, candidate) if case.compiled]
    if len(compiled) == 1:
        other = base if compiled[0] is candidate else candidate
        because.append(f"Only {label_of(compiled[0])} compiles, {label_of(other)} does not.")
    if ab and ab.identical:
        because.append("Both sides are the same: any difference is noise of this machine and harness.")
    return Finding(text, pair.word, " ".join(because))


def _work(run: Run, case: Case) -> str:
    """Describe the timed work, with the axes that vary in the Run."""
    axes = [f"at batch {case.asked_batch}"]
    axes += [f"in {case.precision}"] if len({other.precision for other in run.cases}) > 1 else []
    axes += [f"on {case.device}"] if len({other.device for other in run.cases}) > 1 else []
    phrase = PASSES[case.pass_].phrase if case.pass_ in PASSES else case.pass_
    return f"{phrase} of {case.variant} {' '.join(axes)}"


def _times(run: Run, rows: Rows, cases: Sequence[Case]) -> Iterator[Finding]:
    """Yield the time of each Case."""
    valid = [case for case in cases if rows[case.id]["valid"]]
    if not valid:
        yield Finding("Nothing of this Run can be quoted: none of its cases has a valid row.")
    for case in valid[:FEW]:
        row = rows[case.id]
        if row["ci95_low_ms"] is None:
            around = f" ± {number(row['stddev_ms'])}" if row["stddev_ms"] is not None else ""
            how = f"mean ± stddev of {counted(row['iterations'], 'sample')}" if around else "a single sample"
            time = f"{number(row['mean_ms'])}{around} ms ({how})"
        else:
            low, high = number(row["ci95_low_ms"]), number(row["ci95_high_ms"])
            time = f"{number(row['center_ms'])} [{low}, {high}] ms (95 % interval over {row['rounds']} Rounds)"
        took = f"takes {time}" if case.foreign else f"runs {_work(run, case)} in {time}"
        yield Finding(f"{label_of(case)} {took}.")
    if len(valid) > FEW:
        yield Finding(f"In the table of results: {counted(len(valid) - FEW, 'more time')}.")


def cautions(run: Run, rows: Rows, pairs: Sequence[Pair]) -> list[str]:
    """List what limits the verdict: interruptions, failures, noise, unproven nets, unreadable lines."""
    parts = (
        _unfinished(run, rows),
        _failed(run, rows),
        _noise(rows),
        _unproven(rows),
        _pixels(run, rows),
        _left_out(run),
    )
    return [text for part in parts for text in part]


def _pixels(run: Run, rows: Rows) -> Iterator[str]:
    """Loaders that deliver other pixels, and so do less."""
    for case in run.cases:
        if case.pass_ == LOAD.name and "other_pixels" in rows[case.id]["flags"].split():
            error = number(rows[case.id]["pixel_error"])
            yield f"Other pixels: those of {label_of(case)} are off by up to {error} of 255; it does less work."


def _unfinished(run: Run, rows: Rows) -> Iterator[str]:
    reasons = {row["stop_reason"] for row in rows.values()}
    done = [row["rounds"] for row in rows.values()]
    least, most = min(done), max(done)
    rounds = f"{least if least == most else f'{least} to {most}'} of {counted(run.protocol.rounds, 'Round')}"
    if "interrupted" in reasons or not isinstance(run.events[-1], End):
        yield (
            f"Interrupted: this Run is not finished; it has {rounds}. "
            f"`alexnet-bench run --resume {shlex.quote(run.folder.resolve().name)}` continues it."
        )
    elif "time_cap" in reasons:
        yield f"Cut short by --max-time: it has {rounds}."
    if any(0 < row["rounds"] < LEAST_ROUNDS for row in rows.values()) and not run.head.ingested:
        yield f"Rows with fewer than {LEAST_ROUNDS} Rounds have no interval."


def _failed(run: Run, rows: Rows) -> Iterator[str]:
    failed: dict[str, list[str]] = {}
    for case in run.cases:
        if reason := rows[case.id]["invalid_reason"]:
            failed.setdefault(reason, []).append(describe(case))
    for reason, names in failed.items():
        yield f"No valid row for {some_of(names)}: {reason}."


def _noise(rows: Rows) -> Iterator[str]:
    """Count rows per flag of noise, with the highest share of what made them noisy."""
    valid = [row for row in rows.values() if row["valid"]]
    for flag in ("noisy", "unsteady_machine", "rounds_disturbed", "every_round_disturbed"):
        if count := sum(flag in row["flags"].split() for row in valid):
            worst = {column: max(row[column] or 0.0 for row in valid) for column in CAUSES}
            above = [
                f"{worst[column]:.1f} % {name}" for column, name in CAUSES.items() if worst[column] > NOISY[column]
            ]
            more = f" At worst {', '.join(above)}." if flag == "noisy" and above else ""
            yield f"Noise, in {count} of {counted(len(valid), 'row')}: {FLAGS[flag]}{more}"


def _unproven(rows: Rows) -> Iterator[str]:
    names = [row["case_id"] for row in rows.values() if row["valid"] and "not_proven" in row["flags"].split()]
    if names:
        yield f"Not proven equal to ours: {some_of(names)}."


def _left_out(run: Run) -> Iterator[str]:
    """Skipped lines of run.jsonl. The folder is omitted because reports are shared."""
    file = run.folder / "run.jsonl"
    return (line.replace(str(file), file.name) for line in problem_lines(run))
