"""Standard output as it may be: in an encoding that lacks our signs, full, or closed."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import cast

#: Signs that ASCII, Latin-1 or cp1252 lack, in ASCII.
SIGNS = {"±": "+/-", "µ": "u", "°": "deg ", "×": "x", "·": "*", "–": "-", "—": "-", "’": "'", "…": "...", "─": "-"}


class Unwritable(OSError):
    """Stdout cannot be written; no other file."""


class Stdout(io.TextIOWrapper):
    """Stdout whose errors are told from those of other files; a pipe that its reader closed is click's to handle."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from error

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from error


def call(command: Callable[[], object]) -> None:
    """Call the command line. A stdout that cannot be written is one line and exit code 2: what was measured is kept."""
    own = cast("io.TextIOWrapper", sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    encoding, newline, lines, through = own.encoding, None, own.line_buffering, own.write_through
    sys.stdout = Stdout(own.detach(), encoding, "in_ascii", newline, lines, through)
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except Unwritable as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left would fail again at the end
        why = f"cannot write to stdout: {error.strerror}; a Run that was measured is kept in its folder"
        with contextlib.suppress(OSError):  # stderr may be the same
            print(f"alexnet-bench: {why}", file=sys.stderr)
        sys.exit(2)


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Error handler of codecs: the signs that an encoding lacks, in ASCII."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("in_ascii", in_ascii)
