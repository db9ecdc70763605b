"""Case: one frozen grid point with its id and group."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench import UsageError
from bench.cases.parse import (
    MOST_BATCH,
    MOST_RANKS,
    MOST_SIZE,
    MOST_WORKERS,
    parse_choice,
    parse_count,
    parse_device,
    parse_input,
)
from bench.cases.passes import PASSES
from impls import FRAMEWORKS
from impls.splits import DATA, SPLITS, NoSuchSplit, part_of
from impls.text import quoted
from impls.variants import VARIANTS, Variant, variant_named

PRECISIONS = ("fp32", "tf32", "bf16")
LRNS = ("native", "fast")
#: equal: every condition pinned, the same in all frameworks; default: the framework's own defaults.
PRESETS = ("equal", "default")
LABELS = ("A", "B")  # of the two Arms of an --ab
WITNESSED = "forward_backward"  # the pass whose time the witnesses tell the parts of
OWN_INPUT = "own"  # made by the function ``inputs`` next to a user's model


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """A grid point.

    ``threads`` and ``size`` are None at their defaults: all usable cores, the Variant's size. ``weights``: digest of
    their file, None if initialized from the seed. ``arm``: side of an --ab. ``guest``: label of a user's net, None for
    ours. ``input``: what a user's model takes instead of the Variant's images: random values of a shape, such as
    ``3x300x300``, or OWN_INPUT. ``part``: the module of a user's model that is timed alone. ``loader``: workers of the
    loader that it takes batches from, None for resident ones. ``world``: ranks of the Team that computes it, each with
    ``batch`` images; with ``strong`` scaling the images of all ranks are as many for every ``world``; ``split``: how
    they share the net (impls.splits). ``foreign``: name of another program's benchmark, whose net is unknown.
    """

    variant: str
    framework: str
    mode: str
    device: str
    precision: str
    layout: str
    batch: int
    pass_: str
    threads: int | None = None
    size: int | None = None
    dropout: bool = False
    seed: int = 0
    weights: str | None = None
    arm: str | None = None
    lrn: str = LRNS[0]
    preset: str = PRESETS[0]
    guest: str | None = None
    input: str | None = None
    part: str | None = None
    loader: int | None = None
    world: int = 1
    strong: bool = False
    split: str = DATA
    foreign: str | None = None

    @property
    def id(self) -> str:
        """Used verbatim as pytest id, CSV key, plot label and log prefix; axes at their default are left out."""
        if self.foreign:
            return self.foreign
        parts = [self.variant, self.framework, self.mode, self.device, self.precision, f"b{self.batch}", self.pass_]
        parts += [*self.settings, *([self.part] if self.part else [])]
        if self.loader is not None:
            parts.append(f"loader{self.loader}")
        if self.world > 1:
            parts.append(f"x{self.world}")
        if self.threads is not None:
            parts.append(f"t{self.threads}")
        if self.size is not None:
            parts.append(f"s{self.size}")
        if self.input:
            parts.append(f"input_{self.input}")
        if self.dropout:
            parts.append("dropout")
        if self.seed:
            parts.append(f"seed{self.seed}")
        if self.weights:
            parts.append(f"w{self.weights}")
        if self.arm:
            parts.append(self.arm)
        return "-".join(parts)

    @property
    def worker(self) -> str:
        """Id of its Worker within its group."""
        if self.foreign:
            return self.foreign
        team = [f"x{self.world}"] if self.world > 1 else []
        return "-".join([self.framework, self.mode, *self.settings, *team, *([self.arm] if self.arm else [])])

    @property
    def settings(self) -> list[str]:
        """Settings of its Worker besides framework and mode: guest, layout, LRN, preset and split, where not the
        default."""
        if self.foreign:
            return []
        layout = [] if self.layout == FRAMEWORKS[self.framework].layouts[0] else [self.layout]
        lrn = [] if self.lrn == LRNS[0] else [f"lrn_{self.lrn}"]
        preset = [] if self.preset == PRESETS[0] else [f"preset_{self.preset}"]
        split = [] if self.split == DATA else [self.split]
        return [*([self.guest] if self.guest else []), *layout, *lrn, *preset, *split]

    @property
    def compiled(self) -> bool:
        """Whether its mode compiles; only compiled modes are compared with each other."""
        return not self.foreign and self.mode in FRAMEWORKS[self.framework].compiled

    @property
    def rivals(self) -> tuple[object, ...]:
        """Grouping key: Cases with equal keys are compared, so their Turns are scheduled next to each other."""
        pass_ = WITNESSED if PASSES[self.pass_].witness else self.pass_
        if self.arm:  # two guests may have two frameworks
            return (pass_, self.loader, None if self.guest else self.framework)
        return (pass_, self.loader, self.compiled)

    @property
    def process_precision(self) -> str:
        """Setting of the process: tf32 applies to a whole process, bf16 to a Net in an fp32 process."""
        return "tf32" if self.precision == "tf32" else "fp32"

    @property
    def group(self) -> tuple[object, ...]:
        """Grouping key: Workers of Cases with equal keys take turns. It lacks pass, arm, framework, mode, settings."""
        size = self.net.input_size
        axes = (self.variant, self.device, self.precision, self.asked_batch, size, self.dropout, self.seed)
        return (*axes, self.weights or "", self.input or "", self.part or "")

    @property
    def images(self) -> int:
        """Images that one iteration computes, on all ranks."""
        return self.batch * self.world

    @property
    def asked_batch(self) -> int:
        """The batch as --batch gives it: that of each device, with strong scaling that of all."""
        return self.images if self.strong else self.batch

    @property
    def users_net(self) -> str | None:
        """The user's net, with the part of it that is timed as in ``model:part``; None for ours."""
        return f"{self.guest}:{self.part}" if self.part else self.guest

    @property
    def whole(self) -> bool:
        """Whether it times a whole net, and not a layer of ours or a part of a user's model."""
        return bool(self.foreign) or ("." not in self.variant and not self.part)

    @property
    def net(self) -> Variant:
        if self.foreign:
            return Variant(self.variant, 0, source="another program", note="", layers=())
        return variant_named(self.variant, self.size)

    @property
    def on_each(self) -> Variant:
        """The rows that each of its devices computes."""
        return self.net if self.split == DATA else part_of(self.net, self.split, self.world).variant

    @property
    def input_shape(self) -> list[int]:
        """Shape of one random input of a user's model; empty for all others."""
        return [] if self.input in (None, OWN_INPUT) else list(map(int, self.input.split("x")))

    @property
    def macs(self) -> int:
        """Multiply-adds per image in this Pass, counted from the layers."""
        return 0 if self.foreign else PASSES[self.pass_].macs(self.net)


