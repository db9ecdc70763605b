"""Read the rows of plots from Run folders or CSVs: those of this program, or any with the same columns, also as saved
by a spreadsheet.

Text is made safe to draw: no control characters, ``$`` escaped, long names cut. Numbers that are not finite are NaN.
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
from bench.output.plots import marks
from bench.record import layer_times, run
from bench.record.columns import COLUMNS
from impls.variants import VARIANTS

NEEDED = ("case_id", "variant", "framework", "mode", "device", "batch", "pass", "mean_ms")
SAMPLED = ("case_id", "round", "phase", "start_ns", "duration_ns")
PROFILED = ("variant", "layer", "kind", "framework", "mode", "pass", "center_ms")
#: Columns of summary.csv that are added to the samples of a Case.
AXES = (
    *"run_id variant framework mode device device_name precision layout lrn preset net batch pass".split(),
    *"loader threads size world split arm".split(),
)
KNOWN = (*COLUMNS, *run.SAMPLE_COLUMNS, *layer_times.COLUMNS)
#: Known columns that hold text even if it looks like a number; the other known columns hold numbers.
TEXT = frozenset(column.name for column in KNOWN if column.type in (str, bool))
NUMBERS = frozenset(column.name for column in KNOWN) - TEXT
WHOLE = frozenset(column.name for column in KNOWN if column.type is int)
FALSE = frozenset("false falsch faux falso onwaar 0".split())  # as localized spreadsheets save it
HUGE = 9e18  # whole numbers below it fit in 64 bits
LONGEST = {"case_id": 120}  # characters; ids of this program have up to 70
LONG = 60  # characters of any other text

LATER_S = 5  # tables are stale if run.jsonl is newer by more than this; a checkout writes both at once
#: A condition on a column, in words and as a function.
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
    """Read the summary rows of CSV files or Run folders.

    Leaves out rows marked as not valid and rows that cannot be drawn; notes on stderr give the reasons. Columns that a
    file lacks are empty. Raises UsageError if a needed column is missing or no row is left.
    """
    frames, marked = [], 0
    notes: list[str] = []
    invalid: list[str] = []
    for path in paths:
        file = _file(path, "summary.csv")
        cells = _cells(file, NEEDED, "summary.csv or a Run folder")
        valid = _valid(cells)
        frame = _kept(file, cells[valid], IN_READ, notes)
        marked += int((~valid).sum())
        invalid += _invalid_notes(file, cells, valid)
        frames.append(frame)
    because = [f"{marked} marked as not valid"] if marked else []
    if any(len(frame) for frame in frames):
        notes += invalid
    rows = _concatenate(frames, notes, f"{_all(paths)}: no valid row with a mean_ms, nothing to draw", because)
    if (twice := rows.duplicated()).any():
        _tell(f"{_all(paths)}: left out {twice.sum()} duplicate rows")
        rows = rows[~twice].reset_index(drop=True)
    known = {name: rows[name].fillna("") if name in rows else "" for name in ("case_id", "mode", "device", "arm")}
    return rows.assign(**known)


def samples(paths: Sequence[Path]) -> pd.DataFrame:
    """Read the samples of samples.csv files or Run folders (or of the Run a summary.csv belongs to).

    Returns one row per iteration in the order of the file, with ``run_id`` and the AXES of the Case from the
    summary.csv next to it. Samples marked as not valid are kept; duplicate rows too. Raises UsageError if a needed
    column is missing or no row is left.
    """
    frames = []
    notes: list[str] = []
    for path in paths:
        file = _file(path.parent if path.name == "summary.csv" else path, "samples.csv")
        cells = _cells(file, SAMPLED, "samples.csv or a Run folder")
        frame = _kept(file, cells, IN_SAMPLES, notes)
        if (summary := file.with_name("summary.csv")).exists():
            cases = _typed(_cells(summary, ("case_id",), "summary.csv")).drop_duplicates("case_id")
            known = [name for name in AXES if name in cases and name not in frame]
            frame = frame.merge(cases[["case_id", *known]], on="case_id", how="left")
        folder = file.resolve().parent.name
        frame["run_id"] = frame["run_id"].fillna(folder) if "run_id" in frame else folder
        frames.append(frame)
    return _concatenate(frames, notes, f"{_all(paths)}: no sample, nothing to draw")


def profile(path: Path) -> pd.DataFrame:
    """Read the rows of a profile.csv or of a Run folder that have a time; otherwise like ``read``."""
    file = path / "profile.csv" if os.path.isdir(path) else path
    cells = _cells(file, PROFILED, "profile.csv or the folder of a `profile`")
    notes: list[str] = []
    frame = _kept(file, cells[cells["center_ms"].notna()], IN_PROFILE, notes)
    return _concatenate([frame], notes, f"{file}: no row with a center_ms, nothing to draw")


def whole_nets(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop the layers and parts that a profile timed as nets; keep all rows if there are no others."""
    if "variant" not in rows:
        return rows
    net = rows["variant"].astype(str).str.split(".", n=1).str
    parts = net[0].isin(list(VARIANTS)) & net[1].notna()
    if "net" in rows:
        parts |= rows["net"].astype(str).str.contains(":")
    return rows[~parts] if not parts.all() else rows


