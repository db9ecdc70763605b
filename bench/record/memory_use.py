"""MemoryUse: the memory that a Case took on its device, next to what is counted from its layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.record.run import Run
from bench.stats.footprint import Footprint, footprint


@dataclass(frozen=True)
class MemoryUse:
    """``device_mib`` is the peak of the device's allocator, None where it is unknown, as on a CPU; ``process_mib`` that
    of the Worker's process, less what importing the framework took."""

    case: Case
    counted: Footprint
    device_mib: float | None
    process_mib: float | None

    @property
    def ratio(self) -> float | None:
        """The device's peak over what is counted."""
        return None if self.device_mib is None else self.device_mib * 2**20 / self.counted.total

    @property
    def impossible(self) -> bool:
        """Whether the allocator reports less than what the pass reads."""
        return self.device_mib is not None and self.device_mib * 2**20 < self.counted.least

    def as_json(self) -> dict[str, Any]:
        parts = ("params", "gradients", "velocity", "activations", "images", "total")
        counted = {f"{name}_bytes": getattr(self.counted, name) for name in parts}
        measured = {"device_mib": self.device_mib, "process_mib": self.process_mib, "ratio": self.ratio}
        return {"case_id": self.case.id, **counted, **measured, "impossible": self.impossible}


def uses_of(run: Run) -> Iterator[MemoryUse]:
    """The valid Cases of our own nets that one device computes on resident batches.

    None of a profile, whose Workers hold several nets.
    """
    if run.protocol.shared_workers:
        return
    stepping = {(case.group, case.worker) for case in run.cases if _steps(case)}
    for row, case in zip(run.rows(), run.cases, strict=True):
        if row["valid"] and _counted(case):
            steps = (case.group, case.worker) in stepping
            counted = footprint(case.net, case.batch, case.pass_, case.precision, steps=steps)
            yield MemoryUse(case, counted, row["peak_memory_mib"], row["peak_rss_mib"])


def _steps(case: Case) -> bool:
    return case.pass_ in PASSES and PASSES[case.pass_].updates


def _counted(case: Case) -> bool:
    own = not (case.foreign or case.guest or case.input or case.part)
    return own and case.world == 1 and case.loader is None and case.pass_ in PASSES and bool(PASSES[case.pass_].stages)
