"""What a person sees: progress on stderr while it works, tables on stdout when it is done. All rounding is here."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.case import Case
from bench.gate import spoken
from bench.parity import LIMITS
from bench.protocol import Protocol
from bench.results import Run
from bench.rows import IN_THE_CLOCK
from impls.variants import Variant

OUT_OF_THE_CLOCK = "outside it: input copies, optimizer step, fetching results, burn-in, the first call."


def console() -> Console:
    """Stdout 100 columns wide, so that a table pastes well and no number is cut off; a narrow terminal wraps it.

    Without markup: brackets are an interval's, or a file name's.
    """
    return Console(file=sys.stdout, highlight=False, markup=False, width=100)


def new_table(title: str) -> Table:
    """Narrow enough that six columns stay under 100 characters."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


class Progress:
    """Lines on stderr, written between Turns only: no thread draws while a sample is taken.

    On a terminal the current step is rewritten in place; elsewhere each Round is a line.
    """

    def __init__(self, rounds: int, classic: bool = False):
        self.rounds, self.classic = rounds, classic
        self.live = sys.stderr.isatty()
        self.steps: dict[str, int] = {}

    def __call__(self, what: str, **fields: Any) -> None:
        getattr(self, f"_{what}")(**fields)

    def _reference(self, case: Case) -> None:
        size = f" at {case.size} px" if case.size else ""
        self._line(f"{case.variant}{size}: float64 reference for the proof")

    def _start(self, case: Case, round: int, attempt: int, **rest: Any) -> None:
        again = ", once more" if attempt else ""
        self._step(f"round {round + 1}/{self.rounds}{again}: {case.worker}: start, proof", round == 0 or bool(attempt))

    def _burn_in(self, case: Case, round: int, **rest: Any) -> None:
        self._step(f"round {round + 1}/{self.rounds}: {case.worker} {case.pass_}: burn-in", False)

    def _turn(self, case: Case, ns: Sequence[int], round: int, **rest: Any) -> None:
        if self.classic:
            done = self.steps.get(case.id, 0)
            self.steps[case.id] = done + len(ns)
            self._line(f"{datetime.now()}: {case.framework} {case.pass_} step {done}, duration = {ns[0] / 1e9:.3f}")
        else:
            milliseconds = sum(ns) / len(ns) / 1e6
            self._step(f"round {round + 1}/{self.rounds}: {case.worker} {case.pass_}: {milliseconds:.1f} ms", False)
            if not self.live and self.steps.get("round") != (round, case.group):
                self.steps["round"] = (round, case.group)  # type: ignore[assignment]
                self._line(f"round {round + 1}/{self.rounds}: taking turns")

    def _fault(self, worker: str, reason: str, tail: str, attempt: int, round: int, **rest: Any) -> None:
        then = "the Round is repeated" if attempt == 0 else "its cases fail"
        self._line(f"round {round + 1}/{self.rounds}: {worker} {reason}; {then}")
        for line in tail.splitlines()[-3:]:
            self._line(f"    {line}")

    def _failed(self, case: Case, reason: str) -> None:
        self._line(f"{case.id}: not timed: {reason}")

    def _line(self, text: str) -> None:
        print(("\r\x1b[2K" if self.live else "") + text, file=sys.stderr, flush=True)

    def _step(self, text: str, also_in_a_log: bool) -> None:
        if self.live:
            print(f"\r\x1b[2K{text[:100]}", end="", file=sys.stderr, flush=True)
        elif also_in_a_log:
            print(text, file=sys.stderr, flush=True)

    def done(self) -> None:
        if self.live:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def run_table(run: Run) -> None:
    """One table a group: pass x framework, with the ratio to the first framework; then what is inside the clock."""
    out = console()
    rows = {row["case_id"]: row for row in run.rows()}
    ratios = {ratio["candidate"]: ratio for ratio in run.ratios()}
    if given := run.head["weights"]:
        out.print(Text(f"weights: {given['file']} (sha256 {given['sha256'][:8]})"), soft_wrap=True)
    if let_through := run.head["env"]:
        words = " ".join(f"{name}={value}" for name, value in let_through.items())
        out.print(Text(f"let through to every Worker: {words}"), soft_wrap=True)
    for group in dict.fromkeys(case.group for case in run.cases):
        cases = sorted((case for case in run.cases if case.group == group), key=lambda case: case.pass_)
        _group_table(out, run, cases, rows, ratios)
    out.print(Text("Inside the clock", style="dim"))
    for pass_, what in IN_THE_CLOCK.items():
        out.print(Text(f"  {pass_}: {what}.", style="dim"), soft_wrap=True)
    out.print(Text(f"  {OUT_OF_THE_CLOCK}", style="dim"), soft_wrap=True)
    if not run.protocol.paired:
        out.print(Text("No ratio: timed one after the other, it would hold the machine's drift.", style="dim"))
    if ratios:
        note = (
            "Ratio: time over the first framework's, above 1 is slower; 95 % interval over Rounds, from mirrored turns."
        )
        out.print(Text(note, style="dim"), soft_wrap=True)


