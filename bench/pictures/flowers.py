"""A drawn data set of five classes of flowers, so that training needs no download.

The classes and the layout, ``FOLDER/CLASS/*.jpg``, are those of the flower photos of TensorFlow's tutorials. Classes
share colors of petals and of backgrounds; shapes tell them apart.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bench import UsageError

WORD = Path("flowers")  # names the drawn set in place of a folder
SCALE = 2  # drawn at twice the size, then reduced: edges without steps
LEAST, MOST = 90, 260  # pixels per side
GOLDEN = np.pi * (3 - 5**0.5)  # radians between neighbors in the spiral of a sunflower's seeds. Source: Vogel 1979

Color = tuple[int, ...]  # red, green, blue
WHITE, YELLOW, ORANGE, RED = (244, 242, 234), (248, 206, 36), (238, 128, 32), (196, 24, 40)
PINK, PURPLE, LEAF, SEED = (236, 120, 160), (132, 60, 150), (62, 116, 44), (92, 56, 26)
BACKGROUNDS = ((76, 128, 52), (76, 128, 52), (150, 190, 226), (122, 92, 62), (196, 190, 180), (36, 48, 36))


class Brush:
    """Draws in the coordinates of one flower: complex numbers, radius 1, the stem towards +1j.

    ``matrix`` (2, 2) and ``center`` (2,) map them to pixels.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, rng: np.random.Generator, matrix: np.ndarray, center: np.ndarray):
        self.draw, self.rng, self.matrix, self.center = draw, rng, matrix, center

    def at(self, place: complex) -> "Brush":
        center = np.array([place.real, place.imag]) @ self.matrix + self.center
        return Brush(self.draw, self.rng, self.matrix, center)

    def color(self, color: Color, light: float = 1.0, vary: float = 0.06) -> Color:
        light *= self.rng.normal(1, vary)
        return tuple(min(255, max(0, int(value * light))) for value in color)

    def pixels(self, points: np.ndarray) -> list[float]:
        flat: list[float] = (points.view(float).reshape(-1, 2) @ self.matrix + self.center).ravel().tolist()
        return flat

    def line(self, points: np.ndarray, color: Color, width: float) -> None:
        pixels = max(1, round(width * float(np.abs(self.matrix).max())))
        self.draw.line(self.pixels(points), fill=color, width=pixels, joint="curve" if pixels > 4 else None)

    def disc(self, radius: float, color: Color, place: complex = 0, corners: int = 24) -> None:
        circle = np.exp(2j * np.pi / corners * np.arange(corners))
        self.draw.polygon(self.pixels(radius * circle + place), fill=color)

    def dots(self, count: int, radius: float, color: Color) -> None:
        for i in range(count):
            place = radius * (i / count) ** 0.5 * np.exp(1j * GOLDEN * i)
            self.disc(0.027, self.color(color, vary=0.2), place, corners=6)

    def petal(self, angle: float, near: float, far: float, width: float, blunt: float, color: Color) -> None:
        """A petal from radius ``near`` to ``far``; its ends are round at ``blunt`` 0.3 and pointed at 1."""
        along = np.linspace(0, 1, 10)
        side = along * (far - near) + near + 1j * width * np.sin(np.pi * along**1.3) ** blunt
        points = np.concatenate([side, side[::-1].conj()]) * np.exp(1j * angle)
        self.draw.polygon(self.pixels(points), fill=self.color(color), outline=self.color(color, 0.78))
        self.line(points[[1, 7]] / 2 + points[[18, 12]] / 2, self.color(color, 0.88), 0.012)

    def ring(self, count: int, near: float, far: float, width: float, blunt: float, color: Color) -> None:
        """Petals all around, in random order."""
        for i in self.rng.permutation(count):
            angle = 2 * np.pi * (i + self.rng.normal(0, 0.15)) / count
            self.petal(angle, near, far * self.rng.normal(1, 0.04), width, blunt, color)

    def stem(self, leaves: int, long: float = 0.0, width: float = 0.0) -> None:
        bend = np.cumsum(self.rng.normal(0, 0.12, 6))
        self.line(bend - bend[0] + 1j * np.linspace(0, 8, 6), self.color(LEAF), 0.13)
        for side in self.rng.choice([-1, 1], leaves):
            leaf = self.at(1j * self.rng.uniform(1.3, 2.6))
            leaf.petal(-np.pi / 2 + side * self.rng.uniform(0.3, 1.3), 0, long, width, 0.8, LEAF)


def daisy(brush: Brush, color: Color) -> None:
    brush.stem(1, 1.2, 0.12)
    brush.ring(int(brush.rng.integers(12, 22)), 0.1, 1, 0.11, 0.4, color)
    brush.disc(0.3, brush.color(YELLOW if color != YELLOW else ORANGE))
    brush.dots(30, 0.26, ORANGE)


def dandelion(brush: Brush, color: Color) -> None:
    brush.stem(0)
    if color == YELLOW:
        for far in (1.0, 0.85, 0.66, 0.46, 0.26):
            brush.ring(int(28 * far) + 8, 0, far, 0.05, 0.4, brush.color(color, 0.82 + 0.3 * far))
    else:  # gone to seed
        for angle in brush.rng.uniform(0, 2 * np.pi, 90):
            seed = brush.rng.uniform(0.3, 1) ** 0.5 * np.exp(1j * angle)
            hairs = seed + 0.17 * np.exp(1j * (angle + np.linspace(-1.2, 1.2, 5)))
            brush.line(np.concatenate([[0], np.stack([np.full(5, seed), hairs], 1).ravel()]), brush.color(color), 0.01)
        brush.disc(0.13, brush.color(SEED))


