"""Frames: rows that plots are drawn from, read from Run folders or from CSVs, ours or any with the same columns, as a
spreadsheet saves them too.

Their text is fit to be drawn: no control characters, ``$`` escaped, long names cut. A number that is not finite is NaN.
"""

import codecs
import csv
import functools
import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import UsageError
from bench.output import console
from bench.record import layer_times, run
from bench.record.columns import COLUMNS
from impls.variants import VARIANTS

NEEDED = ("case_id", "variant", "framework", "mode", "device", "batch", "pass", "mean_ms")
SAMPLED = ("case_id", "round", "phase", "start_ns", "duration_ns")
PROFILED = ("variant", "layer", "kind", "framework", "mode", "pass", "center_ms")
#: Of a Case, what its samples are told apart by.
AXES = (
    "run_id variant framework mode device device_name precision layout lrn preset net batch pass threads size arm"
).split()
KNOWN = (*COLUMNS, *run.SAMPLE_COLUMNS, *layer_times.COLUMNS)
#: Columns that hold text, whatever it looks like; all others of ours hold numbers.
TEXT = frozenset(column.name for column in KNOWN if column.type in (str, bool))
NUMBERS = frozenset(column.name for column in KNOWN) - TEXT
WHOLE = frozenset(column.name for column in KNOWN if column.type is int)
FALSE = frozenset("false falsch faux falso onwaar 0".split())  # as spreadsheets save it in their own language
HUGE = 9e18  # of any unit; below it a whole number fits in 64 bits
LONGEST = {"case_id": 120}  # characters; ours have up to 70
LONG = 60

LATER_S = 5  # by which run.jsonl is newer than its tables where it went on; a checkout writes both at once
#: What must hold of a column's number, or of its text; and how that is said.
Rule = tuple[str, Callable[[pd.Series], pd.Series]]
NAMED: Rule = ("must not be empty", lambda column: column.notna())
FINITE: Rule = ("must be a number", lambda column: column.notna())
LENGTH: Rule = ("must be a number above 0", lambda column: column > 0)
COUNT: Rule = ("must be a whole number above 0", lambda column: (column > 0) & (column % 1 == 0))
INDEX: Rule = ("must be a whole number", lambda column: (column >= 0) & (column % 1 == 0))
IN_READ = {"variant": NAMED, "framework": NAMED, "pass": NAMED, "batch": COUNT, "mean_ms": LENGTH}
IN_SAMPLES = {"case_id": NAMED, "phase": NAMED, "round": INDEX, "start_ns": INDEX, "duration_ns": LENGTH}
IN_PROFILE = {"layer": NAMED, "framework": NAMED, "pass": NAMED, "center_ms": FINITE}


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Summary rows of CSV files or Run folders.

    Rows marked as not valid are left out; so are those that cannot be drawn, and stderr says which and why. A column
    that a file lacks is empty in its rows. UsageError names the file and the column that is missing, or says why no row
    is left.
    """
    frames, marked = [], 0
    notes: list[str] = []
    beside: list[str] = []
    for path in paths:
        file = _file(path, "summary.csv")
        cells = _cells(file, NEEDED, "summary.csv or a Run folder")
        valid = _valid(cells)
        frame = _kept(file, cells[valid], IN_READ, notes)
        marked += int((~valid).sum())
        beside += _set_aside(file, cells, valid)
        frames.append(frame)
    because = [f"{marked} marked as not valid"] if marked else []
    if any(len(frame) for frame in frames):
        notes += beside
    found = _joined(frames, notes, f"{_all(paths)}: no valid row with a mean_ms, nothing to draw", because)
    if (twice := found.duplicated()).any():
        _tell(f"{_all(paths)}: left out {twice.sum()} rows that stand there twice")
        found = found[~twice].reset_index(drop=True)
    known = {name: found[name].fillna("") if name in found else "" for name in ("case_id", "mode", "device", "arm")}
    return found.assign(**known)


def samples(paths: Sequence[Path]) -> pd.DataFrame:
    """Samples of samples.csv files or Run folders (or of the Run that a summary.csv belongs to), one row an iteration
    in the order of its table; of faults as ``read``, but samples that are not valid stay.

    Beside samples.csv's own columns: ``run_id``, and of the summary.csv next to it the Case's axes.
    """
    frames = []
    notes: list[str] = []
    for path in paths:
        file = _file(path.parent if path.name == "summary.csv" else path, "samples.csv")
        cells = _cells(file, SAMPLED, "samples.csv or a Run folder")
        frame = _kept(file, cells, IN_SAMPLES, notes)
        if (beside := file.with_name("summary.csv")).exists():
            cases = _typed(_cells(beside, ("case_id",), "summary.csv")).drop_duplicates("case_id")
            known = [name for name in AXES if name in cases and name not in frame]
            frame = frame.merge(cases[["case_id", *known]], on="case_id", how="left")
        folder = file.resolve().parent.name
        frame["run_id"] = frame["run_id"].fillna(folder) if "run_id" in frame else folder
        frames.append(frame)
    return _joined(frames, notes, f"{_all(paths)}: no sample, nothing to draw")


def profile(path: Path) -> pd.DataFrame:
    """Rows of a profile.csv, named or in a Run's folder, that have a time; of faults as ``read``."""
    file = path / "profile.csv" if os.path.isdir(path) else path
    cells = _cells(file, PROFILED, "profile.csv or the folder of a `profile`")
    notes: list[str] = []
    frame = _kept(file, cells[cells["center_ms"].notna()], IN_PROFILE, notes)
    return _joined([frame], notes, f"{file}: no row with a center_ms, nothing to draw")


