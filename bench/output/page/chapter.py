"""The report page: one chapter per Run."""

import base64
import gzip
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import bench
from bench.output import reproduce, run_notes, verdicts
from bench.output.labels import describe
from bench.output.page import (
    figures,
    findings,
    table,
    table_conditions,
    table_layers,
    table_published,
    template,
)
from bench.output.results_table import Results, results_of, versions_of
from bench.record import aa_runs, csvfile, journal, pairs
from bench.record.columns import COLUMNS, names
from bench.record.events import Fault, Void
from bench.record.flags import explain_flags
from bench.record.pairs import MARGIN
from bench.record.run import Run

#: Options in whose value PATH may stand.
OF_A_FILE = ("--ab", "--net", "--python", "--weights")


def render_page(runs: Sequence[Run], margin: float = MARGIN) -> str:
    """The page of these Runs. ``margin`` is what `compare` was given, or the two may contradict each other.

    The same Runs with the same A/A Runs beside their folders give the same text: of those are margins, so verdicts too.
    """
    chapters = [chapter(run, f"run{number}", margin) for number, run in enumerate(runs, 1)]
    names = [one["name"] for one in chapters]
    for number, one in enumerate(chapters, 1):  # two files in one folder need two names, and so do two folders
        one["prefix"] = f"{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', one['name'])}-" if len(runs) > 1 else ""
        one["name"] += f" ({number})" if names.count(one["name"]) > 1 else ""
    _once(chapters)
    title = names[0] if len(names) == 1 else f"{len(names)} Runs"
    return template.render(chapters=chapters, title=title, version=bench.__version__)


def _once(chapters: Sequence[dict[str, Any]]) -> None:
    """The chart of a decade, nearly the same for each Run, and its table stay in the first chapter that has them."""
    drawn = [one for one in chapters if one["published"]]
    for one in drawn[1:]:
        why = f"it stands once in this page, with the times of {drawn[0]['name']}"
        one["figures"] = [replace(it, markup="", why=why) if it.kind == "history" else it for it in one["figures"]]
        one["published"] = None


def chapter(run: Run, id_: str, margin: float = MARGIN) -> dict[str, Any]:
    """All that the page says of one Run; ``id_`` is the first part of its ids."""
    compared = pairs.within(run, aa_runs.find([run.folder.parent], but=[run.folder]), margin)
    results = results_of(run, compared)
    found = results.rows
    said = findings.list_findings(run, found, compared)
    plots, lines = figures.draw_figures(run, found, id_), _lines(run)
    return {
        "id": id_,
        "name": run.folder.resolve().name,
        "facts": _facts(results),
        "verdict": said[0],
        "findings": said[1:],
        "cautions": findings.cautions(run, found, compared),
        "results": table.results(results),
        "notes": list(_notes(results, margin)),
        "memory": table.memory(run, found),
        "figures": plots,
        "published": table_published.table() if any(one.kind == "history" and one.markup for one in plots) else None,
        "layers": table_layers.tables(run),
        "ceilings": run_notes.ceilings(run),
        "alike": run_notes.conditions(run, compared),
        "conditions": table_conditions.table(run, found),
        "machine": table_conditions.machine(run),
        "protocol": table_conditions.protocol(run),
        "clock": results.clock,
        "noise": table.noises(run, found),
        "events": list(_mishaps(run)),
        "flags": explain_flags(found.values()),
        "whole": reproduce.whole(run),
        "row_by_row": _row_by_row(run),
        "commands": [("; ".join(names), line) for line, names in lines.items()],
        "with_path": any(map(_with_path, [*lines, reproduce.whole(run)])),
        "ingested": bool(run.head.ingested),
        "files": _files(run, list(found.values())),
    }


def _facts(results: Results) -> list[tuple[str, str]]:
    """Where, with what, how often: a line or two at the top."""
    cases, rows = table.whole_nets(results.run), list(results.rows.values())
    rounds = sorted({row["rounds"] for row in rows})
    facts = {
        "machine": ", ".join(dict.fromkeys(str(row["device_name"]) for row in rows)),
        "threads": " and ".join(dict.fromkeys(str(row["threads"]) for row in rows if row["threads"])),
        "frameworks": versions_of(rows),
        "net": ", ".join(dict.fromkeys(case.variant for case in cases)),
        "precision": ", ".join(dict.fromkeys(case.precision for case in cases)),
        "Rounds": " to ".join(dict.fromkeys(str(number) for number in (rounds[0], rounds[-1]))),
        "samples": f"{sum(row['iterations'] for row in rows):,}",
        **results.given,
        **results.arms,
    }
    return [(name, text) for name, text in facts.items() if text]


def _notes(results: Results, margin: float) -> Iterator[str]:
    """How to read the table of results; why there is no ratio is a finding."""
    yield from results.notes
    if not results.no_ratio:
        yield from verdicts.notes(results.run, results.pairs, True, margin)
    if results.run.protocol.shared_workers:
        yield "Rows of the nets, timed one by one, stand under Layers."


def _mishaps(run: Run) -> Iterator[str]:
    """What went wrong while it was measured, in the order of the groups."""
    for (group, number), reason in sorted(run.disturbed.items()):
        yield f"Group {group + 1}, Round {number + 1} was disturbed: {reason}."
    for void in run.events_of(Void):
        yield f"Group {void.group + 1}, Round {void.round + 1} was measured again: {void.reason}."
    for fault in run.events_of(Fault):
        where = f"Group {fault.group + 1}, Round {fault.round + 1}"
        yield f"{where}: the Worker {fault.worker} was lost ({fault.kind}): {fault.reason}."


def _lines(run: Run) -> dict[str, list[str]]:
    """The lines that measure rows once more, each with the rows that it measures; none where one line is all."""
    found: dict[str, list[str]] = {}
    for case in table.whole_nets(run):
        found.setdefault(reproduce.reproduce(run, case), []).append(describe(case))
    return {} if list(found) == [reproduce.whole(run)] else found


def _row_by_row(run: Run) -> str:
    """What a line for a row gives."""
    alone = "a time alone, since a ratio needs both sides in one Run"
    if run.head.ab:
        said = "Row by row, each with its other side, so with its ratio"
    elif run.protocol.shared_workers:
        said = f"Net by net, each with all of its rows, in every pass; {alone}"
    elif any(case.guest for case in run.cases):
        said = f"Row by row: a user’s own net with ours beside it, so with its ratio; of ours {alone}"
    else:
        said = f"Row by row; {alone}"
    return f"{said}:"


def _with_path(line: str) -> bool:
    """Whether PATH stands for a folder in a line; in PYTHONPATH=/x it does not."""
    words = shlex.split(line)
    values = [value for option, value in pairwise(words) if option in OF_A_FILE]
    return any(re.search(rf"(^|[=,]){reproduce.PATH}/", value) for value in values)


def _files(run: Run, values: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Raw data for download: name, data as gzip in base64, and what it is."""
    table = csvfile.text(names(COLUMNS), values)
    summary = base64.b64encode(gzip.compress(table.encode("utf-8"), mtime=0)).decode("ascii")
    return [
        {"name": "run.jsonl", "data": journal.pack(run.folder), "what": "every event, the truth all else is from"},
        {"name": "summary.csv", "data": summary, "what": "a row a case, unrounded"},
    ]
