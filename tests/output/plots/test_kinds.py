"""Kinds of plots: every record can be drawn, and what a Run's folder gets of them."""

import dataclasses

import pandas as pd
import pytest
from csvs import ROW, csv
from null_runs import NULL_CASE
from runs import event, make

from bench import UsageError
from bench.output.plots import frames, kinds, roofline, times
from bench.record.journal import Journal
from bench.record.run import Run


@pytest.mark.parametrize("kind", kinds.KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_is_its_module_and_has_words_for_help_and_report(kind):
    assert callable(kind.load().draw_files)
    assert all((kind.help, kind.title, kind.caption, kind.reads))


def draw_run_folder(folder, ceilings):
    """The pictures that a Run's folder of two batches got, and what could not be drawn."""
    torch = dataclasses.replace(NULL_CASE, framework="torch", mode="eager", layout="nchw", size=None)
    run = make(folder, [dataclasses.replace(torch, batch=batch) for batch in (2, 4)], rounds=3, base_ns=10**8)
    if ceilings:
        place = {"group": 0, "round": 0, "attempt": 0, "worker": torch.worker, "precision": "fp32", "device": "cpu"}
        rates = {"matmul_gflop_per_s": 100.0, "conv_gflop_per_s": None, "copy_gb_per_s": 10.0}
        Journal(folder).add(event("ceiling", **place, **rates))
    run = Run(run.folder)
    run.write()
    problems = kinds.draw_run_folder(run.folder, run.rows(), profile=False)
    return {path.name for path in folder.glob("*.png")}, problems


def test_several_batches_get_a_throughput_plot_and_a_known_ceiling_a_roofline(tmp_path):
    assert draw_run_folder(tmp_path, ceilings=True) == ({"times.png", "throughput.png", "roofline.png"}, [])


def test_without_a_ceiling_a_run_folder_gets_no_roofline(tmp_path):
    assert draw_run_folder(tmp_path, ceilings=False) == ({"times.png", "throughput.png"}, [])


def test_one_picture_that_cannot_be_drawn_takes_no_other_with_it(tmp_path, monkeypatch):
    def never(paths, target):
        raise UsageError("too many bars")

    monkeypatch.setattr(times, "draw_files", never)
    drawn = {"throughput.png", "roofline.png"}
    assert draw_run_folder(tmp_path, ceilings=True) == (drawn, ["no times.png: too many bars"])


def test_points_under_other_roofs_are_left_out_with_a_line_on_stderr(tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(roofline, "draw", lambda points, rates, target: drawn.append((list(points), rates)))
    row = {"case_id": "a", "variant": "owt", "framework": "torch", "mode": "eager", "device": "cpu", "batch": 8}
    row |= {"pass": "forward", "mean_ms": 10.0, "device_name": "a CPU", "matmul_gflop_per_s": 10.0, "threads": 1}
    row["size"] = 224
    both = [row, row | {"case_id": "b", "threads": 2, "matmul_gflop_per_s": 20.0}]
    pd.DataFrame(both).to_csv(tmp_path / "a.csv", index=False)
    kinds.KINDS["roofline"].draw([tmp_path / "a.csv"], tmp_path / "r.png")
    ((points, rates),) = drawn
    assert ([point["case_id"] for point in points], rates["matmul_gflop_per_s"]) == (["a"], 10.0)
    assert "roofline: under the roofs of threads 1" in capsys.readouterr().err


def test_roofline_reads_each_file_once(tmp_path, monkeypatch):
    paths, read, find = [], [], frames._file
    row = ROW | {"threads": 2, "size": 224}
    for name in ("a.csv", "b.csv"):
        paths.append(csv(tmp_path, row, name=name))
    monkeypatch.setattr(frames, "_file", lambda path, name: read.append(path) or find(path, name))
    monkeypatch.setattr(roofline, "draw", lambda points, rates, target: None)
    kinds.KINDS["roofline"].draw(paths, tmp_path / "r.png")
    assert read == paths


def test_the_layers_of_a_profile_are_left_to_their_own_plot():
    rows = pd.DataFrame({"variant": ["owt", "owt.conv1", "a.b"]})
    assert list(frames.whole_nets(rows)["variant"]) == ["owt", "a.b"]
    assert list(frames.whole_nets(rows[1:2])["variant"]) == ["owt.conv1"]


def test_models_whose_work_is_not_counted_get_no_roofline():
    row = {"macs": None, "ceiling_gflop_per_s": 1.0, "copy_gb_per_s": 1.0}
    assert kinds.KINDS["roofline"].why_not([row], False) == "the multiply-adds of these nets are not known"
