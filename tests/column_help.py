"""The tables of results/README.md that `make columns` generates: columns of each CSV, and flags."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.record import fleet, layer_times, run
from bench.record.columns import COLUMNS, CsvColumn
from bench.record.flags import FLAGS

PAGE = Path(__file__).parents[1] / "results/README.md"


def by_help(columns: Sequence[CsvColumn]) -> dict[str, str]:
    """Help texts by the names of the columns that share them."""
    columns_of: dict[str, list[str]] = {}
    for column in columns:
        columns_of.setdefault(column.help, []).append(column.name)
    return {", ".join(columns): text for text, columns in columns_of.items()}


#: By the heading above a table: the name of its first column, and its lines.
TABLES: dict[str, tuple[str, Mapping[str, str]]] = {
    "## summary.csv": ("column", by_help(COLUMNS)),
    "### Flags": ("flag", FLAGS),
    "## samples.csv": ("column", by_help(run.SAMPLE_COLUMNS)),
    "## layers.csv": ("column", by_help(run.LAYER_COLUMNS)),
    "## profile.csv": ("column", by_help(layer_times.COLUMNS)),
    "## merged.csv": ("column", by_help(fleet.MERGED_COLUMNS[: -len(COLUMNS)])),
}


def documented(page: str) -> str:
    """The page with the first table below each heading generated."""
    for heading, (name, lines) in TABLES.items():
        before, heading_line, after = page.partition(f"\n{heading}\n")
        assert heading_line, f"{PAGE}: expected a heading {heading!r}"
        table = "".join(f"| {key} | {text} |\n" for key, text in lines.items())
        table = f"| {name} | meaning |\n|---|---|\n{table}"
        page = (
            before
            + heading_line
            + re.sub(r"^\|.*\|\n(\|.*\n)*", lambda _, table=table: table, after, count=1, flags=re.M)
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(documented(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