def _group_table(out: Console, run: Run, cases: list[Case], rows: Mapping[str, Any], ratios: Mapping[str, Any]) -> None:
    first = rows[cases[0].id]
    done = max(rows[case.id]["rounds"] for case in cases)
    asked = "" if done == run.protocol.rounds else f" of {run.protocol.rounds}"
    rounds = f"{done}{asked} Rounds x {run.protocol.iterations}" if run.protocol.paired else "classic protocol"
    dropout = ", dropout on" if cases[0].dropout else ""
    title = (
        f"{cases[0].variant}, {first['size']} px, batch {cases[0].batch}, {cases[0].device} "
        f"({first['threads']} threads), {cases[0].precision}{dropout}: {rounds} after {run.protocol.burn_in} burn-in"
    )
    table = new_table(title)
    for heading in ("pass", "framework"):
        table.add_column(heading, no_wrap=True)
    for heading in ("mean ± stddev ms (n)", "median", "images/s", "ratio [95 %]"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = ""
    for case in cases:
        row, ratio = rows[case.id], ratios.get(case.id)
        if last and case.pass_ != last:
            table.add_section()
        pass_, last = "" if case.pass_ == last else case.pass_, case.pass_
        name = f"{case.framework} {case.mode}" + case.worker.removeprefix(f"{case.framework}-{case.mode}")
        if not row["valid"]:
            table.add_row(
                pass_, name, "not measured" if row["invalid_reason"] == "not measured" else "failed", "", "", ""
            )
            continue
        baseline = any(one["baseline"] == case.id for one in ratios.values())
        cells = (spread(row), number(row["median_ms"]), number(row["images_per_s"]), interval(ratio, baseline))
        table.add_row(pass_, name, *cells)
    out.print(table)
    for case in cases:
        row = rows[case.id]
        for what in ratios.get(case.id, {}).get("differs", ()):
            out.print(Text(f"  {case.pass_} {case.worker}: not the same conditions: {what}"), soft_wrap=True)
        if row["invalid_reason"] not in ("", "not measured"):
            out.print(Text(f"  {case.pass_} {case.worker}: {row['invalid_reason']}"), soft_wrap=True)
        elif row["flags"]:
            out.print(
                Text(f"  {case.pass_} {case.worker}: {row['flags']}{_evidence(row)}", style="dim"), soft_wrap=True
            )
    known = (case for case in cases if rows[case.id]["framework_version"])
    versions = {f"{case.framework} {rows[case.id]['framework_version']}" for case in known}
    out.print(Text(f"{', '.join(sorted(versions))} on {first['device_name']}", style="dim"))


def _evidence(row: Mapping[str, Any]) -> str:
    if "noisy" not in row["flags"]:
        return ""
    names = {"steal_pct": "stolen", "foreign_cpu_pct": "used by others"}
    said = [f"{row[key]:.0f} % {words}" for key, words in names.items() if row[key] is not None]
    return f" (CPU time: {', '.join(said)})"


def spread(row: Mapping[str, Any]) -> str:
    """mean ± stddev (n); one sample has no stddev."""
    if row["stddev_ms"] is None:
        return f"{number(row['mean_ms'])} ({row['iterations']})"
    return f"{number(row['mean_ms'])} ± {number(row['stddev_ms'])} ({row['iterations']})"


def interval(ratio: Mapping[str, Any] | None, baseline: bool) -> str:
    if ratio is None:
        return "1" if baseline else "-"
    unlike = "unlike: " if ratio["differs"] else ""
    if ratio["ci95_low"] is None:
        return f"{unlike}{ratio['ratio']:.3f} [needs 3 Rounds]"
    return f"{unlike}{ratio['ratio']:.3f} [{ratio['ci95_low']:.3f}, {ratio['ci95_high']:.3f}]"


def number(value: float) -> str:
    """Four significant digits, no exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def layers_table(net: Variant, rows: Sequence[Mapping[str, Any]], beside: Mapping[str, Sequence[Mapping]]) -> None:
    """Layer, kind, output shape, params, state, MACs; beside them each framework's report, ``=`` where it agrees."""
    table = new_table(f"{net.name}, {net.input_size} px: {net.note}")
    for heading in ("layer", "kind"):
        table.add_column(heading, no_wrap=True)
    for heading in ("output", "params", "state", "MACs", *beside):
        table.add_column(heading, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        cells = [row["layer"], row["kind"], shape(row), *(f"{row[key]:,}" for key in ("params", "state", "macs"))]
        table.add_row(*cells, *(agreement(row, theirs[i]) for theirs in beside.values()))
    table.add_section()
    totals = [f"{sum(row[key] for row in rows):,}" for key in ("params", "state", "macs")]
    table.add_row("total", "", "", *totals, *("" for _ in beside))
    console().print(table)


def shape(row: Mapping[str, Any]) -> str:
    return " x ".join(str(row[name]) for name in ("height", "width", "channels"))


def agreement(row: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    if all(row[name] == theirs[name] for name in ("height", "width", "channels", "params", "state")):
        return "="
    return f"{shape(theirs)}, {theirs['params']:,}, {theirs['state']:,}"


def verify_table(
    checks: Sequence[Mapping[str, Any]], against: str | None = None, theirs: Sequence[Mapping[str, Any]] = ()
) -> None:
    """One table a precision, one row a variant, framework and batch: the worst error of each kind.

    ``against`` names the file that stood in for the reference, ``theirs`` are its own checks.
    """
    out = console()
    for precision in dict.fromkeys(check["precision"] for check in checks):
        title = f"{precision}: relative L2 error against {against or 'float64'}, worst array of its kind"
        groups: dict[tuple, list[Mapping[str, Any]]] = {}
        for check in checks:
            if check["precision"] == precision:
                name = f"{check['framework']} {check['mode']}"
                groups.setdefault((check["variant"], name, str(check["batch"])), []).append(check)
        here = [check for check in (*checks, *theirs) if check["precision"] == precision]
        norms = {check["kind"]: check["tolerance"] for check in here if check["kind"] == "norm"}
        table, limits = new_table(title), LIMITS[precision] | norms  # a norm is judged where a gradient may move far
        for heading in ("variant", "framework", "batch", *(f"{kind}\n≤ {limit:.0e}" for kind, limit in limits.items())):
            table.add_column(heading, no_wrap=True)
        table.add_column("", no_wrap=True)
        for who, mine in groups.items():
            table.add_row(*who, *(_worst(mine, kind, usual) for kind, usual in limits.items()), _verdict(mine))
        own = [check for check in theirs if check["precision"] == precision]
        if own:
            table.add_section()
            cells = (_worst(own, kind, usual) for kind, usual in limits.items())
            table.add_row("", "the file to float64", "", *cells, _verdict(own))
        out.print(table)
    for check in (check for check in theirs if not check["ok"]):
        out.print(f"{against}, against float64: {spoken(check)}", soft_wrap=True)
    for check in (check for check in checks if not check["ok"]):
        out.print(f"{check['variant']} on {check['framework']}: {spoken(check)}", soft_wrap=True)


def _worst(checks: Iterable[Mapping[str, Any]], kind: str, usual: float) -> str:
    """The worst error of a kind, and its limit where that is not the usual one."""
    errors = [(check["error"], check["tolerance"]) for check in checks if check["kind"] == kind]
    if not errors:
        return "-"
    error, tolerance = max(errors, key=lambda one: float("inf") if one[0] is None else one[0] / one[1])
    other = f" ≤ {tolerance:.0e}" if tolerance != usual else ""
    return "none" if error is None else f"{error:.1e}{other}"


def _verdict(checks: Iterable[Mapping[str, Any]]) -> str:
    return "equal" if all(check["ok"] for check in checks) else "DIFFERS"


def conditions_lines(workers: Iterable[Mapping[str, Any]]) -> None:
    """What each Worker really computed with, a line each."""
    out = console()
    for worker in workers:
        conditions, precision = worker["conditions"], worker["precision_found"]
        facts = [f"{what} in {one['precision']} ({one['error']:.0e})" for what, one in precision.items()]
        if conditions["threads"]:
            facts.append(f"{conditions['threads']} threads")
        if conditions["onednn"] is not None:
            facts.append(f"oneDNN {('off', 'on')[conditions['onednn']]}")
        facts += [conditions["layout"], conditions["device"].rpartition("device:")[2].lower()]
        version = worker["versions"].get(worker["framework"])
        out.print(
            Text(f"{worker['framework']} {version} {worker['mode']}: {', '.join(facts)}", style="dim"), soft_wrap=True
        )


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


def where(folder: Path, files: Sequence[str]) -> None:
    print(f"Results: {folder}/ ({', '.join(files)})")


def tell(text: str) -> None:
    print(f"alexnet-bench: {text}", file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, default=str))
