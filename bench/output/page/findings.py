"""Findings: what a Run allows to be said, in sentences, the verdict first, and what a reader must know beside it."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.cases.case import LABELS, PRESETS, Case
from bench.cases.passes import PASSES, pass_title
from bench.machine import noise
from bench.output import verdicts
from bench.output.console import number
from bench.output.page.table import Rows, whole_nets
from bench.output.run_table import words
from bench.record import validity
from bench.record.pairs import Pair, spoken
from bench.record.run import Run
from bench.stats.descriptive import LEAST_ROUNDS
from bench.stats.verdict import Word

FEW = 6  # comparisons that all get a sentence


@dataclass(frozen=True)
class Finding:
    """A sentence that a person can defend. ``word`` is the verdict it follows from, empty where nothing is compared."""

    word: str
    text: str
    because: str = ""


def of(run: Run, rows: Rows, pairs: Sequence[Pair]) -> list[Finding]:
    """The most important first, which alone says what a verdict rests on; a Run that compares nothing has its times,
    and why there is no ratio."""
    first, *rest = _measured(run, rows, pairs)
    return [first, *_lacking(rows), *rest]


def _lacking(rows: Rows) -> Iterator[Finding]:
    """What failed belongs to the headline; what was not begun is the interruption's."""
    if failed := sum(row["invalid_reason"] not in ("", "not measured") for row in rows.values()):
        said = f"{failed} of {len(rows)} cases {'has' if failed == 1 else 'have'} no valid row"
        yield Finding("FAILED", f"{said}; “Before you quote it” says why.")


def _measured(run: Run, rows: Rows, pairs: Sequence[Pair]) -> list[Finding]:
    whole = {case.id: case for case in whole_nets(run)}
    pairs = [pair for pair in pairs if pair.candidate in whole]
    compared = [pair for pair in pairs if pair.ratio]
    if not compared:
        return [*_times(run, rows, list(whole.values())), Finding("", _no_ratio(run, rows, pairs))]
    ranked = sorted(compared, key=_weight) if run.head["ab"] else compared
    if len(ranked) > FEW:
        first = {(pair.pass_, words(whole[pair.baseline])): pair for pair in sorted(ranked, key=_weight, reverse=True)}
        chosen = [pair for pair in ranked if pair in first.values()][:FEW]
        more = f"{len(ranked) - len(chosen)} more comparisons stand in the table of results"
        rest = Finding("", f"{more}: shown here is, of each pass and baseline, the most extreme one alone.")
        return [*(_compared(run, pair, whole, pair is chosen[0]) for pair in chosen), rest]
    return [_compared(run, pair, whole, pair is ranked[0]) for pair in ranked]


def _weight(pair: Pair) -> tuple:
    """Decided before undecided, slower first, then the furthest from 1."""
    return list(Word).index(pair.word), -abs(pair.ratio.log if pair.ratio else 0.0)


def _compared(run: Run, pair: Pair, cases: Mapping[str, Case], first: bool) -> Finding:
    """One ratio in words: candidate over baseline, with its interval."""
    assert pair.ratio
    base, candidate, value = cases[pair.baseline], cases[pair.candidate], pair.ratio.value
    ratio = f"{value.center:.3f}"
    if value.low is not None:
        ratio += f" [{value.low:.3f}, {value.high:.3f}]"
    times = "times " if value.center >= 1 else "of "
    rounds = f"{pair.ratio.rounds} {'Round' if pair.ratio.rounds == 1 else 'Rounds'}"
    how = f"95 % interval over {rounds}" if value.low is not None else f"{rounds}: too few for an interval"
    if run.head["ab"]:
        a, b = (f"{label} ({spoken(run, label)})" for label in LABELS)
        text = f"{b} takes {ratio} {times}the time of {a} for {_work(run, candidate)}{_by(run, candidate)} ({how})."
    else:
        text = f"{words(candidate)} runs {_work(run, candidate)} in {ratio} {times}{words(base)}’s time ({how})."
    if pair.differs:
        return Finding(pair.word, text, f"Not judged, the two were not under the same conditions: {pair.reason}.")
    said = [_rests_on(pair)] if first or not pair.word.decides else []
    compiled = [case for case in (base, candidate) if case.compiled]
    if len(compiled) == 1:
        other = base if compiled[0] is candidate else candidate
        said.append(f"Of the two {words(compiled[0])} compiles, {words(other)} does not.")
    if run.head["ab"] and run.head["ab"]["identical"]:
        said.append("Both sides are the same: what differs is what this machine and harness cannot tell apart.")
    return Finding(pair.word, text, " ".join(said))


