"""record.csv has a row per file and framework, safe for a spreadsheet, as soon as its chunk was predicted."""

import csv

import pytest

from bench.record.csvfile import Growing
from bench.record.prediction import RECORD, Guess, Row, columns, write_counts
from bench.record.tally import Tally


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


ODD = "=cmd|' /C calc'!A0"


def test_rows_are_in_the_file_before_it_is_closed(tmp_path):
    row = Row("a/1.jpg", "torch", "a", [Guess("a", 0.1 + 0.2), Guess(ODD, 1e-9)], "first of 3 frames", "")
    with Growing(tmp_path / RECORD, columns(3)) as record:
        assert rows(tmp_path / RECORD) == []
        record.append([row.cells()])
        (found,) = rows(tmp_path / RECORD)
    assert list(found) == columns(3)
    assert (found["class_1"], found["probability_1"]) == ("a", "0.30000000000000004")
    assert float(found["probability_1"]) == 0.1 + 0.2
    assert found["class_2"] == f"'{ODD}"
    assert (found["class_3"], found["probability_3"], found["error"]) == ("", "", "")


def test_the_file_that_a_link_names_is_not_written(tmp_path):
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / RECORD).symlink_to(tmp_path / "theirs")
    with Growing(tmp_path / RECORD, columns(1)):
        pass
    assert (tmp_path / "theirs").read_text() == "kept"


def test_names_with_line_breaks_commas_and_formulas_are_one_cell_each(tmp_path):
    with Growing(tmp_path / RECORD, columns(1)) as record:
        record.append([Row(name, "torch", None, [], "", "x").cells() for name in (r"a\nb.jpg", "a,b.jpg", "@x.jpg")])
    assert [row["file"] for row in rows(tmp_path / RECORD)] == [r"a\nb.jpg", "a,b.jpg", "'@x.jpg"]


def test_counts_are_per_framework_and_class(tmp_path):
    tally = Tally(2)
    for truth, predicted in [(0, [0, 1]), (0, [1, 0]), (1, [1, 0])]:
        tally.add(truth, predicted)
    write_counts(tmp_path, ["=a()", "b"], {"jax": tally})
    first, second = rows(tmp_path / "per_class.csv")
    assert (first["class"], first["pictures"], first["right"]) == ("'=a()", "2", "1")
    assert float(first["accuracy"]) == 0.5
    assert float(first["ci95_low"]) == pytest.approx(0.0945, abs=1e-3)
    assert (second["class"], second["accuracy"]) == ("b", "1.0")
    assert [list(row.values()) for row in rows(tmp_path / "confusion.csv")] == [
        ["jax", "'=a()", "'=a()", "1"],
        ["jax", "'=a()", "b", "1"],
        ["jax", "b", "b", "1"],
    ]