def whole_nets(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out the layers that a profile timed as nets of their own; keep all rows if there are no others."""
    if "variant" not in rows:
        return rows
    net = rows["variant"].astype(str).str.split(".", n=1).str
    parts = net[0].isin(list(VARIANTS)) & net[1].notna()
    return rows[~parts] if not parts.all() else rows


def _file(path: Path, name: str) -> Path:
    """The CSV that is meant; derived first where a Run was killed before it had one, or went on since."""
    if not os.path.isdir(path):
        return path
    file, truth = path / name, path / "run.jsonl"
    there = file.exists()
    if not there and not truth.exists():
        raise UsageError(f"{path}: no Run there: expected a folder with {name} or run.jsonl in it")
    if there and not (truth.exists() and truth.stat().st_mtime > file.stat().st_mtime + LATER_S):
        return file
    try:
        run.Run(path).write()
    except OSError as error:
        if not there:
            raise UsageError(f"{path}: cannot write the {name} it lacks: {error.strerror}; copy the folder") from error
    except UsageError:  # of another schema
        if not there:
            raise
    return file


def _cells(file: Path, needed: Sequence[str], what: str) -> pd.DataFrame:
    """A table's cells as text, NaN where empty; numbers with a decimal point, whatever a spreadsheet wrote."""
    text = _text(file, what)
    try:
        separator, header, body = _opened(text, needed)
        missing = [name for name in needed if name not in header]
        if missing:
            raise UsageError(f"{file}: expected the columns {', '.join(needed)}; missing {', '.join(missing)}")
        table = _body(body, separator, len(header))
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{file}: cannot read: {str(error).strip()}; expected a {what}") from error
    if (wide := table[len(header)].notna().to_numpy()).any():
        raise UsageError(
            f"{file}, row {wide.argmax() + 1}: expected {len(header)} cells as in the first line, found more; with "
            "decimal commas, put semicolons between cells"
        )
    places = {name: header.index(name) for name in header if name}
    cells = table[list(places.values())].set_axis(list(places), axis=1)
    if separator != ",":
        numbers = [name for name in places if name in NUMBERS]
        marks = {mark: cells[numbers].map(lambda cell, mark=mark: mark in str(cell)).to_numpy() for mark in ",."}
        if marks[","].any() and marks["."].any():
            odd = cells[numbers].to_numpy()[marks["."]][0]
            raise UsageError(
                f"{file}: expected decimal commas as elsewhere in it, found {odd!r}; leave out marks of thousands"
            )
        for name in [name for name in places if name not in TEXT]:
            cells[name] = cells[name].map(lambda cell: cell.replace(",", "."), na_action="ignore")
    return cells[cells[needed[0]].notna() | cells.notna().any(axis=1)]  # a spreadsheet keeps empty lines


def _body(text: str, separator: str, width: int) -> pd.DataFrame:
    """Cells below the header, and a column for what is too much; "null" is a name, only nothing is missing."""
    names = range(width + 1)
    if not text.strip():
        return pd.DataFrame(columns=names, dtype=object)
    return pd.read_csv(
        io.StringIO(text),
        sep=separator,
        header=None,
        names=names,
        dtype=object,
        keep_default_na=False,
        na_values=[""],
        skipinitialspace=True,
    )


def _text(file: Path, what: str) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot read: {error.strerror}; expected a {what}") from error
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as a spreadsheet's "Unicode text" begins
    try:
        text = data.decode("utf-16" if data.startswith(marks) else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"{file}: not text in UTF-8; expected a {what}; a spreadsheet saves one as 'CSV UTF-8'")
    if not text.strip():
        raise UsageError(f"{file}: empty; expected a {what}")
    return text


def _opened(text: str, needed: Sequence[str]) -> tuple[str, list[str], str]:
    """What stands between cells, told by a first line ``sep=;`` or else by what finds most columns; the header's cells;
    and the text below it."""
    text = text.lstrip("\r\n")
    first = io.StringIO(text, newline="").readline()
    separators: Sequence[str] = (",", ";", "\t")
    if told := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):
        separators, text = told[1], text[len(first) :]
        first = io.StringIO(text, newline="").readline()
    headers = {sep: [name.strip() for name in next(csv.reader([first], delimiter=sep), [])] for sep in separators}
    separator = max(headers, key=lambda sep: len({*headers[sep]} & {*needed}))
    return separator, headers[separator], text[len(first) :]


