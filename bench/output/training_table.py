"""Results of a training: one row per framework, and what to make of them."""

from collections.abc import Iterator
from typing import Any

from msgspec import to_builtins

from bench.output import console
from bench.output.console import percent
from bench.record.training import BEST, Trained

COLUMNS = ("framework", "best held-out accuracy [95 %]", "epoch", "last", "images/s", "s per epoch")


def print_table(trained: Trained) -> None:
    settings = trained.settings
    named = f"{settings.variant} at {settings.size} px, {len(settings.classes)} classes, batch {settings.batch}"
    table = console.new_table(f"{named}, rate {settings.lr:g}, seed {settings.seed}")
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number else "left")
    for framework in settings.frameworks:
        epochs, best = trained.of(framework), trained.best(framework)
        if best is None:
            table.add_row(framework, "no epoch")
            continue
        right, n = best.accuracy, len(epochs)
        table.add_row(
            framework,
            f"{right.value:.3f} [{right.low:.3f}, {right.high:.3f}]",
            f"{best.epoch} of {epochs[-1].epoch}",
            f"{epochs[-1].held_out_accuracy:.3f}",
            f"{n / sum(1 / epoch.images_per_s for epoch in epochs):.0f}",
            f"{sum(epoch.seconds for epoch in epochs) / n:.1f}",
        )
    console.console().print(table)
    for line in remarks(trained):
        console.say(line)


def remarks(trained: Trained) -> Iterator[str]:
    yield (
        "Held out: about one picture in five, by a hash of its name. The accuracy of the best of several epochs is "
        "optimistic: it was chosen on the same pictures."
    )
    yield "images/s is progress, crops included; `run --pass train_step` measures."
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
