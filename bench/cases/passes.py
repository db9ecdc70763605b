"""Passes of a Net, one record per pass, which everything that times, proves, counts or names a pass uses.

docs/adding.md lists the other places that a new pass needs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

OUTSIDE = "input copies, optimizer step, fetching results, burn-in, the first call"
OUTSIDE_A_STEP = "input copies, fetching results, setting the weights back, burn-in, the first call"
OUTSIDE_A_LOADER = "its start, its first batches, its end"
OUTSIDE_A_SUM = "filling the values, fetching results, burn-in, the first call"


class Counted(Protocol):
    """A Variant, without importing it (`--help` needs no numpy)."""

    @property
    def macs(self) -> int: ...
    @property
    def backward_macs(self) -> int: ...


#: Multiply-adds per image of each stage.
MACS: dict[str, Callable[[Counted], int]] = {
    "forward": lambda net: net.macs,
    "backward": lambda net: net.backward_macs,
    "update": lambda net: 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A pass or the difference of two. ``name`` is its key in ids, CSVs and JSON; ``stages`` are keys of MACS."""

    name: str
    title: str
    stages: tuple[str, ...]

    @property
    def only_updates(self) -> bool:
        """It is nothing for a layer without parameters."""
        return self.stages == ("update",)

    def macs(self, net: Counted) -> int:
        """Multiply-adds per image."""
        return sum(MACS[stage](net) for stage in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Timed):
    """A time that is not measured but derived: that of its pass minus that of the pass ``less``, in the same Worker."""

    less: str
    includes: str
    """What else the two passes differ in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass(Timed):
    """A pass of a Net."""

    phrase: str
    """Its name in a sentence."""
    method: str
    """The method of a Net that runs it."""
    proof: str
    """The output that `verify` compares, and the method of a Net that reads it."""
    inside: str
    """The work inside the clock; part of the work hash."""
    outside: str = OUTSIDE
    training: bool
    """Training mode: it updates the moving statistics, and with dropout its outputs are random."""
    updates: bool = False
    """It updates the parameters: a Net is given labels for it, and its weights are set back after every Turn."""
    in_default_run: bool = True
    """Takes part where no pass is named."""
    difference: Difference | None = None
    """Its difference from another pass."""
    loaded: bool = False
    """It takes its batches from the framework's loader, and is timed with --loaders only. With stages it is a pass of
    the Net too, that of the same method."""
    witness: bool = False
    """Of a Team of several ranks only, timed with --devices: it tells what another pass of the Team is made of."""


BACKWARD = Difference(
    name="backward",
    title="backward",
    stages=("backward",),
    less="forward",
    includes="the cost of training mode itself",
)
UPDATE = Difference(
    name="update",
    title="update",
    stages=("update",),
    less="forward_backward",
    includes="the difference of their losses",
)
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
        Pass(
            name="train_step",
            title="training step",
            phrase="the training step",
            stages=("forward", "backward", "update"),
            method="train_step",
            proof="trained",
            inside=(
                "training mode, mean softmax cross-entropy of seeded labels, every parameter's gradient, "
                "SGD with momentum 0.9 and weight decay 5e-4 as in the 2012 paper"
            ),
            outside=OUTSIDE_A_STEP,
            training=True,
            updates=True,
            in_default_run=False,
            difference=UPDATE,
        ),
        Pass(
            name="load",
            title="load",
            phrase="loading",
            stages=(),
            method="",
            proof="",
            inside="the wait for a batch of the loader, with nothing computed meanwhile",
            outside=OUTSIDE_A_LOADER,
            training=False,
            in_default_run=False,
            loaded=True,
        ),
        Pass(
            name="fed",
            title="fed training step",
            phrase="the fed training step",
            stages=("forward", "backward", "update"),
            method="train_step",
            proof="trained",
            inside="the wait for a batch of the loader, its copy to the device, and train_step on it",
            outside=OUTSIDE_A_LOADER,
            training=True,
            updates=True,
            in_default_run=False,
            loaded=True,
        ),
        Pass(
            name="apart",
            title="apart",
            phrase="the forward and backward passes without reduction",
            stages=("forward", "backward"),
            method="apart",
            proof="own_gradients",
            inside="forward_backward of all ranks at once, without the reduction of the gradients",
            training=True,
            in_default_run=False,
            witness=True,
        ),
        Pass(
            name="all_reduce",
            title="all-reduce",
            phrase="the all-reduce",
            stages=(),
            method="all_reduce",
            proof="reduced",
            inside="the sum over all ranks of as many float32 values as there are parameters, and nothing else",
            outside=OUTSIDE_A_SUM,
            training=False,
            in_default_run=False,
            witness=True,
        ),
    )
}
STEP, LOAD, FED = PASSES["train_step"], PASSES["load"], PASSES["fed"]
APART, ALL_REDUCE = PASSES["apart"], PASSES["all_reduce"]
DEFAULT_PASSES = tuple(each.name for each in PASSES.values() if each.in_default_run)


DIFFERENCES = {each.difference.name: each.difference for each in PASSES.values() if each.difference}


def timed_by_name() -> dict[str, Timed]:
    """All passes and differences by name, each difference before its pass."""
    known: dict[str, Timed] = {}
    for each in PASSES.values():
        known |= {timed.name: timed for timed in (each.difference, each) if timed}
    return known


def pass_title(name: str) -> str:
    """The title of a pass or difference; other programs' names are returned unchanged."""
    known = timed_by_name()
    return known[name].title if name in known else name


def place_of(name: str) -> int:
    """The place of a pass in tables; other programs' come first."""
    return list(PASSES).index(name) if name in PASSES else -1


def proven_with(names: Iterable[str]) -> list[Pass]:
    """The passes to prove when these are timed, in order.

    Includes forward always, to tell a wrong net from a wrong gradient. Training passes come last, since they update
    the statistics that logits depend on.
    """
    timed, order = resident_in(names), sorted(resident_passes().values(), key=lambda each: each.training)
    return [each for each in order if each is order[0] or each.name in timed]


def resident_passes() -> dict[str, Pass]:
    """The passes of a Net on its resident batches, by name."""
    return {each.name: each for each in PASSES.values() if not each.loaded}


def offered_passes() -> dict[str, Pass]:
    """The passes that can be asked for, by name."""
    return {name: each for name, each in resident_passes().items() if not each.witness}


def resident_in(names: Iterable[str]) -> list[str]:
    """The passes on resident batches among these, and those that a pass with a loader contains."""
    methods = {PASSES[name].method for name in names}
    return [each.name for each in resident_passes().values() if each.method in methods]


def methods_called(names: Iterable[str], *, proven: bool) -> list[str]:
    """The methods that a Net needs when these passes are timed and, if ``proven``, proven; none for no pass."""
    timed = resident_in(names)
    if not timed:
        return []
    called = proven_with(timed) if proven else [PASSES[name] for name in timed]
    proofs = [each.proof for each in called] if proven else []
    prepares = ["label", "restart"] if any(each.updates for each in called) else []
    return list(dict.fromkeys(["load", *prepares, *(each.method for each in called), "wait", *proofs]))


def outside_the_clock(names: Iterable[str]) -> str:
    """Work outside the clocks of these passes, per pass if they differ."""
    timed, titles = set(names), dict[str, list[str]]()
    for each in PASSES.values():
        if each.name in timed:
            titles.setdefault(each.outside, []).append(each.title)
    if len(titles) == 1:
        return next(iter(titles))
    return "; ".join(f"{', '.join(those)}: {text}" for text, those in titles.items())
