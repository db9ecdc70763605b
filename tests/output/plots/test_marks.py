"""Thousands and decimal marks of a spreadsheet's numbers are read as its other cells tell, or refused by cell."""

import pytest
from csvs import ROW, csv

from bench import UsageError
from bench.output.plots import frames

PLAIN = {name: value for name, value in ROW.items() if name != "stddev_ms"}


def means(folder, *cells, sep="\t", **more):
    rows = [PLAIN | {"case_id": str(n), "mean_ms": cell} | more for n, cell in enumerate(cells)]
    return list(frames.read([csv(folder, *rows, sep=sep)])["mean_ms"])


@pytest.mark.parametrize("sep", ["\t", ";"])
@pytest.mark.parametrize("cell", ["1,136", "1.136", "12,500", "999.999"])
def test_a_mark_before_three_digits_that_nothing_tells_is_refused_naming_the_cell(tmp_path, cell, sep):
    with pytest.raises(
        UsageError, match=rf"row 2, mean_ms: '{cell}' may be {cell.replace(',', '').replace('.', '')} or "
    ):
        means(tmp_path, "980", cell, sep=sep)


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (("1,136", "980.5"), [1136, 980.5]),
        (("1.136", "980,5"), [1136, 980.5]),
        (("1,136", "980,5"), [1.136, 980.5]),
        (("1.136", "0.5"), [1.136, 0.5]),
        (("1,136", "0,136"), [1.136, 0.136]),
        (("1,136", "1136,000"), [1.136, 1136]),
        (("1,136,000", "1,136"), [1136000, 1136]),
        (("1.136.000", "1.136"), [1136000, 1136]),
        (("1,136.5", "2"), [1136.5, 2]),
        (("1.136,5", "2.000"), [1136.5, 2000]),
        (("1 136", "980"), [1136, 980]),
        (("1'136.5", "980"), [1136.5, 980]),
        (("1\u2019136", "980"), [1136, 980]),
        (("1\u00a0136,5", "1\u202f136"), [1136.5, 1136]),
        (("1,136e3", "2"), [1136, 2]),
        (("1.136E3", "2"), [1136, 2]),
    ],
)
def test_other_cells_tell_what_a_mark_means(tmp_path, cells, found):
    assert means(tmp_path, *cells) == found


def test_a_column_of_whole_numbers_tells_too(tmp_path):
    assert means(tmp_path, "1.136", batch="1.024") == [1136]


def test_names_keep_their_commas(tmp_path):
    path = csv(tmp_path, PLAIN | {"mean_ms": "1,5", "device_name": "a CPU, 1,5 GHz", "notes": "8,5 or 9,1"}, sep=";")
    (row,) = frames.read([path]).to_dict("records")
    assert (row["mean_ms"], row["device_name"], row["notes"]) == (1.5, "a CPU, 1,5 GHz", "8,5 or 9,1")


def test_between_commas_a_point_is_a_decimal_mark(tmp_path):
    assert means(tmp_path, "1.136", "980", sep=",") == [1.136, 980]
