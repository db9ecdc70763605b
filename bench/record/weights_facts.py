"""What a file of weights says of its net, so that nobody has to repeat it: size, classes, preprocessing."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from bench import UsageError
from bench.cases.case import check_size
from bench.cases.parse import MOST_SIZE
from impls import weights
from impls.preprocessing import PREPROCESSINGS, Preprocessing
from impls.text import quoted
from impls.variants import VARIANTS

T = TypeVar("T")

#: Variant and preprocessing of the files that other programs write.
CAFFES, TORCHVISIONS = ("bvlc", "caffe"), ("owt", "torchvision")


@dataclass(frozen=True)
class WeightsFacts:
    """None where a file does not say it.

    classes : names in the order of the logits
    pictures : sha256 of the names of the pictures that it was trained on, ``Folder.digest``
    foreign : another program's layout, whose ``variant`` is the usual one of several that fit
    """

    variant: str | None = None
    size: int | None = None
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    pictures: str | None = None
    foreign: bool = False

    def with_asked(self, variant: str | None, size: int | None, preprocessing: str | None) -> "WeightsFacts":
        """With what the command line says in addition. UsageError where it says something else, since the net would
        not be given what it was trained on."""
        if self.variant and not self.foreign:
            _agree("variant", self.variant, variant)
        _agree("size", self.size, size)
        own = self.preprocessing
        if own and not self.foreign:
            _agree("preprocessing", own.name, preprocessing)
        named = PREPROCESSINGS[preprocessing] if preprocessing and (self.foreign or not own) else own
        variant = variant or self.variant
        usual = VARIANTS[variant].input_size if variant else None
        pixels = size or self.size or usual
        if variant:
            check_size([variant], pixels)
        if named and pixels and named.size != pixels:
            named = named.at(pixels)
        return WeightsFacts(variant, pixels, self.classes, named, self.pictures, self.foreign)


def _agree(what: str, known: object, asked: object) -> None:
    if known is not None and asked is not None and known != asked:
        raise UsageError(f"--weights: they are of {what} {known}, found --{what} {asked}; leave it out")


def read_facts(path: Path) -> WeightsFacts:
    """Raises UsageError for a file that cannot be read, or that says what cannot be."""
    if path.suffix not in weights.SUFFIXES:
        raise UsageError(f"--weights: {weights.not_weights(path)}")
    try:
        facts = weights.metadata(path)
        foreign = weights.is_torchvisions(path)
    except OSError as error:
        raise UsageError(f"--weights: {path.name}: cannot read: {error.strerror or error}") from error
    if path.suffix == ".npy" or foreign:
        variant, preprocessing = TORCHVISIONS if foreign else CAFFES
        return WeightsFacts(variant, None, None, PREPROCESSINGS[preprocessing], foreign=True)
    named = facts.get("variant")
    if named is not None and named not in VARIANTS:
        raise UsageError(f"--weights: its variant is {quoted(named)}, which is none of {', '.join(VARIANTS)}")
    size = _said(facts, "size", int)
    pixels = _said(facts, "preprocessing", Preprocessing)
    if size is not None and not 1 <= size <= MOST_SIZE:
        raise _damaged(facts, "size", f"expected 1 to {MOST_SIZE}")
    if size and pixels and pixels.size != size:
        raise _damaged(facts, "size", f"expected {pixels.size}, that of its preprocessing")
    return WeightsFacts(named, size, _said(facts, "classes", tuple[str, ...]), pixels, facts.get("pictures"))


def _said(facts: dict[str, str], name: str, kind: type[T]) -> T | None:
    if name not in facts:
        return None
    try:
        return msgspec.json.decode(facts[name], type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # half a surrogate, too many brackets
        raise _damaged(facts, name, str(error)) from error


def _damaged(facts: dict[str, str], name: str, why: str) -> UsageError:
    return UsageError(f"--weights: its metadata are not as `train` writes them: {name} is {quoted(facts[name])}: {why}")
