"""Verdicts of pairs of Cases as a table, as Markdown, and as an exit code."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.cases.case import LABELS
from bench.output import reproduce
from bench.output.markdown import escape
from bench.output.markdown import table as markdown_table
from bench.output.results_table import ratio_text, versions_on_device
from bench.output.run_table import print_line, print_table
from bench.output.tables import Cell, Column, Table
from bench.record.pairs import MARGIN, Pair, describe_arm
from bench.record.run import Run
from bench.stats.descriptive import LEAST_ROUNDS
from bench.stats.ratio import LEAST_RUNS, MIN_ROUNDS
from bench.stats.verdict import Word


def show(base: Run, candidate: Run | None, pairs: Sequence[Pair], margin: float = MARGIN) -> None:
    """The verdicts on stdout; why, where there is none or none that decides; and how to read them."""
    print_table(table(base, candidate, pairs))
    reasons: dict[str, list[str]] = {}
    for pair in (pair for pair in pairs if pair.reason):
        reasons.setdefault(because(pair), []).append(label(pair, candidate is None))
    for reason, labels in reasons.items():
        print_line(f"  {', '.join(labels) if len(labels) < len(pairs) else 'all'}: {reason}")
    for line in notes(candidate or base, pairs, candidate is None, margin):
        print_line(line, dim=True)


def exit_code(pairs: Iterable[Pair], strict: bool = False) -> int:
    """The exit code of all pairs: 1 before any other, so that a missing case does not hide a slower one."""
    codes = {pair.word.strict_exit_code if strict else pair.word.exit_code for pair in pairs}
    return 1 if 1 in codes else max(codes, default=0)


def table(base: Run, candidate: Run | None, pairs: Sequence[Pair]) -> Table:
    """A row per pair."""
    columns = [Column("case"), Column("ratio [95 %]", numeric=True), Column("verdict"), Column("finds", numeric=True)]
    rows = [
        [
            Cell(label(pair, candidate is None)),
            Cell(ratio_text(pair.ratio)) if pair.ratio else Cell("-"),
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
        a, b = (f"{label} ({describe_arm(base, label)})" for label in LABELS)
        return f"{base.folder.name}: {b} over {a}"
    return f"{base.folder.name}: each framework over the first"


def label(pair: Pair, within_one: bool) -> str:
    """The Case by its id; of two Arms what their ids share, of two frameworks both."""
    if not within_one:
        return pair.case_id
    a, b = LABELS
    if pair.candidate.endswith(f"-{b}") and pair.baseline.endswith(f"-{a}"):
        baseline = pair.baseline.split("-")
        return "-".join(part for part in pair.candidate.split("-") if part in baseline)
    return f"{pair.candidate} over {pair.baseline}"


def finds(pair: Pair) -> str:
    """The slowdown that this comparison would find 19 times in 20."""
    known = pair.verdict and pair.verdict.detectable
    return f"+{known:.1%}" if known else "-"


def because(pair: Pair) -> str:
    needed = pair.verdict.rounds_needed if pair.verdict else None
    return pair.reason + (f"; about {needed} Rounds would do" if needed else "")


def notes(run: Run, pairs: Sequence[Pair], within_one: bool, margin: float) -> list[str]:
    """How to read the table, and the command that would tell two Runs apart where nothing does yet."""
    found = []
    judged = [pair for pair in pairs if pair.verdict]
    if judged:
        family = f", {len(judged)} verdicts as one family" if len(judged) > 1 else ""
        found.append(f"SLOWER: the interval is above {1 + margin:.3f}, FASTER: below {1 / (1 + margin):.3f}{family}.")
        found.append("finds: a slowdown that would be found 19 times in 20.")
    for pair in judged:
        if pair.margin > margin:
            found.append(
                f"{label(pair, within_one)}: above +{pair.margin:.1%}, as far as an A/A of it beside came out."
            )
    if spread_unknown(pairs) and run.head.ingested:
        found.append(
            "Sessions of one program are compared with those of another time only side by side: take base, head, head, "
            f"base, and so on, at least {MIN_ROUNDS} of each, then `alexnet-bench ingest` the files of each side."
        )
    elif spread_unknown(pairs):
        found.append(
            f"How far two Runs of one case lie apart on this machine is not known. {LEAST_RUNS} A/A Runs beside it "
            f"tell; each is made by:\n  {reproduce.against_itself(run)}\n"
            "Surer and quicker: both sides in one Run, with --ab."
        )
    return found


def spread_unknown(pairs: Sequence[Pair]) -> bool:
    """Whether all that keeps two Runs from being told apart is that nobody knows how far Runs lie apart."""
    apart = (pair.ratio for pair in pairs if pair.verdict and pair.ratio and not pair.ratio.paired)
    return any(one.error is None and one.rounds >= LEAST_ROUNDS for one in apart)


def markdown(base: Run, candidate: Run | None, pairs: Sequence[Pair], margin: float = MARGIN) -> str:
    """For a pull request: what is slower first, each with its sign and the reason."""
    run, within_one = candidate or base, candidate is None
    pairs = sorted(pairs, key=lambda pair: list(Word).index(pair.word))
    verdicts = table(base, candidate, pairs)
    rows = []
    for pair, (case, ratio, word, found) in zip(pairs, verdicts.rows, strict=True):
        reasoned = Cell(f"{word.text}: {because(pair)}" if pair.reason else word.text)
        rows.append([Cell(pair.word.sign), case, ratio, reasoned, found])
    summary_rows = run.rows()
    noise = ", noisy" if any("noisy" in row["flags"] for row in summary_rows) else ""
    where = f"{versions_on_device(summary_rows)}, {summary_rows[0]['rounds']} Rounds{noise}"
    lines = [f"**{summary(pairs)}**: {escape(verdicts.caption)}", ""]
    lines += [markdown_table(replace(verdicts, columns=[Column(""), *verdicts.columns], rows=rows)), ""]
    lines += [f"{escape(where)}. Above 1 is slower."]
    return "\n".join([*lines, *map(escape, notes(run, pairs, within_one, margin))])


def summary(pairs: Sequence[Pair]) -> str:
    counts = {word: sum(pair.word == word for pair in pairs) for word in Word}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing to compare"
