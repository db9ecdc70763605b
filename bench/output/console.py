"""Printing for all commands: tables on stdout, lines on stderr, JSON.

All text is printed here or by ``progress`` and ``training_progress``, where it loses what could control a terminal:
names, messages of nets and cells of files are others'.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from bench.output.labels import counted
from bench.record.run import Run
from impls.text import one_line, printable

MOST_PROBLEMS = 5


class Printable(Console):
    """A Console whose texts are printable; its own styles remain."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def console() -> Console:
    """Stdout, always 100 columns wide, so that no number is truncated; a narrow terminal wraps lines.

    Without markup: brackets belong to intervals and file names.
    """
    return Printable(file=sys.stdout, highlight=False, markup=False, width=100)


def new_table(title: str) -> Table:
    """A table without borders and with little padding."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.0%}"


def number(value: float) -> str:
    """Four significant digits, no exponent."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return text if "e" not in text else f"{Decimal(text):f}"


def where(folder: Path) -> None:
    files = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    say(one_line(f"Results: {folder}/ ({', '.join(files)})"))


def say(text: str) -> None:
    """Print lines on stdout."""
    print(printable(text), flush=True)


def tell(text: str) -> None:
    """Print one line on stderr."""
    with contextlib.suppress(OSError):  # full: there is nobody to tell
        print(f"alexnet-bench: {one_line(text)}", file=sys.stderr, flush=True)


def problem_lines(run: Run) -> list[str]:
    """The first lines of run.jsonl that were left out, and how many more there are."""
    more = len(run.problems) - MOST_PROBLEMS
    rest = [f"{run.folder / 'run.jsonl'}: {counted(more, 'more line')} left out"] if more > 0 else []
    return [*run.problems[:MOST_PROBLEMS], *rest]


def tell_problems(run: Run) -> None:
    for line in problem_lines(run):
        tell(line)


def print_json(data: Any) -> None:
    say(json.dumps(data, indent=1, default=str))