def _file(path: Path, name: str) -> Path:
    """Return the path of a table, deriving it first if the Run has none yet or was resumed since."""
    if not os.path.isdir(path):
        return path
    file, truth = path / name, path / "run.jsonl"
    there = file.exists()
    if not there and not truth.exists():
        raise UsageError(f"{path}: not a Run: expected a folder with {name} or run.jsonl in it")
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
    """Read a table as text, NaN for empty cells; between semicolons or tabs numbers may have marks of a spreadsheet."""
    text = _text(file, what)
    try:
        separator, header, body = _split_header(text, needed)
        missing = [name for name in needed if name not in header]
        if missing:
            raise UsageError(f"{file}: expected the columns {', '.join(needed)}; missing {', '.join(missing)}")
        if twice := [name for name in dict.fromkeys(header) if name in {*TEXT, *NUMBERS} and header.count(name) > 1]:
            raise UsageError(f"{file}: expected each column once, found several of {', '.join(twice)}; keep one")
        table = _body(body, separator, len(header))
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{file}: cannot read: {str(error).strip()}; expected a {what}") from error
    if (wide := table[len(header)].notna().to_numpy()).any():
        raise UsageError(
            f"{file}, row {wide.argmax() + 1}: expected {len(header)} cells as in the first line, found more; with "
            "decimal commas, separate cells with semicolons"
        )
    places = {name: header.index(name) for name in header if name}
    cells = table[list(places.values())].set_axis(list(places), axis=1)
    if separator != ",":
        known = marks.with_points(file, cells[[name for name in places if name not in TEXT]], NUMBERS, WHOLE)
        cells = cells.assign(**{str(name): column for name, column in known.items()})
    return cells[cells[needed[0]].notna() | cells.notna().any(axis=1)]  # without the empty lines of a spreadsheet


def _body(text: str, separator: str, width: int) -> pd.DataFrame:
    """Parse the cells below the header, with an extra column for surplus cells; only empty cells are missing, "null" is
    a name."""
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
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # "Unicode text" of a spreadsheet
    try:
        text = data.decode("utf-16" if data.startswith(marks) else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"{file}: not text in UTF-8; expected a {what}; a spreadsheet saves one as 'CSV UTF-8'")
    if not text.strip():
        raise UsageError(f"{file}: empty; expected a {what}")
    return text


def _split_header(text: str, needed: Sequence[str]) -> tuple[str, list[str], str]:
    """Return the separator (from a first line ``sep=;``, else the one that yields most needed columns), the header's
    cells, and the text below it. Raises ValueError for a line that the csv module does not take."""
    text = text.lstrip("\r\n")
    first = io.StringIO(text, newline="").readline()
    separators: Sequence[str] = (",", ";", "\t")
    if declared := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):
        separators, text = declared[1], text[len(first) :]
        first = io.StringIO(text, newline="").readline()
    if len(first) > csv.field_size_limit():
        raise ValueError(f"its first line has {len(first):,} characters, above {csv.field_size_limit():,}")
    headers = {sep: [name.strip() for name in next(csv.reader([first], delimiter=sep), [])] for sep in separators}
    separator = max(headers, key=lambda sep: len({*headers[sep]} & {*needed}))
    return separator, headers[separator], text[len(first) :]


