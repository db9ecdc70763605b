"""The journal of a Run: its run.jsonl, one event of ``events.py`` per line as a JSON object."""

import base64
import contextlib
import errno
import gzip
import itertools
import os
import zlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from bench import UsageError
from bench.record.events import Event

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # the folder may be someone else's
LARGEST = 2**30  # bytes of an unpacked run.jsonl


class Journal:
    """Appends to run.jsonl. An event is on the disk when ``add`` returns; not called while an iteration is timed."""

    def __init__(self, folder: Path):
        self.path = folder / "run.jsonl"
        self.broken = False
        try:
            self.number = _next_number(self.path)
            self.file = os.fdopen(os.open(self.path, APPEND, 0o666), "ab", buffering=0)
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}") from error

    def add(self, event: Event) -> None:
        """Append an event with its number and the time. Raises UsageError if it is not on the disk."""
        numbered = structs.replace(event, number=self.number, time=datetime.now(UTC))
        line = msgspec.json.encode(numbered) + b"\n"
        if not os.fstat(self.file.fileno()).st_nlink:
            self.broken = True
            raise UsageError(
                f"{self.path} was removed while the Run was measured: nothing more can be kept; start again"
            )
        size = self.file.seek(0, os.SEEK_END)
        try:
            written = self.file.write(line)
            if written != len(line):
                raise OSError(errno.ENOSPC, "No space left on device")
            os.fsync(self.file.fileno())
        except OSError as error:
            self.broken = True
            self._cut(size)
            raise UsageError(
                f"cannot write to {self.path}: {error.strerror}; what was measured before is kept: free disk space, "
                f"then continue with `alexnet-bench run --resume {self.path.parent}`"
            ) from error
        self.number += 1

    def cut_torn_line(self) -> int:
        """Remove an unfinished last line, so that the next event starts a line; return its length in bytes."""
        data = self.path.read_bytes()
        torn = len(data) - (data.rfind(b"\n") + 1)
        self._cut(len(data) - torn)
        return torn

    def _cut(self, size: int) -> None:
        with contextlib.suppress(OSError):  # else a torn line stays at the end, which readers skip
            self.file.truncate(size)


class _Numbered(Struct):
    number: int | None = None


def _next_number(path: Path) -> int:
    """The number after that of the last event; of a file without numbers, the number of its lines."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in reversed(lines):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            number = msgspec.json.decode(line, type=_Numbered).number
            return len(lines) if number is None else number + 1
    return len(lines)


def new_folder(out: Path, name: str, first: str = "run.jsonl") -> Path:
    """Create <out>/<UTC time>-<name>/ with a first, empty file and return it. Raises UsageError if it cannot be
    written."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for count in itertools.count(1):
        folder = out / (f"{stamp}-{name}" if count == 1 else f"{stamp}-{name}-{count}")
        try:
            folder.mkdir(parents=True)
            (folder / first).touch()
            return folder
        except FileExistsError as error:
            if not folder.is_dir():
                raise UsageError(f"cannot write to {out}: it is not a folder; choose another with --out") from error
        except OSError as error:
            raise UsageError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    raise AssertionError("there is always a next name")


def pack(folder: Path) -> str:
    """Return a Run's run.jsonl as text (gzip, then base64), deterministically. Raises UsageError if unreadable."""
    try:
        data = (folder / "run.jsonl").read_bytes()
    except OSError as error:
        raise UsageError(f"{folder}: cannot read run.jsonl: {error.strerror}") from error
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


def unpack(text: str) -> bytes:
    """Return the bytes of a packed run.jsonl. Raises ValueError if the text is not one, or is larger than LARGEST."""
    inflate = zlib.decompressobj(wbits=31)  # gzip's header and trailer
    try:
        data = inflate.decompress(base64.b64decode(text, validate=True), LARGEST)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"not a packed run.jsonl: {error}") from error
    if not inflate.eof:
        raise ValueError("not a packed run.jsonl: cut off, or larger than any Run")
    return data