def _rests_on(pair: Pair) -> str:
    return pair.word.sentence.format(margin=f"{100 * pair.margin:.2g} %", reason=verdicts.because(pair))


def _work(run: Run, case: Case) -> str:
    """What was done, with the axes that vary in the Run."""
    beside = [f"at batch {case.batch}"]
    beside += [f"in {case.precision}"] if len({one.precision for one in run.cases}) > 1 else []
    beside += [f"on {case.device}"] if len({one.device for one in run.cases}) > 1 else []
    phrase = PASSES[case.pass_].phrase if case.pass_ in PASSES else case.pass_
    return f"{phrase} of {case.variant} {' '.join(beside)}"


def _by(run: Run, case: Case) -> str:
    """Whose net the two sides of an --ab run, where that is not what they differ in."""
    known = [one for one in (case.framework, case.mode) if one != run.head["ab"]["values"][1]]
    return "" if run.head["ab"]["key"] == "net" else f" in {' '.join(known)}"


def _times(run: Run, rows: Rows, cases: Sequence[Case]) -> Iterator[Finding]:
    """What was measured of each Case alone."""
    valid = [case for case in cases if rows[case.id]["valid"]]
    if not valid:
        yield Finding("", "Nothing of this Run can be quoted: none of its cases has a valid row.")
    for case in valid[:FEW]:
        row = rows[case.id]
        if row["ci95_low_ms"] is None:
            spread = f" ± {number(row['stddev_ms'])}" if row["stddev_ms"] is not None else ""
            how = f"mean ± stddev of {row['iterations']} samples" if spread else "a single sample"
            time = f"{number(row['mean_ms'])}{spread} ms ({how})"
        else:
            low, high = number(row["ci95_low_ms"]), number(row["ci95_high_ms"])
            time = f"{number(row['center_ms'])} [{low}, {high}] ms (95 % interval over {row['rounds']} Rounds)"
        took = f"takes {time}" if case.foreign else f"runs {_work(run, case)} in {time}"
        yield Finding("", f"{words(case)} {took}.")
    if len(valid) > FEW:
        yield Finding("", f"{len(valid) - FEW} more times stand in the table of results.")


def _no_ratio(run: Run, rows: Rows, pairs: Sequence[Pair]) -> str:
    if "ingested" in run.head:
        return (
            "No ratio: another program measured this, one benchmark after the other. `alexnet-bench compare` holds "
            "this Run against a second one."
        )
    if not run.protocol.paired:
        return (
            "No ratio: under the classic protocol one framework runs after the other, so a ratio would hold the "
            "machine’s drift. `alexnet-bench run` without --protocol takes turns."
        )
    if pairs:
        return f"No ratio: {'; '.join(dict.fromkeys(pair.reason for pair in pairs))}."
    if not any(row["valid"] for row in rows.values()):
        return "No ratio, since there is nothing to compare."
    return "No ratio: there is one framework, in one mode. A second --framework or --mode, or an --ab, gives one."


def cautions(run: Run, rows: Rows, pairs: Sequence[Pair]) -> list[str]:
    """What must be said beside the verdict: what failed, what is missing, what was unlike, noise."""
    return [*_unfinished(run, rows), *_failed(run, rows), *_noise(rows), *_unproven(rows), *_left_out(run)]


def _unfinished(run: Run, rows: Rows) -> Iterator[str]:
    reasons = {row["stop_reason"] for row in rows.values()}
    done = [row["rounds"] for row in rows.values()]
    counted = f"{min(done)}" if min(done) == max(done) else f"{min(done)} to {max(done)}"
    if "interrupted" in reasons or run.events[-1]["event"] != "end":
        yield (
            f"Interrupted: this Run did not come to its end; {counted} of {run.protocol.rounds} Rounds are there. "
            f"`alexnet-bench run --resume {shlex.quote(run.folder.resolve().name)}` goes on with it."
        )
    elif "time_cap" in reasons:
        yield f"Cut short by --max-time: {counted} of {run.protocol.rounds} Rounds are there."
    if any(0 < row["rounds"] < LEAST_ROUNDS for row in rows.values()) and "ingested" not in run.head:
        yield f"There are rows of fewer than {LEAST_ROUNDS} Rounds: they have no interval."


