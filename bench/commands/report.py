"""`report`: one HTML page of a Run, or of several: the verdict first, raw data last."""

import os
from pathlib import Path

from bench import UsageError
from bench.commands.requests import ReportRequest
from bench.output import console, formats
from bench.output.page.chapter import render_page
from bench.record.run import Run, find_newest


def main(request: ReportRequest) -> int:
    folders = list(request.runs) or [default_folder()]
    runs = [open_run(folder) for folder in {os.path.realpath(folder): folder for folder in folders}.values()]
    target = request.output or folders[0] / "report.html"
    for run in runs:
        console.tell_problems(run)
    formats.write(target, render_page(runs, request.margin))
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
        raise UsageError(f"{folder}: report needs a Run folder, found {found}; `alexnet-bench plot` draws CSVs")
    return Run(folder)
