"""Files of a folder of pictures: those in it, and those in each of its folders, which are classes.

Nothing is opened. What is no file and no folder, links that lead nowhere or back, and folders that cannot be read are
problems, each named once.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import UsageError
from impls.text import one_line, quoted

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")


class Entry(NamedTuple):
    """A file: its folder, its name in it, and the class folder that it is in, None outside of one."""

    folder: str
    file: str
    truth: str | None

    @property
    def path(self) -> Path:
        return Path(self.folder, self.file)

    @property
    def name(self) -> str:
        """``CLASS/FILE``, with escapes where a terminal or a CSV could not show it."""
        return escaped(f"{self.truth}/{self.file}" if self.truth is not None else self.file)


@dataclass(frozen=True)
class Listing:
    """Entries by class, then by name, those outside of classes first.

    ``classes`` are all class folders, with pictures or without; ``others`` counts files of other suffixes, ``deeper``
    folders below those of classes, which are not read.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    problems: tuple[str, ...] = ()
    others: int = 0
    deeper: int = 0

    @property
    def alike(self) -> list[str]:
        """Classes whose names differ in case only, which one file system takes for one folder and another for two."""
        by_name: dict[str, list[str]] = {}
        for name in self.classes:
            by_name.setdefault(name.casefold(), []).append(name)
        return [one_line(", ".join(map(escaped, names))) for names in by_name.values() if len(names) > 1]


def escaped(name: str) -> str:
    """A name on one line, and different for different names: bytes that are no UTF-8, line breaks and backslashes as
    escapes."""
    return name if name.isprintable() and "\\" not in name else repr(name)[1:-1]


def listed(path: Path) -> Listing:
    """List a folder. Hidden files and folders are left out. UsageError if it is none, or cannot be read."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise UsageError(f"expected a folder at {quoted(str(path))}, found {found}; check the path")
    walk = _Walk()
    try:
        folders, entries = walk.read(str(path), None)
        walk.place(str(path), "the folder itself")
    except OSError as error:
        where = quoted(str(path))
        raise UsageError(f"cannot read {where}: {error.strerror or error}; check its permissions") from error
    for folder in folders:
        if not os.path.islink(folder):  # a link to a class is the problem, not the class, whichever name comes first
            with contextlib.suppress(OSError):
                walk.place(folder, escaped(os.path.basename(folder)))
    classes, deeper = [], 0
    for folder in folders:
        name = os.path.basename(folder)
        try:
            if (same := walk.place(folder, escaped(name))) != escaped(name):
                walk.problem(name, f"a link to {same}, which is read already")
                continue
            inner, files = walk.read(folder, name)
        except OSError as error:
            walk.problem(name, f"cannot be read: {error.strerror or error}")
            continue
        classes.append(name)
        entries += files
        deeper += len(inner)
    return Listing(tuple(entries), tuple(classes), tuple(walk.problems), walk.others, deeper)


class _Walk:
    """What was met, and the names of folders by device and number."""

    def __init__(self) -> None:
        self.places: dict[tuple[int, int], str] = {}
        self.problems: list[str] = []
        self.others = 0

    def problem(self, name: str, why: str) -> None:
        self.problems.append(one_line(f"{escaped(name)}: {why}"))

    def place(self, folder: str, name: str) -> str:
        """The name of this folder, or the one that it was met under before; OSError."""
        status = os.stat(folder)
        return self.places.setdefault((status.st_dev, status.st_ino), name)

    def read(self, folder: str, truth: str | None) -> tuple[list[str], list[Entry]]:
        """Folders and pictures in a folder, by name; OSError."""
        folders, entries, problems = list[str](), list[Entry](), list[tuple[str, str]]()
        with os.scandir(folder) as items:  # of a million files only the names are kept
            for item in items:
                if item.name.startswith("."):
                    continue
                entry = Entry(folder, item.name, truth)
                try:
                    if item.is_dir():
                        folders.append(item.path)
                    elif not item.is_file():
                        nowhere = item.is_symlink() and not os.path.exists(item.path)
                        problems.append(
                            (entry.name, "a link that leads nowhere" if nowhere else "expected a regular file")
                        )
                    elif os.path.splitext(item.name)[1].lower() in SUFFIXES:
                        entries.append(entry)
                    else:
                        self.others += 1
                except OSError as error:  # a link to itself, or to where nobody may look
                    problems.append((entry.name, f"a link that cannot be followed: {error.strerror or error}"))
        for name, why in sorted(problems):
            self.problems.append(one_line(f"{name}: {why}"))
        return sorted(folders), sorted(entries, key=lambda entry: entry.file)