def roses(brush: Brush, color: Color) -> None:
    brush.stem(2, 1.1, 0.3)
    for far in (1.0, 0.82, 0.64, 0.48, 0.33, 0.2):
        brush.ring(5 if far > 0.4 else 3, -0.1, far, far * 0.62, 0.35, brush.color(color, 0.62 + 0.42 * far))
    turns = np.linspace(0, 5 * np.pi, 30)
    brush.line((0.02 + 0.016 * turns) * np.exp(1j * turns), brush.color(color, 0.5), 0.025)


def sunflowers(brush: Brush, color: Color) -> None:
    brush.stem(2, 1.5, 0.45)
    for far, light in ((1.0, 0.86), (0.93, 1.0)):
        brush.ring(int(brush.rng.integers(15, 22)), 0.3, far, 0.1, 0.75, brush.color(color, light))
    brush.disc(0.54, brush.color(SEED, 0.8))
    brush.dots(110, 0.52, SEED if brush.rng.random() < 0.5 else ORANGE)


def tulips(brush: Brush, color: Color) -> None:
    brush.stem(2, 3.2, 0.22)
    cup = brush.at(0.9j)
    for angle, far, width, light in (
        (-0.12, 1.75, 0.40, 0.72),  # behind
        (0.12, 1.75, 0.40, 0.76),
        (-0.30, 1.85, 0.42, 0.90),  # left and right
        (0.30, 1.85, 0.42, 0.94),
        (0.00, 1.70, 0.50, 1.06),  # in front
    ):
        cup.petal(angle - np.pi / 2, 0, far, width, 0.6, brush.color(color, light))


CLASSES: dict[str, tuple[Callable[[Brush, Color], None], tuple[Color, ...]]] = {
    "daisy": (daisy, (WHITE, WHITE, PINK, YELLOW)),
    "dandelion": (dandelion, (YELLOW, WHITE)),
    "roses": (roses, (RED, PINK, WHITE, YELLOW, ORANGE)),
    "sunflowers": (sunflowers, (YELLOW, YELLOW, ORANGE, RED)),
    "tulips": (tulips, (RED, PINK, WHITE, YELLOW, PURPLE, ORANGE)),
}


def picture(name: str, index: int, seed: int) -> tuple[Image.Image, int]:
    """One picture of a class, and the quality of its JPEG: a large flower in front of up to two small ones."""
    rng = np.random.Generator(np.random.PCG64([seed, list(CLASSES).index(name), index]))
    width, height = (int(side) for side in rng.integers(LEAST, MOST, 2, endpoint=True))
    paint, colors = CLASSES[name]
    color = colors[rng.integers(len(colors))]
    image = background(rng, width, height).resize((width * SCALE, height * SCALE), Image.Resampling.NEAREST)

    def flower(least: float, most: float, spread: float) -> None:
        turn, size = rng.normal(0, 0.22), rng.uniform(least, most) * min(image.size)
        view = np.diag([1, 1 if paint is tulips else rng.uniform(0.72, 1)])  # tulips are seen from the side
        tilt = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        center = np.array(image.size) / 2 + rng.uniform(-spread, spread, 2) * image.size
        paint(Brush(ImageDraw.Draw(image), rng, view @ tilt * size, center), color)

    if small := rng.choice(3, p=[0.5, 0.3, 0.2]):
        for _ in range(small):
            flower(0.13, 0.2, 0.4)
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0, 3)))
    flower(0.27, 0.42, 0.12)
    light = (rng.normal(1, 0.12) * rng.normal(1, 0.05, 3)).clip(0.6, 1.4)
    table = [min(255, int(value * channel)) for channel in light for value in range(256)]
    return image.reduce(SCALE).point(table), int(rng.integers(35, 95, endpoint=True))


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """One color above another, in blurred patches, with or without blades of grass."""
    above, below = rng.choice(np.array(BACKGROUNDS), 2)
    coarse = np.linspace(above, below, 7)[:, None] * rng.normal(1, 0.16, (7, 7, 1)) + rng.normal(0, 9, (7, 7, 3))
    image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.choice([0, 25, 60]))):
        x, y, long = rng.uniform(0, width), rng.uniform(0.3, 1.1) * height, rng.uniform(0.1, 0.4) * height
        green = tuple(int(value * light) for value, light in zip(LEAF, rng.uniform(0.6, 1.5, 3), strict=True))
        draw.line([x, y, x + rng.normal(0, 0.3) * long, y - long], fill=green, width=int(rng.integers(1, 4)))
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 2)))


def meant(folder: Path | None) -> bool:
    """Whether the drawn set is meant: nothing is named, or ``flowers`` where there is no folder of that name."""
    return folder is None or (folder == WORD and not folder.exists())


def draw(folder: Path, per_class: int = 120, seed: int = 0) -> None:
    """Draw ``folder/CLASS/CLASS_0000.jpg`` and on, ``per_class`` pictures of each class.

    Equal seeds give equal pixels with equal versions of Pillow and numpy. A run that is killed leaves no ``folder``.
    Raises UsageError if there is one already, or if it cannot be written.
    """
    if folder.exists():
        raise UsageError(f"expected no folder {str(folder)!r} yet, found one; remove it, or name another")
    part = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a killed run
        for name in CLASSES:
            (part / name).mkdir(parents=True)
            for index in range(per_class):
                image, quality = picture(name, index, seed)
                image.save(part / name / f"{name}_{index:04d}.jpg", quality=quality)
        os.rename(part, folder)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"cannot write {str(folder)!r}: {why}; name a folder that can be written") from error
