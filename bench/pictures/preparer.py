"""The one way from a picture's file to pixels: decoded, cropped and stored here once, whatever the framework.

Frameworks' own decoders and resizers differ: TensorFlow's default resize by up to 74 of 255 from Pillow's. A file whose
data were overwritten in the middle may decode to a wrong picture without an error; that cannot be seen here. Color
profiles are ignored.
"""

import dataclasses
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bench import UsageError
from bench.pictures.folder import Folder, Labeled, check
from bench.worker.pixels import HELD_OUT, LABELS, PICTURES, stored_size
from impls.text import one_line

MOST_PIXELS = 50_000_000
ORIENTATION = 0x0112  # of EXIF


class PictureError(ValueError):
    """A file that cannot be decoded: its name, and why."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    pixels : ndarray of shape (height, width, 3), uint8, RGB
    notes : what was done to it beyond decoding
    """

    pixels: np.ndarray
    notes: tuple[str, ...]


@functools.cache
def formats() -> tuple[str, ...]:
    """What is read: no format whose parser few people use, since pictures come from anywhere."""
    Image.init()
    return tuple(name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF") if name in Image.OPEN)


def decode(path: Path) -> Picture:
    """Decode a picture. Raises PictureError with the file's name, also for one above 50 megapixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, of large pictures and odd metadata
            with open(path, "rb") as file, Image.open(file, formats=formats()) as image:
                if image.width * image.height > MOST_PIXELS:  # known from the header
                    found = f"{image.width:,} x {image.height:,} pixels"
                    raise ValueError(f"expected at most {MOST_PIXELS // 10**6} megapixels, found {found}")
                return _decoded(image)
    except UnidentifiedImageError:
        found = "something else" if path.stat().st_size else "an empty file"
        why = f"expected a picture ({', '.join(formats())}), found {found}"
    except Exception as error:  # parsers raise what they meet: OSError, SyntaxError, struct.error, IndexError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        why = f"cannot be decoded: {reason}"
    raise PictureError(one_line(f"{path.name}: {why}"))


def _decoded(image: Image.Image) -> Picture:
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"first of {frames} frames")
    image.load()
    if image.getexif().get(ORIENTATION) in range(2, 9):
        notes.append("turned as its EXIF orientation says")
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # convert("RGB") would clip all above 255
        notes.append("16 bits per channel reduced to 8")
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")  # the colors under alpha are arbitrary
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("transparent parts shown on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        notes.append("converted from CMYK")
    return Picture(np.array(image.convert("RGB")), tuple(notes))


def prepared(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize to ``size`` on the shorter side, and crop the middle.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8

    Returns
    -------
    ndarray of shape (size, size, 3), uint8
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)  # only the crop is resized: 1 x 5000 would be 256 x 1,280,000
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box))


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


def store(folder: Folder, size: int, target: Path, progress: Callable[[int], None] = lambda done: None) -> Preparation:
    """Prepare a folder's pictures for crops of ``size``, as files that ``bench.worker.pixels.map_stored`` maps.

    Unreadable pictures are skipped. ``progress`` is called with the number of files read. Raises UsageError if what is
    left lacks a class or held-out pictures, or if it cannot be written.
    """
    side = stored_size(size)
    kept, skipped, notes = list[Labeled](), list[str](), Counter[str]()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with open(
            target / PICTURES, "wb"
        ) as file:  # written row by row: a mapped file on a full disk kills the process
            _write_header(file, len(folder.pictures), side)
            for done, labeled in enumerate(folder.pictures, 1):
                try:
                    picture = decode(labeled.path)
                except PictureError as error:
                    skipped.append(one_line(f"{labeled.path.parent.name}/{error}"))
                else:
                    file.write(prepared(picture.pixels, side).tobytes())
                    kept.append(labeled)
                    notes.update(picture.notes)
                progress(done)
            file.seek(0)
            _write_header(file, len(kept), side)
        np.save(target / LABELS, np.array([labeled.label for labeled in kept], np.int64))
        np.save(target / HELD_OUT, np.array([labeled.held_out for labeled in kept], bool))
    except OSError as error:
        why = f"cannot write prepared pictures: {error.strerror or error}"
        raise UsageError(f"{why}; make room there, or set TMPDIR to a folder that can be written") from error
    check(dataclasses.replace(folder, pictures=tuple(kept)), f"{len(skipped)} unreadable pictures skipped, ")
    return Preparation(tuple(kept), tuple(skipped), notes)


def _write_header(file: BinaryIO, count: int, side: int) -> None:
    """Write the header of a .npy file; its length is the same for every count, as NumPy pads the first axis."""
    shape = (count, side, side, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
