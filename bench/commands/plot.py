"""`plot`: one picture of result CSVs or Run folders."""

from collections.abc import Sequence
from pathlib import Path

from bench import UsageError
from bench.cases.parse import join_or, parse_choice
from bench.output import console
from bench.output.plots.kinds import KINDS, SUMMARY, Kind
from bench.record.run import find_newest

ENDINGS = (".png", ".svg", ".pdf")


def main(results: Sequence[str], kind: str, output: str | None) -> int:
    target = parse_target(output or f"{kind}.png")
    chosen = KINDS[parse_choice("kind", kind, KINDS)]
    chosen.draw([Path(path) for path in results] or default_paths(chosen), target)
    console.tell(f"wrote {target}")
    return 0


def parse_target(name: str) -> Path:
    """The file that a picture goes to; UsageError for an ending that names no format."""
    path = Path(name)
    if path.suffix.lower() not in ENDINGS or path.is_dir():
        raise UsageError(f"--output: expected a file that ends in {join_or(ENDINGS)}, found {name!r}")
    return path


def default_paths(kind: Kind) -> list[Path]:
    """The newest Run, for a plot of nothing named; empty where there is none and ``kind`` needs none."""
    if newest := find_newest(SUMMARY, "run.jsonl"):
        return [newest]
    if kind.needs_run:
        raise UsageError("no summary.csv under results/: run `make bench` first, or name a CSV file")
    return []
