"""`memory`: the memory that a pass took on its device, next to what is counted from the layers. Nothing is timed."""

from bench import UsageError
from bench.cases.passes import PASSES
from bench.commands.report import default_folder
from bench.commands.requests import MemoryRequest
from bench.output import console, memory_table
from bench.output.labels import some_of
from bench.output.run_table import print_line, print_table
from bench.record.memory_use import MemoryUse, uses_of
from bench.record.run import Run

EXPLAINED = (
    "Counted: parameters, gradients and velocities in float32, two batches of images, and each array that the backward "
    "pass reads once (of forward the widest layer); without workspaces of libraries.",
    "Device: the most that the device's allocator held in the pass; JAX cannot reset its peak, so its figure is of the "
    "process so far. Process: memory of the Worker's process, less what importing its framework took.",
)


def main(request: MemoryRequest) -> int:
    runs = [Run(folder) for folder in request.runs or [default_folder()]]
    uses = [(run, use) for run in runs for use in uses_of(run)]
    if not uses:
        names = some_of(str(run.folder) for run in runs)
        raise UsageError(f"expected valid rows of our nets on one device, of `run`; found none in {names}")
    if request.as_json:
        console.print_json([{"run": run.head.run_id} | use.as_json() for run, use in uses])
    else:
        show([use for _, use in uses])
    wrong = [use for _, use in uses if use.impossible]
    for use in wrong:
        least = console.number(use.counted.least / 2**20)
        console.tell(
            f"{use.case.id}: the allocator reports {console.number(use.device_mib or 0)} MiB, expected at least the "
            f"{least} MiB of parameters{', velocities' if PASSES[use.case.pass_].updates else ''} and one batch"
        )
    return 1 if wrong else 0


def show(uses: list[MemoryUse]) -> None:
    print_table(memory_table.table(uses, "memory of a pass"))
    for line in EXPLAINED:
        print_line(line, dim=True)
    print_line(in_short(uses))


def in_short(uses: list[MemoryUse]) -> str:
    """One line: between which ratios the device's peaks are, or that they are unknown."""
    ratios = sorted(use.ratio for use in uses if use.ratio is not None)
    if ratios:
        return f"The device held {ratios[0]:.2f} to {ratios[-1]:.2f} times what is counted, in {len(ratios)} rows."
    known = [use.process_mib for use in uses if use.process_mib is not None]
    most = f"; a process took up to {console.number(max(known))} MiB" if known else ""
    return f"The peak of the device's allocator is unknown, as on a CPU{most}."
