"""Axes: the values of every axis of a grid, and the resulting Cases."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import UsageError
from bench.cases.case import LRNS, PRESETS, Case, check_size
from bench.cases.parse import lacking, refuse_device
from impls.layers import Lrn
from impls.variants import variant_named


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values of each axis; ``modes`` and ``layouts`` are per framework.

    ``ours``: the frameworks that time our net (None: all in ``modes``). ``guests``: (framework, label) of users' nets,
    which follow ours and have no LRN axis.
    """

    variant: Sequence[str]
    modes: Mapping[str, Sequence[str]]
    layouts: Mapping[str, Sequence[str]]
    device: Sequence[str]
    precisions: Sequence[str]
    batch: Sequence[int]
    pass_: Sequence[str]
    lrn: Sequence[str] = LRNS[:1]
    preset: Sequence[str] = PRESETS[:1]
    threads: int | None = None
    size: int | None = None
    dropout: bool = False
    seed: int = 0
    weights: str | None = None
    ours: Sequence[str] | None = None
    guests: Sequence[tuple[str, str]] = ()

    def cases(self) -> list[Case]:
        """All Cases, group by group.

        Raises UsageError if a net does not fit the size, a framework lacks a device, or a device or preset tf32.
        """
        if "tf32" in self.precisions and PRESETS[1] in self.preset:
            raise UsageError(
                "precision 'tf32' with --preset default: only `equal` sets switches; leave one of them out"
            )
        if "tf32" in self.precisions and (elsewhere := lacking(self.device, lambda accelerator: accelerator.tf32)):
            raise UsageError(f"precision 'tf32' asked for, which only cuda has: choose fp32 or bf16 on {elsewhere}")
        for framework, device in itertools.product(self.modes, self.device):
            refuse_device(framework, device)
        check_size(self.variant, self.size)
        cases = []
        for variant, device, precision, batch, pass_ in itertools.product(
            self.variant, self.device, self.precisions, self.batch, self.pass_
        ):
            own_size = variant_named(variant.partition(".")[0]).input_size
            shared: dict[str, Any] = {"size": None if self.size == own_size else self.size}
            shared |= {name: getattr(self, name) for name in ("threads", "dropout", "seed", "weights")}
            for framework, guest, lrn in self._nets(variant):
                modes, layouts = self.modes[framework], self.layouts[framework]
                for mode, layout, preset in itertools.product(modes, layouts, self.preset):
                    axes = (variant, framework, mode, device, precision, layout, batch, pass_)
                    case = Case(*axes, lrn=lrn, preset=preset, guest=guest, **shared)
                    cases.append(case)
        return cases

    def _nets(self, variant: str) -> Iterator[tuple[str, str | None, str]]:
        """Framework, guest and LRN of each net of a variant: ours, then users'."""
        for framework in self.modes if self.ours is None else self.ours:
            for lrn in self.lrn if has_lrn(variant) else LRNS[:1]:
                yield framework, None, lrn
        for framework, label in self.guests:
            yield framework, label, LRNS[0]


def has_lrn(variant: str) -> bool:
    """Whether a variant has an LRN layer."""
    return any(isinstance(layer, Lrn) for layer in variant_named(variant).layers)
