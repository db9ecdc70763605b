"""The Run of one shard, by `alexnet-bench run` in a child process; and a Run folder as bytes, to travel between
machines."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench import UsageError
from bench.machine import fresh
from bench.record.run import Run
from impls.text import quoted

POLL_S = 0.5  # a task of Ray is cancelled between two calls of Python
ENDING_S = 15.0  # for a `run` that was asked to end
SAID = 2000  # bytes of its stderr
NAME = re.compile(r"[\w.-]*\w[\w.-]*")


@dataclass(frozen=True)
class Packed:
    """A Run folder, or that there is none.

    ``code`` is the exit code of its `run`, ``name`` the folder's, empty without one; ``files`` are its files, by name;
    ``said`` is the end of what `run` wrote to stderr.
    """

    code: int
    name: str
    files: tuple[tuple[str, bytes], ...]
    said: str

    @property
    def reason(self) -> str:
        """The last line on stderr, for a `run` that made no Run."""
        lines = self.said.strip().splitlines() or [f"it wrote nothing, and ended with exit code {self.code}"]
        return lines[-1].removeprefix("alexnet-bench: ")

    def unpack(self, out: Path) -> Path:
        """Write the Run below ``out``; return its folder. Raises UsageError if it cannot be written, or is no Run.

        The names are checked, since another machine chose them.
        """
        for name in (self.name, *(name for name, _ in self.files)):
            if not NAME.fullmatch(name):
                raise UsageError(f"expected the name of a file in a Run, found {quoted(name)}; nothing of it is kept")
        folder = out / self.name
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=out) as part:
                for name, content in self.files:
                    (Path(part) / name).write_bytes(content)
                if not (Path(part) / "run.jsonl").exists():
                    raise UsageError(f"{self.name}: expected run.jsonl in it, found none; nothing of it is kept")
                folder.mkdir()
                for name, _ in self.files:
                    (Path(part) / name).rename(folder / name)
        except OSError as error:
            raise UsageError(
                f"cannot write {folder}: {os.strerror(error.errno or 0)}; nothing of it is kept"
            ) from error
        return folder


def packed(code: int, folder: Path, said: bytes) -> Packed:
    """The only Run in a folder, if there is one."""
    runs = sorted(path.parent for path in folder.glob("*/run.jsonl"))
    files = [path for path in sorted(runs[0].iterdir()) if path.is_file()] if runs else []
    content = tuple((path.name, path.read_bytes()) for path in files)
    return Packed(code, runs[0].name if runs else "", content, said[-SAID:].decode(errors="replace"))


def command(words: Sequence[str], index: int, count: int, out: Path) -> list[str]:
    """The command line that measures shard ``index`` of ``count`` to a Run below ``out``; ``words`` are the other
    options of `run`."""
    shard = f"--shard={index}/{count}"
    return [sys.executable, "-P", "-m", "bench", "run", *words, shard, f"--out={out}"]


def run_shard(words: Sequence[str], index: int, count: int, out: Path, stderr: IO[bytes] | None = None) -> int:
    """Measure a shard in a child process and return its exit code; ``stderr`` is this process's by default.

    The child has an environment of its own and ends with this process; if that is interrupted, it is ended first.
    """
    line = fresh.command(command(words, index, count, out))
    child = subprocess.Popen(
        line,
        env=fresh.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C is this process's to handle
    )
    try:
        while child.poll() is None:
            time.sleep(POLL_S)
    except BaseException:
        end(child)
        raise
    return child.returncode


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask a `run` to end, so that it ends its Workers; kill it if it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        child.send_signal(number)
        try:
            child.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            continue
        return


def opened(folder: Path, grid: str) -> Run:
    """A Run of the grid with this digest. Raises UsageError for any other."""
    run = Run(folder)
    if not run.head.shard or run.head.shard.grid != grid:
        found = run.head.shard.grid if run.head.shard else "no shard"
        raise UsageError(f"{folder}: expected a shard of grid {grid}, found {found}; it is left out of the index")
    return run
