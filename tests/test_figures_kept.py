"""Figures derived from the stored Runs equal those of version 0.1.0 (schema 4) to the last digit."""

import contextlib
import hashlib
import io
import json
import re
import shutil

import pytest
from click.testing import CliRunner
from paths import ROOT

from bench.commands.cli import main
from bench.output import formats, run_table
from bench.record import aa_runs
from bench.record.pairs import within
from bench.record.run import Run

#: Renamed columns and flags: the old name to the new.
RENAMED: dict[str, str] = {
    "rounds_spoilt": "rounds_disturbed",
    "every_round_spoilt": "every_round_disturbed",
    "uneven": "unsteady_machine",
}
#: A reworded reason: the old words and the new.
REWORDED = (
    "how far whole Runs lie apart is not known, it takes",
    "the variability between Runs is not known: it takes",
)
BEFORE = json.loads((ROOT / "tests/data/figures_before.json").read_text().replace(*REWORDED))
SINGLE = [name for name in BEFORE if " " not in name]
#: Numbers in the explanations below a table, whose text changed: 0.5 * sum(logits^2), 95 % interval, above 1 is slower.
EXPLAINING = ("0.5", "2", "95", "1")


def numbers(text):
    return re.findall(r"\d[\d,]*\.?\d*%?", text)


def renamed(row):
    flags = " ".join(RENAMED.get(flag, flag) for flag in row["flags"].split())
    return {RENAMED.get(name, name): value for name, value in (row | {"flags": flags}).items()}


def compare_json(*folders):
    result = CliRunner().invoke(main, ["compare", *map(str, folders), "--json"])
    answer = json.loads(result.stdout.replace(f"{folders[0].parent}/", ""))
    del answer["aa_command"]
    return [result.exit_code, answer]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "reference"
    shutil.copytree(ROOT / "results/reference", folder)
    return folder


@pytest.fixture(scope="module", params=SINGLE)
def run(request, reference):
    run = Run(reference / request.param)
    run.write()
    return run


def pairs(run):
    return within(run, aa_runs.find([run.folder.parent], but=[run.folder]))


def test_a_summary_has_the_figures_it_had(run):
    rows = json.loads(json.dumps(run.rows(), default=str))
    before = [renamed(row) for row in BEFORE[run.folder.name]["summary"]]
    assert [{name: row[name] for name in before[0]} for row in rows] == before  # a column may be added, none may go


def test_samples_and_layers_are_the_same_byte_for_byte(run):
    before = BEFORE[run.folder.name]
    _, lines = (run.folder / "samples.csv").read_text().split("\n", 1)
    assert hashlib.sha256(lines.encode()).hexdigest() == before["samples_sha256"]
    assert (run.folder / "layers.csv").read_text() == before["layers"]


def test_ratios_and_verdicts_within_a_run_are_the_same(run):
    before = BEFORE[run.folder.name]
    assert json.loads(json.dumps([pair.as_json() for pair in pairs(run)])) == before["pairs"]
    assert compare_json(run.folder) == before["compare"]


def figures(text):
    """The numbers of the tables, then those of the Run in the sentences below."""
    tables, _, notes = text.partition("Inside the clock")
    return numbers(tables) + [number for number in numbers(notes) if number not in EXPLAINING]


def figures_before(known):
    below = next(at for at in range(len(known), 0, -1) if known[at - 2 : at] == ["0.5", "2"])
    return known[: below - 2] + [number for number in known[below:] if number not in EXPLAINING]


def test_the_terminal_markdown_and_bencher_show_the_same_numbers(run):
    before = BEFORE[run.folder.name]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        run_table.run_table(run, pairs(run))
    terminal, markdown = (figures_before(before[name]) for name in ("terminal", "markdown"))
    assert figures(shown.getvalue()) == terminal
    name = numbers(run.head.run_id)  # the last words of the Markdown; before them it names the ceiling now too
    assert figures(formats.markdown(run)) == [*markdown[: -len(name)], *terminal[-2:], *name]
    assert json.loads(formats.bencher(run)) == before["bencher"]


@pytest.mark.parametrize("names", [name for name in BEFORE if " " in name])
def test_verdicts_between_two_runs_are_the_same(reference, names):
    assert compare_json(*(reference / name for name in names.split())) == BEFORE[names]["compare"]
