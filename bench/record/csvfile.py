"""Write CSVs atomically, without cells that a spreadsheet would run as a formula."""

import csv
import functools
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from impls.files import open_whole


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of cells by column name; missing cells are empty."""
    lines(path, columns, _cells(columns, rows))


def text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The same CSV as text."""
    sheet = io.StringIO(newline="")
    _put(sheet, columns, _cells(columns, rows))
    return sheet.getvalue()


def lines(path: Path, columns: Sequence[str], cells: Iterable[Sequence[Any]]) -> None:
    """Write rows of cells in the order of ``columns``. The file is replaced atomically."""
    with open_whole(path, "w", newline="", encoding="utf-8") as file:
        _put(file, columns, cells)


class Growing(AbstractContextManager["Growing"]):
    """A CSV that is written as its rows come, so that an end in between keeps the rows before; OSError."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, columns

    def __enter__(self) -> "Growing":
        self.path.unlink(missing_ok=True)
        self.file = open(self.path, "x", newline="", encoding="utf-8")  # x fails at a link
        self._write([self.columns])
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of cells by column name; they are in the file when this returns."""
        self._write(_cells(self.columns, rows))

    def _write(self, cells: Iterable[Sequence[Any]]) -> None:
        _put_rows(self.file, cells)
        self.file.flush()


def _cells(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[Any]]:
    return ([row.get(name) for name in columns] for row in rows)


def _put(file: IO[str], columns: Sequence[str], cells: Iterable[Sequence[Any]]) -> None:
    _put_rows(file, itertools.chain([columns], cells))


def _put_rows(file: IO[str], cells: Iterable[Sequence[Any]]) -> None:
    csv.writer(file).writerows([inert(cell) if isinstance(cell, str) else cell for cell in row] for row in cells)


@functools.lru_cache(maxsize=1024)  # the id of a Case is in each of its samples
def inert(text: str) -> str:
    """Prefix text that a spreadsheet would run as a formula (a device named ``=cmd|...``) with an apostrophe; numbers
    and the ``- 17 -`` of ``steady_at`` are unchanged.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")) or not any(map(str.isalpha, text)):
        return text
    try:
        float(text)  # -1e5, -inf
    except ValueError:
        return f"'{text}"
    return text
