"""Case: one frozen grid point. Its ids, the grid, and what a user may ask for."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench import UsageError
from impls import FRAMEWORKS
from impls.layers import LayerError, Lrn
from impls.variants import VARIANTS, Variant, variant_named

PASSES = ("forward", "forward_backward")
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
    def rivals(self) -> tuple:
        """Equal for Cases of a group that are compared with each other, so their Turns stand side by side."""
        if self.arm:  # two nets may be of two frameworks
            return (self.pass_, None if self.guest else self.framework)
        return (self.pass_, self.compiled)

    @property
    def process_precision(self) -> str:
        """What a process is set to: tf32 is a switch of the whole process, bf16 a matter of each Net in an fp32 one."""
        return "tf32" if self.precision == "tf32" else "fp32"

    @property
    def group(self) -> tuple:
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
        net = self.net
        return net.macs + (net.backward_macs if self.pass_ == "forward_backward" else 0)


def one_of(what: str, value: str, choices: Iterable[str]) -> str:
    """``value`` if it is a choice, else UsageError naming them all."""
    choices = list(choices)
    if value in choices:
        return value
    raise UsageError(f"unknown {what} {value!r}: choose {spoken(choices)}")


def spoken(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def several(what: str, text: str, choices: Sequence[str]) -> list[str]:
    """A comma-separated list of choices, or ``all``; each once, in the order given."""
    if text == "all":
        return list(choices)
    return list(dict.fromkeys(one_of(what, word.strip(), choices) for word in text.split(",")))


def positive(what: str, text: str | int, least: int = 1) -> int:
    """A whole number, at least ``least``."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise UsageError(f"{what}: expected a whole number, at least {least}, found {text!r}")
    return number


def device(text: str) -> str:
    """cpu, cuda, or cuda with the number of the GPU."""
    kind, _, number = text.partition(":")
    if text == "cpu" or (kind == "cuda" and (number.isdecimal() or text == "cuda")):
        return text
    raise UsageError(f"unknown device {text!r}: choose cpu, cuda, or one GPU such as cuda:1")


def modes(frameworks: Sequence[str], text: str | None, devices: Sequence[str] = ("cpu",)) -> dict[str, list[str]]:
    """The modes of each framework: its default one, or those of the list that it has on these devices.

    A mode that no framework has, or a framework left without one, is a mistake.
    """
    if text is None:
        return {name: [FRAMEWORKS[name].modes[0]] for name in frameworks}

    def choices(name: str) -> list[str]:
        it = FRAMEWORKS[name]
        return [mode for mode in it.modes if mode not in it.gpu_only or "cpu" not in devices]

    for name in frameworks:
        for word in (word.strip() for word in text.split(",")):
            if word in FRAMEWORKS[name].gpu_only and word not in choices(name):
                raise UsageError(f"{name}'s mode {word!r} needs a GPU: choose {spoken(choices(name))} on the cpu")
    return _belonging("mode", frameworks, text, choices)


def layouts(frameworks: Sequence[str], text: str | None) -> dict[str, list[str]]:
    """The layouts of each framework: its default, or those of the list that it has; one that has no choice keeps its
    own."""
    if text is None:
        return {name: [FRAMEWORKS[name].layouts[0]] for name in frameworks}
    return _belonging("layout", frameworks, text, lambda name: FRAMEWORKS[name].layouts, sole=True)


def _belonging(what, frameworks, text, choices, sole=False) -> dict[str, list[str]]:
    """The words of a list that each framework has; with ``sole`` one that has no choice keeps the one there is."""
    if text == "all":
        return {name: list(choices(name)) for name in frameworks}
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not any(word in choices(name) for name in frameworks):
            if len(frameworks) == 1:
                raise UsageError(f"{frameworks[0]} has no {what} {word!r}: choose {spoken(choices(frameworks[0]))}")
            known = "; ".join(f"{name} has {', '.join(choices(name))}" for name in frameworks)
            raise UsageError(f"unknown {what} {word!r}: {known}")
    found = {name: [word for word in dict.fromkeys(words) if word in choices(name)] for name in frameworks}
    for name, chosen in found.items():
        if not chosen and sole and len(choices(name)) == 1:
            chosen += choices(name)
        if not chosen:
            raise UsageError(f"{name} has no {what} {text!r}: choose {spoken(choices(name))}, or leave {name} out")
    return found


