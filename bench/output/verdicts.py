"""Verdicts of pairs of Cases as a table, as Markdown, and as an exit code."""

import re
from collections.abc import Iterable, Sequence

from rich.text import Text

from bench.cases.case import LABELS
from bench.output import console, reproduce, run_table
from bench.record.pairs import MARGIN, Pair, spoken
from bench.record.run import Run
from bench.stats.descriptive import LEAST_ROUNDS
from bench.stats.ratio import LEAST_RUNS, MIN_ROUNDS
from bench.stats.verdict import Word


def show(base: Run, candidate: Run | None, pairs: Sequence[Pair], margin: float = MARGIN) -> None:
    """The verdicts, and how to read them."""
    print_table(base, candidate, pairs)
    for line in notes(candidate or base, pairs, candidate is None, margin):
        console.console().print(Text(line, style="dim"), soft_wrap=True)


def exit_code(pairs: Iterable[Pair], strict: bool = False) -> int:
    """The exit code of all pairs: 1 before any other, so that a missing case does not hide a slower one."""
    codes = {pair.word.strict_exit_code if strict else pair.word.exit_code for pair in pairs}
    return 1 if 1 in codes else max(codes, default=0)


def print_table(base: Run, candidate: Run | None, pairs: Sequence[Pair]) -> None:
    """A row a pair; why, where there is no verdict or none that decides, in a line below."""
    out = console.console()
    table = console.new_table(title(base, candidate))
    table.add_column("case", overflow="fold")
    for heading in ("ratio [95 %]", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("finds", justify="right", no_wrap=True)
    for pair in pairs:
        table.add_row(label(pair, candidate is None), run_table.interval(pair, False), pair.word, finds(pair))
    out.print(table)
    reasons = {because(pair): [one for one in pairs if because(one) == because(pair)] for pair in pairs if pair.reason}
    for reason, which in reasons.items():
        names = ", ".join(label(pair, candidate is None) for pair in which)
        out.print(Text(f"  {names if len(which) < len(pairs) else 'all'}: {reason}"), soft_wrap=True)


def title(base: Run, candidate: Run | None) -> str:
    if candidate:
        return f"{candidate.folder.name} over {base.folder.name}"
    if base.head["ab"]:
        a, b = (f"{label} ({spoken(base, label)})" for label in LABELS)
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
    if spread_unknown(pairs) and "ingested" in run.head:
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
    """For a pull request: what is slower first."""
    lines = [f"**{summary(pairs)}**: {cell(title(base, candidate))}", ""]
    lines += ["| | case | ratio [95 %] | verdict | finds |", "|---|---|---|---|---|"]
    for pair in sorted(pairs, key=lambda pair: list(Word).index(pair.word)):
        name = cell(label(pair, candidate is None))
        words = pair.word + (f": {cell(because(pair))}" if pair.reason else "")
        lines.append(f"| {pair.word.sign} | {name} | {run_table.interval(pair, False)} | {words} | {finds(pair)} |")
    run = candidate or base
    table = run.rows()
    noise = ", noisy" if any("noisy" in row["flags"] for row in table) else ""
    versions = sorted({f"{row['framework']} {row['framework_version']}" for row in table if row["framework_version"]})
    on = " on ".join([*([", ".join(versions)] if versions else []), str(table[0]["device_name"])])
    where = f"{cell(on)}, {table[0]['rounds']} Rounds{noise}"
    lines += ["", f"{where}. Above 1 is slower."]
    lines += [cell(line) for line in notes(run, pairs, candidate is None, margin)]
    return "\n".join(lines)


def summary(pairs: Sequence[Pair]) -> str:
    counts = {word: sum(pair.word == word for pair in pairs) for word in Word}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing to compare"


def cell(text: str) -> str:
    """Text from a file, harmless in a Markdown table."""
    plain = re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", " ", text.replace("`", "'"))
    harmless = re.sub(r"([\\|\[\]])", r"\\\1", plain).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(@|#|://|www\.)(?=\w)", r"\1&#8203;", harmless)  # nobody is called, nothing becomes a link
