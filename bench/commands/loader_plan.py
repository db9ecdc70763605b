"""The plan of a Run with loaders: their Cases, and the pictures that they deliver, each decoded once before."""

import dataclasses
import hashlib
import itertools
import statistics
from collections import Counter
from pathlib import Path

from bench import UsageError
from bench.cases.arm import parse_ab
from bench.cases.passes import DEFAULT_PASSES, FED, LOAD, STEP
from bench.commands.drawn import pictures_of
from bench.commands.plan import Plan, plan_run
from bench.commands.requests import RunRequest
from bench.controller.source import Source
from bench.output import console
from bench.output.feeding_table import describe_pictures
from bench.output.labels import counted
from bench.pictures import flowers
from bench.pictures.listing import Entry, listed
from bench.pictures.preparer import prepare_all
from bench.record.events import Pictures
from impls.loader import PREPROCESSING
from impls.pictures import PictureError
from impls.preprocessing import PREPROCESSINGS, Preprocessing
from impls.text import one_line, quoted

#: Of a larger folder as many, evenly spread: more than a Run of a few minutes takes.
MOST_PICTURES = 2000
#: What all loaders decode.
FORMATS = ("JPEG", "PNG", "GIF", "BMP")
#: Samples per Turn at least; more for more workers, which deliver in bursts of as many batches.
LEAST_TURN = 4


def plan_with_loaders(request: RunRequest, scratch: Path) -> Plan:
    """The plan of `run --loaders`: training steps, and for each a Case per number of workers and pass with a loader.

    Pictures that are drawn, and their listing, are in ``scratch``. Raises UsageError.
    """
    for option, given in (("--net", request.net), ("--protocol classic", request.protocol == "classic")):
        if given:
            raise UsageError(f"{option}: loaders feed our nets in alternating turns; leave it or --loaders out")
    if request.ab and (ab := parse_ab(request.ab)).key == "slowdown" and set(map(float, ab.values)) != {0.0}:
        raise UsageError("--ab slowdown: a loader is not slowed down; expected 0,0, or leave --loaders out")
    named = () if tuple(request.pass_) == DEFAULT_PASSES else request.pass_
    plan = plan_run(dataclasses.replace(request, pass_=tuple(dict.fromkeys([*named, STEP.name])), input=None))
    preprocessing = PREPROCESSINGS[request.preprocessing or PREPROCESSING]
    source, cases = source_of(Path(request.input or flowers.WORD), preprocessing, scratch), list(plan.cases)
    for step in (case for case in plan.cases if case.pass_ == STEP.name):
        if step.net.classes < source.facts.classes:
            raise UsageError(
                f"--input: expected at most the {step.net.classes} classes of {step.variant}, found "
                f"{source.facts.classes} folders; choose another --variant"
            )
        for workers, timed in itertools.product(request.loaders or (), (LOAD, FED)):
            cases.append(dataclasses.replace(step, pass_=timed.name, loader=workers))
    turn = max(LEAST_TURN, *(request.loaders or ()))
    iterations = max(request.iterations or 0, 2 * turn)
    protocol = dataclasses.replace(plan.protocol, loader_turn=turn, iterations=iterations, least_iterations=None)
    more = request.iterations is not None and request.iterations < iterations
    note = f"--iterations: {iterations}, two turns, which have as many samples as workers and at least {LEAST_TURN}"
    return Plan(cases, protocol, dataclasses.replace(plan.settings, source=source), note if more else plan.note)


def source_of(folder: Path, preprocessing: Preprocessing, scratch: Path) -> Source:
    """Decode the pictures of a folder once and list those that every loader reads as they are.

    Those with a note are left out, such as an EXIF orientation, which frameworks' decoders do not obey. UsageError if
    none is left.
    """
    try:
        listing = listed(pictures_of(folder, scratch))
    except UsageError as error:
        raise UsageError(f"--input: {error}") from error
    every = len(listing.entries)
    count = min(every, MOST_PICTURES)
    entries = [listing.entries[place * every // count] for place in range(count)]
    left_out, kept, sizes = Counter[str](), list[Entry](), list[tuple[int, int]]()
    found = prepare_all((entry.path for entry in entries), preprocessing)
    for entry, picture in zip(entries, found, strict=True):
        if isinstance(picture, PictureError):
            left_out["not readable"] += 1
        elif picture.format not in FORMATS:
            left_out[f"{picture.format}, which not every loader reads"] += 1
        elif picture.notes:
            left_out.update(picture.notes[:1])
        else:
            kept.append(entry)
            sizes.append((picture.width, picture.height))
    if every > count:
        left_out[f"{count:,}, evenly spread, are enough"] = every - count
    if not kept:
        reasons = "; ".join(f"{counted(count, 'file')} ({why})" for why, count in left_out.items()) or "none"
        raise UsageError(one_line(f"--input: expected pictures in {quoted(str(folder))}, found {reasons}"))
    classes = sorted({entry.truth or "" for entry in kept})
    widths, heights = zip(*sizes, strict=True)
    facts = Pictures(
        folder=None if flowers.meant(folder) else folder.resolve().name,
        names=hashlib.sha256("\n".join(entry.name for entry in kept).encode()).hexdigest(),
        count=len(kept),
        classes=len(classes),
        left_out=dict(left_out),
        preprocessing=preprocessing,
        width=statistics.median(widths),
        height=statistics.median(heights),
        file_bytes=statistics.fmean(entry.path.stat().st_size for entry in kept),
    )
    console.tell(describe_pictures(facts))
    labels = tuple(classes.index(entry.truth or "") for entry in kept)
    return Source(tuple(str(entry.path.absolute()) for entry in kept), labels, facts, scratch)