def _kept(file: Path, cells: pd.DataFrame, rules: Mapping[str, Rule], notes: list[str]) -> pd.DataFrame:
    """The rows that every rule lets through; a note says of the others what is wrong with them."""
    frame, left, why = _typed(cells), pd.Series(True, cells.index), []
    for name, (must, holds) in rules.items():
        bad = left & ~holds(frame[name])
        if bad.any():
            shown = list(dict.fromkeys(_quoted(value) for value in cells[name][bad].unique()[:20]))
            why.append(f"{name} {must}, found {', '.join(shown[:3])}{', ...' if len(shown) > 3 else ''}")
            left &= ~bad
    if why:
        notes.append(f"{file}: left out {len(cells) - left.sum()} of {len(cells)} rows: {'; '.join(why)}")
    frame = frame[left]
    return frame.astype({name: "int64" for name in WHOLE if name in rules})


def _typed(cells: pd.DataFrame) -> pd.DataFrame:
    """Numbers as numbers, NaN where they are none or not finite; ``valid`` as True or False."""
    typed = {name: column if name in TEXT else _numbers(column, name in NUMBERS) for name, column in cells.items()}
    return pd.DataFrame(typed | {"valid": _valid(cells)}, cells.index)


def _numbers(column: pd.Series, sure: bool) -> pd.Series:
    """A column as numbers; one that we do not know stays text unless every cell is a number."""
    try:
        numbers = column.to_numpy().astype("float64")
    except ValueError:
        if not sure:
            return column
        numbers = np.array([_number(cell) for cell in column])
    finite = np.abs(numbers) < HUGE
    if finite.all() and (numbers % 1 == 0).all() and all(map(str.isdecimal, column.iloc[:1])):
        return pd.Series(numbers.astype("int64"), column.index)
    return pd.Series(np.where(finite, numbers, np.nan), column.index)


def _number(cell: str | float) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _valid(cells: pd.DataFrame) -> pd.Series:
    """False in rows that are marked so; True where nothing is said."""
    if "valid" not in cells:
        return pd.Series(True, cells.index)
    return ~cells["valid"].isin([cell for cell in cells["valid"].unique() if str(cell).lower() in FALSE])


def _set_aside(file: Path, cells: pd.DataFrame, valid: pd.Series) -> list[str]:
    """What to say of a file without rows, or with rows that are marked as not valid."""
    if cells.empty:
        return [f"{file}: no rows"]
    if valid.all():
        return []
    reasons = list(cells["invalid_reason"][~valid].dropna().unique()) if "invalid_reason" in cells else []
    why = f": {', '.join(map(_quoted, reasons[:3]))}" if reasons else ""
    return [f"{file}: left out {(~valid).sum()} of {len(cells)} rows, marked as not valid{why}"]


def _joined(frames: Sequence[pd.DataFrame], notes: Sequence[str], nothing: str, because: Sequence[str] = ()) -> Any:
    """All rows as one frame fit to be drawn, and what was left out told; UsageError where none is left."""
    full = [frame for frame in frames if len(frame)]
    if not full:
        raise UsageError(": ".join([nothing, *(["; ".join([*because, *notes])] if because or notes else [])]))
    for note in notes:
        _tell(note)
    found = pd.concat(full, ignore_index=True)
    texts = found.select_dtypes(exclude=["number", "bool"])
    return found.assign(**{str(name): _drawable(column) for name, column in texts.items()})


@functools.cache
def _tell(note: str) -> None:
    """Once: one file is read for several pictures."""
    console.tell(note)


def _drawable(column: pd.Series) -> pd.Series:
    """A column's text as a picture can show it, literally; two that differ stay two."""
    shown: dict[str, str] = {}
    taken: set[str] = set()
    for value in column.dropna().unique():
        text = _literal(value, LONGEST.get(str(column.name), LONG))
        shown[value] = text if text not in taken else f"{text} ({len(taken)})"
        taken.add(shown[value])
    return column.map(shown) if any(value != text for value, text in shown.items()) else column


def _literal(value: str, longest: int = LONG) -> str:
    """One line without control characters, cut in its middle; ``$`` is escaped, or matplotlib reads a formula."""
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(value.split()))
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]}…{text[-longest // 4 :]}"
    return text.replace("$", r"\$")


def _quoted(cell: Any) -> str:
    return f"'{_literal(cell, 20)}'".replace(r"\$", "$") if isinstance(cell, str) else "nothing"


def _all(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
