"""Table: cells for people, which the terminal, Markdown and the report's page render. Rounded for reading; a cell sorts
by its whole value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.output.console import number, percent


@dataclass(frozen=True)
class Cell:
    """``text`` is empty where there is nothing to say; ``value`` is what it sorts by, None for its text; ``color`` that
    of its framework."""

    text: str
    value: float | None = None
    color: str = ""


@dataclass(frozen=True)
class Column:
    """``numeric``: to the right. ``narrow``: the terminal breaks its heading. On a page, ``long``: its text may break
    into lines; ``wide``: into few, being sentences; ``parted``: before its interval."""

    name: str
    numeric: bool = False
    narrow: bool = False
    long: bool = False
    wide: bool = False
    parted: bool = False


@dataclass(frozen=True)
class Table:
    """``heads`` is the number of the column that names a row. ``grouped``: rows of the same first cell belong
    together."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    heads: int = 0
    grouped: bool = False


def plain(value: Any) -> Cell:
    """As it is."""
    return Cell("" if value is None else str(value), value if isinstance(value, int | float) else None)


def measured(value: float | None) -> Cell:
    """With four significant digits."""
    return Cell("" if value is None else number(value), value)


def fraction(value: float | None) -> Cell:
    """As percent, without decimals."""
    return Cell(percent(value), value)


def with_interval(center: float | None, low: float | None, high: float | None) -> Cell:
    """``center [low, high]``, or the center alone where there is no interval."""
    if center is None or low is None or high is None:
        return measured(center)
    return Cell(f"{number(center)} [{number(low)}, {number(high)}]", center)
