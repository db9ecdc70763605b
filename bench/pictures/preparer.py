"""Prepare many pictures: decoded and resized in threads, in order, and stored for Workers."""

import contextlib
import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bench import UsageError
from bench.machine.host import usable_cores
from bench.pictures.folder import Folder, Labeled, check
from bench.worker.pixels import HELD_OUT, LABELS, PICTURES
from impls.pictures import PictureError, decode, square
from impls.preprocessing import Preprocessing
from impls.text import one_line

MOST_THREADS = 8  # each may hold a picture of 50 megapixels


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture that was decoded and resized.

    square : ndarray of shape (side, side, 3), uint8
    width, height : of the picture, after it was turned
    format, mode, notes : those of ``impls.pictures.Picture``
    """

    square: np.ndarray
    width: int
    height: int
    format: str
    mode: str
    notes: tuple[str, ...]


def prepare(path: Path, preprocessing: Preprocessing) -> Prepared:
    """Raises PictureError."""
    picture = decode(path)
    width, height = picture.image.size
    return Prepared(square(picture.image, preprocessing), width, height, picture.format, picture.mode, picture.notes)


def prepare_all(
    paths: Iterable[Path], preprocessing: Preprocessing, threads: int | None = None, ahead_of: int | None = None
) -> Generator[Prepared | PictureError]:
    """Prepare pictures in the order of their paths, decoded a few ahead. Of an unreadable picture the
    error is yielded.

    ``threads``: by default one per usable core; they end with the generator. ``ahead_of``: how many pictures ahead, by
    default two per thread.
    """
    count = threads or min(MOST_THREADS, usable_cores())
    most = ahead_of or 2 * count
    ahead: deque[Future[Prepared | PictureError]] = deque()

    def prepared(path: Path) -> Prepared | PictureError:
        try:
            return prepare(path, preprocessing)
        except PictureError as error:
            return error

    pool = ThreadPoolExecutor(count)
    try:
        for path in paths:
            ahead.append(pool.submit(prepared, path))
            if len(ahead) > most:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Preparation:
    """What was stored of a folder.

    pictures : in the order of the rows
    skipped : one line per unreadable picture, with its class, its name and why
    notes : how many pictures have each of ``Picture.notes``
    """

    pictures: tuple[Labeled, ...]
    skipped: tuple[str, ...]
    notes: Mapping[str, int]


def store(
    folder: Folder, preprocessing: Preprocessing, target: Path, progress: Callable[[int], None] = lambda done: None
) -> Preparation:
    """Prepare a folder's pictures as files that ``bench.worker.pixels.map_stored`` maps.

    Unreadable pictures are skipped. ``progress`` is called with the number of files read. Raises UsageError if what is
    left lacks a class or held-out pictures, or if it cannot be written.
    """
    kept, skipped, notes = list[Labeled](), list[str](), Counter[str]()
    found = prepare_all((labeled.path for labeled in folder.pictures), preprocessing)
    try:
        target.mkdir(parents=True, exist_ok=True)
        # written row by row: a mapped file on a full disk kills the process
        with contextlib.closing(found), open(target / PICTURES, "wb") as file:
            write_header(file, len(folder.pictures), preprocessing.side)
            for done, (labeled, picture) in enumerate(zip(folder.pictures, found, strict=True), 1):
                if isinstance(picture, PictureError):
                    skipped.append(one_line(f"{labeled.name}: {picture.why}"))
                else:
                    file.write(picture.square.tobytes())
                    kept.append(labeled)
                    notes.update(picture.notes)
                progress(done)
            file.seek(0)
            write_header(file, len(kept), preprocessing.side)
        np.save(target / LABELS, np.array([labeled.label for labeled in kept], np.int64))
        np.save(target / HELD_OUT, np.array([labeled.held_out for labeled in kept], bool))
    except OSError as error:
        why = f"cannot write prepared pictures: {error.strerror or error}"
        raise UsageError(f"{why}; make room there, or set TMPDIR to a folder that can be written") from error
    check(dataclasses.replace(folder, pictures=tuple(kept)), f"{len(skipped)} unreadable pictures skipped, ")
    return Preparation(tuple(kept), tuple(skipped), notes)


def write_header(file: BinaryIO, count: int, side: int) -> None:
    """Write the header of a .npy file; its length is the same for every count, as NumPy pads the first axis."""
    shape = (count, side, side, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
