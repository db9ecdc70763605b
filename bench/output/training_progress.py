"""Progress of `train` on stderr: a bar per epoch on a terminal, a line per epoch elsewhere."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TextIO

from bench.output.bar_line import BarLine
from bench.output.labels import counted
from bench.record.training import Epoch
from impls.text import one_line

MOST_NAMES = 10  # classes in a line


class TrainingProgress(BarLine):
    """Writes what happens; ``epochs`` is how many each framework has in the end."""

    def __init__(self, epochs: int, stderr: TextIO | None = None):
        super().__init__(stderr)
        self.epochs = epochs
        self.last: dict[str, str] = {}

    def on_start(self, framework: str) -> None:
        if self.line:
            self.line.draw(f"{framework}: start")

    def on_steps(self, framework: str, epoch: int, done: int, total: int, loss: float, images_per_s: float) -> None:
        rest = f"{images_per_s:.0f} images/s, loss {loss:.3f}{self.last.get(framework, '')}"
        self.draw(f"{framework} {epoch}/{self.epochs}", done, total, rest)

    def on_epoch(self, epoch: Epoch) -> None:
        right = epoch.accuracy
        self.last[epoch.framework] = f", held out {right.value:.2f}"
        text = one_line(
            f"{epoch.framework} {epoch.epoch}/{self.epochs}: loss {epoch.loss:.3f}, held out: loss "
            f"{epoch.held_out_loss:.3f}, accuracy {right.value:.2f} [{right.low:.2f}, {right.high:.2f}]; "
            f"{epoch.images_per_s:.0f} images/s, {epoch.seconds:.1f} s"
        )
        if self.line:
            self.line.write(text + "\n")  # whole, however narrow the terminal is
        else:
            with contextlib.suppress(OSError):  # a full or closed stderr ends no training
                print(text, file=self.stderr, flush=True)


def describe_pictures(
    training: int, held_out: int, classes: Sequence[str], notes: Mapping[str, int], skipped: int
) -> str:
    """One line: how many pictures of which classes, and what was done to some."""
    more = f" and {len(classes) - MOST_NAMES} more" if len(classes) > MOST_NAMES else ""
    done = [f"{count} {note}" for note, count in notes.items()] + ([f"{skipped} skipped"] if skipped else [])
    counts = f"{counted(training, 'picture')} to train on, {held_out} held out, {len(classes)} classes"
    return one_line("; ".join([f"{counts}: {', '.join(classes[:MOST_NAMES])}{more}", *done]))
