"""Sentences about a Run for the terminal, Markdown and the report: its conditions, and how to read its results."""

from collections.abc import Iterable, Iterator, Sequence

from bench.cases.case import LABELS, PRESETS
from bench.cases.passes import PASSES, outside_the_clock
from bench.output.console import number
from bench.output.labels import counted, describe_shard, label_of, some_of
from bench.record import ceiling, validity
from bench.record.columns import Rows
from bench.record.pairs import Pair, describe_arm_of_run
from bench.record.run import Run
from bench.record.wall_time import WallTime
from bench.stats import roofline
from bench.worker.replies import ModelParts
from impls.parts import MOST
from impls.variants import Variant


def given(run: Run) -> dict[str, str]:
    """What a user set for all Cases, by name."""
    weights, variables = run.head.weights, run.head.env
    texts = {"weights": f"{weights.file} (sha256 {weights.sha256[:8]})"} if weights else {}
    passed = " ".join(f"{name}={value}" for name, value in variables.items())
    texts |= {"environment variables passed to Workers": passed} if passed else {}
    texts |= {"shard": describe_shard(run.head.shard)} if run.head.shard else {}
    return texts


def arms(run: Run) -> dict[str, str]:
    """The sides of an --ab, by label."""
    return {label: describe_arm_of_run(run, label) for label in LABELS} if run.head.ab else {}


def clock(run: Run) -> list[tuple[str, str]]:
    """What is inside the clock, by pass, and what is outside it; unknown for another program's benchmark."""
    if run.head.ingested:
        return [("every pass", "whatever the benchmark called; not verified")]
    timed = {case.pass_ for case in run.cases}
    inside = [(each.name, each.inside) for each in PASSES.values() if each.name in timed]
    return [*inside, ("outside it", outside_the_clock(timed))]


def no_ratio(run: Run, rows: Rows, pairs: Sequence[Pair]) -> str:
    """Why there is no ratio; empty if there is one."""
    if any(pair.ratio for pair in pairs):
        return ""
    if run.head.ingested:
        return (
            "No ratio: another program measured this, one benchmark after the other. `alexnet-bench compare` "
            "compares this Run with a second one."
        )
    if not run.protocol.paired:
        return (
            "No ratio: under the classic protocol one framework runs after the other, so a ratio would include the "
            "drift of the machine. `alexnet-bench run` without --protocol takes turns."
        )
    if pairs:
        return f"No ratio: {'; '.join(dict.fromkeys(pair.reason for pair in pairs))}."
    if not any(row["valid"] for row in rows.values()):
        return "No ratio: there is nothing to compare."
    if all(case.input for case in run.cases):
        return f"No ratio: {label_of(run.cases[0])} is alone. A second --net, or --ab net=A,B, gives one."
    return "No ratio: there is one framework, in one mode. A second --framework or --mode, or an --ab, gives one."


def notes(run: Run, rows: Rows, pairs: Sequence[Pair]) -> Iterator[str]:
    """How to read the results."""
    for timed in PASSES.values():
        difference = timed.difference
        if difference and any(row.get(f"{difference.name}_ci95_low_ms") is not None for row in rows.values()):
            yield (
                f"{difference.title.capitalize()}: {timed.name} minus {difference.less} in the same Worker, "
                f"with its 95 % interval over Rounds; it includes {difference.includes}."
            )
    if any(pair.ratio for pair in pairs):
        over = "that of A" if run.head.ab else _over(run, pairs)
        yield f"Ratio: time over {over}, with its 95 % interval over Rounds, from mirrored turns; above 1 is slower."
    if unequal := _not_held_equal(run, [pair for pair in pairs if pair.ratio]):
        yield unequal
    if rates := _peaks(rows):
        yield f"Of peak: multiply-adds per second over the best rate of the device in this Run: {rates}."
    yield from _turning_batches(run, rows)
    if (time := WallTime.of(run)) and time.total:
        shares = ", ".join(f"{100 * seconds / time.total:.0f} % {what}" for what, seconds in time.parts.items())
        yield f"Time: {time.total:.0f} s, of which {shares}."


def _over(run: Run, pairs: Sequence[Pair]) -> str:
    """The baseline of the ratios; if there are several, each with its candidates."""
    cases = {case.id: case for case in run.cases}
    over: dict[str, dict[str, None]] = {}
    for pair in pairs:
        baseline, candidate = (label_of(cases[case_id]) for case_id in (pair.baseline, pair.candidate))
        over.setdefault(baseline, {})[candidate] = None
    if len(over) == 1:
        return f"that of {next(iter(over))}"
    return "; ".join(f"that of {baseline} for {', '.join(candidates)}" for baseline, candidates in over.items())


