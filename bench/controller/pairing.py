"""Pairs of parameters of a model and its port: from a map, else by order of creation and shape."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import UsageError
from impls.port import Parameter
from impls.text import one_line, quoted

Axes = tuple[int, ...]

NOTHING = "-"  # in a map: what the other model does not have
#: Axes from other layouts of kernels to the canonical one, by number of axes: dense (out, in), convolutions OI...
LAYOUTS: dict[int, list[Axes]] = {
    2: [(1, 0)],
    3: [(2, 1, 0)],
    4: [(2, 3, 1, 0), (3, 2, 0, 1)],
    5: [(2, 3, 4, 1, 0), (4, 3, 0, 1, 2)],
}
EXPECTED = "expected `NAME = NAME`, then optionally `axes=1,0` or `order=256x6x6:1,2,0`"


@dataclass(frozen=True)
class Order:
    """The inputs of a dense layer are flattened from ``grid`` in the first model, from its ``axes`` in the second."""

    grid: tuple[int, ...]
    axes: tuple[int, ...]

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.grid))}:{','.join(map(str, self.axes))}"

    def applied(self, array: np.ndarray) -> np.ndarray:
        """Reorder the inputs, the last axis but one. ValueError if there are not as many."""
        before, outputs = array.shape[:-2], array.shape[-1]
        split = array.reshape(*before, *self.grid, outputs)
        first = len(before)
        axes = (*range(first), *(first + axis for axis in self.axes), first + len(self.grid))
        return split.transpose(axes).reshape(array.shape)


@dataclass(frozen=True)
class Link:
    """A line of a map: names of the first and of the second model's parameter, ``-`` for none."""

    where: str
    first: str
    second: str
    axes: tuple[int, ...] | None = None
    order: Order | None = None


@dataclass(frozen=True)
class Pair:
    """A parameter of the first model, the one of the second that gets its values, and how they are rearranged."""

    first: Parameter
    second: Parameter
    axes: tuple[int, ...] | None = None
    order: Order | None = None
    mapped: bool = False

    def carried(self, array: np.ndarray) -> np.ndarray:
        """The first's values, or their gradients, in the second's canonical layout. ValueError if they do not fit."""
        if self.axes:
            array = array.transpose(self.axes)
        return self.order.applied(array) if self.order else array

    def line(self) -> str:
        """As in a map."""
        more = [f"axes={','.join(map(str, self.axes))}"] if self.axes else []
        more += [f"order={self.order}"] if self.order else []
        return " ".join([self.first.name, "=", self.second.name, *more])


