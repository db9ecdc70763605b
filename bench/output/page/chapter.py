"""The report page: one chapter per Run."""

import base64
import gzip
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import bench
from bench.output import feeding_table, reproduce, run_notes, scaling_table, verdicts
from bench.output.labels import counted, describe
from bench.output.page import (
    album,
    figures,
    findings,
    table,
    table_conditions,
    table_layers,
    table_published,
    template,
)
from bench.output.results_table import Results, results_of, versions_of
from bench.output.tables import Table
from bench.record import aa_runs, csvfile, journal, pairs
from bench.record.columns import COLUMNS, Row, names
from bench.record.events import Fault, Void
from bench.record.flags import explain_flags
from bench.record.run import Run
from bench.record.wall_time import WallTime
from bench.stats.ratio import MARGIN

#: Options whose value may contain PATH.
OF_A_FILE = ("--ab", "--net", "--python", "--weights")


def render_page(runs: Sequence[Run], margin: float = MARGIN, folders: Sequence[Path] = ()) -> str:
    """Return the HTML page of these Runs, and of ``folders`` of `train` and `predict`.

    ``margin`` must be the one given to `compare`, or verdicts may differ. The text depends only on the Runs and on the
    A/A Runs next to their folders, from which margins are estimated.
    """
    chapters = [_chapter(run, f"run{number}", margin) for number, run in enumerate(runs, 1)]
    albums = [album.album_of(folder, f"album{number}") for number, folder in enumerate(folders, 1)]
    names = [*(chapter.name for chapter in chapters), *(each.name for each in albums)]
    kinds = [counted(len(some), kind) for some, kind in ((chapters, "Run"), (albums, "folder")) if some]
    title = names[0] if len(names) == 1 else " and ".join(kinds)
    return template.render(chapters=list(_make_unique(chapters)), albums=albums, title=title, version=bench.__version__)


@dataclass(frozen=True)
class Chapter:
    """The template's values for one Run; ``id`` is the prefix of its HTML ids, ``prefix`` that of its downloads."""

    id: str
    name: str
    facts: Sequence[tuple[str, str]]
    verdict: findings.Finding
    findings: Sequence[findings.Finding]
    cautions: Sequence[str]
    results: Table
    notes: Sequence[str]
    loaders: Sequence[Table]
    loader_notes: Sequence[str]
    scaling: Sequence[Table]
    scaling_notes: Sequence[str]
    memory: Table | None
    figures: Sequence[figures.Figure]
    published: Table | None
    layers: Sequence[Table]
    ceilings: Sequence[str]
    alike: str
    conditions: Table
    machine: Sequence[tuple[str, str]]
    protocol: Sequence[tuple[str, str]]
    clock: Sequence[tuple[str, str]]
    time: Sequence[tuple[str, float, float]]
    noise: Table
    events: Sequence[str]
    flags: Sequence[tuple[str, str]]
    whole: str
    row_by_row: str
    commands: Sequence[tuple[str, str]]
    with_path: bool
    ingested: bool
    files: Sequence[Mapping[str, str]]
    prefix: str = ""


def _time(run: Run) -> list[tuple[str, float, float]]:
    """Where the time went: name, seconds and percent of each kind of work; empty if unknown."""
    time = WallTime.of(run)
    if time is None or not time.total:
        return []
    return [(name, seconds, 100 * seconds / time.total) for name, seconds in time.parts.items()]


def _make_unique(chapters: Sequence[Chapter]) -> Iterator[Chapter]:
    """Make names of chapters and of downloads unique, and keep the history chart, nearly the same for each Run, and its
    table only in the first chapter that has them."""
    names, first = [chapter.name for chapter in chapters], ""
    for number, chapter in enumerate(chapters, 1):
        if len(chapters) > 1:
            prefix = f"{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', chapter.name)}-"
            name = f"{chapter.name} ({number})" if names.count(chapter.name) > 1 else chapter.name
            chapter = replace(chapter, prefix=prefix, name=name)
        if chapter.published and first:
            why = f"this page has it once, with the times of {first}"
            drawn = (figures.Figure(it.kind, why=why) if it.kind.name == "history" else it for it in chapter.figures)
            chapter = replace(chapter, published=None, figures=list(drawn))
        first = first or (chapter.name if chapter.published else "")
        yield chapter