def _failed(run: Run, rows: Rows) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for case in run.cases:
        if reason := rows[case.id]["invalid_reason"]:
            found.setdefault(reason, []).append(named(case))
    for reason, names in found.items():
        yield f"No valid row for {listed(names)}: {reason}."


def _noise(rows: Rows) -> Iterator[str]:
    """Flags that speak against the machine, with the worst that was seen."""
    stolen, others, off = noise.NOISY["steal_pct"], noise.NOISY["foreign_cpu_pct"], 100 * noise.CONTROL_OFF
    said = {
        "noisy": f"noisy (more than {stolen:g} % of the CPU stolen, or {others:g} % used by others)",
        "uneven": f"uneven (the machine’s own speed changed by more than {off:g} % around their Rounds)",
        "rounds_spoilt": "left without the Rounds that noise spoilt",
        "every_round_spoilt": "spoilt by noise in every Round, and decide nothing",
    }
    valid = [row for row in rows.values() if row["valid"]]
    for flag, meaning in said.items():
        if count := sum(flag in row["flags"].split() for row in valid):
            worst = max((row["steal_pct"] or 0.0 for row in valid), default=0.0)
            more = f"; at worst {worst:.1f} % was stolen" if flag == "noisy" and worst else ""
            yield f"Noise: {count} of {len(valid)} rows {'is' if count == 1 else 'are'} {meaning}{more}."


def _unproven(rows: Rows) -> Iterator[str]:
    names = [row["case_id"] for row in rows.values() if row["valid"] and "not_proven" in row["flags"].split()]
    if names:
        yield f"Not proven equal to ours: {listed(names)}."


def _left_out(run: Run, most: int = 5) -> Iterator[str]:
    """Lines of run.jsonl that are no events; without the folder, which is nobody’s affair but its owner’s."""
    file = run.folder / "run.jsonl"
    for problem in run.problems[:most]:
        yield problem.replace(str(file), file.name)
    if (more := len(run.problems) - most) > 0:
        yield f"{file.name}: {more} more {'line' if more == 1 else 'lines'} left out"


def named(case: Case) -> str:
    return f"{words(case)}, {pass_title(case.pass_)} of {case.variant} at batch {case.batch}"


def listed(names: Iterable[str], most: int = 4) -> str:
    """Some names, and how many more."""
    found = list(names)
    return "; ".join(found[:most]) + (f"; and {len(found) - most} more" if len(found) > most else "")


def conditions(run: Run, pairs: Sequence[Pair]) -> str:
    """Whether what is compared was alike."""
    compared = [pair for pair in pairs if pair.ratio]
    unlike = [pair for pair in compared if pair.differs]
    if unlike:
        reasons = listed(dict.fromkeys(pair.reason for pair in unlike))
        return (
            f"Not equal: {len(unlike)} of {len(compared)} comparisons differ in more than what is compared: {reasons}."
        )
    if not compared:
        return "Nothing is compared within this Run; these are the conditions that each row was measured under."
    if any(case.preset != PRESETS[0] for case in run.cases):
        return "Not held equal: --preset default leaves threads, switches and precision to each framework."
    if changed := _changed(run, compared):
        return f"Not held equal: what the two sides are compared by also changed: {listed(changed)}."
    but = ", but for what the two sides differ in" if run.head["ab"] else ""
    return (
        f"Equal{but}: both sides of {'each comparison' if len(compared) > 1 else 'the comparison'} had the same "
        "threads, oneDNN and TF32 switches, and computed in the precision that a probe showed, as far as their "
        "frameworks say."
    )


def _changed(run: Run, pairs: Iterable[Pair]) -> dict[str, None]:
    """What Workers of two sides were not alike in, beside what they are compared by: an interpreter, a net or a
    variable may set threads and switches, and then those are part of the ratio."""
    cases, key = {case.id: case for case in run.cases}, run.head["ab"]["key"] if run.head["ab"] else ""
    both = ((run.workers(cases[pair.baseline]), run.workers(cases[pair.candidate])) for pair in pairs)
    return dict.fromkeys(what for sides in both for what in validity.differing(*sides, (key,)))
