"""Tables of scaling: images/s with the efficiency, and what it is made of."""

import dataclasses

import pytest
import runs
import teams

from bench.output import run_table, scaling_table


def tables(run):
    return scaling_table.tables(run, {row["case_id"]: row for row in run.rows()})


@pytest.fixture
def run(tmp_path):
    return teams.make(tmp_path / "run")


def test_images_per_second_are_next_to_the_efficiency(run):
    gains, _ = tables(run)
    assert [[cell.text for cell in row] for row in gains.rows] == [
        ["forward", "torch eager", "2", "1,600", "800", "100% [100, 100]", "0"],
        ["forward_backward", "torch eager", "2", "400", "266.7", "75% [75, 75]", "244.4"],
        ["train_step", "torch eager", "2", "320", "228.6", "70% [70, 70]", "244.4"],
    ]


def test_the_efficiency_is_split_by_the_witnesses(run):
    _, costs = tables(run)
    (row,) = costs.rows
    assert [cell.text for cell in row] == [
        *("torch eager", "2", "94% [94, 94]", "80% [80, 80]", "8 [8, 8]", "20", "12.22", "60%")
    ]


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_table_fits_the_terminal_with_all_of_its_columns(tmp_path, capsys, noise):
    run = teams.make(tmp_path / "run", runs.A, runs.B, noise_sd=noise, base_ns=2 * 10**8)
    for table in tables(run):
        run_table.print_table(table)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    words = " ".join(text.split())
    for column in (*scaling_table.GAINS, *scaling_table.COSTS):
        assert all(word in words for word in column.name.split())
    assert "tensorflow" in words


def test_devices_that_share_a_core_have_no_efficiency(tmp_path):
    run = teams.make(tmp_path / "run", devices=teams.SHARED)
    gains, *_ = tables(run)
    (efficiency,) = (
        number for number, column in enumerate(scaling_table.GAINS) if column.name.startswith("efficiency")
    )
    assert {row[efficiency].text for row in gains.rows} == {""}
    assert any("share a core, so there is no efficiency" in note for note in scaling_table.notes(run))


def test_a_shared_net_sends_less_and_says_what_is_shared(tmp_path):
    case = dataclasses.replace(runs.A, variant="original")
    run = teams.make(tmp_path / "run", case, passes=("forward_backward",), splits=("data", "towers"))
    gains, costs = tables(run)
    assert [(row[1].text, row[-1].text) for row in gains.rows] == [
        ("torch eager", "243.9"),
        ("torch eager towers", "4.876"),
    ]
    assert [row[0].text for row in costs.rows] == ["torch eager"]
    assert any(note.startswith("towers: each device has a part") for note in scaling_table.notes(run))
    assert not any(note.startswith("hybrid") for note in scaling_table.notes(run))


def test_a_run_on_one_device_has_neither_tables_nor_notes(tmp_path):
    run = runs.make(tmp_path / "run")
    assert tables(run) == []
    assert list(scaling_table.notes(run)) == []
