"""Results of a training: one row per framework, and what to make of them."""

from collections.abc import Iterator
from typing import Any

from msgspec import to_builtins

from bench.output import console, run_table
from bench.output.console import percent
from bench.output.tables import Cell, Column, Table
from bench.record.training import BEST, Trained

COLUMNS = (
    Column("framework"),
    *(Column(name, numeric=True) for name in ("best held-out accuracy [95 %]", "epoch", "last", "images/s")),
    Column("s per epoch", numeric=True),
)


def print_table(trained: Trained) -> None:
    run_table.print_table(table(trained))
    for line in remarks(trained):
        console.say(line)


def table(trained: Trained) -> Table:
    """One row per framework."""
    settings = trained.settings
    named = f"{settings.variant} at {settings.size} px, {len(settings.classes)} classes, batch {settings.batch}"
    rows = [_row(trained, framework) for framework in settings.frameworks]
    return Table(f"{named}, rate {settings.lr:g}, seed {settings.seed}", COLUMNS, rows)


def _row(trained: Trained, framework: str) -> list[Cell]:
    epochs, best = trained.of(framework), trained.best(framework)
    if best is None:
        return [Cell(framework), Cell("no epoch"), *[Cell("")] * (len(COLUMNS) - 2)]
    right, n = best.accuracy, len(epochs)
    last, rate = epochs[-1].held_out_accuracy, n / sum(1 / epoch.images_per_s for epoch in epochs)
    seconds = sum(epoch.seconds for epoch in epochs) / n
    return [
        Cell(framework),
        Cell(f"{right.value:.3f} [{right.low:.3f}, {right.high:.3f}]", right.value),
        Cell(f"{best.epoch} of {epochs[-1].epoch}", best.epoch),
        Cell(f"{last:.3f}", last),
        Cell(f"{rate:.0f}", rate),
        Cell(f"{seconds:.1f}", seconds),
    ]


def remarks(trained: Trained) -> Iterator[str]:
    yield (
        "Held out: about one picture in five, by a hash of its name. The accuracy of the best of several epochs is "
        "optimistic: it was chosen on the same pictures."
    )
    yield "images/s is progress, crops included; `alexnet-bench run --pass train_step` measures."
    for framework in trained.settings.frameworks:
        if (best := trained.best(framework)) and best.accuracy.low <= (chance := chance_of(trained, framework)):
            yield (
                f"{framework}: still at chance: the interval reaches {percent(chance)}, the share of the most frequent "
                "class; train longer, change --lr or --init, or hold out more pictures"
            )
        if best:
            yield f"{framework}: weights of its best epoch: {trained.folder / framework / BEST}"


def chance_of(trained: Trained, framework: str) -> float:
    """Accuracy of always naming the class that most held-out pictures have."""
    counts = trained.confusion[framework].sum(1)
    return float(counts.max() / counts.sum())


def as_json(trained: Trained) -> dict[str, Any]:
    best = {framework: trained.best(framework) for framework in trained.settings.frameworks}
    return {
        "folder": str(trained.folder),
        "best": {
            framework: {"epoch": epoch.epoch, "weights": str(trained.folder / framework / BEST)}
            for framework, epoch in best.items()
            if epoch
        },
        "settings": to_builtins(trained.settings),
        "epochs": [
            to_builtins(epoch) | {"interval": [epoch.accuracy.low, epoch.accuracy.high]} for epoch in trained.epochs
        ],
        "confusion": {framework: counts.tolist() for framework, counts in trained.confusion.items()},
    }
