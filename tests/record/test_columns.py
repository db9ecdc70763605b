"""Columns of the CSVs: each cell has the type of its column's record, from which plots derive dtypes."""

import csv
import inspect
import re

import msgspec
import pytest
from paths import ROOT
from runs import QUIET, A, changed, event, make, worker

from bench.output.plots import frames
from bench.record import flags, run
from bench.record.columns import BY_NAME, COLUMNS, CsvColumn, names
from bench.record.recording import cached_per_case
from bench.record.run import Run

REFERENCE = ROOT / "results/reference"
RUNS = ["cpu-2-cores", "slowdown-5-percent"]


def of_its_type(column, value):
    return value is None or isinstance(value, (int, float) if column.type is float else column.type)


@pytest.mark.parametrize("name", RUNS)
def test_a_summary_cell_has_the_type_of_its_column(name):
    for row in Run(REFERENCE / name).rows():
        assert [column.name for column in COLUMNS if not of_its_type(column, row[column.name])] == []


@pytest.mark.parametrize(("name", "columns"), [("samples.csv", run.SAMPLE_COLUMNS), ("layers.csv", run.LAYER_COLUMNS)])
def test_a_stored_csv_has_its_columns_in_order_and_their_types(tmp_path, name, columns):
    (tmp_path / "run.jsonl").write_bytes((REFERENCE / "cpu-2-cores/run.jsonl").read_bytes())
    Run(tmp_path).write()
    with (tmp_path / name).open() as file:
        header, *rows = csv.reader(file)
    assert header == names(columns)
    parse = {str: str, int: int, float: float, bool: lambda cell: ["False", "True"].index(cell)}
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            assert cell == "" or parse[column.type](cell) is not None


def test_every_number_of_a_summary_is_read_as_a_number(tmp_path):
    (tmp_path / "run.jsonl").write_bytes((REFERENCE / "cpu-2-cores/run.jsonl").read_bytes())
    Run(tmp_path).write()
    frame = frames.read([tmp_path])
    numbers = {column.name for column in COLUMNS if column.type in (int, float)}
    assert set(frame.select_dtypes("number")) >= {name for name in numbers if frame[name].notna().any()}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("first_call_ms", "first call ms"),
        ("images_per_s", "images/s"),
        ("gpu_temp_c", "highest GPU temperature °C"),
        ("cores_used", "cores used"),
    ],
)
def test_a_title_is_the_heading_and_the_unit_of_the_name(name, title):
    assert BY_NAME[name].title == title


def test_a_name_without_a_unit_has_none():
    assert [CsvColumn(name, str, "").unit for name in ("case_id", "valid", "params")] == ["", "", ""]


def test_parity_is_the_largest_of_the_workers_that_have_it(tmp_path):
    run = make(tmp_path, [A], rounds=1)
    place = {"group": 0, "round": 1, "attempt": 0}
    known = [{"gradient": 3e-7}, {"logits": 3e-7, "gradient": 1e-7}]
    events = [event("worker", **place, **worker(A) | {"parity": parity}) for parity in known]
    row = changed(run, *map(msgspec.to_builtins, events), without=("worker",)).row(A)
    assert [row[f"parity_{kind}"] for kind in ("logits", "loss", "gradients")] == [3e-7, None, 3e-7]


def test_a_reading_of_zero_counts(tmp_path):
    run = make(tmp_path, [A], rounds=1, noise=QUIET | {"watts": 0.0, "sm_mhz": 0})
    assert [run.row(A)[name] for name in ("gpu_watts", "gpu_mhz", "gpu_temp_c")] == [0.0, 0, None]


def test_results_of_two_methods_with_one_name_are_cached_apart(tmp_path):
    def first(run, case):
        return 1

    def second(run, case):
        return 2

    second.__name__ = first.__name__
    run = make(tmp_path, [A], rounds=1)
    assert [cached_per_case(method)(run, A) for method in (first, second)] == [1, 2]


def test_every_flag_is_explained():
    source = inspect.getsource(flags.flags_of)
    given = set(re.findall(r'yield (?:from \()?"(\w+)"', source))
    assert {"noisy", "not_proven", "overhead"} < given
    assert given | {"warming", "slowing"} == set(flags.FLAGS)
