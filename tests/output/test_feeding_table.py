"""Tables of loaders: speeds with their pixels' error, and what the step waits for them."""

import dataclasses

import msgspec
import pytest
import runs

from bench.output import feeding_table
from bench.record.events import Pictures
from impls.preprocessing import PREPROCESSINGS

STEP = dataclasses.replace(runs.A, pass_="train_step")
LOAD, FED = (dataclasses.replace(STEP, pass_=name, loader=2) for name in ("load", "fed"))
FACTS = Pictures(None, "0", 20, 5, {"not readable": 1, "WEBP": 3}, PREPROCESSINGS["caffe"], 90, 80, 4800)


@pytest.fixture
def run(tmp_path):
    made = runs.make(
        tmp_path,
        [STEP, LOAD, FED],
        slower={LOAD.id: 0.5, FED.id: 1.25},
        base_ns=10**7,
        pictures=msgspec.to_builtins(FACTS),
    )
    proof = {"case_id": LOAD.id, "pictures": 32, "error": 0.998, "mean_error": 0.3, "picture": "a/b.jpg"}
    return runs.changed(made, {"event": "loader_proof", "group": 0, "round": 0, "attempt": 0, **proof})


def cells(run):
    rows = {row["case_id"]: row for row in run.rows()}
    return [[cell.text for cell in table.rows[0]] for table in feeding_table.tables(run, rows)]


def test_speeds_are_next_to_the_error_of_the_pixels_and_costs_have_intervals(run):
    rates, costs = cells(run)
    assert rates == ["torch eager", "2", "1,600", "800", "640", "0.998"]
    assert costs[:5] == ["torch eager", "2", "20% [20, 20]", "50% [50, 50]", "step"]


def test_below_three_rounds_there_is_no_interval_and_nothing_hidden(tmp_path):
    made = runs.make(tmp_path, [STEP, LOAD, FED], slower={LOAD.id: 0.5, FED.id: 1.25}, rounds=2, base_ns=10**7)
    _, costs = cells(made)
    assert costs[2:4] == ["20% [needs 3 Rounds]", "not resolved"]


def test_the_notes_say_what_was_loaded_and_what_was_not(run):
    *_, loaded = feeding_table.notes(run)
    assert loaded == (
        "Loaded: 20 pictures of drawn flowers, median 90 x 80 pixels, 4.8 kB per file, caffe preprocessing, the middle "
        "crop; from the page cache, not from a cold disk; left out: 1 picture (not readable); left out: 3 pictures "
        "(WEBP)."
    )


def test_a_run_without_loaders_has_neither_tables_nor_notes(tmp_path):
    made = runs.make(tmp_path)
    assert feeding_table.tables(made, {}) == []
    assert list(feeding_table.notes(made)) == []
