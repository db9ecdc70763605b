"""`report`: one HTML page of Runs, the verdict first and raw data last, and of folders of `train` and `predict`."""

import os
from pathlib import Path

from bench import UsageError
from bench.commands.requests import ReportRequest
from bench.output import console, formats
from bench.output.page.album import is_album
from bench.output.page.chapter import render_page
from bench.record.run import Run, find_newest


def main(request: ReportRequest) -> int:
    folders = list(request.runs) or [default_folder()]
    distinct = {os.path.realpath(folder): folder for folder in folders}.values()
    albums = [folder for folder in distinct if is_album(folder)]
    runs = [open_run(folder) for folder in distinct if folder not in albums]
    target = request.output or folders[0] / "report.html"
    for run in runs:
        console.tell_problems(run)
    formats.write(target, render_page(runs, request.margin, albums))
    console.tell(f"wrote {target}")
    return 0


def default_folder() -> Path:
    """The newest Run; UsageError if there is none."""
    if not (newest := find_newest("run.jsonl")):
        raise UsageError("no Run under results/: run `make bench` first, or name a Run folder")
    return newest


def open_run(folder: Path) -> Run:
    """Open a Run; UsageError for anything else."""
    if not (folder / "run.jsonl").is_file():
        found = "a file" if folder.is_file() else "no run.jsonl there" if folder.is_dir() else "no such folder"
        expected = "a folder of `run`, `train` or `predict`"
        raise UsageError(f"{folder}: report needs {expected}, found {found}; `alexnet-bench plot` draws CSVs")
    return Run(folder)
