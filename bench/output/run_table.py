"""What a person sees of a Run: the table on stdout when it is done; and what every command prints with. Rounding is for
printing only."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cases.case import LABELS, Case
from bench.cases.passes import PASSES, outside_the_clock
from bench.cases.protocol import Protocol
from bench.output.console import console, new_table, number, share
from bench.record.pairs import Pair, spoken
from bench.record.run import Run
from bench.stats import roofline
from bench.stats.descriptive import Interval
from impls import FRAMEWORKS


def run_table(run: Run, pairs: Sequence[Pair]) -> None:
    """One table a group: pass x framework, with the ratio to the first framework; then what is inside the clock."""
    out = console()
    rows = {row["case_id"]: row for row in run.rows()}
    ratios = {pair.candidate: pair for pair in pairs}
    if given := run.head["weights"]:
        out.print(Text(f"weights: {given['file']} (sha256 {given['sha256'][:8]})"), soft_wrap=True)
    if let_through := run.head["env"]:
        words = " ".join(f"{name}={value}" for name, value in let_through.items())
        out.print(Text(f"let through to every Worker: {words}"), soft_wrap=True)
    if run.head["ab"]:
        out.print(Text("; ".join(f"{label}: {spoken(run, label)}" for label in LABELS)), soft_wrap=True)
    for group in dict.fromkeys(case.group for case in run.cases):
        cases = sorted(
            (case for case in run.cases if case.group == group), key=lambda case: (case.pass_, case.compiled)
        )
        _group_table(out, run, cases, rows, ratios)
    for line in in_the_clock(run):
        out.print(Text(line, style="dim"), soft_wrap=True)
    if not run.protocol.paired:
        out.print(Text("No ratio: timed one after the other, it would hold the machine's drift.", style="dim"))
    if any(row["backward_ci95_low_ms"] for row in rows.values()):
        note = (
            "backward: forward_backward less forward in the same Worker [95 % over Rounds]; training mode's own share "
            "is in it."
        )
        out.print(Text(note, style="dim"), soft_wrap=True)
    if ratios:
        over = "A's" if run.head["ab"] else _over_what(run, pairs)
        note = f"Ratio: time over {over}; above 1 is slower; 95 % interval over Rounds, from mirrored turns."
        out.print(Text(note, style="dim"), soft_wrap=True)
    if any(row["peak_fraction"] for row in rows.values()):
        best: dict[str, list[float]] = {}
        for row in (row for row in rows.values() if row["peak_fraction"]):
            best.setdefault(row["precision"], []).append(row["ceiling_gflop_per_s"])
        said = {name: dict.fromkeys(number(end) for end in (min(found), max(found))) for name, found in best.items()}
        rates = ", ".join(f"{' to '.join(ends)} GFLOP/s in {name}" for name, ends in said.items())
        note = f"of peak: multiply-adds a second over what the device does at best, measured in this Run: {rates}."
        out.print(Text(note, style="dim"), soft_wrap=True)

    for line in _turning_batches(run, rows):
        out.print(Text(line, style="dim"), soft_wrap=True)


def in_the_clock(run: Run) -> list[str]:
    """What was timed; of another program's benchmarks nobody knows."""
    if "ingested" in run.head:
        return ["Inside the clock: whatever the benchmark called; proven equal to nothing."]
    inside = [f"  {each.name}: {each.inside}." for each in PASSES.values()]
    return ["Inside the clock", *inside, f"  outside it: {outside_the_clock(PASSES)}."]


def _turning_batches(run: Run, rows: Mapping[str, Any]) -> Iterator[str]:
    """Where there are several batches: from which on a net computes longer than it moves what it must move."""
    seen: dict[tuple, set[int]] = {}
    for case in run.cases:
        seen.setdefault((case.net, case.pass_, case.precision, case.device), set()).add(case.batch)
    for (net, pass_, precision, device), batches in seen.items():
        mine = [case for case in run.cases if (case.net, case.precision, case.device) == (net, precision, device)]
        best, copy = (
            max((rows[case.id][what] for case in mine if rows[case.id][what]), default=None)
            for what in ("ceiling_gflop_per_s", "copy_gb_per_s")
        )
        if len(batches) > 1 and best and copy:
            width = roofline.WIDTHS.get(precision, roofline.WIDTH)
            batch = roofline.turning_batch(net, pass_, best, copy, width=width)
            when = f"from batch {batch} on" if batch else "at no batch"
            yield f"{net.name} {pass_}: {when} computing takes longer than moving what must be moved, at these rates."


def _over_what(run: Run, pairs: Sequence[Pair]) -> str:
    """Whose time a ratio is over: the first framework's, or where there are several baselines each with its own."""
    by_id = {case.id: case for case in run.cases}
    over: dict[str, list[str]] = {}
    for pair in pairs:
        names = [words(by_id[case_id]) for case_id in (pair.baseline, pair.candidate)]
        if names[1] not in over.setdefault(names[0], []):
            over[names[0]].append(names[1])
    if len(over) == 1:
        return f"that of {next(iter(over))}"
    return "; ".join(f"that of {name} for {', '.join(others)}" for name, others in over.items())


def words(case: Case) -> str:
    """Framework, mode and what else makes a Worker, as a person reads it; of a user's net its name and not its
    framework's."""
    if case.foreign:
        return case.foreign.rpartition("::")[2]
    parts = [case.framework, case.mode, *case.settings, *([case.arm] if case.arm else [])]
    if case.guest:
        usual = case.mode == FRAMEWORKS[case.framework].modes[0]
        parts = [case.guest, *([] if usual else [case.mode]), *(one for one in parts[2:] if one != case.guest)]
    return " ".join(parts).replace("lrn_", "LRN ").replace("preset_", "preset ")