def _kept(file: Path, cells: pd.DataFrame, rules: Mapping[str, Rule], notes: list[str]) -> pd.DataFrame:
    """Return the rows that satisfy every rule, and append a note on the others."""
    frame, left, why = _typed(cells), pd.Series(True, cells.index), []
    for name, (must, holds) in rules.items():
        bad = left & ~holds(frame[name])
        if name == "batch":
            bad &= ~(cells[name].isna() & uncounted(frame))
        if bad.any():
            found = list(dict.fromkeys(_quoted(value) for value in cells[name][bad].unique()[:20]))
            why.append(f"{name} {must}, found {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}")
            left &= ~bad
    if why:
        notes.append(f"{file}: left out {len(cells) - left.sum()} of {len(cells)} rows: {'; '.join(why)}")
    frame = frame[left]
    return frame.astype({name: "int64" for name in WHOLE if name in rules and frame[name].notna().all()})


def uncounted(rows: pd.DataFrame) -> pd.Series:
    """True for rows of other programs' benchmarks: their table has images per second, and they have none."""
    return rows["images_per_s"].isna() if "images_per_s" in rows else pd.Series(False, rows.index)


def _typed(cells: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of numbers, NaN for anything else or not finite, and ``valid`` to bool."""
    typed = {name: column if name in TEXT else _numbers(column, name in NUMBERS) for name, column in cells.items()}
    return pd.DataFrame(typed | {"valid": _valid(cells)}, cells.index).copy()  # in few blocks, for later `assign`


def _numbers(column: pd.Series, sure: bool) -> pd.Series:
    """Convert a column to numbers; one that is not ``sure`` to hold numbers stays text unless every cell is one."""
    try:
        numbers = column.to_numpy().astype("float64")
    except ValueError:
        if not sure:
            return column
        numbers = np.array([_parse_number(cell) for cell in column])
    finite = np.abs(numbers) < HUGE
    if finite.all() and (numbers % 1 == 0).all() and all(map(str.isdecimal, column.iloc[:1])):
        return pd.Series(numbers.astype("int64"), column.index)
    return pd.Series(np.where(finite, numbers, np.nan), column.index)


def _parse_number(cell: str | float) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _valid(cells: pd.DataFrame) -> pd.Series:
    """Return False for rows marked as not valid, else True."""
    if "valid" not in cells:
        return pd.Series(True, cells.index)
    return ~cells["valid"].isin([cell for cell in cells["valid"].unique() if str(cell).lower() in FALSE])


def _invalid_notes(file: Path, cells: pd.DataFrame, valid: pd.Series) -> list[str]:
    """Notes on a file that has no rows, or rows marked as not valid."""
    if cells.empty:
        return [f"{file}: no rows"]
    if valid.all():
        return []
    reasons = list(cells["invalid_reason"][~valid].dropna().unique()) if "invalid_reason" in cells else []
    why = f": {', '.join(map(_quoted, reasons[:3]))}" if reasons else ""
    return [f"{file}: left out {(~valid).sum()} of {len(cells)} rows, marked as not valid{why}"]


def _concatenate(
    frames: Sequence[pd.DataFrame], notes: Sequence[str], nothing: str, because: Sequence[str] = ()
) -> pd.DataFrame:
    """Concatenate the frames, make their text drawable and print the notes; raise UsageError if no row is left."""
    full = [frame for frame in frames if len(frame)]
    if not full:
        raise UsageError(": ".join([nothing, *(["; ".join([*because, *notes])] if because or notes else [])]))
    for note in notes:
        _tell(note)
    rows = pd.concat(full, ignore_index=True)
    texts = rows.select_dtypes(exclude=["number", "bool"])
    return rows.assign(**{str(name): _drawable(column) for name, column in texts.items()}).copy()


@functools.cache
def _tell(note: str) -> None:
    """Print a note once, though a file is read for several plots."""
    console.tell(note)


def _drawable(column: pd.Series) -> pd.Series:
    """Make a column's text drawable; different values stay different."""
    texts: dict[str, str] = {}
    taken: set[str] = set()
    for value in column.dropna().unique():
        text = literal(value, LONGEST.get(str(column.name), LONG))
        texts[value] = text if text not in taken else f"{text} ({len(taken)})"
        taken.add(texts[value])
    return column.map(texts) if any(value != text for value, text in texts.items()) else column


def literal(value: str, longest: int) -> str:
    """One line without control characters, cut in the middle; ``$`` is escaped, or matplotlib parses a formula."""
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(value.split()))
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]}…{text[-longest // 4 :]}"
    return text.replace("$", r"\$")


def _quoted(cell: Any) -> str:
    return f"'{literal(cell, 20)}'".replace(r"\$", "$") if isinstance(cell, str) else "nothing"


def _all(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
