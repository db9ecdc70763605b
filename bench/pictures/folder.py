"""A folder of labeled pictures, ``FOLDER/CLASS/PICTURE``, and its split into training and held-out pictures."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import UsageError
from bench.pictures.listing import SUFFIXES, escaped, listed
from impls.text import quoted

HELD_OUT_PERCENT = 20


@dataclass(frozen=True)
class Labeled:
    """A picture's file; ``label`` is the place of its class in ``Folder.classes``."""

    path: Path
    label: int
    held_out: bool

    @property
    def name(self) -> str:
        return escaped(f"{self.path.parent.name}/{self.path.name}")


@dataclass(frozen=True)
class Folder:
    """Classes by name and pictures by class, then by name; ``ignored`` counts files of other suffixes."""

    path: Path
    classes: tuple[str, ...]
    pictures: tuple[Labeled, ...]
    ignored: int
    problems: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of the names of all pictures with their classes."""
        return digest(picture.name for picture in self.pictures)


def digest(names: Iterable[str]) -> str:
    """sha256 of the names of pictures, ``CLASS/FILE``."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def is_held_out(name: str) -> bool:
    """Whether the picture of this file name, without its folder, is held out; so is about one in five.

    It depends on nothing else, so a picture never changes sides when others come or go.
    """
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT


def read(path: Path) -> Folder:
    """List a labeled folder. Hidden files and folders are left out, and files outside of classes.

    Raises UsageError unless there are two or more classes, each with a picture to train on, and a held-out picture.
    """
    listing = listed(path)
    places = {name: place for place, name in enumerate(listing.classes)}
    pictures = tuple(
        Labeled(entry.path, places[entry.truth], is_held_out(entry.file))
        for entry in listing.entries
        if entry.truth is not None
    )
    folder = Folder(path, listing.classes, pictures, listing.others, listing.problems)
    check(folder)
    return folder


def check(folder: Folder, why: str = "") -> None:
    """Raise UsageError where a folder has too little to train on and to hold out; ``why`` precedes what was found."""

    def fault(expected: str, found: str, advice: str) -> UsageError:
        return UsageError(f"{_shown(folder.path)}: expected {expected}, {why}found {found}; {advice}")

    counts = [[0, 0] for _ in folder.classes]  # to train on, held out
    for picture in folder.pictures:
        counts[picture.label][picture.held_out] += 1
    if not folder.classes:
        raise fault("one folder per class", "none", "move each picture to a folder named after its class")
    if not folder.pictures:
        kinds = ", ".join(SUFFIXES)
        advice = "add pictures, or name the folder that contains the class folders"
        raise fault(f"pictures ({kinds}) in class folders", f"none in {quoted(', '.join(folder.classes))}", advice)
    if len(folder.classes) == 1:
        raise fault("two or more classes", f"only {quoted(folder.classes[0])}", "add a folder of another class")
    for name, (training, held_out) in zip(folder.classes, counts, strict=True):
        if not training:
            found = f"{held_out} of {quoted(name)}, all held out" if held_out else f"none of {quoted(name)}"
            raise fault("pictures of every class to train on", found, "add pictures, or remove that folder")
    if not any(held_out for _, held_out in counts):
        raise fault("about one picture in five held out", f"none of {len(folder.pictures)}", "add pictures")


def _shown(path: Path) -> str:
    return quoted(str(path))
