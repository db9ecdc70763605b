"""Passes: what of a Net is timed, one record per pass; whatever times, proves, counts or names a pass reads it here.

docs/adding.md says what else a new one needs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

OUTSIDE = "input copies, optimizer step, fetching results, burn-in, the first call"


class Counted(Protocol):
    """A Variant, which `--help` does without."""

    @property
    def macs(self) -> int: ...
    @property
    def backward_macs(self) -> int: ...


#: Multiply-adds of one image in each stage of work.
MACS: dict[str, Callable[[Counted], int]] = {
    "forward": lambda net: net.macs,
    "backward": lambda net: net.backward_macs,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A pass, or the difference of two. ``name`` is its key in ids, CSVs and JSON; ``stages`` are its work."""

    name: str
    title: str
    stages: tuple[str, ...]

    def macs(self, net: Counted) -> int:
        """Multiply-adds of one image."""
        return sum(MACS[stage](net) for stage in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Timed):
    """A time that is never measured: that of a pass less that of the pass ``less``, in the same Worker."""

    less: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass(Timed):
    """A pass of a Net."""

    phrase: str
    """Its name in a sentence."""
    method: str
    """The method of a Net that runs it."""
    proof: str
    """The values that prove it: what a Worker's `verify` is asked for, and the method of a Net that reads them."""
    inside: str
    """What the clock holds; part of the work hash."""
    outside: str = OUTSIDE
    training: bool
    """In training mode: it moves the moving statistics, and with dropout on it has no one right answer."""
    profiled: bool = True
    """Whether `profile` times it layer by layer."""
    difference: Difference | None = None
    """What it takes longer than another pass."""


BACKWARD = Difference(name="backward", title="backward", stages=("backward",), less="forward")
PASSES = {
    each.name: each
    for each in (
        Pass(
            name="forward",
            title="forward",
            phrase="the forward pass",
            stages=("forward",),
            method="forward",
            proof="logits",
            inside="inference mode to the logits, dropout off",
            training=False,
        ),
        Pass(
            name="forward_backward",
            title="forward + backward",
            phrase="the forward and backward passes",
            stages=("forward", "backward"),
            method="forward_backward",
            proof="gradients",
            inside="training mode, loss 0.5 * sum(logits^2), every parameter's gradient, none for the images",
            training=True,
            difference=BACKWARD,
        ),
    )
}


def timed_by_name() -> dict[str, Timed]:
    """All passes and differences by name, each difference before the pass that it is taken from."""
    known: dict[str, Timed] = {}
    for each in PASSES.values():
        known |= {timed.name: timed for timed in (each.difference, each) if timed}
    return known


def pass_title(name: str) -> str:
    """The heading of a pass or difference; the name itself of another program's."""
    known = timed_by_name()
    return known[name].title if name in known else name


def proven_with(names: Iterable[str]) -> list[Pass]:
    """The passes that are proven where these are timed, in order: these, and always the first in inference, which tells
    a wrong net from a wrong gradient. A pass in training mode comes later: it moves the statistics that logits need.
    """
    timed, order = set(names), sorted(PASSES.values(), key=lambda each: each.training)
    return [each for each in order if each is order[0] or each.name in timed]


def methods_called(names: Iterable[str], *, proven: bool) -> list[str]:
    """The methods that a Net must have where these passes are timed, and proven or not."""
    timed = set(names)
    called = proven_with(timed) if proven else [each for each in PASSES.values() if each.name in timed]
    proofs = [each.proof for each in called] if proven else []
    return list(dict.fromkeys(["load", *(each.method for each in called), "wait", *proofs]))


def profiled() -> list[Pass]:
    """The passes that `profile` times."""
    return [each for each in PASSES.values() if each.profiled]


def outside_the_clock(names: Iterable[str]) -> str:
    """What the clocks of these passes leave out, and by which pass where they differ."""
    timed, titles = set(names), dict[str, list[str]]()
    for each in PASSES.values():
        if each.name in timed:
            titles.setdefault(each.outside, []).append(each.title)
    if len(titles) == 1:
        return next(iter(titles))
    return "; ".join(f"{', '.join(those)}: {text}" for text, those in titles.items())
