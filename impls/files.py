"""Atomic writing of files."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def open_whole(path: Path, mode: str = "wb", **how: Any) -> Iterator[IO[Any]]:
    """Open a file for writing that replaces ``path`` at the end; an error or a kill before leaves ``path`` as it was.

    ``mode`` and ``how`` are those of ``open``, to write. A link at ``path`` is replaced and never followed. OSError
    where it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with open(part, mode.replace("w", "x"), **how) as file:  # x fails at a link
            yield file
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # a read-only file system refuses even to look for it
            part.unlink()


def open_target(path: Path, mode: str = "wb", **how: Any) -> AbstractContextManager[IO[Any]]:
    """``open_whole`` for a file that a user named: a link or a device is written to directly, unless it is in a Run
    folder, which may be someone else's."""
    odd = path.is_symlink() or (path.exists() and not path.is_file())
    if odd and not (path.parent / "run.jsonl").exists():
        return open(path, mode, **how)
    return open_whole(path, mode, **how)