def _chapter(run: Run, id_: str, margin: float) -> Chapter:
    compared = pairs.within(run, aa_runs.find([run.folder.parent], but=[run.folder]), margin)
    results = results_of(run, compared)
    rows = results.rows
    verdict, *others = findings.list_findings(run, rows, compared)
    plots, lines = figures.draw_figures(run, rows, id_), _command_lines(run)
    return Chapter(
        id=id_,
        name=run.folder.resolve().name,
        facts=_facts(results),
        verdict=verdict,
        findings=others,
        cautions=findings.cautions(run, rows, compared),
        results=table.results(results),
        notes=list(_notes(results, margin)),
        loaders=feeding_table.tables(run, rows),
        loader_notes=list(feeding_table.notes(run)),
        scaling=scaling_table.tables(run, rows),
        scaling_notes=list(scaling_table.notes(run)),
        memory=table.memory(run, rows),
        figures=plots,
        published=table_published.table()
        if any(plot.kind.name == "history" and plot.markup for plot in plots)
        else None,
        layers=table_layers.tables(run),
        ceilings=run_notes.ceilings(run),
        alike=run_notes.conditions(run, compared),
        conditions=table_conditions.table(run, rows),
        machine=table_conditions.machine(run),
        protocol=table_conditions.protocol(run),
        clock=results.clock,
        time=_time(run),
        noise=table.noises(run, rows),
        events=list(_mishaps(run)),
        flags=explain_flags(rows.values()),
        whole=reproduce.whole(run),
        row_by_row=_row_by_row(run),
        commands=[("; ".join(names), line) for line, names in lines.items()],
        with_path=any(map(_with_path, [*lines, reproduce.whole(run)])),
        ingested=bool(run.head.ingested),
        files=_files(run, list(rows.values())),
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    """Facts at the top of a chapter: machine, frameworks, net, counts."""
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
    """How to read the table of results; the reason for no ratio is a finding."""
    yield from results.notes
    if not results.no_ratio:
        yield from verdicts.notes(results.run, results.pairs, True, margin)
    if results.run.protocol.shared_workers:
        yield "Times of single layers are under Layers."


def _mishaps(run: Run) -> Iterator[str]:
    """Disturbed and repeated Rounds, then lost Workers."""
    for (group, number), reason in sorted(run.disturbed.items()):
        yield f"Group {group + 1}, Round {number + 1} was disturbed: {reason}."
    for void in run.events_of(Void):
        yield f"Group {void.group + 1}, Round {void.round + 1} was measured again: {void.reason}."
    for fault in run.events_of(Fault):
        where = f"Group {fault.group + 1}, Round {fault.round + 1}"
        yield f"{where}: the Worker {fault.worker} was lost ({fault.kind}): {fault.reason}."


def _command_lines(run: Run) -> dict[str, list[str]]:
    """Return the commands that measure rows again, each with its rows; none if one command measures the whole Run."""
    lines: dict[str, list[str]] = {}
    for case in table.whole_nets(run):
        lines.setdefault(reproduce.command_for(run, [case]), []).append(describe(case))
    return {} if list(lines) == [reproduce.whole(run)] else lines


def _row_by_row(run: Run) -> str:
    """Return what the command of a single row measures."""
    alone = "a time alone, since a ratio needs both sides in one Run"
    if run.head.ab:
        return "Row by row, each with its other side, so with its ratio:"
    if run.head.devices:
        return "Row by row, each on every number of devices, so with its efficiency:"
    if run.protocol.shared_workers:
        return f"Net by net, each with all of its rows, in every pass; {alone}:"
    if any(case.guest for case in run.cases):
        return f"Row by row: a user’s own net together with ours, so with its ratio; for ours {alone}:"
    return f"Row by row; {alone}:"


def _with_path(line: str) -> bool:
    """Whether a command has PATH as placeholder of a folder, unlike PYTHONPATH=/x."""
    words = shlex.split(line)
    values = [value for option, value in pairwise(words) if option in OF_A_FILE]
    return any(re.search(rf"(^|[=,]){reproduce.PATH}/", value) for value in values)


def _files(run: Run, values: Sequence[Row]) -> list[dict[str, str]]:
    """Downloads: name, data (gzip in base64) and description."""
    table = csvfile.text(names(COLUMNS), values)
    summary = base64.b64encode(gzip.compress(table.encode("utf-8"), mtime=0)).decode("ascii")
    return [
        {
            "name": "run.jsonl",
            "data": journal.pack(run.folder),
            "what": "every event; all other files are derived from it",
        },
        {"name": "summary.csv", "data": summary, "what": "one row per case, unrounded"},
    ]
