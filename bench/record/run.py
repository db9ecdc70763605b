"""Run: a Run folder read back, what may be said of its Cases, and the CSVs derived from run.jsonl."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.cases.case import Case
from bench.record import csvfile, rows, validity
from bench.record.recording import Recording, once


class Run(Recording):
    """A Run read back from its folder. ``problems`` are lines of run.jsonl that were left out, each with its number."""

    def invalid_reason(self, case: Case) -> str:
        """Why a Case has no valid row; empty for a valid one."""
        return validity.invalid_reason(self, case)

    def row(self, case: Case) -> dict[str, Any]:
        """One row of summary.csv: unrounded, empty where there is nothing to say. The caller's own, to change."""
        return dict(self._row(case))

    @once
    def _row(self, case: Case) -> dict[str, Any]:
        return rows.row(self, case)

    def rows(self) -> list[dict[str, Any]]:
        return [self.row(case) for case in self.cases]

    def write(self) -> None:
        """Derive summary.csv, samples.csv and layers.csv from run.jsonl."""
        csvfile.write(self.folder / "summary.csv", rows.COLUMNS, self.rows())
        csvfile.lines(self.folder / "samples.csv", SAMPLE_COLUMNS, self._sample_rows())
        layers = [row for event in self.of("layers") for row in event["rows"]]
        once = {tuple(row.get(name) for name in LAYER_COLUMNS): row for row in layers}  # two Arms, one net
        csvfile.write(self.folder / "layers.csv", LAYER_COLUMNS, once.values())

    def _sample_rows(self) -> Iterator[Sequence[Any]]:
        """In the order of SAMPLE_COLUMNS."""
        usable = {case.id: self.usable(case) for case in self.cases}
        counted = {id(turn) for turn in self.turns}
        for event in self.events:
            if event["event"] not in ("burn_in", "turn"):
                continue
            case_id, round_, cycle = event["case_id"], event["round"], event.get("cycle")
            counts = id(event) in counted and round_ in usable[case_id]
            bad, leads = self.bad_samples.get(id(event), ()), event.get("lead", 0)
            phase = "sample" if event["event"] == "turn" else "burn_in"
            for i, (start_ns, ns) in enumerate(zip(event["start_ns"], event["ns"], strict=True)):
                valid = counts and i >= leads and i not in bad
                yield (
                    *(case_id, round_, event["attempt"], "lead" if i < leads else phase, cycle),
                    *(start_ns, ns, valid),
                )


SAMPLE_COLUMNS = "case_id round attempt phase cycle start_ns duration_ns valid".split()
LAYER_COLUMNS = (
    "variant layer kind height width channels params state macs framework reported_height reported_width "
    "reported_channels reported_params reported_state"
).split()
