"""What a Survey of pictures found: a table of classes, lines for what concerns all pictures, and the colors."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from bench.output import console
from bench.output.labels import counted
from bench.pictures.listing import SUFFIXES, escaped
from bench.pictures.survey import ClassCounts, Copies, Survey
from impls.text import one_line

MOST_ROWS = 1000  # classes in the table
MOST_KINDS = 8  # formats or notes in a line
MOST_GROUPS, MOST_NAMES = 5, 4  # of copies
NO_CLASS = "(no class)"
COLUMNS = ("class", "pictures", "to train on", "held out", "broken")


def problems(survey: Survey) -> list[str]:
    """One line per file or folder that was skipped, those of the listing first."""
    return [*survey.listing.problems, *survey.broken]


def skipped(survey: Survey) -> int:
    """Files and folders that were skipped, and classes that some file systems would take for another."""
    listing = survey.listing
    return len(problems(survey)) + listing.others + listing.deeper + len(listing.alike)


def tell_skipped(survey: Survey) -> None:
    """Name what was skipped on stderr, the first few of each kind."""
    listing, lines = survey.listing, problems(survey)
    for line in lines[: console.MOST_PROBLEMS]:
        console.tell(line)
    if (more := len(lines) - console.MOST_PROBLEMS) > 0:
        console.tell(f"and {more:,} more; --json names all")
    for alike in listing.alike[: console.MOST_PROBLEMS]:
        console.tell(f"classes whose names differ in case only, which some file systems take for one: {alike}")
    if listing.others:
        console.tell(f"ignored: {counted(listing.others, 'file')} of other kinds than {', '.join(SUFFIXES)}")
    if listing.deeper:
        console.tell(f"ignored: {counted(listing.deeper, 'folder')} within the folders of classes")


def print_tables(survey: Survey, name: str) -> None:
    """Of one or more pictures that can be read."""
    rows = survey.rows()
    read = len(survey.readable)
    classes = f"{len(survey.listing.classes):,} class{'' if len(survey.listing.classes) == 1 else 'es'}"
    table = console.new_table(one_line(f"{name}: {counted(read, 'picture')}, {classes}"))
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*_cells(row))
    if len(rows) > MOST_ROWS:
        table.add_row(f"and {len(rows) - MOST_ROWS:,} more")
    if len(rows) > 1:
        figures = [sum(column) for column in zip(*(dataclasses.astuple(row)[1:] for row in rows), strict=True)]
        table.add_section()
        table.add_row(*_cells(ClassCounts("all", *figures)))
    console.console().print(table)
    for line in lines(survey):
        console.say(line)
    for line in warnings(survey):
        console.console().print(line, style="bold red", soft_wrap=True)
    if survey.colors.count:
        _print_colors(survey)


def _cells(row: ClassCounts) -> Iterator[str]:
    yield NO_CLASS if row.name is None else escaped(row.name)
    sides = ("", "") if row.name is None else (f"{row.training:,}", f"{row.held_out:,}")
    yield from (f"{row.pictures:,}", *sides, f"{row.broken:,}")


def lines(survey: Survey) -> Iterator[str]:
    """What concerns all pictures: sizes, formats, notes, copies."""
    sizes, read, total = survey.sizes(), len(survey.readable), len(survey.states)
    if survey.done < total:
        yield f"Stopped after {survey.done:,} of {counted(total, 'file')}."
    least, median, largest = (f"{width:,} x {height:,}" for width, height in (sizes.least, sizes.median, sizes.largest))
    side = survey.preprocessing.side
    enlarged = f"{sizes.enlarged:,} of {read:,} have a side below {side} and are enlarged"
    yield f"Sizes: {least} (least), {median} (median), {largest} (largest) pixels; {enlarged}."
    formats = [f"{count:,} {kind} {mode}" for (kind, mode), count in survey.formats.most_common()]
    yield f"Formats: {some(formats)}."
    if survey.notes:
        yield f"Notes: {some([f'{count:,} {note}' for note, count in survey.notes.most_common()])}."
    if survey.copies:
        surplus = sum(len(group.places) - 1 for group in survey.copies)
        groups = f"{len(survey.copies):,} group{'' if len(survey.copies) == 1 else 's'}"
        yield f"Copies: {counted(surplus, 'picture')} with the pixels of another, in {groups}."
        yield from (f"  {names(survey, group)}" for group in survey.copies[:MOST_GROUPS])
        if len(survey.copies) > MOST_GROUPS:
            yield f"  and {len(survey.copies) - MOST_GROUPS:,} more; --json names all"
    else:
        yield "Copies: none; no two pictures have the same pixels."


def some(kinds: Sequence[str]) -> str:
    more = len(kinds) - MOST_KINDS
    return one_line(", ".join([*kinds[:MOST_KINDS], *([f"and {more:,} other kinds"] if more > 0 else [])]))


def names(survey: Survey, group: Copies) -> str:
    """The first pictures of a group, and where they are if they falsify an accuracy."""
    more = len(group.places) - MOST_NAMES
    shown = [survey.listing.entries[place].name for place in group.places[:MOST_NAMES]]
    rest = f" and {more:,} more" if more > 0 else ""
    sides = "trained on and held out" if group.split else ""
    where = ", ".join(filter(None, (sides, "several classes" if group.classes else "")))
    return one_line(f"{' = '.join(shown)}{rest}{f' ({where})' if where else ''}")


def warnings(survey: Survey) -> Iterator[str]:
    """Which copies falsify an accuracy."""
    if split := sum(group.split for group in survey.copies):
        yield (
            f"WARNING: {counted(split, 'picture')} {_is_are(split)} both trained on and held out: the accuracy is "
            "better than that on new pictures; remove the copies"
        )
    if classes := sum(group.classes for group in survey.copies):
        yield (
            f"WARNING: {counted(classes, 'picture')} {_is_are(classes)} in several classes: no net can be right about "
            "all of their copies; keep one of each"
        )


def _is_are(count: int) -> str:
    return "is" if count == 1 else "are"


def _print_colors(survey: Survey) -> None:
    """Mean and standard deviation of each channel, next to what the preprocessing takes for them."""
    preprocessing, colors = survey.preprocessing, survey.colors
    reverse = -1 if preprocessing.colors == "BGR" else 1
    given = list(zip(preprocessing.subtract, preprocessing.divide, strict=True))[::reverse]
    of = "the pictures to train on" if survey.labeled else "all pictures"
    table = console.new_table(f"Colors of {of}, resized to {preprocessing.side} x {preprocessing.side}")
    found = ("mean", "stddev", "mean / 255", "stddev / 255")
    for number, column in enumerate(("channel", *found, f"{preprocessing.name}: subtract", "divide")):
        table.add_column(column, justify="right" if number else "left")
    for name, mean, stddev, (subtract, divide) in zip(
        ("red", "green", "blue"), colors.mean, colors.stddev, given, strict=True
    ):
        scaled = (f"{mean / 255:.4f}", f"{stddev / 255:.4f}")
        table.add_row(name, f"{mean:.2f}", f"{stddev:.2f}", *scaled, f"{subtract:g}", f"{divide:g}")
    console.console().print(table)


def as_json(survey: Survey, folder: str) -> dict[str, Any]:
    """All figures and all names; ``sheet`` and ``interrupted`` are added by the command."""
    listing, entries = survey.listing, survey.listing.entries
    colors = survey.colors
    return {
        "folder": folder,
        "preprocessing": dataclasses.asdict(survey.preprocessing),
        "pictures": len(survey.readable),
        "classes": [
            dataclasses.asdict(row) | {"name": None if row.name is None else escaped(row.name)} for row in survey.rows()
        ],
        "sizes": dataclasses.asdict(survey.sizes()),
        "formats": [
            {"format": kind, "mode": mode, "pictures": count} for (kind, mode), count in survey.formats.most_common()
        ],
        "notes": dict(survey.notes.most_common()),
        "copies": [
            {
                "pictures": [entries[place].name for place in group.places],
                "split": group.split,
                "classes": group.classes,
            }
            for group in survey.copies
        ],
        "colors": {"mean": colors.mean.tolist(), "stddev": colors.stddev.tolist()} if colors.count else None,
        "skipped": problems(survey),
        "other_files": listing.others,
        "deeper_folders": listing.deeper,
        "alike_classes": listing.alike,
    }
