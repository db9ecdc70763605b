"""LiveLine: the last line on a terminal, drawn again in its place."""

import contextlib
import os
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size


class LiveLine:
    """A terminal whose last line is drawn again in its place; what is written to it otherwise goes above that line.

    It takes the place of sys.stderr, so that no warning ends up within the line. The cursor is never hidden and no
    signal is handled: a killed process leaves the terminal as it should be, and the width is asked for at each drawing.
    """

    def __init__(self, terminal: TextIO):
        self.terminal = terminal
        self.shown = ""
        self.unfinished = False  # text of others without its line break

    @property
    def columns(self) -> int:
        """Cells of a row without the last three: for ^C, and one after which some terminals break the line."""
        return max(1, self._row() - 3)

    def draw(self, text: str) -> None:
        """Show this text, cut to one row, in place of the one before."""
        text = text if cell_len(text) <= self.columns else set_cell_size(text, self.columns)
        self._put(("\n" if self.unfinished else self._erased()) + text)
        self.shown, self.unfinished = text, False

    def keep(self) -> None:
        """Leave the line as it is; the next one is drawn below it."""
        if self.shown:
            self._put("\n")
        self.shown = ""

    def write(self, text: str) -> int:
        """Write text of others in place of the line, which is drawn again below it."""
        self._put((self._erased() if self.shown else "") + text)
        self.shown, self.unfinished = "", not text.endswith("\n")
        return len(text)

    def _row(self) -> int:
        try:
            return os.get_terminal_size(self.terminal.fileno()).columns or 80  # 0: a terminal without a size
        except OSError:  # gone
            return 80

    def _erased(self) -> str:
        """What erases the line; of a window that is narrower now, all rows that it was broken into."""
        rows = max(0, cell_len(self.shown) - 1) // self._row()
        return "\r" + (f"\x1b[{rows}A" if rows else "") + "\x1b[J"

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone ends no Run
            self.terminal.write(text)
            self.terminal.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)
