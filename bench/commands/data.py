"""`data`: what is in a folder of pictures, and some of them as a net sees them. Nothing is trained or timed.

What cannot be read ends nothing: it is named, skipped and counted.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bench import UsageError
from bench.commands.drawn import pictures_of
from bench.commands.plot import refuse_target
from bench.commands.requests import DataRequest
from bench.machine import signals
from bench.machine.scratch import scratch_folder
from bench.output import console, data_table
from bench.output.bar_line import BarLine
from bench.output.labels import counted
from bench.output.plots import contact_sheet
from bench.output.plots.contact_sheet import Tile
from bench.pictures import flowers, sample
from bench.pictures.listing import SUFFIXES, escaped, listed
from bench.pictures.preparer import prepare_all
from bench.pictures.survey import Survey
from impls.preprocessing import PREPROCESSINGS, Preprocessing
from impls.text import quoted

RESULTS = Path("results")  # folder of the contact sheet, unless --output names another


def main(request: DataRequest) -> int:
    drawn = flowers.meant(request.pictures)
    if request.save and not drawn:
        raise UsageError("--save: it keeps the drawn pictures; leave it out, or name `flowers` in place of a folder")
    name = str(flowers.WORD) if drawn else escaped(os.path.basename(os.path.abspath(request.pictures)) or "pictures")
    sheet = sheet_of(request, name)
    preprocessing = PREPROCESSINGS[request.preprocessing]
    preprocessing = preprocessing.at(request.size) if request.size else preprocessing
    with scratch_folder() if drawn and not request.save else contextlib.nullcontext(Path()) as scratch:
        folder = pictures_of(request.pictures, scratch, request.save)
        survey, interrupted = read(folder, preprocessing)
        data_table.tell_skipped(survey)
        refuse_empty(survey, folder)
        if not request.as_json:
            data_table.print_tables(survey, name)
        draw(survey, request, name, sheet)
    if request.as_json:
        found = data_table.as_json(survey, str(request.save or request.pictures))
        console.print_json(found | {"sheet": str(sheet), "interrupted": interrupted})
    else:
        console.say(f"Contact sheet: {escaped(str(sheet))}")
        if request.save:
            console.say(f"Drawn pictures: {escaped(str(request.save))}")
    if interrupted:
        console.tell(f"interrupted: {survey.done:,} of {counted(len(survey.states), 'file')} were read")
        return 130
    return 1 if request.strict and data_table.skipped(survey) else 0


def sheet_of(request: DataRequest, name: str) -> Path:
    """Where the contact sheet goes. Raises UsageError before pictures are read, if it could not be written there."""
    if request.output:
        refuse_target(request.output, (".png",))
        if not request.output.parent.is_dir():
            raise UsageError(
                f"--output: expected a folder at {quoted(str(request.output.parent))}, found none; make it"
            )
        return request.output
    try:
        RESULTS.mkdir(exist_ok=True)
    except OSError as error:
        why = f"cannot make a folder {quoted(str(RESULTS))} here: {error.strerror or error}"
        raise UsageError(f"{why}; name the contact sheet with --output FILE.png") from error
    word = re.sub(r"[^\w.-]+", "-", name).strip("-")[:60] or "pictures"
    return RESULTS / f"data-{word}.png"


def read(folder: Path, preprocessing: Preprocessing) -> tuple[Survey, bool]:
    """Read every picture of a folder, or those until it is interrupted, which is the second value."""
    survey = Survey(listed(folder), preprocessing)
    entries = survey.listing.entries
    found = prepare_all((entry.path for entry in entries), preprocessing)
    try:
        with contextlib.closing(found), BarLine() as progress:
            for picture in found:
                survey.add(picture)
                progress.on_pictures(survey.done, len(entries))
    except KeyboardInterrupt:
        if not len(survey.readable):
            raise
        signals.answered()
        return survey, True
    return survey, False


def refuse_empty(survey: Survey, folder: Path) -> None:
    """UsageError if no picture could be read."""
    if len(survey.readable):
        return
    if broken := len(survey.broken):
        found, advice = f"none that can be read of {counted(broken, 'file')}", "the lines above say why"
    else:
        found = f"none in it and none in its {counted(len(survey.listing.classes), 'folder')}"
        advice = "name a folder that has some"
    raise UsageError(f"{quoted(str(folder))}: expected pictures ({', '.join(SUFFIXES)}), found {found}; {advice}")


def draw(survey: Survey, request: DataRequest, name: str, sheet: Path) -> None:
    tiles = list(tiles_of(survey, request))
    preprocessing = survey.preprocessing
    crops = "cropped and flipped as in epoch 1" if request.augmented else "crops from the middle"
    what = f"{name}: {len(tiles):,} of {counted(len(survey.readable), 'picture')} as a net sees them"
    contact_sheet.draw(tiles, f"{what}; {preprocessing.name} at {preprocessing.size} px, {crops}", sheet)


def tiles_of(survey: Survey, request: DataRequest) -> Iterator[Tile]:
    for entry, pixels in sample.shown(survey, request.batch, request.seed, request.augmented):
        words = [entry.file] if entry.truth is None else [entry.truth, entry.file]
        yield Tile(pixels, "\n".join(map(escaped, words)))
