"""The parts of a net that a profile times alone: the layers of a Variant, or the modules of a user's model."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bench.cases.case import LRNS, Case
from bench.record.run import Run
from impls.layers import Dropout, Placed
from impls.variants import Variant


@dataclass(frozen=True)
class NetPart:
    """A part of a net. ``shape`` is that of its output, (height, width, channels) or empty; the net calls it ``calls``
    times, the first of which is timed. ``layer`` and ``alone`` are that of a Variant, and this layer as a net of its
    own; None for a module of a user's model, whose work is not known.
    """

    name: str
    kind: str
    shape: Sequence[int]
    params: int
    calls: int = 1
    layer: Placed | None = None
    alone: Variant | None = None

    @property
    def idle(self) -> bool:
        return self.alone is not None and idle(self.alone)

    def case(self, run: Run, whole: Case) -> Case:
        """Its Case next to that of the whole net; a layer has the whole net's LRN if it has a choice of LRN."""
        if self.alone is None:
            return dataclasses.replace(whole, part=self.name)
        case = dataclasses.replace(whole, variant=self.alone.name)
        return case if case in run.cases else dataclasses.replace(case, lrn=LRNS[0])


def idle(part: Variant) -> bool:
    """Whether a layer alone does nothing: dropout that is off."""
    return isinstance(part.layers[0], Dropout)


def parts_of(run: Run, whole: Case) -> list[NetPart]:
    """The parts of the net of a Case, in its order."""
    if whole.guest:
        modules = next((net.modules for net in run.head.guests if net.label == whole.guest), None)
        known = modules.parts if modules else []
        return [NetPart(each.name, each.kind, each.shape, each.params, each.calls) for each in known]
    placed = zip(whole.net.placed(), whole.net.parts(), strict=False)
    return [
        NetPart(each.layer.name, each.layer.kind, each.output, each.params, layer=each, alone=alone)
        for each, alone in placed
    ]