def _peaks(rows: Rows) -> str:
    """The best rates of the device by precision, where a fraction of them is shown."""
    best: dict[str, list[float]] = {}
    for row in (row for row in rows.values() if row["peak_fraction"]):
        best.setdefault(row["precision"], []).append(row["ceiling_gflop_per_s"])
    ends = {name: dict.fromkeys(number(rate) for rate in (min(rates), max(rates))) for name, rates in best.items()}
    return ", ".join(f"{' to '.join(rates)} GFLOP/s in {name}" for name, rates in ends.items())


def _turning_batches(run: Run, rows: Rows) -> Iterator[str]:
    """With several batches: from which batch on a net is compute-bound."""
    seen: dict[tuple[Variant, str, str, str], set[int]] = {}
    for case in (case for case in run.cases if not case.input):
        seen.setdefault((case.net, case.pass_, case.precision, case.device), set()).add(case.asked_batch)
    for (net, pass_, precision, device), batches in seen.items():
        alike = [case for case in run.cases if (case.net, case.precision, case.device) == (net, precision, device)]
        best, copy = (
            max((rows[case.id][name] for case in alike if rows[case.id][name]), default=None)
            for name in ("ceiling_gflop_per_s", "copy_gb_per_s")
        )
        if len(batches) > 1 and best and copy:
            batch = roofline.turning_batch(net, pass_, best, copy, width=roofline.value_bytes(precision))
            when = f"from batch {batch} on" if batch else "at no batch"
            yield f"{net.name} {pass_}: {when} computing takes longer than moving the data, at these rates."


def modules(name: str, found: ModelParts) -> str:
    """How many modules of a user's model are timed alone, and which are left out."""
    text = f"{name}: {counted(len(found.parts), 'module')} timed alone"
    if found.inside:
        text += f", of the deepest level that has at most {MOST}; inside them are {found.inside} more"
    if several := [f"{each.name} {each.calls} times" for each in found.parts if each.calls > 1]:
        text += f"; called {some_of(several)}, of which the first is timed and all are counted"
    return text + (f"; left out: {some_of(found.left_out)}" if found.left_out else "")


def ceilings(run: Run) -> list[str]:
    """The best rates of each device, one sentence per precision and device."""
    sentences: dict[str, None] = {}
    for case in run.cases:
        best = ceiling.ceiling_of(run, case)
        rates = (
            (best.matmul_gflop_per_s, "GFLOP/s multiplying matrices"),
            (best.conv_gflop_per_s, "GFLOP/s in a convolution"),
            (best.copy_gb_per_s, "GB/s copying"),
        )
        if text := ", ".join(f"{number(rate)} {unit}" for rate, unit in rates if rate):
            sentences[f"Ceiling in {case.precision} on {case.device}, measured in this Run: {text}."] = None
    return list(sentences)


def conditions(run: Run, pairs: Sequence[Pair]) -> str:
    """Whether the compared Cases were measured under equal conditions."""
    compared = [pair for pair in pairs if pair.ratio]
    if unlike := [pair for pair in compared if pair.differs]:
        reasons = some_of(dict.fromkeys(pair.reason for pair in unlike))
        return (
            f"Not equal: {len(unlike)} of {len(compared)} comparisons differ in more than they are meant to: {reasons}."
        )
    if not compared:
        return "Nothing is compared within this Run; these are the conditions of each row."
    if unequal := _not_held_equal(run, compared):
        return unequal
    but = ", but for what the two sides differ in" if run.head.ab else ""
    return (
        f"Equal{but}: both sides of {'each comparison' if len(compared) > 1 else 'the comparison'} had the same "
        "threads, oneDNN and TF32 switches, and the precision that a probe showed, as far as their frameworks "
        "report them."
    )


def _not_held_equal(run: Run, compared: Sequence[Pair]) -> str:
    """Conditions that the comparison itself changed; empty if none."""
    if compared and any(case.preset != PRESETS[0] for case in run.cases):
        return "Not held equal: --preset default leaves threads, switches and precision to each framework."
    if changed := _changed(run, compared):
        return f"Not held equal: what the two sides are compared by also changed: {some_of(changed)}."
    return ""


def _changed(run: Run, compared: Iterable[Pair]) -> dict[str, None]:
    """Differences between Workers other than the --ab itself: an interpreter, a net or a variable may set threads and
    switches, which are then part of the ratio."""
    cases, key = {case.id: case for case in run.cases}, run.head.ab.key if run.head.ab else ""
    sides = ((run.workers(cases[pair.baseline]), run.workers(cases[pair.candidate])) for pair in compared)
    return dict.fromkeys(text for both in sides for text in validity.setting_differences(*both, (key,)))