def read_map(path: Path) -> list[Link]:
    """The lines of a map. UsageError names a line that is none."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--map: cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    links: list[Link] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = re.split(r"\s#", f" {line}", maxsplit=1)[0].strip()
        if words:
            links.append(_link(f"{path.name}, line {number}", words))
    for side in ("first", "second"):
        names = [getattr(link, side) for link in links if getattr(link, side) != NOTHING]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"{path.name}: expected each parameter once, found {quoted(twice[0])} twice")
    return links


def _link(where: str, line: str) -> Link:
    first, equals, rest = line.partition("=")
    first, (second, *options) = first.strip(), rest.split() or [""]
    if not equals or not first or not second or " " in first:
        raise UsageError(one_line(f"{where}: {EXPECTED}, found {quoted(line)}"))
    given = dict(option.partition("=")[::2] for option in options)
    try:
        if len(given) < len(options):  # one twice
            raise ValueError
        axes = _numbers(given.pop("axes"), ",") if "axes" in given else None
        order = None
        if "order" in given:
            grid, _, places = given.pop("order").partition(":")
            order = Order(_numbers(grid, "x"), _numbers(places, ","))
        permuted = [each for each in (axes, order and order.axes) if each]
        if given or any(sorted(each) != list(range(len(each))) for each in permuted):
            raise ValueError
        if order and len(order.grid) != len(order.axes):
            raise ValueError
    except ValueError:
        raise UsageError(one_line(f"{where}: {EXPECTED}, found {quoted(line)}")) from None
    return Link(where, first, second, axes, order)


def _numbers(text: str, separator: str) -> Axes:
    words = text.split(separator)
    if not all(word.isdigit() for word in words):
        raise ValueError
    return tuple(map(int, words))


def pair(
    first: Sequence[Parameter], second: Sequence[Parameter], links: Sequence[Link], labels: tuple[str, str]
) -> list[Pair]:
    """Pair all parameters, in the first's order. UsageError names the first that has no other.

    What ``links`` leave out is paired by shape: what alone has its shape first, then what follows a pair with what
    follows its other, then the first of a shape with the first. At last other layouts of kernels fit.
    """
    mapped = {each.first.name: each for each in _mapped(first, second, links, labels)}
    done = {link.first for link in links}, {link.second for link in links}
    places = {each.name: number for number, each in enumerate(second)}
    found = {number: places[mapped[each.name].second.name] for number, each in enumerate(first) if each.name in mapped}
    left = [number for number, each in enumerate(first) if each.name not in done[0]]
    free = [number for number, each in enumerate(second) if each.name not in done[1]]

    def take(one: int, other: int | None) -> bool:
        """Pair two if they are free and alike."""
        if one not in left or other not in free or first[one].shape != second[other].shape:
            return False
        left.remove(one)
        free.remove(other)
        found[one] = other
        return True

    for one in list(left):
        alike = [other for other in free if second[other].shape == first[one].shape]
        if len(alike) == 1 == sum(first[each].shape == first[one].shape for each in left):
            take(one, alike[0])
    for one in sorted(found):
        while take(one + 1, found[one] + 1):
            one += 1
    for one in list(left):
        if not take(one, found.get(one - 1, len(second)) + 1):
            take(one, next((other for other in free if second[other].shape == first[one].shape), None))
    turned = {}
    for one in list(left):
        fitting = [(other, axes) for other in free if (axes := _laid_out(first[one], second[other]))]
        for other, axes in fitting[:1]:
            left.remove(one)
            free.remove(other)
            found[one], turned[one] = other, axes
    if left or free:
        raise UsageError(_unpaired([first[one] for one in left], [second[other] for other in free], labels))
    return [
        mapped.get(first[one].name) or Pair(first[one], second[found[one]], turned.get(one)) for one in sorted(found)
    ]


def _laid_out(first: Parameter, second: Parameter) -> Axes | None:
    """Axes by which the first's shape is the second's in another layout of kernels."""
    for axes in LAYOUTS.get(len(first.shape), []):
        if [first.shape[axis] for axis in axes] == second.shape:
            return axes
    return None


def _mapped(
    first: Sequence[Parameter], second: Sequence[Parameter], links: Sequence[Link], labels: tuple[str, str]
) -> Iterator[Pair]:
    sides = [{each.name: each for each in parameters} for parameters in (first, second)]
    for link in links:
        for name, side, label in zip((link.first, link.second), sides, labels, strict=True):
            if name != NOTHING and name not in side:
                near = difflib.get_close_matches(name, side, 3, 0) or ["none"]
                raise UsageError(
                    one_line(f"{link.where}: {label} has no parameter {quoted(name)}: it has {', '.join(near)} ...")
                )
        if NOTHING in (link.first, link.second):
            continue
        one, other = sides[0][link.first], sides[1][link.second]
        axes = link.axes
        if axes is None and one.shape != other.shape:
            axes = _laid_out(one, other)
        made = Pair(one, other, axes, link.order, True)
        try:
            shape = list(made.carried(np.broadcast_to(np.float32(0), one.shape)).shape)
        except (ValueError, OverflowError):
            shape = []
        if shape != other.shape:
            raise UsageError(
                one_line(
                    f"{link.where}: {_shown(one)} does not fit {_shown(other)}"
                    + (f" by {made.line().partition(' = ')[2].partition(' ')[2]}" if link.axes or link.order else "")
                )
            )
        yield made


def _shown(parameter: Parameter) -> str:
    """Name and shape, and the canonical shape if that is another."""
    own, shape = tuple(parameter.own), tuple(parameter.shape)
    return f"{parameter.name} {own}" + (f" as {shape}" if own != shape else "")


def _unpaired(left: Sequence[Parameter], others: Sequence[Parameter], labels: tuple[str, str]) -> str:
    (mine, theirs) = labels if left else labels[::-1]
    missing, rest = (left, others) if left else (others, left)
    hint = f"the first without a pair there is {_shown(rest[0])}" if rest else "all of those have a pair"
    return one_line(
        f"--net: {_shown(missing[0])} of {mine} fits no parameter of {theirs}: {hint}; "
        f"correct the port, or name the pairs in a --map ({EXPECTED}, and `NAME = {NOTHING}` for none)",
        700,
    )


def map_text(pairs: Sequence[Pair], links: Sequence[Link], labels: tuple[str, str]) -> str:
    """A map of these pairs, and of what has no pair by ``links``."""
    alone = [f"{link.first} = {link.second}" for link in links if NOTHING in (link.first, link.second)]
    return "\n".join([f"# {labels[0]} = {labels[1]}", *(pair.line() for pair in pairs), *alone]) + "\n"
