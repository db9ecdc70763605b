"""Contact sheet: many small pictures in a grid, each with a caption, so that people see what a net sees.

Pixels are copied, never resampled: a small picture is shown with each pixel as a square of 2 x 2 or more, and only one
above MOST_SIDE is reduced, by a whole factor.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import IdentityTransform
from PIL import Image

from bench.output.plots import style
from impls.text import one_line

LEAST_SIDE, MOST_SIDE = 180, 448  # pixels of the image per tile: room for a caption, and for many tiles
FRAME, GAP, MARGIN = 4, 10, 16  # pixels
WRONG = "#D55E00"  # vermilion of Okabe and Ito; the frame of other tiles is thin, since not all see colors
CAPTION_LINES, TITLE_LINES = 2, 3
CAPTION_POINTS, TITLE_POINTS = 6.5, 8.5
LINE = 1.25  # height of a line, in units of its font
LEAST_WIDTH = 560  # pixels of a sheet, room for a title above a single tile
#: A picture has as many pixels as its tiles need, whatever a matplotlibrc says.
WHOLE: dict[Any, Any] = {"savefig.dpi": "figure", "savefig.bbox": "standard"}

Measure = Callable[[str], float]  # pixels that a text is wide


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture of a sheet.

    pixels : ndarray of shape (height, width, 3), uint8, RGB
    caption : up to two lines; longer ones are cut in the middle
    wrong : whether it is framed in color
    """

    pixels: np.ndarray
    caption: str
    wrong: bool = False


def draw(tiles: Sequence[Tile], title: str, output: Path) -> None:
    """Draw one or more tiles, row by row. Raises UsageError if the PNG cannot be written."""
    shown = [framed(tile) for tile in tiles]
    height, width = (max(pixels.shape[axis] for pixels in shown) for axis in (0, 1))
    columns = math.ceil(math.sqrt(len(tiles)))
    step_x, step_y = width + GAP, height + CAPTION_LINES * _line_height(CAPTION_POINTS) + GAP
    across = max(LEAST_WIDTH, columns * step_x - GAP)
    heading = _wrapped(title, across)
    top = MARGIN + len(heading) * _line_height(TITLE_POINTS) + GAP
    down = top + step_y * math.ceil(len(tiles) / columns) - GAP + MARGIN
    # half a pixel more, since matplotlib rounds down
    inches = [(pixels + 0.5) / style.PIXELS for pixels in (across + 2 * MARGIN, down)]
    with matplotlib.rc_context(WHOLE), style.figure(inches[0], inches[1], output) as figure:
        figure.set_layout_engine(None)
        write = _Writer(figure, down)
        for number, line in enumerate(heading):
            write.line(line, MARGIN, MARGIN + number * _line_height(TITLE_POINTS), TITLE_POINTS, across)
        for index, (tile, pixels) in enumerate(zip(tiles, shown, strict=True)):
            left, above = MARGIN + index % columns * step_x, top + index // columns * step_y
            figure.figimage(pixels, left, down - above - len(pixels))  # one by one: the whole takes 50 bytes per pixel
            for number, line in enumerate(tile.caption.split("\n")[:CAPTION_LINES]):
                y = above + len(pixels) + number * _line_height(CAPTION_POINTS)
                write.line(one_line(line), left + FRAME, y, CAPTION_POINTS, width - 2 * FRAME, number > 0)


def framed(tile: Tile) -> np.ndarray:
    """The pixels of a tile as they are shown, within a frame of FRAME pixels: (height, width, 3), uint8."""
    pixels = scaled(tile.pixels)
    thick = FRAME if tile.wrong else 1
    whole = np.full((pixels.shape[0] + 2 * FRAME, pixels.shape[1] + 2 * FRAME, 3), _rgb(style.PAPER), np.uint8)
    inner = slice(FRAME - thick, thick - FRAME or None)
    whole[inner, inner] = _rgb(WRONG if tile.wrong else style.GRID)
    whole[FRAME:-FRAME, FRAME:-FRAME] = pixels
    return whole


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Each pixel as a square of whole pixels, so that the longer side has LEAST_SIDE or more; reduced above MOST_SIDE.

    Returns an ndarray of shape (height, width, 3), uint8.
    """
    longer = max(pixels.shape[:2])
    if longer > MOST_SIDE:
        return np.array(Image.fromarray(pixels).reduce(math.ceil(longer / MOST_SIDE)))
    factor = math.ceil(LEAST_SIDE / longer)
    return pixels.repeat(factor, 0).repeat(factor, 1)


def cut(text: str, width: float, measure: Measure) -> str:
    """A text that is at most ``width`` wide; what is left out is in the middle, since names differ at their ends."""
    if measure(text) <= width:
        return text
    fits, fits_not = 0, len(text)  # characters that are kept
    while fits_not - fits > 1:
        kept = (fits + fits_not) // 2
        if measure(_shortened(text, kept)) <= width:
            fits = kept
        else:
            fits_not = kept
    return _shortened(text, fits)


def _shortened(text: str, kept: int) -> str:
    tail = kept // 2
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"


class _Writer:
    """Writes lines of text on a figure; ``height`` of it in pixels."""

    def __init__(self, figure: Figure, height: int):
        self.figure, self.height = figure, height
        self.renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]

    def line(self, text: str, left: float, above: float, points: float, width: float, faint: bool = False) -> None:
        """Write a text as it is, no formula in it, from its upper left corner; cut to ``width`` pixels."""
        font = FontProperties(size=points)

        def measure(text: str) -> float:
            return float(self.renderer.get_text_width_height_descent(text, font, False)[0])

        self.figure.text(
            left,
            self.height - above - points * style.PIXELS / 72,  # of the baseline
            cut(text, width, measure),
            fontproperties=font,
            color=style.FAINT if faint else style.INK,
            parse_math=False,
            transform=IdentityTransform(),
        )


def _line_height(points: float) -> int:
    return math.ceil(points * style.PIXELS / 72 * LINE)


def _wrapped(title: str, width: int) -> list[str]:
    """The lines of a title, by the usual width of a letter."""
    letters = int(width / (0.56 * TITLE_POINTS * style.PIXELS / 72))
    return textwrap.wrap(one_line(title), letters, max_lines=TITLE_LINES, placeholder=" …")


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in colors.to_rgb(color))
