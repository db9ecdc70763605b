"""Verdicts of Pairs as a table, as Markdown and as an exit code."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.cases.case import LABELS
from bench.output import reproduce
from bench.output.labels import counted
from bench.output.markdown import escape
from bench.output.markdown import table as markdown_table
from bench.output.results_table import interval_text, versions_on_device
from bench.output.run_table import print_line, print_table
from bench.output.tables import Cell, Column, Table
from bench.record.pairs import Pair, describe_arm_of_run
from bench.record.run import Run
from bench.stats.descriptive import LEAST_ROUNDS
from bench.stats.ratio import LEAST_RUNS, MARGIN, MIN_ROUNDS
from bench.stats.verdict import Word


def show(base: Run, candidate: Run | None, pairs: Sequence[Pair], margin: float = MARGIN) -> None:
    """Print the verdicts, the reasons of inconclusive ones, and how to read them."""
    print_table(table(base, candidate, pairs))
    reasons: dict[str, list[str]] = {}
    for pair in (pair for pair in pairs if pair.reason):
        reasons.setdefault(because(pair), []).append(label(pair, candidate is None))
    for reason, labels in reasons.items():
        print_line(f"  {', '.join(labels) if len(labels) < len(pairs) else 'all'}: {reason}")
    for line in [
        *_code_differs(base, candidate),
        *notes(candidate or base, pairs, candidate is None, margin, finds_column=True),
    ]:
        print_line(line, dim=True)


def _code_differs(base: Run, candidate: Run | None) -> list[str]:
    """A sentence if two Runs were made by different code of the harness and the adapters."""
    if candidate is None:
        return []
    made = [(run.head.fingerprint.code, run.head.fingerprint.commit) for run in (candidate, base)]
    if None in (made[0][0], made[1][0]) or made[0][0] == made[1][0]:
        return []
    after, before = (f"{code} (commit {commit})" if commit else str(code) for code, commit in made)
    return [f"Code of bench and impls: {after}, {before} in the baseline."]


def exit_code(pairs: Iterable[Pair], strict: bool = False) -> int:
    """The exit code of all Pairs; 1 has priority, so that a missing Case does not hide a slower one."""
    codes = {pair.word.strict_exit_code if strict else pair.word.exit_code for pair in pairs}
    return 1 if 1 in codes else max(codes, default=0)


def table(base: Run, candidate: Run | None, pairs: Sequence[Pair]) -> Table:
    """One row per Pair."""
    columns = [Column("case"), Column("ratio [95 %]", numeric=True), Column("verdict"), Column("finds", numeric=True)]
    rows = [
        [
            Cell(label(pair, candidate is None)),
            Cell(interval_text(pair.ratio.value, pair.ratio.paired) if pair.ratio else "-"),
            Cell(pair.word),
            Cell(finds(pair)),
        ]
        for pair in pairs
    ]
    return Table(title(base, candidate), columns, rows)


def title(base: Run, candidate: Run | None) -> str:
    if candidate:
        return f"{candidate.folder.name} over {base.folder.name}"
    if base.head.ab:
        a, b = (f"{label} ({describe_arm_of_run(base, label)})" for label in LABELS)
        return f"{base.folder.name}: {b} over {a}"
    return f"{base.folder.name}: each framework over the first"


def label(pair: Pair, within_one: bool) -> str:
    """The Case id; for two Arms the shared part of their ids, for two frameworks both."""
    if not within_one:
        return pair.case_id
    a, b = LABELS
    if pair.candidate.endswith(f"-{b}") and pair.baseline.endswith(f"-{a}"):
        baseline = pair.baseline.split("-")
        return "-".join(part for part in pair.candidate.split("-") if part in baseline)
    return f"{pair.candidate} over {pair.baseline}"


def finds(pair: Pair) -> str:
    """The slowdown that this comparison would detect 19 times in 20."""
    known = pair.verdict and pair.verdict.detectable
    return f"+{known:.1%}" if known else "-"


def because(pair: Pair) -> str:
    needed = pair.verdict.rounds_needed if pair.verdict else None
    return pair.reason + (f"; about {needed} Rounds would suffice" if needed else "")


def notes(run: Run, pairs: Sequence[Pair], within_one: bool, margin: float, *, finds_column: bool = False) -> list[str]:
    """How to read verdicts; if only the run-to-run variability is missing, the command that measures it."""
    lines = []
    judged = [pair for pair in pairs if pair.verdict]
    if judged:
        family = f", {len(judged)} verdicts as one family" if len(judged) > 1 else ""
        lines.append(f"SLOWER: the interval is above {1 + margin:.3f}, FASTER: below {1 / (1 + margin):.3f}{family}.")
        lines += ["finds: the slowdown that would be detected 19 times in 20."] if finds_column else []
    for pair in judged:
        if pair.margin > margin:
            lines.append(f"{label(pair, within_one)}: above +{pair.margin:.1%}, the largest ratio of its A/A Runs.")
    if spread_unknown(pairs) and run.head.ingested:
        lines.append(
            "Sessions taken at different times are comparable only if interleaved: take base, head, head, base, and so "
            f"on, at least {MIN_ROUNDS} of each, then `alexnet-bench ingest` the files of each side."
        )
    elif spread_unknown(pairs):
        lines.append(
            f"The run-to-run variability on this machine is unknown. It takes {LEAST_RUNS} A/A Runs in the same "
            f"folder; each is made by:\n  {reproduce.against_itself(run)}\n"
            "More precise and faster: both sides in one Run, with --ab."
        )
    return lines


def spread_unknown(pairs: Sequence[Pair]) -> bool:
    """True if a Pair is inconclusive only since the run-to-run variability is unknown (below LEAST_RUNS A/A Runs)."""
    ratios = (pair.ratio for pair in pairs if pair.verdict and pair.ratio and not pair.ratio.paired)
    return any(ratio.error is None and ratio.rounds >= LEAST_ROUNDS for ratio in ratios)


def markdown(base: Run, candidate: Run | None, pairs: Sequence[Pair], margin: float = MARGIN) -> str:
    """Markdown for a pull request: slower Cases first, with signs and reasons."""
    run, within_one = candidate or base, candidate is None
    pairs = sorted(pairs, key=lambda pair: list(Word).index(pair.word))
    verdicts = table(base, candidate, pairs)
    rows = []
    for pair, (case, ratio, word, finds_) in zip(pairs, verdicts.rows, strict=True):
        reasoned = Cell(f"{word.text}: {because(pair)}" if pair.reason else word.text)
        rows.append([Cell(pair.word.sign), case, ratio, reasoned, finds_])
    summary_rows = run.rows()
    noise = ", noisy" if any("noisy" in row["flags"] for row in summary_rows) else ""
    where = f"{versions_on_device(summary_rows)}, {counted(summary_rows[0]['rounds'], 'Round')}{noise}"
    lines = [f"**{summary(pairs)}**: {escape(verdicts.caption)}", ""]
    lines += [markdown_table(replace(verdicts, columns=[Column(""), *verdicts.columns], rows=rows)), ""]
    lines += [f"{escape(where)}. Above 1 is slower."]
    below = [*_code_differs(base, candidate), *notes(run, pairs, within_one, margin, finds_column=True)]
    return "\n".join([*lines, *map(escape, below)])


def summary(pairs: Sequence[Pair]) -> str:
    counts = {word: sum(pair.word == word for pair in pairs) for word in Word}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing to compare"
