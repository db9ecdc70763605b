"""What pictures were taken for: of a few files their classes with bars, of many the accuracy and where it fails."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import to_builtins

from bench.controller.predicted import FEW, Predicted, Shown
from bench.output import console, run_table
from bench.output.labels import counted
from bench.output.tables import Cell, Column, Table
from bench.record.differences import Differences
from bench.record.prediction import Accuracy, Outcome, Rate, Settings
from bench.record.tally import TOP
from bench.stats.binomial import Share
from impls.text import one_line

BAR = 30  # characters
MOST_CLASSES = 30  # in a table; of more the least accurate
MOST_MISTAKES = 5  # by name


def print_predicted(settings: Settings, found: Predicted) -> None:
    heading = f"{settings.variant} at {settings.size} px, weights {settings.weights.file}, {describe_classes(settings)}"
    console.say(f"{heading}, {settings.preprocessing.name} preprocessing")
    if found.files <= FEW:
        for shown in found.shown:
            print_shown(shown)
    if any(tally.total for tally in found.tallies.values()):
        print_accuracy(found)
        if found.files > FEW:
            print_by_class(found)
            for mistake in found.mistakes[:MOST_MISTAKES]:
                taken = f"taken for {mistake.predicted} ({mistake.probability:.3f})"
                console.say(f"worst mistake: {mistake.name}: {mistake.truth}, {taken}")
    elif found.files > FEW:
        run_table.print_table(taken_table(found))
    for line in remarks(found):
        console.say(line)


def taken_table(found: Predicted) -> Table:
    """How many pictures each class is the most probable of, of many classes the most frequent."""
    most = found.taken.most_common(MOST_CLASSES)
    columns = [Column("most probable class"), Column("pictures", numeric=True), Column("")]
    total = sum(found.taken.values())
    rows = [[Cell(name), Cell(f"{count:,}", count), Cell(bar(count / total))] for name, count in most]
    more = f": the {len(most)} most frequent of {len(found.taken)} classes" if len(found.taken) > len(most) else ""
    return Table(f"{found.frameworks[0]}, {counted(total, 'picture')}{more}", columns, rows)


def describe_classes(settings: Settings) -> str:
    return f"{len(settings.classes):,} classes named by {settings.classes_from}"


def print_shown(shown: Shown) -> None:
    """The classes of one file, in the order of its first framework, with the probabilities of all."""
    title = shown.name if shown.truth is None else f"{shown.name} (class folder {shown.truth})"
    rows = [row for row in shown.rows if row.guesses]
    for row in shown.rows:
        if row.error:
            console.say(f"{shown.name}: {row.framework}: {row.error}")
    if not rows:
        return
    console.say(one_line(title))  # a title in the table would be broken at its width
    table = console.new_table("")
    table.add_column("class")
    for row in rows:
        table.add_column(row.framework if len(rows) > 1 else "probability", justify="right")
    table.add_column("", min_width=BAR)
    for guess in rows[0].guesses:
        known = [{each.name: each.probability for each in row.guesses}.get(guess.name) for row in rows]
        cells = ["" if value is None else f"{value:.4f}" for value in known]
        table.add_row(guess.name, *cells, bar(guess.probability))
    console.console().print(table)


def bar(share: float) -> str:
    return "#" * round(BAR * share)


def interval(rate: Rate | Share | None) -> str:
    return f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]" if rate else ""


def print_accuracy(found: Predicted) -> None:
    run_table.print_table(accuracy_table(found.accuracy))
    if len(found.classes) <= TOP:
        console.say(f"No top-5: of {len(found.classes)} classes the first {TOP} are always right")


def accuracy_table(accuracy: Mapping[str, Accuracy]) -> Table:
    """One row per framework; top-5 where it says something."""
    with_top5 = any(each.top5 for each in accuracy.values())
    columns = [Column("framework"), Column("pictures", numeric=True), Column("top-1 [95 %]", numeric=True)]
    columns += [Column("top-5 [95 %]", numeric=True)] if with_top5 else []
    rows = []
    for framework, each in accuracy.items():
        cells = [Cell(framework), Cell(f"{each.pictures:,}", each.pictures), _rate(each.top1), _rate(each.top5)]
        rows.append(cells[: len(columns)])
    return Table("Accuracy", columns, rows)


def _rate(rate: Rate | None) -> Cell:
    return Cell(interval(rate), rate.value if rate else None)


def print_by_class(found: Predicted) -> None:
    """Accuracy per class in the first framework, of many classes the lowest."""
    framework = found.frameworks[0]
    by_class = found.tallies[framework].by_class()
    worst = sorted(by_class, key=lambda place: (by_class[place].value, place))[:MOST_CLASSES]
    places = worst if len(by_class) > MOST_CLASSES else list(by_class)
    title = f"{framework}, per class"
    if len(places) < len(by_class):
        title += f": the {len(places)} least accurate of {len(by_class)}"
    table = console.new_table(title)
    for number, name in enumerate(("class", "pictures", "accuracy [95 %]", "")):
        table.add_column(name, justify="right" if number in (1, 2) else "left")
    for place in places:
        right = by_class[place]
        table.add_row(found.classes.shown[place], f"{right.total:,}", interval(right), bar(right.value))
    console.console().print(table)


def remarks(found: Predicted) -> Iterator[str]:
    """Lines on what was done to pictures, and on how far frameworks are apart."""
    for note, count in found.notes.most_common(FEW):
        yield f"{counted(count, 'picture')}: {note}"
    for framework, count in found.not_finite.items():
        yield f"{framework}: {counted(count, 'picture')} without a prediction: logits that are not finite"
    if len(found.frameworks) > 1:
        yield from _apart(found)


def _apart(found: Predicted) -> Iterator[str]:
    apart: Differences = found.differences
    if not apart.pictures:
        return
    yield (
        f"Largest difference of logits between {', '.join(found.frameworks)}: {apart.largest:.1e} of the largest "
        f"absolute logit, {apart.scale:.4g}"
    )
    if not apart.differing:
        yield f"The most probable class is the same in all of them for each of {counted(apart.pictures, 'picture')}"
        return
    what = f"{apart.differing:,} of {counted(apart.pictures, 'picture')}"
    ties = f", {apart.ties:,} of them ties, which rounding decides" if apart.ties else ""
    yield f"The most probable class differs in {what}{ties}:"
    for each in apart.parted:
        taken = ", ".join(f"{framework} {found.classes.shown[place]}" for framework, place in each.classes.items())
        yield f"  {each.name}: {taken}; apart by {each.margin:.1e}{' (a tie)' if each.tie else ''}"
    if apart.differing > len(apart.parted):
        yield f"  and {apart.differing - len(apart.parted):,} more, in record.csv"


def as_json(settings: Settings, found: Predicted, outcome: Outcome, folder: str) -> dict[str, Any]:
    names, apart = found.classes.shown, found.differences
    compared = {
        "pictures": apart.pictures,
        "largest_difference": apart.largest,
        "largest_logit": apart.scale,
        "differing": apart.differing,
        "ties": apart.ties,
        "files": [
            {"file": each.name, "margin": each.margin, "tie": each.tie}
            | {"classes": {framework: names[place] for framework, place in each.classes.items()}}
            for each in apart.parted
        ],
    }
    return {
        "folder": folder,
        "settings": to_builtins(settings),
        "outcome": to_builtins(outcome),
        "per_class": {
            framework: {names[place]: _share(right) for place, right in tally.by_class().items()}
            for framework, tally in found.tallies.items()
        },
        "mistakes": [
            {"file": each.name, "truth": each.truth, "predicted": each.predicted, "probability": each.probability}
            for each in found.mistakes
        ],
        "differences": compared if len(found.frameworks) > 1 else None,
        "pictures": [to_builtins(row) for shown in found.shown for row in shown.rows] if found.files <= FEW else None,
        "problems": found.problems,
    }


def _share(share: Share) -> dict[str, Any]:
    return {"pictures": share.total, "accuracy": share.value, "interval": [share.low, share.high]}
