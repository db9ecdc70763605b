"""Validity of a Case: implausible speed, changed conditions; and differences between the Workers of two Cases."""

from collections.abc import Callable, Iterable, Sequence

from bench.cases.case import Case
from bench.record import ceiling
from bench.record.events import Block, Worker
from bench.record.recording import Recording, cached_per_case

#: Above this many times the ceiling, work was left out: Winograd's F(4x4, 3x3) saves a factor of 4, nothing more.
IMPLAUSIBLE = 4.0
#: Settings that two compared rows must share, and how to read them from a ``worker`` event.
ALIKE: dict[str, Callable[[Worker], int | str | None]] = {
    "threads": lambda worker: worker.conditions.threads,
    "oneDNN": lambda worker: worker.conditions.onednn,
    "TF32": lambda worker: worker.conditions.tf32,
    "matmul in": lambda worker: worker.precision.matmul.precision,
    "convolution in": lambda worker: worker.precision.conv.precision,
}


def pruned_fault(multiple: float | None) -> str:
    """A pass faster than any algorithm allows, given the machine's ceiling; empty if it is not."""
    if multiple is None or multiple <= IMPLAUSIBLE:
        return ""
    return f"implausible: {multiple:.1f} times the machine's ceiling, so work was left out"


def setting_differences(
    baseline: Sequence[Worker], candidate: Sequence[Worker], meant: Sequence[str] = ()
) -> list[str]:
    """Settings in which two compared rows differ, one text each, from their ``worker`` events.

    A setting that one side lacks (XLA has no oneDNN) is not a difference, nor is one that is ``meant`` to differ.
    """
    texts = []
    for name, read in ALIKE.items():
        before, after = ({read(worker) for worker in workers} - {None} for workers in (baseline, candidate))
        if name not in meant and before and after and before != after:
            texts.append(f"{name} {_join(after)}, {_join(before)} in the baseline")
    return texts


def on_off(value: object) -> object:
    """``on`` or ``off`` for a bool; any other value is unchanged."""
    return ("off", "on")[value] if isinstance(value, bool) else value


def _join(values: Iterable[object]) -> str:
    return " and ".join(sorted(str(on_off(value)) for value in values))


@cached_per_case
def invalid_reason(run: Recording, case: Case) -> str:
    """Why the row of a Case is not valid; empty if it is."""
    if case.id in run.failed:
        return run.failed[case.id]
    for block in run.of_case(Block, case):
        if block.changed:
            changes = "; ".join(f"{what} {before} -> {after}" for what, (before, after) in block.changed.items())
            return f"conditions changed while it was timed: {changes}"
    summary = run.summary(case)
    if summary is None:
        return "run.jsonl lacks turns of its Rounds" if case.id in dict(run.lacking) else "not measured"
    return pruned_fault(ceiling.independent_peak_fraction(run, case, summary))