def grid(
    *,
    variants: Sequence[str],
    modes: dict[str, list[str]],
    layouts: dict[str, list[str]],
    devices: Sequence[str],
    precisions: Sequence[str],
    batches: Sequence[int],
    passes: Sequence[str],
    threads: int | None = None,
    size: int | None = None,
    dropout: bool = False,
    seed: int = 0,
    weights: str | None = None,
    lrns: Sequence[str] = LRNS[:1],
    presets: Sequence[str] = PRESETS[:1],
    ours: Sequence[str] | None = None,
    guests: Sequence[tuple[str, str]] = (),
) -> list[Case]:
    """Every Case of the axes, group by group; UsageError where a net does not fit the size, or a device lacks tf32.

    ``ours`` are the frameworks that time our net, None for all that have modes; ``guests`` are (framework, label) of
    users' nets, which come after ours and have no LRN to choose.
    """
    if "tf32" in precisions and PRESETS[1] in presets:
        raise UsageError("precision 'tf32' with --preset default: only `equal` sets switches; leave one of them out")
    if "tf32" in precisions and "cpu" in devices:
        raise UsageError("precision 'tf32' asked for, which only a GPU has: choose fp32 or bf16 on the cpu")
    cases = []
    for variant, device, precision, batch in itertools.product(variants, devices, precisions, batches):
        own_size = None if size == variant_named(variant.partition(".")[0]).input_size else size
        nets: list[tuple[str, str | None, str]] = [
            (framework, None, lrn)
            for framework in (modes if ours is None else ours)
            for lrn in (lrns if has_lrn(variant) else LRNS[:1])
        ]
        nets += [(framework, label, LRNS[0]) for framework, label in guests]
        fixed = (threads, own_size, dropout, seed, weights)
        cases += [
            Case(variant, framework, mode, device, precision, layout, batch, pass_, *fixed, None, lrn, preset, label)
            for pass_ in passes
            for framework, label, lrn in nets
            for mode, layout, preset in itertools.product(modes[framework], layouts[framework], presets)
        ]
    for case in cases:
        fits(case)
    return cases


def has_lrn(variant: str) -> bool:
    """Whether there is an LRN to choose."""
    return any(isinstance(layer, Lrn) for layer in variant_named(variant).layers)


def checked(cases: list[Case]) -> list[Case]:
    """Cases that were read from a file; UsageError for one that nobody could have asked for."""
    for case in (case for case in cases if not case.foreign):
        net, dot, _ = case.variant.partition(".")
        one_of("variant", net, VARIANTS)
        if dot:
            one_of("layer", case.variant, [part.name for part in VARIANTS[net].parts()])
        one_of("LRN", case.lrn, LRNS)
        one_of("preset", case.preset, PRESETS)
        one_of("framework", case.framework, FRAMEWORKS)
        one_of("precision", case.precision, PRECISIONS)
        one_of("pass", case.pass_, PASSES)
        one_of("arm", case.arm or LABELS[0], LABELS)
        device(case.device)
        for what in ("mode", "layout", "weights", "guest"):
            if not re.fullmatch(r"[\w.]+" if what == "guest" else r"\w+", word := getattr(case, what) or "_"):
                raise UsageError(f"{what}: expected a word, found {word!r}")
        positive("batch", case.batch)
        positive("size", case.net.input_size)
        fits(case)
    if len({case.id for case in cases}) < len(cases):
        raise UsageError("a case stands there twice")
    return cases


def fits(case: Case) -> None:
    """UsageError where a Case's net does not fit its input size."""
    try:
        case.net.placed()
    except LayerError as error:
        raise UsageError(f"{case.variant} at {case.size} pixels: {error}") from error


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases whose Workers take turns with each other, in the order of the grid."""
    found: dict[tuple, list[Case]] = {}
    for case in cases:
        found.setdefault(case.group, []).append(case)
    return list(found.values())
