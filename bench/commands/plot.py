"""`plot`: one plot of result CSVs or Run folders."""

from collections.abc import Sequence
from pathlib import Path

from bench import UsageError
from bench.cases.parse import join_or
from bench.commands.requests import PlotRequest
from bench.output import console
from bench.output.plots.kinds import KINDS, SUMMARY, Kind
from bench.record.run import find_newest
from impls.text import quoted

ENDINGS = (".png", ".svg", ".pdf")


def main(request: PlotRequest) -> int:
    kind, target = KINDS[request.kind], request.output or Path(f"{request.kind}.png")
    refuse_target(target)
    kind.draw(list(request.results) or default_paths(kind), target)
    console.tell(f"wrote {target}")
    return 0


def refuse_target(path: Path, endings: Sequence[str] = ENDINGS) -> None:
    """UsageError for a file name whose suffix is not a format of plots."""
    if path.suffix.lower() not in endings or path.is_dir():
        raise UsageError(f"--output: expected a file that ends in {join_or(endings)}, found {quoted(str(path))}")


def default_paths(kind: Kind) -> list[Path]:
    """The newest Run; empty if there is none and ``kind`` needs none."""
    if newest := find_newest(SUMMARY, "run.jsonl"):
        return [newest]
    if kind.needs_run:
        raise UsageError("no summary.csv under results/: run `make bench` first, or name a CSV file")
    return []
