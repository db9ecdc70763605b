"""The scaling plot: measured points, the ideal, and the projection beyond them."""

import dataclasses

import pytest
import runs
import teams
from csvs import ROW, csv

from bench import UsageError
from bench.output.plots import frames, kinds, scaling
from bench.stats.links import Link
from bench.stats.projection import Step, project
from impls.variants import VARIANTS

pytestmark = pytest.mark.usefixtures("unsaved")


def drawn(run, target):
    return scaling.draw(frames.read([run.folder]), target / "scaling.png")


def lines(panel, gid):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in panel.lines if line.get_gid() == gid]


def points(panel):
    """Per series: devices and values, without the shift."""
    return [
        ([round(at, 0) for at in bars[0].get_xdata()], list(map(float, bars[0].get_ydata())))
        for bars in panel.containers
    ]


def test_a_panel_per_pass_has_images_per_second_above_the_efficiency(tmp_path):
    figure = drawn(teams.make(tmp_path / "run", worlds=(1, 2, 4)), tmp_path)
    first, second, below, _ = figure.axes
    assert [panel.get_title() for panel in (first, second)] == ["forward + backward", "training step"]
    ((worlds, speeds),) = points(first)
    assert worlds == [1, 2, 4]
    assert speeds == pytest.approx([8 / 30e-3, 16 / 40e-3, 32 / 40e-3], rel=1e-6)
    ((worlds, efficiencies),) = points(below)
    assert worlds == [2, 4]
    assert efficiencies == pytest.approx([0.75, 0.75], rel=1e-6)
    assert figure.get_suptitle() == "owt, 224 px, a CPU, 2 threads, batch 8 per device"


def test_the_ideal_is_the_speed_of_one_device_times_their_number(tmp_path):
    panel = drawn(teams.make(tmp_path / "run"), tmp_path).axes[0]
    (((first, last), (low, high)),) = lines(panel, "ideal")
    assert (first, last) == (1, 16)
    assert low == pytest.approx(8 / 30e-3, rel=1e-6)
    assert high == pytest.approx(16 * low)


def test_the_projection_is_from_one_device_and_the_all_reduce_and_goes_beyond(tmp_path):
    figure = drawn(teams.make(tmp_path / "run", worlds=(1, 2, 4)), tmp_path)
    owt = VARIANTS["owt"]
    link = Link("", 1e-6 * 2 * 3 / 4 * 4 * owt.params / 20)  # 20 ms on most devices, 4
    step = Step.of(owt, "train_step", 8, 35.0, forward_ms=10.0, forward_backward_ms=30.0)
    ((worlds, speeds),) = lines(figure.axes[1], "projected")
    assert worlds == [1, 2, 4, 8, 16, 32]
    assert speeds == pytest.approx([project(owt, step, link, world).images_per_s for world in worlds], rel=1e-5)
    ((_, efficiencies),) = lines(figure.axes[3], "projected")
    assert efficiencies == pytest.approx([project(owt, step, link, world).efficiency for world in worlds], rel=1e-5)
    assert "projected: from one device and the all-reduce" in [
        text.get_text() for text in figure.legends[0].get_texts()
    ]


@pytest.mark.parametrize("why", ["no all-reduce", "a user's net", "strong"])
def test_what_is_not_known_is_not_projected(tmp_path, why):
    passes = ("forward", "train_step") if why == "no all-reduce" else teams.PASSES
    run = teams.make(tmp_path / "run", passes=passes, strong=why == "strong")
    rows = frames.read([run.folder])
    if why == "a user's net":
        rows = rows.assign(net="mine")
    figure = scaling.draw(rows, tmp_path / "scaling.png")
    assert [lines(panel, "projected") for panel in figure.axes] == [[]] * len(figure.axes)
    assert not any("projected" in text.get_text() for text in figure.legends[0].get_texts())


def test_a_batch_that_is_split_is_one_line(tmp_path):
    figure = drawn(teams.make(tmp_path / "run", worlds=(1, 2, 4), strong=True), tmp_path)
    ((worlds, speeds),) = points(figure.axes[0])
    assert worlds == [1, 2, 4]
    assert speeds == pytest.approx([8 / 30e-3, 8 / 40e-3, 8 / 40e-3], rel=1e-6)
    assert figure.get_suptitle().endswith("batch 8 of all devices")


def test_each_framework_and_batch_is_a_line_with_its_own_ideal(tmp_path):
    cases = [dataclasses.replace(case, batch=batch) for case in (runs.A, runs.B) for batch in (8, 16)]
    figure = drawn(teams.make(tmp_path / "run", *cases), tmp_path)
    assert len(points(figure.axes[0])) == len(lines(figure.axes[0], "ideal")) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()][:4] == [
        "torch eager batch 8 per device",
        "torch eager batch 16 per device",
        "tensorflow graph batch 8 per device",
        "tensorflow graph batch 16 per device",
    ]


def test_a_shared_net_is_a_line_of_its_own_from_the_same_device_and_is_not_projected(tmp_path):
    case = dataclasses.replace(runs.A, variant="original")
    run = teams.make(tmp_path / "run", case, passes=("forward_backward",), splits=("data", "towers"))
    panel = drawn(run, tmp_path).axes[0]
    measured = [bars.lines[0].get_xydata() for bars in panel.containers]
    assert [len(points) for points in measured] == [2, 2]
    assert measured[0][0][1] == measured[1][0][1]
    assert sum(line.get_gid() == "projected" for line in panel.lines) == 1


def test_without_a_team_that_has_the_whole_net_there_is_no_line_of_one_point(tmp_path):
    case = dataclasses.replace(runs.A, variant="original")
    run = teams.make(tmp_path / "run", case, passes=("forward_backward",), splits=("towers", "hybrid"))
    panel = drawn(run, tmp_path).axes[0]
    assert [len(bars.lines[0].get_xydata()) for bars in panel.containers] == [2, 2]


def test_a_run_without_several_devices_says_what_makes_one(tmp_path):
    run = runs.make(tmp_path / "run")
    run.write()
    with pytest.raises(UsageError, match="scaling: expected a Run on several devices, found none; see `alexnet-bench"):
        drawn(run, tmp_path)
    with pytest.raises(UsageError, match="expected a Run on several devices"):
        scaling.draw(frames.read([csv(tmp_path, ROW)]), tmp_path / "a.png")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"worlds": (1,)}, "this Run has one device; `alexnet-bench run --devices 1,2` times several"),
        ({"devices": teams.SHARED}, "its devices share cores, so they have no efficiency"),
        ({"worlds": (2,)}, "no pass that reduces gradients has an efficiency"),
        ({"passes": ("forward",)}, "no pass that reduces gradients has an efficiency"),
        ({}, ""),
    ],
)
def test_a_report_says_why_it_is_not_drawn(tmp_path, settings, words):
    run = teams.make(tmp_path / "run", **settings)
    why = kinds.KINDS["scaling"].why_not(run.rows(), False)
    assert why.startswith(words)
    assert bool(why) == bool(words)
    if words:
        with pytest.raises(UsageError, match="scaling: expected"):
            drawn(run, tmp_path)


def test_a_run_folder_on_several_devices_gets_the_plot(tmp_path, monkeypatch):
    run = teams.make(tmp_path / "run")
    written = []
    monkeypatch.setattr(kinds.Kind, "draw", lambda kind, paths, target: written.append(target.name))
    assert kinds.draw_run_folder(run.folder, run.rows(), profile=False) == []
    assert "scaling.png" in written
