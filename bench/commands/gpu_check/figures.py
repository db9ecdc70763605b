"""One telling figure of the Runs of a step, in a few words; empty where they have none."""

import math
import re
from collections.abc import Callable, Sequence

from bench.output.console import number, percent
from bench.output.labels import label_of
from bench.output.results_table import interval_text
from bench.record.pairs import Pair, within
from bench.record.run import Run

#: From the Runs of a step and what it printed.
Figure = Callable[[Sequence[Run], str], str]


def nothing(runs: Sequence[Run], printed: str) -> str:
    return ""


def equal(runs: Sequence[Run], printed: str) -> str:
    """How many rows of the tables of `verify` are equal, one for each variant, framework, mode and precision."""
    words = re.findall(r" (equal|DIFFERS)\s*$", printed, flags=re.MULTILINE)
    return f"{words.count('equal')} of {len(words)} equal" if words else ""


def fastest(runs: Sequence[Run], printed: str) -> str:
    """Of the last net in the last precision and pass: the shortest time and whose it is."""
    timed = [(row, case) for run in runs for row, case in zip(run.rows(), run.cases, strict=True) if row["valid"]]
    if not timed:
        return ""
    last = timed[-1][1]
    alike = [
        (row, case)
        for row, case in timed
        if (case.variant, case.precision, case.pass_) == (last.variant, last.precision, last.pass_)
    ]
    row, case = min(alike, key=lambda each: float(each[0]["center_ms"]))
    where = f"{case.variant} {case.precision} {case.pass_}"
    peak = f", {percent(row['peak_fraction'])} of peak" if row["peak_fraction"] else ""
    return f"{where}: {label_of(case)} {number(row['center_ms'])} ms{peak}"


def over_peers(runs: Sequence[Run], printed: str) -> str:
    """Our time over that of each other program, in forward_backward."""
    texts = []
    for run in runs:
        guests = {case.id: case.guest for case in run.cases if case.guest and case.pass_ == "forward_backward"}
        for pair in within(run):
            if pair.ratio and pair.candidate in guests and pair.baseline not in guests:
                texts.append(f"ours over {guests[pair.candidate]} {interval_text(pair.ratio.value.inverse)}")
    return "; ".join(texts)


def share_of_peak(runs: Sequence[Run], printed: str) -> str:
    """The whole net's multiply-adds over the device's best rate."""
    for run in runs:
        for row, case in zip(run.rows(), run.cases, strict=True):
            whole = row["valid"] and "." not in case.variant and case.pass_ == "forward_backward"
            if whole and row["peak_fraction"]:
                return f"{case.variant} {case.precision} {case.pass_}: {percent(row['peak_fraction'])} of peak"
    return ""


def largest_batch(runs: Sequence[Run], printed: str) -> str:
    """The largest batch that has rows, and the first that ran out of memory."""
    rows = [row for run in runs for row in run.rows()]
    fits = max((row["batch"] for row in rows if row["valid"]), default=None)
    full = min((row["batch"] for row in rows if not row["valid"] and is_full(row["invalid_reason"])), default=None)
    texts = [f"fits: batch {fits}" if fits else "no batch fits" if full else "no batch has a row"]
    return ", ".join([*texts, *([f"batch {full} ran out of memory"] if full else [])])


def is_full(reason: str) -> bool:
    """Whether a row is invalid since the device's memory was full, as the Run says it."""
    return reason.startswith("ran out of memory")


def largest_ratio(runs: Sequence[Run], printed: str) -> str:
    """The ratio farthest from 1 of all pairs, with its interval and verdict."""
    pairs = [pair for run in runs for pair in within(run) if pair.ratio]
    if not pairs:
        return ""

    def off(pair: Pair) -> float:
        return abs(math.log(pair.ratio.value.center)) if pair.ratio else 0.0

    pair = max(pairs, key=off)
    assert pair.ratio
    return (
        f"farthest of {len(pairs)}: {interval_text(pair.ratio.value)} {pair.word}, {pair.candidate.removesuffix('-B')}"
    )
