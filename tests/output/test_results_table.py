"""The results of a Run: the terminal, Markdown and the report's page show the same cells and the same sentences."""

import dataclasses
import html
import io
import re

import pytest
from paths import ROOT
from rich.console import Console
from runs import AA, QUIET, A, B, arms, changed, event
from runs import make as made

from bench.cases.passes import pass_title
from bench.cases.protocol import CLASSIC
from bench.output import formats, run_table, verdicts
from bench.output.markdown import escape
from bench.output.page import chapter, table
from bench.output.plots import kinds
from bench.output.results_table import HEADINGS, results_of
from bench.record import pairs
from bench.record.journal import Journal
from bench.record.run import Run

TRAINING = [dataclasses.replace(case, pass_="forward_backward") for case in (A, B)]


def make(folder, *cases, **settings):
    """A Run of times that need few digits."""
    return made(folder, *cases, **{"base_ns": 10**7} | settings)


def stored(folder, name):
    (folder / "run.jsonl").write_bytes((ROOT / "results/reference" / name / "run.jsonl").read_bytes())
    return Run(folder)


def failed(folder):
    make(folder, [A, B, *TRAINING])
    Journal(folder).add(event("failed", case_id=TRAINING[1].id, reason="it fell over"))
    return Run(folder)


RUNS = {
    "three frameworks": lambda folder: stored(folder, "cpu-2-cores"),
    "an A/B": lambda folder: stored(folder, "slowdown-5-percent"),
    "a failed case": failed,
    "unlike conditions": lambda folder: make(folder, unlike={"threads": 1}, noise=QUIET | {"steal_s": 0.5}),
    "two Rounds": lambda folder: make(folder, rounds=2),
    "one framework": lambda folder: make(folder, [A]),
    "one after the other": lambda folder: make(folder, rounds=1, protocol=CLASSIC),
    "defaults of each": lambda folder: make(folder, [dataclasses.replace(case, preset="default") for case in (A, B)]),
    "another program's": lambda folder: make(
        folder, [A], rounds=3, ingested={"source": "pytest-benchmark 5.3.1", "taken": ["", "", ""]}
    ),
    "passed settings": lambda folder: make(folder, env={"X": "1"}, weights={"file": "a.npz", "sha256": "0123456789"}),
}


@pytest.fixture(params=RUNS)
def run(request, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "KINDS", {})
    return RUNS[request.param](tmp_path)


def terminal(run):
    """Wide enough that no label folds."""
    wide = Console(file=io.StringIO(), highlight=False, markup=False, width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_table, "console", lambda: wide)
        run_table.run_table(run, pairs.within(run))
    return wide.file.getvalue()


def page(run):
    """Its text, without its elements."""
    return html.unescape(re.sub(r"<[^>]+>", "", chapter.render_page([run]))).replace("\u00a0", " ")


def cells_of(text, label):
    """Of each row of a terminal's or a Markdown's table with this label, the cells after it."""
    rows = (re.split(r"\s{2,}|\s*\|\s*", line.strip(" |")) for line in text.splitlines())
    return [row[row.index(label) + 1 :] for row in rows if label in row]


def test_the_three_show_the_same_cells(run):
    results = results_of(run, pairs.within(run))
    on_page = {row[1].text + row[0].text: row for row in table.results(results).rows}
    for group in results.groups:
        figures = [[cell.text for cell in row] for row in group.table().rows]
        for label in {row[1] for row in figures}:
            shown = [[text for text in row[2:] if text] for row in figures if row[1] == label]
            assert cells_of(terminal(run), label) == shown
            assert [[text for text in row if text] for row in cells_of(formats.markdown(run), label)] == shown
        for result in group.cases:
            row = on_page[result.label + pass_title(result.case.pass_)]
            texts = [cell.text for cell in row]
            assert [result.cells[name].text for name in HEADINGS if result.cells[name].text not in ("", *texts)] == []


def test_the_three_show_the_same_sentences(run):
    results = results_of(run, pairs.within(run))
    said = [*results.notes, results.no_ratio, *results.given.values()]
    said += [text for case in results.cases.values() for text in case.remarks]
    said += [text for _, text in results.clock]
    shown, markdown, html_text = terminal(run), formats.markdown(run), page(run)
    assert [text for text in said if text not in shown] == []
    assert [text for text in said if escape(text) not in markdown] == []
    assert [text for text in said if text not in html_text and text.replace("`", "") not in html_text] == []


def test_a_single_round_and_thread_are_counted_as_one(tmp_path):
    run = make(tmp_path, [A], rounds=1, unlike={"threads": 1}, threads=1)
    one_thread = changed(run, without=("worker",))
    (group,) = results_of(one_thread, []).groups
    assert f"{group.subject}: {group.extent}" == (
        "owt, 224 px, batch 8, cpu (1 thread), fp32: 1 Round x 4 after 10 burn-in"
    )


def test_a_group_names_its_versions_and_device_as_the_verdicts_do(tmp_path):
    run = make(tmp_path, arms(A), ab=AA)
    (group,) = results_of(run, pairs.within(run)).groups
    assert group.where == "torch 1.0 on a CPU"
    assert f"{group.where}, 5 Rounds. Above 1 is slower." in verdicts.markdown(run, None, pairs.within(run))


def test_the_terminal_and_markdown_show_the_same_verdicts(tmp_path, capsys):
    run = make(tmp_path, [A, B, *TRAINING], slower={B.id: 1.3, TRAINING[1].id: 1.0})
    found = pairs.within(run)
    verdicts.show(run, None, found)
    shown, written = capsys.readouterr().out, verdicts.markdown(run, None, found)
    for row in verdicts.table(run, None, found).rows:
        label, *rest = (cell.text for cell in row)
        assert cells_of(written, label) == [rest]
        assert all(text in shown for text in rest)


def test_a_group_shows_its_first_cell_once_on_the_terminal(tmp_path):
    text = terminal(make(tmp_path, [A, B, *TRAINING]))
    assert len(re.findall(r"^ forward ", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^ forward_backward ", text, re.MULTILINE)) == 1
