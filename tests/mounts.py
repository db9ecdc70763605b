"""File systems of a test's own, such as a small disk that is full."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, mount: str):
    """A file system that this test alone sees, by its path from out here; skips where nobody may mount one."""
    folder.mkdir(exist_ok=True)
    if not shutil.which("unshare"):
        pytest.skip("this machine lets nobody mount a file system of one's own: it has no unshare")
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f"{mount}; echo mounted; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        if holder.stdout.readline() != b"mounted\n":
            pytest.skip("this machine lets nobody mount a file system of one's own")
        yield Path(f"/proc/{holder.pid}/root{folder}")
    finally:
        holder.communicate()


def fill(folder: Path, but: int) -> Path:
    """Leave so many KiB there."""
    filler = folder / "filler"
    there = os.statvfs(folder)
    filler.write_bytes(bytes(there.f_bavail * there.f_bsize - but * 1024))
    return filler
