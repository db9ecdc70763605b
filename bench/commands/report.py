"""`report`: one page that holds everything of a Run, or of several: the verdict first, raw data last."""

from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.parse import parse_percent
from bench.output import console, formats
from bench.output.page.chapter import render_page
from bench.record.run import Run, find_newest


def main(asked: dict[str, Any]) -> int:
    margin = parse_percent("--margin", asked["margin"])
    folders = [Path(name) for name in asked["runs"]] or [default_folder()]
    runs = [open_run(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    target = Path(asked["output"]) if asked["output"] else folders[0] / "report.html"
    for run in runs:
        console.tell_problems(run)
    formats.write(target, render_page(runs, margin))
    console.tell(f"wrote {target}")
    return 0


def default_folder() -> Path:
    """The newest Run, for a report of nothing named."""
    if not (newest := find_newest("run.jsonl")):
        raise UsageError("no Run under results/: run `make bench` first, or name a Run folder")
    return newest


def open_run(folder: Path) -> Run:
    """A Run; UsageError for what is none, which `plot` may be able to draw."""
    if not (folder / "run.jsonl").is_file():
        found = "a file" if folder.is_file() else "no run.jsonl there" if folder.is_dir() else "no such folder"
        raise UsageError(f"{folder}: report needs a Run folder, found {found}; `alexnet-bench plot` draws CSVs")
    return Run(folder)
