"""The loaders plot: a line of panels per loader."""

import dataclasses

import pytest
import runs

from bench import UsageError
from bench.output.plots import frames, loaders

STEP = dataclasses.replace(runs.A, pass_="train_step")


def slots(case, workers):
    return [dataclasses.replace(case, pass_=name, loader=workers) for name in ("load", "fed")]


@pytest.fixture
def run(tmp_path):
    other = dataclasses.replace(runs.B, pass_="train_step")
    cases = [STEP, other, *slots(STEP, 0), *slots(STEP, 2), *slots(other, 2)]
    run = runs.make(tmp_path / "run", cases, base_ns=10**7)
    run.write()
    return run


def drawn(run, target):
    return loaders.draw(frames.read([run.folder]), frames.samples([run.folder]), target)


def test_each_loader_has_bars_of_its_three_slots_and_a_series(run, tmp_path):
    figure = drawn(run, tmp_path / "loaders.png")
    panels = figure.axes
    assert [panel.get_title(loc="left") for panel in panels[::2]] == [
        "torch eager 0 workers",
        "torch eager 2 workers",
        "tensorflow graph 2 workers",
    ]
    for bars, series in zip(panels[::2], panels[1::2], strict=True):
        assert [label.get_text() for label in bars.get_yticklabels()] == ["load", "step", "fed"]
        assert len(bars.patches) == 3
        assert len(series.lines) == 2 * loaders.TURNS
        assert series.get_yscale() == "log"
    assert (tmp_path / "loaders.png").exists()


def test_the_slower_of_load_and_step_is_marked(run, tmp_path):
    texts = [text.get_text() for text in drawn(run, tmp_path / "a.png").axes[0].texts]
    assert sum("limits" in text for text in texts) == 1
    assert "limits" in texts[0]  # load takes 1.5 times as long as the step
    assert "stall" in texts[2]


def test_a_run_without_loaders_says_what_makes_one(tmp_path):
    run = runs.make(tmp_path / "run", [STEP])
    run.write()
    with pytest.raises(UsageError, match="loaders: expected a Run with loaders, found none; see `alexnet-bench run"):
        drawn(run, tmp_path / "a.png")


def test_more_loaders_than_fit_are_refused(tmp_path):
    cases = [STEP, *(slot for workers in range(17) for slot in slots(STEP, workers))]
    run = runs.make(tmp_path / "run", cases, rounds=1)
    run.write()
    with pytest.raises(UsageError, match="expected at most 16 loaders in one plot, found 17"):
        drawn(run, tmp_path / "a.png")
