"""The table of `memory`: bytes counted from the layers, and the most that the device's allocator held."""

from collections.abc import Sequence

from bench.output.labels import label_of
from bench.output.tables import Cell, Column, Table, measured
from bench.record.memory_use import MemoryUse

MIB = 2**20
COLUMNS = (
    *(Column("net"), Column("batch", numeric=True), Column("", long=True), Column("pass")),
    *(Column("counted MiB", True, True), Column("of activations", True, True)),
    *(Column("device MiB", True, True), Column("process MiB", True, True), Column("device/ counted", True, True)),
)


def table(uses: Sequence[MemoryUse], caption: str) -> Table:
    return Table(caption, COLUMNS, [_row(use) for use in uses], heads=2)


def _row(use: MemoryUse) -> list[Cell]:
    case = use.case
    return [
        Cell(case.variant),
        Cell(str(case.batch), case.batch),
        Cell(f"{label_of(case)}{'' if case.precision == 'fp32' else f' {case.precision}'}"),
        Cell(case.pass_),
        measured(use.counted.total / MIB),
        measured(use.counted.activations / MIB),
        measured(use.device_mib),
        measured(use.process_mib),
        Cell("" if use.ratio is None else f"{use.ratio:.2f}", use.ratio),
    ]
