"""Atomic writing of files."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def open_whole(path: Path, mode: str = "wb", **how: Any) -> Iterator[IO[Any]]:
    """Open a file for writing that replaces ``path`` at the end; an error or a kill before leaves ``path`` as it was.

    ``mode`` and ``how`` are those of ``open``. OSError where it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with open(part, mode, **how) as file:
            yield file
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # a read-only file system refuses even to look for it
            part.unlink()
