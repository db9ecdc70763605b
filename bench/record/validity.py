"""Whether what was measured may be shown and compared: bad samples, implausible speeds, conditions that differ."""

from collections.abc import Callable, Iterable, Sequence

from bench.cases.case import Case
from bench.record import ceiling
from bench.record.events import Block, Worker
from bench.record.recording import Recording, once

#: Above this many times the ceiling, work was left out: Winograd's F(4x4, 3x3) saves a factor of 4, nothing more.
IMPLAUSIBLE = 4.0
#: What two rows must share, beside what makes them two, and where a ``worker`` event says it.
ALIKE: dict[str, Callable[[Worker], int | str | None]] = {
    "threads": lambda worker: worker.conditions.threads,
    "oneDNN": lambda worker: worker.conditions.onednn,
    "TF32": lambda worker: worker.conditions.tf32,
    "matmul in": lambda worker: worker.precision.matmul.precision,
    "convolution in": lambda worker: worker.precision.conv.precision,
}


def pruned_fault(multiple: float | None) -> str:
    """A pass that beat the machine's ceiling by more than any algorithm can."""
    if multiple is None or multiple <= IMPLAUSIBLE:
        return ""
    return f"implausible: {multiple:.1f} times the machine's ceiling, so work was left out"


def differing(baseline: Sequence[Worker], candidate: Sequence[Worker], meant: Sequence[str] = ()) -> list[str]:
    """What two rows of a ratio were not alike in, beside framework, mode and layout, from their ``worker`` events.

    What one of them does not say (XLA has no oneDNN to switch) is no difference, and nor is what is ``meant`` as one.
    """
    found = []
    for what, look in ((what, look) for what, look in ALIKE.items() if what not in meant):
        theirs, ours = ({look(worker) for worker in workers} - {None} for workers in (baseline, candidate))
        if theirs and ours and theirs != ours:
            found.append(f"{what} {_words(ours)}, {_words(theirs)} in the baseline")
    return found


def _words(values: Iterable[object]) -> str:
    spoken = (("off", "on")[value] if isinstance(value, bool) else str(value) for value in values)
    return " and ".join(sorted(spoken))


@once
def invalid_reason(run: Recording, case: Case) -> str:
    """Why a Case has no valid row; empty for a valid one."""
    if case.id in run.failed:
        return run.failed[case.id]
    for block in run.counted(Block):
        if block.case_id == case.id and block.fault:
            return f"after it was timed it {block.fault}"
        if block.case_id == case.id and block.changed:
            changes = "; ".join(f"{what} {before} -> {after}" for what, (before, after) in block.changed.items())
            return f"conditions changed while it was timed: {changes}"
    summary = run.summary(case)
    if summary is None:
        return "not measured"
    return pruned_fault(ceiling.over_witness(run, case, summary))
