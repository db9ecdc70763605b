"""Parsed report pages, and the findings and Runs they are made of."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import msgspec
from paths import ROOT
from runs import A, make

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.output.page import chapter, findings
from bench.record import pairs
from bench.record.run import Run

DRAWN = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" viewBox="0 0 72 72"><path id="p" d="M 0 0 L 9 9"/></svg>'
REFERENCE = ROOT / "results/reference"
VOID = {"meta", "link", "img", "wbr", "br", "input"}


class Page(HTMLParser):
    """The elements of a page with their attributes, its text by element, and what is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def text(self, *tags: str) -> str:
        """Of these elements, or of all but style and script, with plain spaces."""
        kept = [data for tag, data in self.texts if (tag in tags if tags else tag not in ("style", "script"))]
        return " ".join("".join(kept).replace("\u00a0", " ").split())


def page_of(*runs: Run) -> Page:
    return Page(chapter.render_page(runs))


def by_id(run: Run) -> dict:
    return {row["case_id"]: row for row in run.rows()}


def findings_of(run: Run) -> list[findings.Finding]:
    return findings.list_findings(run, by_id(run), pairs.within(run))


def cautions_of(run: Run) -> str:
    return " ".join(findings.cautions(run, by_id(run), pairs.within(run)))


def foreign_run(folder: Path, name: str = "test_a.py::test_b", **changes) -> Run:
    """A Run that another program measured."""
    case = Case("net", "other", "call", "cpu", "unknown", "", 1, "call", foreign=name)
    case = dataclasses.replace(case, **changes)
    protocol = Protocol("ingested", rounds=3, burn_in=0, paired=False, gate=False)
    made = make(folder / "f", [A], rounds=3)
    events = [fields for fields in map(msgspec.to_builtins, made.events) if fields["event"] not in ("worker", "block")]
    for fields in events:
        if fields["event"] == "run":
            fields |= {"cases": [dataclasses.asdict(case)], "protocol": dataclasses.asdict(protocol)}
            fields["ingested"] = {"source": "pytest-benchmark 5", "taken": ["", "", ""]}
        if fields["event"] == "turn":
            fields |= {"case_id": case.id, "cpu_s": None}
    (made.folder / "run.jsonl").write_text("".join(json.dumps(fields) + "\n" for fields in events))
    return Run(made.folder)
