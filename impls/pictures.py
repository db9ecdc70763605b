"""From a picture's file to a square of pixels, the same whatever the framework. NumPy and Pillow.

Frameworks' own decoders and resizers differ: TensorFlow's default resize by up to 74 of 255 from Pillow's. A file whose
data were overwritten in the middle may decode to a wrong picture without an error; that cannot be seen here. Color
profiles are ignored, as is a single transparent color of 16 bits.
"""

import functools
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from impls.preprocessing import Preprocessing
from impls.text import one_line

MOST_PIXELS = 50_000_000
ORIENTATION = 0x0112  # of EXIF
# of large pictures and odd metadata; once, since a filter within ``decode`` would be that of all its threads
warnings.filterwarnings("ignore", module="PIL")


class PictureError(ValueError):
    """A file that cannot be decoded: its name, and ``why``."""

    def __init__(self, name: str, why: str):
        super().__init__(one_line(f"{name}: {why}"))
        self.why = why


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    image : in mode RGB, kept as Pillow holds it, since each copy of 500 x 375 pixels takes a tenth of their decoding
    format, mode : Pillow's names of what the file holds, such as JPEG and RGB
    notes : what was done to it beyond decoding
    """

    image: Image.Image
    format: str
    mode: str
    notes: tuple[str, ...]

    @property
    def pixels(self) -> np.ndarray:
        """ndarray of shape (height, width, 3), uint8, RGB"""
        return np.array(self.image)


@functools.cache
def formats() -> tuple[str, ...]:
    """What is read: no format whose parser few people use, since pictures come from anywhere."""
    Image.init()
    return tuple(name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF") if name in Image.OPEN)


def decode(path: Path) -> Picture:
    """Decode a picture. Raises PictureError with the file's name, also for one above 50 megapixels."""
    why = ""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("expected a regular file")
            with Image.open(file, formats=formats()) as image:
                if image.width * image.height > MOST_PIXELS:  # known from the header
                    found = f"{image.width:,} x {image.height:,} pixels"
                    raise ValueError(f"expected at most {MOST_PIXELS // 10**6} megapixels, found {found}")
                return _decoded(image)
    except UnidentifiedImageError:
        found = "something else" if status.st_size else "an empty file"
        why = f"expected a picture ({', '.join(formats())}), found {found}"
    except Exception as error:  # parsers raise what they meet: OSError, SyntaxError, struct.error, IndexError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        why = f"cannot be decoded: {reason}"
    raise PictureError(path.name, why)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for somebody to write, as a named pipe would."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _decoded(image: Image.Image) -> Picture:
    notes, kind, mode = [], image.format or "", image.mode
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"first of {frames} frames")
    wide = image.mode.startswith("I") or any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
    image.load()
    if image.getexif().get(ORIENTATION) in range(2, 9):
        notes.append("turned as its EXIF orientation says")
        ImageOps.exif_transpose(image, in_place=True)
    if wide:
        notes.append("16 bits per channel reduced to 8")
    if image.mode.startswith("I"):  # of the others Pillow keeps the upper 8; convert("RGB") would clip all above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")  # the colors under alpha are arbitrary
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("transparent parts shown on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        notes.append("converted from CMYK")
    return Picture(image.convert("RGB"), kind, mode, tuple(notes))


def square(picture: np.ndarray | Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The square from which crops are taken: (side, side, 3), uint8.

    Parameters
    ----------
    picture : image in mode RGB, or ndarray of shape (height, width, 3), uint8
    """
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    return _resized(image, preprocessing.side, preprocessing.box(*image.size))


def crop(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """Decode a file to its crop for evaluation, (size, size, 3), uint8: ``central`` of its square within 1 of 255.

    For loaders, which need no more: 224 of 256 is three quarters of the pixels. Raises PictureError.
    """
    image = decode(path).image
    return _resized(image, preprocessing.size, preprocessing.crop_box(*image.size))


def _resized(image: Image.Image, side: int, box: tuple[float, float, float, float]) -> np.ndarray:
    # the box alone is resized: 1 x 5000 would be 256 x 1,280,000
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
