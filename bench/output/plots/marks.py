"""Decimal and thousands marks of a spreadsheet's numbers: which is which is told by the file, and never guessed."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench import UsageError
from impls.text import quoted

#: Signs before three digits that mark thousands everywhere: space, apostrophes, no-break, thin and narrow space.
GROUPING = re.compile("(?<=\\d)[ '\u2019\u00a0\u2009\u202f](?=\\d{3}(?!\\d))")
NUMBER = re.compile(r"[+-]?(\d*)((?:[.,]\d+)*)(e[+-]?\d+)?", re.IGNORECASE)
OTHER = {",": ".", ".": ","}


class Cell(NamedTuple):
    row: int
    column: str
    text: str


def with_points(file: Path, cells: pd.DataFrame, numbers: Collection[str], whole: Collection[str]) -> pd.DataFrame:
    """Write numbers with decimal points and without thousands marks.

    The columns ``numbers`` (of them ``whole`` hold whole numbers) tell the decimal mark. Raises UsageError if they have
    two, or if a cell such as 1,136 has two readings and no other cell tells which is right.
    """
    proofs: dict[str, Cell] = {}
    unclear: list[Cell] = []
    for cell in _marked(cells, numbers):
        mark = _decimal_mark(cell.text, cell.column in whole)
        if mark:
            proofs.setdefault(mark, cell)
        elif mark is None:
            unclear.append(cell)
    if len(proofs) > 1:
        one, other = (f"{quoted(cell.text)} in row {cell.row} of {cell.column}" for cell in proofs.values())
        raise UsageError(f"{file}: expected one decimal mark, found {one} and {other}")
    if unclear and not proofs:
        row, column, text = unclear[0]
        one, other = re.sub("[.,]", "", text), text.replace(",", ".")
        raise UsageError(
            f"{file}, row {row}, {column}: {quoted(text)} may be {one} or {other}, and no other cell tells which: "
            "write numbers without thousands marks"
        )
    decimal = next(iter(proofs), ".")
    return cells.apply(lambda column: column.map(lambda text: _plain(text, decimal), na_action="ignore"))


def _marked(cells: pd.DataFrame, numbers: Collection[str]) -> Iterator[Cell]:
    """The different cells of these columns that have a mark."""
    for name in (name for name in cells if name in numbers):
        firsts = cells[name].dropna().drop_duplicates()
        for row, text in firsts[firsts.str.contains(r"\d[.,]|[.,]\d")].items():
            yield Cell(int(str(row)) + 1, str(name), text.strip())


def _decimal_mark(text: str, whole: bool) -> str | None:
    """The decimal mark that a number proves; None if it has two readings, empty if it proves none or is no number."""
    bare = GROUPING.sub("", text)
    number = NUMBER.fullmatch(bare)
    if not number:
        return ""
    rest, exponent = number.group(2, 3)
    marks = re.findall("[.,]", rest)
    if len(set(marks)) == 2:
        return marks[-1] if marks.count(marks[-1]) == 1 and _grouped(bare, OTHER[marks[-1]]) else ""
    if len(marks) > 1:
        return OTHER[marks[0]] if _grouped(bare, marks[0]) else ""
    if exponent or bare != text or not _grouped(bare, marks[0]):
        return marks[0]
    return OTHER[marks[0]] if whole and not rest.endswith("000") else None


def _grouped(number: str, mark: str) -> bool:
    """Whether a mark may divide a number into thousands."""
    return bool(re.match(rf"[+-]?[1-9]\d{{0,2}}(\{mark}\d{{3}})+(?!\d|\{mark})", number))


def _plain(text: str, decimal: str) -> str:
    """A number with a decimal point and no thousands mark; any other text as it is."""
    bare = GROUPING.sub("", text.strip())
    if not NUMBER.fullmatch(bare):
        return text
    if _grouped(bare, OTHER[decimal]):
        bare = bare.replace(OTHER[decimal], "")
    return bare.replace(",", ".") if decimal == "," else bare
