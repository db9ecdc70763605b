"""Table: rounded cells, rendered by the terminal, Markdown and the report; cells sort by their exact value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.output.console import number, percent


@dataclass(frozen=True)
class Cell:
    """``value`` is the sort key, None to sort by ``text``; ``color`` is that of a framework."""

    text: str
    value: float | None = None
    color: str = ""


@dataclass(frozen=True)
class Column:
    """``numeric``: right-aligned. ``narrow``: the terminal wraps the heading. On a page, ``long``: text may wrap;
    ``wide``: into few lines, for sentences; ``parted``: before the interval."""

    name: str
    numeric: bool = False
    narrow: bool = False
    long: bool = False
    wide: bool = False
    parted: bool = False


@dataclass(frozen=True)
class Table:
    """``heads``: index of the column that names a row. ``grouped``: rows with the same first cell form a group."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    heads: int = 0
    grouped: bool = False


def plain(value: Any) -> Cell:
    """Unformatted."""
    return Cell("" if value is None else str(value), value if isinstance(value, int | float) else None)


def measured(value: float | None) -> Cell:
    """Four significant digits."""
    return Cell("" if value is None else number(value), value)


def fraction(value: float | None) -> Cell:
    """Percent, without decimals."""
    return Cell(percent(value), value)


def with_interval(center: float | None, low: float | None, high: float | None) -> Cell:
    """``center [low, high]``, or the center alone without an interval."""
    if center is None or low is None or high is None:
        return measured(center)
    return Cell(f"{number(center)} [{number(low)}, {number(high)}]", center)
