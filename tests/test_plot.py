"""Plots from result CSVs: a picture that holds something, and errors that name the file."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from runs import A, B, make

from bench import UsageError, plot

ROW = {
    "case_id": "a",
    "variant": "owt",
    "framework": "torch",
    "mode": "eager",
    "device": "cpu",
    "batch": 8,
    "pass": "forward",
    "mean_ms": 12.5,
    "stddev_ms": 1.0,
    "device_name": "a CPU",
    "threads": 2,
}


def csv(folder, *rows, name="summary.csv"):
    path = folder / name
    pd.DataFrame(list(rows)).to_csv(path, index=False)
    return path


def test_a_chart_is_drawn_in_the_frameworks_own_colours(tmp_path):
    rows = [
        ROW | {"framework": name, "mode": mode, "pass": pass_}
        for name, mode in (("torch", "eager"), ("tensorflow", "graph"))
        for pass_ in ("forward", "forward_backward")
    ]
    plot.bars(plot.read([csv(tmp_path, *rows)]), tmp_path / "times.png")
    pixels = (imread(tmp_path / "times.png")[..., :3] * 255).round().astype(int)
    for color in (plot.COLORS["torch"], plot.COLORS["tensorflow"]):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(-1) <= 1).mean() > 0.02


def test_results_of_other_programs_need_few_columns(tmp_path):
    few = {name: ROW[name] for name in plot.NEEDED} | {"framework": "mxnet"}
    plot.bars(plot.read([csv(tmp_path, few)]), tmp_path / "times.svg")
    assert "mxnet" in (tmp_path / "times.svg").read_text()


def test_several_files_become_one_chart(tmp_path):
    first, second = csv(tmp_path, ROW), csv(tmp_path, ROW | {"batch": 32}, name="other.csv")
    assert list(plot.read([first, second])["batch"]) == [8, 32]


def test_global_settings_stay_as_they_were(tmp_path):
    before = dict(matplotlib.rcParams)
    plot.bars(plot.read([csv(tmp_path, ROW)]), tmp_path / "times.png")
    assert dict(matplotlib.rcParams) == before


def test_a_failed_case_is_left_out(tmp_path):
    rows = [ROW | {"valid": True}, ROW | {"mean_ms": None}, ROW | {"valid": False}]
    assert len(plot.read([csv(tmp_path, *rows)])) == 1


def test_one_case_of_two_runs_is_two_groups_of_bars(tmp_path):
    rows = plot.read([csv(tmp_path, ROW | {"run_id": "a"}, ROW | {"run_id": "b"})])
    assert plot._labels(rows).nunique() == 2


def test_two_sizes_of_one_net_are_told_apart(tmp_path):
    rows = plot.read([csv(tmp_path, ROW | {"size": 224}, ROW | {"size": 96})])
    assert list(plot._labels(rows)) == ["owt\nbatch 8, cpu\n224 px", "owt\nbatch 8, cpu\n96 px"]


def test_a_missing_column_is_named(tmp_path):
    path = csv(tmp_path, {"case_id": 1})
    with pytest.raises(UsageError, match=r"summary.csv: expected the columns .*; missing variant, framework"):
        plot.read([path])


def test_a_file_with_nothing_to_draw_says_so(tmp_path):
    with pytest.raises(UsageError, match="no valid row with a mean_ms, nothing to draw"):
        plot.read([csv(tmp_path, ROW | {"mean_ms": None})])


def test_an_unknown_picture_format_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*times.docx: Format 'docx' is not supported"):
        plot.bars(plot.read([csv(tmp_path, ROW)]), tmp_path / "times.docx")


def test_without_a_run_plot_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="run `make bench` first, or name a CSV file"):
        plot.latest(tmp_path)


def test_the_two_arms_of_a_case_are_two_bars(tmp_path):
    both = [ROW | {"arm": arm, "mean_ms": ms} for arm, ms in (("A", 10.0), ("B", 11.0))]
    rows = plot.read([csv(tmp_path, *both)])
    drawn = []
    axes_bar = matplotlib.axes.Axes.bar
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.axes.Axes, "bar", lambda *a, **k: drawn.append((a[1], k)) or axes_bar(*a, **k))
        plot.bars(rows, tmp_path / "arms.png")
    assert [look["label"] for _, look in drawn] == ["torch eager A", "torch eager B"]
    assert len({at[0] for at, _ in drawn}) == 2
    assert [look.get("hatch") for _, look in drawn] == [None, "//"]


def test_a_run_that_was_killed_has_its_tables_derived(tmp_path):
    made = make(tmp_path / "killed", stop="planned")
    assert not (made.folder / "summary.csv").exists()
    assert list(plot.read([made.folder])["case_id"]) == [A.id, B.id]
