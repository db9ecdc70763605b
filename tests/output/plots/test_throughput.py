"""Throughput plot: lines, peak fractions and the turning batch."""

import pytest
import teams
from csvs import csv
from plot_rows import SERIES, SPEED, words

from bench.output.plots import frames, throughput

draw = throughput.draw


@pytest.mark.usefixtures("unsaved")
class TestSweep:
    def rows(self, folder, *, batches=(1, 4, 32), passes=("forward", "forward_backward"), series=SERIES[2:4], **more):
        made = [
            one | SPEED | {"batch": batch, "pass": pass_, "size": 224} | more
            for one in series
            for pass_ in passes
            for batch in batches
        ]
        return frames.read([csv(folder, *made)])

    def test_a_line_for_each_series_in_a_panel_for_each_pass(self, tmp_path):
        figure = throughput.draw(self.rows(tmp_path), tmp_path / "sweep.png")
        assert [panel.get_title() for panel in figure.axes] == ["forward", "forward + backward"]
        for panel in figure.axes:
            assert panel.get_legend_handles_labels()[1] == ["torch eager", "tensorflow xla"]
            assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "4", "32"]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["torch eager", "tensorflow xla"]

    def test_the_interval_of_the_time_is_turned_over(self, tmp_path):
        rows = self.rows(tmp_path, passes=["forward"], series=SERIES[2:3])
        (panel,) = throughput.draw(rows, tmp_path / "sweep.png").axes
        ((line, _, (bars,)),) = panel.containers
        assert list(line.get_ydata()) == [100, 400, 3200]
        assert [[low, high] for (_, low), (_, high) in bars.get_segments()] == [[80, 125], [320, 500], [2560, 4000]]

    def test_images_are_those_of_all_devices_and_an_all_reduce_has_none(self, tmp_path):
        run = teams.make(tmp_path / "run")
        drawn = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(throughput, "draw", lambda rows, target: drawn.append(draw(rows, target)))
            throughput.draw_files([run.folder], tmp_path / "teams.png")
        (figure,) = drawn
        panels = {panel.get_title(): panel for panel in figure.axes}
        assert "all-reduce" not in panels
        speeds = [float(bars[0].get_ydata()[0]) for bars in panels["forward"].containers]
        assert speeds == pytest.approx([800, 1600], rel=1e-6)
        assert panels["forward"].get_legend_handles_labels()[1] == ["torch eager 1 device", "torch eager 2 devices"]

    def test_the_peak_fraction_stands_below_with_a_line_at_one(self, tmp_path):
        rows = self.rows(tmp_path, peak_fraction=0.4, passes=["forward"])
        upper, lower = throughput.draw(rows, tmp_path / "sweep.png").axes
        assert upper.get_ylabel().startswith("images/s")
        assert lower.get_ylabel().startswith("share of the best")
        assert [list(line.get_ydata()) for line in lower.lines] == [[0.4] * 3, [0.4] * 3, [1, 1]]
        assert lower.get_ylim()[1] > 1

    def test_a_dotted_line_at_the_turning_batch(self, tmp_path):
        rows = self.rows(tmp_path, ceiling_gflop_per_s=100.0, copy_gb_per_s=5.0, size=224, precision="fp32")
        for panel in throughput.draw(rows, tmp_path / "sweep.png").axes:
            assert words(panel) == ["compute-bound from batch 4 on"]
            assert [list(line.get_xdata()) for line in panel.lines if line.get_linestyle() == ":"] == [[4, 4]]

    @pytest.mark.parametrize(
        ("ceiling", "said"), [(10.0, "compute-bound from batch 1 on"), (1e6, "memory-bound up to batch 4096")]
    )
    def test_a_turning_batch_that_is_not_in_the_picture_is_said(self, tmp_path, ceiling, said):
        rows = self.rows(tmp_path, batches=(2, 4), ceiling_gflop_per_s=ceiling, copy_gb_per_s=10.0)
        for panel in throughput.draw(rows, tmp_path / "sweep.png").axes:
            assert words(panel) == [said]
            assert not [line for line in panel.lines if line.get_linestyle() == ":"]

    def test_ceilings_that_differ_turn_over_a_range(self, tmp_path):
        rows = self.rows(tmp_path, copy_gb_per_s=5.0)
        rows["ceiling_gflop_per_s"] = rows["framework"].map({"torch": 100.0, "tensorflow": 200.0})
        assert words(throughput.draw(rows, tmp_path / "sweep.png").axes[0]) == ["compute-bound from batch 4–10 on"]

    @pytest.mark.parametrize("unknown", [{"size": None}, {"size": 5}, {"variant": "half_width.conv1", "size": 5}])
    def test_a_net_of_no_known_size_has_no_turning_batch(self, tmp_path, unknown):
        rows = self.rows(tmp_path, ceiling_gflop_per_s=100.0, copy_gb_per_s=5.0, **unknown)
        assert not words(throughput.draw(rows, tmp_path / "sweep.png").axes[0])

    def test_one_wide_interval_leaves_room_for_the_rest(self, tmp_path):
        rows = self.rows(tmp_path)
        rows.loc[0, "ci95_low_ms"] = 0.001
        panel = throughput.draw(rows, tmp_path / "sweep.png").axes[0]
        assert panel.get_ylim()[1] == pytest.approx(2 * 32e3 / 10)
        assert panel.get_title(loc="right") == "one interval extends to 1,000,000"

    def test_another_programs_net_has_no_turning_batch(self, tmp_path):
        rows = self.rows(tmp_path, variant="vgg", ceiling_gflop_per_s=100.0, copy_gb_per_s=5.0)
        assert not words(throughput.draw(rows, tmp_path / "sweep.png").axes[0])

    def test_two_nets_and_two_arms_are_four_lines(self, tmp_path):
        made = [
            one | {"variant": net, "arm": arm}
            for one in SERIES[2:3]
            for net in ("owt", "tutorial")
            for arm in ("A", "B")
        ]
        panel = throughput.draw(self.rows(tmp_path, series=made), tmp_path / "sweep.png").axes[0]
        assert panel.get_legend_handles_labels()[1] == [
            f"torch eager {net} {arm}" for net in ("owt", "tutorial") for arm in ("A", "B")
        ]

    def test_the_batch_of_two_runs_is_two_lines(self, tmp_path):
        made = [SERIES[2] | {"run_id": name} for name in ("first", "second")]
        panel = throughput.draw(self.rows(tmp_path, series=made), tmp_path / "sweep.png").axes[0]
        assert panel.get_legend_handles_labels()[1] == ["torch eager first", "torch eager second"]

    def test_two_machines_are_two_lines(self, tmp_path):
        made = [SERIES[2] | {"device_name": name} for name in ("a Xeon", "a Ryzen")]
        panel = throughput.draw(self.rows(tmp_path, series=made), tmp_path / "sweep.png").axes[0]
        assert panel.get_legend_handles_labels()[1] == ["torch eager a Xeon", "torch eager a Ryzen"]

    def test_points_of_one_batch_stand_side_by_side_and_say_how_to_get_more(self, tmp_path):
        panel = throughput.draw(self.rows(tmp_path, batches=[8]), tmp_path / "sweep.png").axes[0]
        places = [line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 1]
        assert len(set(places)) == 2  # two series; a point with the ends of its interval each
        assert all(7 < place < 9 for place in places)
        assert any("only 8; run --batch 8,32,128" in one.get_xlabel() for one in panel.figure.axes)
