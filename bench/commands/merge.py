"""`merge`: the Runs of one grid by machine, in a table, an index and one CSV. Nothing is pooled or judged."""

import json
import os
from pathlib import Path

from bench import UsageError
from bench.commands.requests import MergeRequest
from bench.output import console, fleet_table
from bench.output.labels import counted, some_of
from bench.record import csvfile
from bench.record.columns import names
from bench.record.fleet import MERGED_COLUMNS, Fleet
from bench.record.run import Run
from impls.files import open_whole
from impls.text import one_line

INDEX, ROWS = "index.json", "merged.csv"


def main(request: MergeRequest) -> int:
    return int(
        show(Fleet([open_run(folder) for folder in request.runs]), request.out, request.as_json) and request.strict
    )


def show(fleet: Fleet, out: Path, as_json: bool) -> bool:
    """Write the files and print the result; return whether a shard is missing or a Run was cut off."""
    for member in fleet.members:
        console.tell_problems(member.run)
    write(fleet, out)
    if as_json:
        console.print_json({"index": fleet_table.index(fleet, out), "cases": fleet_table.rows(fleet, out)})
    else:
        fleet_table.show(fleet)
        console.say(one_line(f"Index: {out / INDEX}; rows of all Runs: {out / ROWS}"))
    for line in (lacking := list(incomplete(fleet))):
        console.tell(line)
    return bool(lacking)


def open_run(folder: Path) -> Run:
    """Open a Run; UsageError for anything else."""
    if not (folder / "run.jsonl").is_file():
        found = "a file" if folder.is_file() else "no run.jsonl there" if folder.is_dir() else "no such folder"
        found = "the result of an earlier `merge`" if (folder / INDEX).is_file() else found
        raise UsageError(f"{folder}: merge needs folders of `run`, found {found}; leave it out")
    return Run(folder)


def write(fleet: Fleet, folder: Path) -> None:
    """Write the index and the rows; those of an earlier `merge` are replaced."""
    if (folder / "run.jsonl").exists():
        raise UsageError(f"--out: {folder} is the folder of a Run; expected one of its own")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        csvfile.write(folder / ROWS, names(MERGED_COLUMNS), fleet_table.rows(fleet, folder))
        with open_whole(folder / INDEX, "w", encoding="utf-8") as file:
            file.write(json.dumps(fleet_table.index(fleet, folder), indent=1) + "\n")
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder}: {os.strerror(error.errno or 0)}; choose another folder with --out"
        ) from error


def incomplete(fleet: Fleet) -> list[str]:
    """What is lacking, and what to do."""
    lines = []
    if fleet.missing:
        of = f"{len(fleet.missing)} of the {counted(len(fleet.groups), 'group')}"
        first = some_of(fleet.groups[number][0].id for number in fleet.missing)
        lines.append(
            f"missing: shard {', '.join(fleet.missing_shards)}, with {of} of the grid, which begin with {first}: "
            "measure it with the options of the others"
        )
    for member in fleet.unfinished:
        lines.append(
            f"{member.run.folder} was cut off: on the same machine, `alexnet-bench run --resume {member.run.folder}` "
            "continues it"
        )
    return lines
