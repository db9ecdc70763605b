"""Run: a Run folder read back, its rows, and the CSVs derived from run.jsonl."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from bench.cases.case import Case
from bench.record import csvfile, validity
from bench.record.case_facts import CaseFacts
from bench.record.columns import COLUMNS, CsvColumn, names
from bench.record.events import Iterations, Layers, Turn
from bench.record.recording import Recording, cached_per_case


class Run(Recording):
    """A Run read back from its folder.

    Raises UsageError if the folder has no Run or one of another schema.

    Attributes
    ----------
    head : Header
        The first line of run.jsonl: Protocol, machine, settings.
    cases : list of Case
        What was timed.
    problems : list of str
        Lines of run.jsonl that were left out, each with its number.
    """

    def invalid_reason(self, case: Case) -> str:
        """Why the row of a Case is not valid; empty if it is."""
        return validity.invalid_reason(self, case)

    def row(self, case: Case) -> dict[str, Any]:
        """The row of a Case in summary.csv, by column name: unrounded, None for an empty cell. A copy."""
        return dict(self._row(case))

    @cached_per_case
    def _row(self, case: Case) -> dict[str, Any]:
        facts = CaseFacts(self, case)
        return {column.name: column.value(facts) for column in COLUMNS}

    def rows(self) -> list[dict[str, Any]]:
        """Rows of summary.csv in the order of ``cases``, one per Case; see ``row``. Units are in the column names."""
        return [self.row(case) for case in self.cases]

    def write(self) -> None:
        """Write summary.csv, samples.csv and layers.csv, derived from run.jsonl, to the folder."""
        csvfile.write(self.folder / "summary.csv", names(COLUMNS), self.rows())
        csvfile.lines(self.folder / "samples.csv", names(SAMPLE_COLUMNS), self._sample_rows())
        # two Arms may have the same net
        layers = dict.fromkeys(row for event in self.events_of(Layers) for row in event.rows)
        csvfile.write(self.folder / "layers.csv", names(LAYER_COLUMNS), map(structs.asdict, layers))

    def _sample_rows(self) -> Iterator[Sequence[Any]]:
        """In the order of SAMPLE_COLUMNS."""
        for event in self.events:
            if isinstance(event, Iterations):
                key = event.case_id, event.round, event.attempt
                cycle = event.cycle if isinstance(event, Turn) else None
                durations = event.durations_ns if isinstance(event, Turn) else event.ns
                taken = zip(self.phases(event), event.start_ns, durations, strict=True)
                for (phase, valid), start_ns, ns in taken:
                    yield *key, phase, cycle, start_ns, ns, valid


def find_newest(*files: str, under: Path = Path("results")) -> Path | None:
    """The newest Run folder that has one of these files, by the time in its name; None without any."""
    return max((path.parent for name in files for path in under.glob(f"*/{name}")), default=None)


ROUND = "the Case and its Round; attempt is above 0 if the Round was repeated"
START = "start, by a clock that all Workers share, and length of the iteration"
SAMPLE_COLUMNS = (
    CsvColumn("case_id", str, ROUND),
    CsvColumn("round", int, ROUND),
    CsvColumn("attempt", int, ROUND),
    CsvColumn("phase", str, "burn_in, lead or sample"),
    CsvColumn("cycle", int, "an order of turns and its mirror; empty in burn-in"),
    CsvColumn("start_ns", int, START),
    CsvColumn("duration_ns", float, START),
    CsvColumn(
        "valid",
        bool,
        "False for lead iterations, Rounds that were repeated or disturbed, and samples that overlap another Worker's",
    ),
)
LAYER = "the layer of the net, its output and what it holds, as counted here"
REPORTED = "what the framework reports of the same layer"
LAYER_COLUMNS = (
    *(CsvColumn(name, str, LAYER) for name in ("variant", "layer", "kind")),
    *(CsvColumn(name, int, LAYER) for name in ("height", "width", "channels", "params", "state", "macs")),
    CsvColumn("framework", str, REPORTED),
    *(CsvColumn(f"reported_{name}", int, REPORTED) for name in ("height", "width", "channels", "params", "state")),
)
