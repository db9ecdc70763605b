"""The tables of columns in results/README.md, written from the columns' records by ``make columns``."""

import re
from collections.abc import Sequence
from pathlib import Path

from bench.record import layer_times, run
from bench.record.columns import COLUMNS, CsvColumn

PAGE = Path("results/README.md")
TABLES: dict[str, Sequence[CsvColumn]] = {
    "summary.csv": COLUMNS,
    "samples.csv": run.SAMPLE_COLUMNS,
    "layers.csv": run.LAYER_COLUMNS,
    "profile.csv": layer_times.COLUMNS,
}


def documented(page: str) -> str:
    """The page with the table below each CSV's heading made anew."""
    for name, columns in TABLES.items():
        pattern = rf"(\n## {re.escape(name)}\n(?:(?!\n## ).)*?\n)\| column \|.*?\n(?=\n|$)"
        page, count = re.subn(pattern, lambda found: found[1] + _table(columns), page, flags=re.DOTALL)  # noqa: B023
        if not count:
            raise ValueError(f"{PAGE}: expected a heading '## {name}' with a table of columns below it")
    return page


def _table(columns: Sequence[CsvColumn]) -> str:
    """One line per help text, with the columns that share it."""
    names: dict[str, list[str]] = {}
    for column in columns:
        names.setdefault(column.help, []).append(column.name)
    lines = [f"| {', '.join(found)} | {text} |\n" for text, found in names.items()]
    return "".join(["| column | meaning |\n", "|---|---|\n", *lines])


if __name__ == "__main__":
    PAGE.write_text(documented(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
