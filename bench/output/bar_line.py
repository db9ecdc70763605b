"""Progress as a bar on the last line of a terminal; elsewhere nothing is drawn."""

import contextlib
import os
import sys
from types import TracebackType
from typing import Self, TextIO

from bench.output.live_line import LiveLine
from impls.text import one_line

WIDTH = 24  # characters of a bar


class BarLine:
    """Draws a bar while a command works; what is told on stderr meanwhile is above it.

    ``line`` is None where nothing is drawn: stderr is no terminal, or one that cannot move its cursor.
    """

    def __init__(self, stderr: TextIO | None = None):
        self.stderr = stderr or sys.stderr
        drawn = self.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.line = LiveLine(self.stderr) if drawn else None
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
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
        self.draw("pictures", done, total, "")

    def draw(self, head: str, done: int, total: int, rest: str) -> None:
        if self.line:
            full = WIDTH * done // total
            self.line.draw(one_line(f"{head} [{'#' * full}{'-' * (WIDTH - full)}] {done / total:4.0%}  {rest}"))
