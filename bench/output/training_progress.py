"""Progress of `train` on stderr: a bar per epoch on a terminal, a line per epoch elsewhere."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TextIO

from bench.output.labels import counted
from bench.output.live_line import LiveLine
from bench.record.training import Epoch
from impls.text import one_line

WIDTH = 24  # characters of a bar
MOST_NAMES = 10  # classes in a line


class TrainingProgress:
    """Writes what happens; ``epochs`` is how many each framework has in the end."""

    def __init__(self, epochs: int, stderr: TextIO | None = None):
        self.epochs, self.stderr = epochs, stderr or sys.stderr
        drawn = self.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.line = LiveLine(self.stderr) if drawn else None
        self.stack = contextlib.ExitStack()
        self.last: dict[str, str] = {}

    def __enter__(self) -> "TrainingProgress":
        if self.line:
            self.stack.enter_context(contextlib.redirect_stderr(self.line))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.line:
            self.line.keep()
        self.stack.close()

    def on_pictures(self, done: int, total: int) -> None:
        self._draw("pictures", done, total, "")

    def on_start(self, framework: str) -> None:
        if self.line:
            self.line.draw(f"{framework}: start")

    def on_steps(self, framework: str, epoch: int, done: int, total: int, loss: float, images_per_s: float) -> None:
        rest = f"{images_per_s:.0f} images/s, loss {loss:.3f}{self.last.get(framework, '')}"
        self._draw(f"{framework} {epoch}/{self.epochs}", done, total, rest)

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

    def _draw(self, head: str, done: int, total: int, rest: str) -> None:
        if self.line:
            full = WIDTH * done // total
            self.line.draw(one_line(f"{head} [{'#' * full}{'-' * (WIDTH - full)}] {done / total:4.0%}  {rest}"))


def describe_pictures(
    training: int, held_out: int, classes: Sequence[str], notes: Mapping[str, int], skipped: int
) -> str:
    """One line: how many pictures of which classes, and what was done to some."""
    more = f" and {len(classes) - MOST_NAMES} more" if len(classes) > MOST_NAMES else ""
    done = [f"{count} {note}" for note, count in notes.items()] + ([f"{skipped} skipped"] if skipped else [])
    counts = f"{counted(training, 'picture')} to train on, {held_out} held out, {len(classes)} classes"
    return one_line("; ".join([f"{counts}: {', '.join(classes[:MOST_NAMES])}{more}", *done]))
