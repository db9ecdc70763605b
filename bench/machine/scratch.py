"""Scratch folders, removed when they are left, and those of killed processes by the next one."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from bench import UsageError

PREFIX, OWNER = "alexnet-bench-", "owner.lock"
YOUNG_S = 10.0  # a folder this young may not have been locked yet


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in TMPDIR, which this process has locked. Raises UsageError if it cannot be made."""
    remove_stale()
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        why = f"cannot make a scratch folder: {error.strerror or error}"
        raise UsageError(f"{why}; make room there, or set TMPDIR to a folder that can be written") from error
    try:
        with filelock.FileLock(folder / OWNER):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale() -> None:
    """Remove own scratch folders whose process has ended without removing them: the kernel gave up its lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, filelock.Timeout):
            status = folder.lstat()
            if folder.is_symlink() or status.st_uid != os.getuid() or time.time() - status.st_mtime < YOUNG_S:
                continue
            if (folder / OWNER).is_file():
                with filelock.FileLock(folder / OWNER, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
