"""How pictures become the input of a net, as records, and the crops and values that follow from them.

NumPy alone, and the same in every process, so that pixels are equal bit for bit in all frameworks. Decoding and
resizing, which need Pillow, are in impls/pictures.py.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

SHORTER, WARP = "shorter", "warp"
RESIZES, COLORS, CROPS = (SHORTER, WARP), ("RGB", "BGR"), (1, 10)
MOST_SIDE = 10_000


@dataclass(frozen=True)
class Preprocessing:
    """A way from a picture to the input of a net.

    size : side of the net's input, in pixels
    side : of the square that is cut out of a picture, from which crops of ``size`` are taken
    resize : "shorter" resizes the shorter side to ``side`` and cuts out the middle; "warp" resizes both sides
    colors : order of the channels
    subtract, divide : per channel in that order, of values from 0 to 255
    crops : of which predictions are averaged: the middle, or the corners and the middle, and these flipped
    color_noise : of a training; standard deviation of the factors of the principal colors

    Raises ValueError for other values, as a file may hold.
    """

    name: str
    size: int
    side: int
    resize: str
    colors: str
    subtract: tuple[float, ...]
    divide: tuple[float, ...]
    crops: int = 1
    color_noise: float = 0.0

    def __post_init__(self) -> None:
        numbers = [*self.subtract, *self.divide, self.color_noise]
        for what, expected, right in (
            ("size and side", f"1 <= size <= side <= {MOST_SIDE}", 1 <= self.size <= self.side <= MOST_SIDE),
            ("resize", " or ".join(RESIZES), self.resize in RESIZES),
            ("colors", " or ".join(COLORS), self.colors in COLORS),
            ("subtract and divide", "three numbers each", len(self.subtract) == len(self.divide) == 3),
            ("numbers", "finite ones, none of divide 0", all(map(math.isfinite, numbers)) and all(self.divide)),
            ("crops", "1 or 10", self.crops in CROPS),
        ):
            if not right:
                raise ValueError(f"preprocessing {self.name}: {what}: expected {expected}")

    def at(self, size: int) -> "Preprocessing":
        """The same for a net of another input size."""
        return dataclasses.replace(self, size=size, side=stored_size(size))

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture of this size that becomes the square: left, top, right, bottom, in its pixels.

        Of "shorter" the rounding is torchvision's, whose Resize and CenterCrop give whole pixels.
        Source: https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.functional.resize.html
        """
        if self.resize == WARP:
            return 0.0, 0.0, float(width), float(height)
        left, right = self._middle(width, min(width, height))
        top, bottom = self._middle(height, min(width, height))
        return left, top, right, bottom

    def _middle(self, length: int, shorter: int) -> tuple[float, float]:
        resized = self.side * length // shorter
        first = round((resized - self.side) / 2)
        return first * length / resized, min(length, (first + self.side) * length / resized)

    def crop_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture that becomes the crop for evaluation."""
        left, top, right, bottom = self.box(width, height)
        first, last = (self.side - self.size) // 2 / self.side, ((self.side - self.size) // 2 + self.size) / self.side
        across, down = right - left, bottom - top
        return left + first * across, top + first * down, left + last * across, top + last * down

    def views(self, square: np.ndarray) -> list[np.ndarray]:
        """The crops of which predictions are averaged: (size, size, 3) each, of a (side, side, 3) square."""
        middle, last = central(square, self.size), len(square) - self.size
        if self.crops == 1:
            return [middle]
        five = [cropped(square, self.size, top, left) for top in (0, last) for left in (0, last)] + [middle]
        return five + [view[:, ::-1] for view in five]

    def normalized(self, batch: np.ndarray, shifts: np.ndarray | None = None) -> np.ndarray:
        """Values for a net: ``(x - subtract) / divide``, float32, channels in the order of ``colors``.

        Parameters
        ----------
        batch : ndarray of shape (n, size, size, 3), uint8, RGB
        shifts : ndarray of shape (n, 3), float32, optional
            Added to every pixel of a picture before, RGB.
        """
        if batch.dtype != np.uint8:
            raise TypeError(f"expected pixels of uint8, found {batch.dtype}")
        values = batch if shifts is None else batch + shifts[:, None, None].astype(np.float32)
        ordered = values if self.colors == "RGB" else values[..., ::-1]
        return (ordered - np.array(self.subtract, np.float32)) / np.array(self.divide, np.float32)

    def shown(self, values: np.ndarray) -> np.ndarray:
        """The inverse of ``normalized``: the pixels that values for a net mean, so that people see what it sees.

        Exact for pixels without shifts; what shifts moved out of the range from 0 to 255 is clipped.

        Parameters
        ----------
        values : ndarray of shape (n, size, size, 3), float32, channels in the order of ``colors``

        Returns
        -------
        ndarray of the same shape, uint8, RGB
        """
        levels = values * np.array(self.divide, np.float32) + np.array(self.subtract, np.float32)
        pixels = np.rint(levels).clip(0, 255).astype(np.uint8)
        return pixels if self.colors == "RGB" else pixels[..., ::-1]


def stored_size(size: int) -> int:
    """Side of the square from which crops of ``size`` are taken: 224 and 227 from 256, 99 from 112.

    Source of 224 and 256: Krizhevsky et al. 2012, section 4.1; other sizes have the same ratio, rounded down.
    """
    return max(size, size // 7 * 8)


# means of the colors of the training pictures of ILSVRC-2012, BGR
CAFFE_MEANS = (104.0, 117.0, 123.0)
PREPROCESSINGS = {
    each.name: each
    for each in (
        # exact in float32, since a value has 8 bits and the divisor is a power of two
        Preprocessing("plain", 224, 256, SHORTER, "RGB", (127.5,) * 3, (64.0,) * 3),
        # https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.alexnet.html, times 255
        Preprocessing("torchvision", 224, 256, SHORTER, "RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        # https://github.com/BVLC/caffe/tree/master/models/bvlc_alexnet; warped: BVLC/caffe#1669
        Preprocessing("caffe", 227, 256, WARP, "BGR", CAFFE_MEANS, (1.0,) * 3),
        # Krizhevsky et al. 2012, sections 2 and 4.1; of the mean picture that it subtracts the mean colors
        Preprocessing("2012", 224, 256, SHORTER, "RGB", CAFFE_MEANS[::-1], (1.0,) * 3, crops=10, color_noise=0.1),
    )
}


def central(square: np.ndarray, size: int) -> np.ndarray:
    """The crop for evaluation: (size, size, 3) from the middle of a square; a view."""
    first = (len(square) - size) // 2
    return cropped(square, size, first, first)


def cropped(square: np.ndarray, size: int, top: int, left: int) -> np.ndarray:
    if square.shape[2:] != (3,) or min(square.shape[:2]) < size:
        raise ValueError(f"expected a picture of at least ({size}, {size}, 3), found {square.shape}")
    return square[top : top + size, left : left + size]


def augmented(square: np.ndarray, size: int, seed: int, epoch: int, index: int) -> np.ndarray:
    """Crop a square at random, and flip it left to right every second time.

    Equal (seed, epoch, index) give equal crops with every version of NumPy: raw output of PCG64 is stable, while
    methods of Generator may change (NEP 19). Source: Krizhevsky et al. 2012, section 4.1.

    Parameters
    ----------
    square : ndarray of shape (side, side, 3), uint8, side >= size
    seed, epoch, index : int, >= 0
        ``index`` is the place of the picture among all stored ones, not in a batch.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8; a view
    """
    places = len(square) - size + 1
    top, left, flip = np.random.PCG64([seed, epoch, index]).random_raw(3).tolist()
    return cropped(square, size, top % places, left % places)[:, :: -1 if flip >> 63 else 1]


class ColorSums:
    """Sums over the pixels of pictures, added one by one, from which figures of their colors follow.

    count : pixels
    total, products : sums of R, G and B, (3,), and of their products, (3, 3); float64, exact below 2e6 pictures
    """

    def __init__(self) -> None:
        self.count, self.total, self.products = 0, np.zeros(3), np.zeros((3, 3))

    def add(self, square: np.ndarray) -> None:
        """Add a picture: (height, width, 3), uint8, RGB."""
        pixels = square.reshape(-1, 3).astype(np.float64)
        self.count += len(pixels)
        self.total += np.ones(len(pixels)) @ pixels  # a third of the time of sum(0), and as exact: whole numbers
        self.products += pixels.T @ pixels

    @property
    def mean(self) -> np.ndarray:
        """(3,), from 0 to 255, RGB."""
        return self.total / self.count

    @property
    def covariance(self) -> np.ndarray:
        """(3, 3), over all pixels; RGB."""
        return self.products / self.count - np.outer(self.mean, self.mean)

    @property
    def stddev(self) -> np.ndarray:
        """(3,), of all pixels (ddof 0), from 0 to 127.5, RGB."""
        return np.sqrt(np.maximum(self.covariance.diagonal(), 0))

    @property
    def principal(self) -> np.ndarray:
        """Principal components, each as long as its standard deviation: (3, 3), rows RGB."""
        variances, axes = np.linalg.eigh(self.covariance)
        axes *= np.sign(axes[np.abs(axes).argmax(0), range(3)])  # of two directions the one of the larger component
        return (axes * np.sqrt(np.maximum(variances, 0))).T


def principal_colors(squares: Iterable[np.ndarray]) -> np.ndarray:
    """Principal components of the colors of pictures, each as long as its standard deviation: (3, 3), rows RGB.

    Parameters
    ----------
    squares : iterable of ndarrays of shape (side, side, 3), uint8
        Pictures to train on, all of them: components of a single picture would be another method.
    """
    sums = ColorSums()
    for square in squares:
        sums.add(square)
    return sums.principal


def color_shift(colors: np.ndarray, noise: float, seed: int, epoch: int, index: int) -> np.ndarray:
    """What is added to the RGB of every pixel of a picture in an epoch: (3,), float32.

    The sum of the principal ``colors`` times factors N(0, ``noise``). Source: Krizhevsky et al. 2012, section 4.1,
    which has eigenvalues for lengths; their roots have the unit of a pixel.
    """
    raw = np.random.PCG64([seed, epoch, index]).random_raw(6).tolist()[3:]  # the first three are those of the crop
    normal = NormalDist(0, noise)
    factors = [normal.inv_cdf(((number >> 11) + 0.5) / 2**53) for number in raw]
    shift: np.ndarray = (np.array(factors)[:, None] * colors).sum(0).astype(np.float32)
    return shift