def check_cases(cases: list[Case]) -> list[Case]:
    """Validate Cases loaded from run.jsonl. Raises UsageError for a value that the CLI could not have produced."""
    for case in (case for case in cases if not case.foreign):
        net, dot, _ = case.variant.partition(".")
        parse_choice("variant", net, VARIANTS)
        if dot:
            parse_choice("layer", case.variant, [part.name for part in VARIANTS[net].parts()])
        parse_choice("LRN", case.lrn, LRNS)
        parse_choice("preset", case.preset, PRESETS)
        parse_choice("framework", case.framework, FRAMEWORKS)
        parse_choice("precision", case.precision, PRECISIONS)
        parse_choice("pass", case.pass_, PASSES)
        if PASSES[case.pass_].loaded != (case.loader is not None):
            raise UsageError(f"pass {case.pass_}: expected {'a' if case.loader is None else 'no'} loader")
        parse_count("loader", case.loader or 0, MOST_WORKERS, least=0)
        parse_count("world", case.world, MOST_RANKS)
        if PASSES[case.pass_].witness and case.world == 1:
            raise UsageError(f"pass {case.pass_}: expected a world of several ranks, found 1")
        parse_choice("split", case.split, SPLITS)
        if case.split != DATA and (case.world == 1 or PASSES[case.pass_].witness):
            raise UsageError(
                f"split {case.split}: expected a pass of several ranks, found {case.pass_} of {case.world}"
            )
        parse_choice("arm", case.arm or LABELS[0], LABELS)
        parse_device(case.device)
        for what in ("mode", "layout", "weights", "guest", "part"):
            dotted = what in ("guest", "part")
            if not re.fullmatch(r"[\w.]+" if dotted else r"\w+", word := getattr(case, what) or "_"):
                raise UsageError(f"{what}: expected a word, found {quoted(word)}")
        if case.input not in (None, OWN_INPUT):
            parse_input("input", case.input)
        parse_count("batch", case.batch, MOST_BATCH)
        parse_count("size", 1 if case.size is None else case.size, MOST_SIZE)
        check_size([case.variant], case.size)
        check_split(case.net, case.split, case.world)
    if len({case.id for case in cases}) < len(cases):
        raise UsageError("duplicate case")
    return cases


def check_split(net: Variant, split: str, world: int) -> None:
    """Raise UsageError if so many ranks cannot share a net so."""
    if split != DATA:
        try:
            part_of(net, split, world)
        except NoSuchSplit as error:
            raise UsageError(f"--split {error}") from error


def check_size(variants: Iterable[str], size: int | None) -> None:
    """Raise UsageError if an input size is too small for a variant, with the least size of each such variant."""
    least = {name: variant_named(name.partition(".")[0]).least_size for name in variants} if size is not None else {}
    if needs := [f"{name} at least {pixels}" for name, pixels in least.items() if (size or 0) < pixels]:
        raise UsageError(f"size {size} is too small: expected for {', '.join(needs)} pixels")


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Group the Cases whose Workers take turns, in the order of the grid."""
    by_key: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        by_key.setdefault(case.group, []).append(case)
    return list(by_key.values())
