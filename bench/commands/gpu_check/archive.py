"""Archive: what a check made, in one file that can be sent: at most LARGEST bytes, without compilers' caches."""

import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from impls.files import open_whole

LARGEST = 16 * 2**20
LONGEST_LOG = 2**18  # bytes of a log, its last
LEFT_OUT = "left-out.txt"
CACHES = {"compile_cache"}
LOGS = (".stderr", ".log")
#: Left out after all else, in this order: the page, which can be made again, and what says what happened.
KEPT = ("report.html", *LOGS, "summary.csv", "steps.json")
OVERHEAD = 2048  # of a file in an archive: its header, and padding


@dataclass(frozen=True)
class Member:
    name: str
    data: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in the archive, about."""
        return len(zlib.compress(self.data)) + OVERHEAD // 8

    @property
    def rank(self) -> int:
        """0 for what is left out first."""
        path = Path(self.name)
        kind = path.suffix if path.suffix in LOGS else path.name
        return 1 + KEPT.index(kind) if kind in KEPT else 0


def members_of(folder: Path) -> Iterator[Member]:
    """The files of a check, logs cut to their end. Files that cannot be read are left out."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if CACHES & set(relative.parts) or path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if path.suffix in LOGS and len(data) > LONGEST_LOG:
            cut = f"[its last {LONGEST_LOG:,} bytes of {len(data):,}]\n"
            data = cut.encode() + data[-LONGEST_LOG:]
        yield Member(f"{folder.name}/{relative.as_posix()}", data)


def fitting(members: list[Member], largest: int) -> tuple[list[Member], list[Member]]:
    """Those that fit and those that are left out: the largest first, but for the KEPT."""
    sizes = {member.name: member.size for member in members}
    total, left = sum(sizes.values()), list[Member]()
    for member in sorted(members, key=lambda each: (each.rank, -sizes[each.name])):
        if total <= largest:
            break
        left.append(member)
        total -= sizes[member.name]
    return [member for member in members if member not in left], left


def write(folder: Path, target: Path, largest: int = LARGEST) -> list[str]:
    """Write the archive of a check's folder; return the names of the files that were left out of it, largest first.

    They are listed in LEFT_OUT inside. OSError if it cannot be written.
    """
    members, allowed = list(members_of(folder)), largest
    while True:
        kept, left = fitting(members, allowed)
        data = packed(folder.name, kept, left)
        if len(data) <= largest or not kept:
            break
        allowed = int(0.9 * allowed)  # the estimate was too low
    with open_whole(target) as file:
        file.write(data)
    return [member.name for member in left]


def packed(top: str, members: list[Member], left: list[Member]) -> bytes:
    buffer = io.BytesIO()
    lines = [f"{member.name} {len(member.data)} bytes" for member in left]
    note = [Member(f"{top}/{LEFT_OUT}", "\n".join(["left out, so that the archive is small:", *lines, ""]).encode())]
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in [*members, *(note if left else [])]:
            info = tarfile.TarInfo(member.name)
            info.size = len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return buffer.getvalue()