def _group_table(
    out: Console, run: Run, cases: list[Case], rows: Mapping[str, Any], ratios: Mapping[str, Pair]
) -> None:
    first = rows[cases[0].id]
    done = max(rows[case.id]["rounds"] for case in cases)
    asked = "" if done == run.protocol.rounds else f" of {run.protocol.rounds}"
    dropout = ", dropout on" if cases[0].dropout else ""
    threads = " and ".join(dict.fromkeys(str(rows[case.id]["threads"]) for case in cases))
    rounds = f"{done}{asked} Rounds x {run.protocol.iterations}" if run.protocol.paired else "classic protocol"
    title = (
        f"{cases[0].variant}, {first['size']} px, batch {cases[0].batch}, {cases[0].device} "
        f"({threads} threads), {cases[0].precision}{dropout}: {rounds} after {run.protocol.burn_in} burn-in"
    )
    if "ingested" in run.head:
        sessions = "session" if done == 1 else "sessions"
        title = f"{cases[0].variant}: {done}{asked} {sessions} of {run.head['ingested']['source']}"
    table = new_table(title)
    table.add_column("pass", no_wrap=True)
    table.add_column("framework", overflow="fold")
    for heading in ("mean ± stddev ms (n)", "images/s", "of\npeak", "ratio [95 %]"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = ""
    for case in cases:
        row, ratio = rows[case.id], ratios.get(case.id)
        if last and case.pass_ != last:
            table.add_section()
        pass_, last = "" if case.pass_ == last else case.pass_, case.pass_
        name = words(case)
        if not row["valid"]:
            table.add_row(
                pass_, name, "not measured" if row["invalid_reason"] == "not measured" else "failed", "", "", ""
            )
            continue
        baseline = any(one.baseline == case.id for one in ratios.values())
        speed = number(row["images_per_s"]) if row["images_per_s"] else ""
        cells = (spread(row), speed, share(row["peak_fraction"]), interval(ratio, baseline))
        table.add_row(pass_, name, *cells)
    _backward(table, cases, rows)
    out.print(table)
    for case in cases:
        row = rows[case.id]
        for what in ratios[case.id].differs if case.id in ratios else ():
            out.print(Text(f"  {case.pass_} {case.worker}: not the same conditions: {what}"), soft_wrap=True)
        if row["invalid_reason"] not in ("", "not measured"):
            out.print(Text(f"  {case.pass_} {case.worker}: {row['invalid_reason']}"), soft_wrap=True)
        elif row["flags"]:
            out.print(
                Text(f"  {case.pass_} {case.worker}: {row['flags']}{_evidence(row)}", style="dim"), soft_wrap=True
            )
    ours = {case.id for case in cases if case.guest is None}
    for case in (case for case in cases if case.guest):
        if (pair := ratios.get(case.id)) and pair.ratio and pair.baseline in ours:
            value = pair.ratio.value.inverse
            out.print(Text(f"  {case.pass_}: ours over {case.guest}: {bracketed(value)}"), soft_wrap=True)
    known = (case for case in cases if rows[case.id]["framework_version"])
    versions = {f"{case.framework} {rows[case.id]['framework_version']}" for case in known}
    out.print(
        Text(" on ".join([*([", ".join(sorted(versions))] if versions else []), first["device_name"]]), style="dim")
    )


def _backward(table: Table, cases: list[Case], rows: Mapping[str, Any]) -> None:
    known = [case for case in cases if rows[case.id]["valid"] and rows[case.id]["backward_ci95_low_ms"] is not None]
    if known:
        table.add_section()
    for case in known:
        row, name = rows[case.id], words(case)
        low, middle, high = (row[f"backward_{what}ms"] for what in ("ci95_low_", "", "ci95_high_"))
        found = "not resolved" if middle is None else f"{number(middle)} [{number(low)}, {number(high)}]"
        table.add_row("backward" if case is known[0] else "", name, found, "", "", "")


def _evidence(row: Mapping[str, Any]) -> str:
    if "noisy" not in row["flags"]:
        return ""
    names = {"steal_pct": "stolen", "foreign_cpu_pct": "used by others"}
    known = [f"{row[key]:.0f} % {words}" for key, words in names.items() if row[key] is not None]
    return f" (CPU time: {', '.join(known)})" if known else ""


def spread(row: Mapping[str, Any]) -> str:
    """mean ± stddev (n); one sample has no stddev."""
    if row["stddev_ms"] is None:
        return f"{number(row['mean_ms'])} ({row['iterations']})"
    return f"{number(row['mean_ms'])} ± {number(row['stddev_ms'])} ({row['iterations']})"


def interval(pair: Pair | None, baseline: bool) -> str:
    if pair is None or pair.ratio is None:
        return "1" if baseline else "-"
    unlike, value = "unlike: " if pair.differs else "", pair.ratio.value
    if value.low is None:
        return f"{unlike}{value.center:.3f} [{'needs 3 Rounds' if pair.ratio.paired else 'unknown'}]"
    return unlike + bracketed(value)


def bracketed(value: Interval) -> str:
    """A centre with its interval, where it has one."""
    if value.low is None:
        return f"{value.center:.3f} [needs 3 Rounds]"
    return f"{value.center:.3f} [{value.low:.3f}, {value.high:.3f}]"


def case_list(groups: Sequence[Sequence[Case]], protocol: Protocol, expected_s: float) -> None:
    """What a run would do, and how long it is expected to take."""
    for group in groups:
        for case in group:
            print(case.id)
    cases = sum(len(group) for group in groups)
    print(
        f"{cases} cases; {protocol.rounds} Rounds of {protocol.iterations} iterations after {protocol.burn_in} "
        "burn-in; "
        f"expected: about {max(1, round(expected_s / 60))} min (an estimate from this machine's matrix rate)"
    )
