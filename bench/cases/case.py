"""Case: one frozen grid point, its ids and its group."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench import UsageError
from bench.cases.parse import parse_choice, parse_count, parse_device
from bench.cases.passes import PASSES
from impls import FRAMEWORKS
from impls.layers import LayerError
from impls.variants import VARIANTS, Variant, variant_named

PRECISIONS = ("fp32", "tf32", "bf16")
LRNS = ("native", "fast")
#: equal: every condition pinned, alike in all frameworks; default: what a user of the framework gets who sets nothing.
PRESETS = ("equal", "default")
LABELS = ("A", "B")  # of the two Arms of an --ab


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """What is timed. ``threads`` and ``size`` are None at their defaults: all usable cores, the Variant's own size.
    ``weights`` is the digest of the file they are from, None for the seed's own; ``arm`` the side of an --ab;
    ``guest`` the label of a user's own net, None for ours; ``foreign`` the name of another program's benchmark, whose
    net nobody knows."""

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
    foreign: str | None = None

    @property
    def id(self) -> str:
        """Used verbatim as pytest id, CSV key, plot label and log prefix; axes at their default are left out."""
        if self.foreign:
            return self.foreign
        parts = [self.variant, self.framework, self.mode, self.device, self.precision, f"b{self.batch}", self.pass_]
        parts += self.settings
        if self.threads is not None:
            parts.append(f"t{self.threads}")
        if self.size is not None:
            parts.append(f"s{self.size}")
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
        """The process that times it, within its group."""
        if self.foreign:
            return self.foreign
        return "-".join([self.framework, self.mode, *self.settings, *([self.arm] if self.arm else [])])

    @property
    def settings(self) -> list[str]:
        """What a Worker has beside its framework and mode: whose net, layout, LRN and preset, where not the default."""
        if self.foreign:
            return []
        layout = [] if self.layout == FRAMEWORKS[self.framework].layouts[0] else [self.layout]
        lrn = [] if self.lrn == LRNS[0] else [f"lrn_{self.lrn}"]
        preset = [] if self.preset == PRESETS[0] else [f"preset_{self.preset}"]
        return [*([self.guest] if self.guest else []), *layout, *lrn, *preset]

    @property
    def compiled(self) -> bool:
        """Whether its mode compiles: such modes are peers of each other, and not of those that do not."""
        return not self.foreign and self.mode in FRAMEWORKS[self.framework].compiled

    @property
    def rivals(self) -> tuple[object, ...]:
        """Equal for Cases of a group that are compared with each other, so their Turns stand side by side."""
        if self.arm:  # two nets may be of two frameworks
            return (self.pass_, None if self.guest else self.framework)
        return (self.pass_, self.compiled)

    @property
    def process_precision(self) -> str:
        """What a process is set to: tf32 is a switch of the whole process, bf16 a matter of each Net in an fp32 one."""
        return "tf32" if self.precision == "tf32" else "fp32"

    @property
    def group(self) -> tuple[object, ...]:
        """Equal for Cases whose Workers take turns: all but pass, arm and what makes a Worker (framework, mode and its
        settings); threads differ between the two Arms alone."""
        size = self.net.input_size
        axes = (self.variant, self.device, self.precision, self.batch, size, self.dropout, self.seed)
        return (*axes, self.weights or "")

    @property
    def net(self) -> Variant:
        if self.foreign:
            return Variant(self.variant, 0, source="another program", note="", layers=())
        return variant_named(self.variant, self.size)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image in this Pass, counted from the rows."""
        return 0 if self.foreign else PASSES[self.pass_].macs(self.net)


def checked(cases: list[Case]) -> list[Case]:
    """Cases that were read from a file; UsageError for one that nobody could have asked for."""
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
        parse_choice("arm", case.arm or LABELS[0], LABELS)
        parse_device(case.device)
        for what in ("mode", "layout", "weights", "guest"):
            if not re.fullmatch(r"[\w.]+" if what == "guest" else r"\w+", word := getattr(case, what) or "_"):
                raise UsageError(f"{what}: expected a word, found {word!r}")
        parse_count("batch", case.batch)
        parse_count("size", case.net.input_size)
        check_size(case)
    if len({case.id for case in cases}) < len(cases):
        raise UsageError("a case stands there twice")
    return cases


def check_size(case: Case) -> None:
    """Raise UsageError where a Case's net does not fit its input size."""
    try:
        case.net.placed()
    except LayerError as error:
        raise UsageError(f"{case.variant} at {case.size} pixels: {error}") from error


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases whose Workers take turns with each other, in the order of the grid."""
    found: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        found.setdefault(case.group, []).append(case)
    return list(found.values())
