"""Roofline and layers plots: points under roofs, stacked rows, and names with room."""

import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
from csvs import csv
from plot_rows import CEILINGS, ROW, ROWS, SERIES, overlapping, points, profile, words

from bench import UsageError
from bench.output.plots import frames, layers, roofline, style, throughput


@pytest.mark.usefixtures("unsaved")
class TestRoofline:
    def test_forward_and_backward_have_a_panel_each_with_the_roofs(self, tmp_path):
        rows = points("conv1") + points("owt", kind="net", passes=("forward", "forward_backward"))
        figure = roofline.draw(rows, CEILINGS, tmp_path / "roofline.png")
        assert [panel.get_title() for panel in figure.axes] == [
            "forward",
            "backward (layers), forward + backward (nets)",
        ]
        for panel in figure.axes:
            assert {"matrix product 120 GFLOP/s", "convolution 100 GFLOP/s", "copy 10 GB/s"} < set(words(panel))
            roof = next(line for line in panel.lines if line.get_linestyle() == "-" and 120 in line.get_ydata()[:1])
            assert roof.get_xdata()[0] == 12  # the ridge
            assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")

    def test_a_net_in_several_passes_of_a_panel_is_named_with_each(self, tmp_path):
        passes = ("forward_backward", "train_step")
        rows = [row for pass_ in passes for row in points("owt", kind="net", passes=(pass_,))]
        rows[1]["intensity"] = rows[0]["intensity"] / 3
        (panel,) = roofline.draw(rows, CEILINGS, tmp_path / "roofline.png").axes
        assert panel.get_title() == "forward + backward, training step"
        assert {"owt, forward + backward", "owt, training step"} < set(words(panel))

    def test_rows_with_macs_are_named_and_a_light_kind_once(self, tmp_path):
        rows = points("owt.conv1", "owt.conv2", "owt.conv3", "owt.relu1", "owt.relu2", "owt.fc6")
        for panel in roofline.draw(rows, CEILINGS, tmp_path / "roofline.png").axes:
            known = {"matrix product 120 GFLOP/s", "convolution 100 GFLOP/s", "copy 10 GB/s"}
            assert sorted(set(words(panel)) - known) == ["conv1", "conv2–3", "fc6", "relu"]
            assert len(words(panel)) == 7
            assert not overlapping(panel)

    @pytest.mark.parametrize(
        ("macs", "count"), [({}, 1), ({"macs": 714}, 1), ({"macs": None}, 0), ({"macs": math.nan}, 0)]
    )
    def test_a_net_whose_macs_nobody_counted_is_no_point(self, macs, count):
        row = {"variant": "owt", "size": 224, "batch": 8, "pass": "forward", "precision": "fp32", "mean_ms": 5.0}
        assert len(roofline.summary_points([row | macs])) == count

    def test_rows_of_one_intensity_share_a_name(self, tmp_path):
        rows = points("conv2", "conv3", "conv5", passes=["forward"])
        (panel,) = roofline.draw(rows, CEILINGS, tmp_path / "roofline.png").axes
        assert "conv2, conv3, conv5" in words(panel)

    def test_nets_are_larger_and_stand_in_their_frameworks_colors(self, tmp_path):
        rows = points("conv1") + points("owt", kind="net")
        panel = roofline.draw(rows, CEILINGS, tmp_path / "roofline.png").axes[0]
        marks = [(line.get_color(), line.get_markersize()) for line in panel.lines if line.get_marker() in ("o", "s")]
        both = [style.COLORS["torch"], style.COLORS["tensorflow"]]
        assert marks == [(color, roofline.SIZES[kind]) for color in both for kind in ("layer", "net")]
        assert "owt" in words(panel)

    def test_crowded_names_do_not_lie_on_each_other(self, tmp_path):
        rows = points("conv1", "conv2", "fc6", "relu1", series=SERIES) + points("owt", "tutorial", kind="net")
        for panel in roofline.draw(rows, CEILINGS, tmp_path / "roofline.png").axes:
            assert {"owt", "tutorial", "conv1", "conv2", "fc6", "relu"} < set(words(panel))
            assert not overlapping(panel)

    @pytest.mark.parametrize("nothing", [None, float("nan")])
    @pytest.mark.parametrize("missing", [CEILINGS, ["conv_gflop_per_s"], ["copy_gb_per_s"]])
    def test_an_unmeasured_rate_has_no_roof(self, tmp_path, missing, nothing):
        known = CEILINGS | dict.fromkeys(missing, nothing)
        panel = roofline.draw(points("conv1"), known, tmp_path / "roofline.png").axes[0]
        said = [one.split()[0] for one in words(panel) if one.endswith("/s")]
        names = {"matmul_gflop_per_s": "matrix", "conv_gflop_per_s": "convolution", "copy_gb_per_s": "copy"}
        assert said == [names[name] for name in known if name not in missing]

    def test_a_row_that_computes_nothing_is_left_out(self, tmp_path):
        nothing = points("flatten")[0] | {"intensity": 0.0, "gflop_per_s": 0.0}
        with pytest.raises(UsageError, match="no point with an intensity and a gflop_per_s, nothing to draw"):
            roofline.draw([nothing], CEILINGS, tmp_path / "roofline.png")
        with pytest.raises(UsageError, match="nothing to draw"):
            roofline.draw([], CEILINGS, tmp_path / "roofline.png")

    def test_a_missing_column_is_named(self, tmp_path):
        with pytest.raises(
            UsageError, match=r"roofline: expected the columns .*; missing name, intensity, gflop_per_s"
        ):
            roofline.draw([ROW | {"kind": "net"}], CEILINGS, tmp_path / "roofline.png")


def spans(panel):
    """Each bar's place, and the starts and lengths of its filled segments."""
    found = {}
    for patch in panel.patches:
        if patch.get_facecolor()[3]:
            found.setdefault(round(patch.get_y() + patch.get_height() / 2), []).append(
                (patch.get_x(), patch.get_width())
            )
    return found


@pytest.mark.usefixtures("unsaved")
class TestLayers:
    def test_a_bar_of_segments_for_each_pass_and_series(self, tmp_path):
        above, below = layers.draw(profile(*ROWS), tmp_path / "layers.png").axes
        names = ["torch eager, forward", "tensorflow xla, forward", "torch eager, backward", "tensorflow xla, backward"]
        for panel in (above, below):
            assert [label.get_text() for label in panel.get_yticklabels()] == names
        assert spans(above).keys() == set(range(4))
        for bar in spans(above).values():
            assert np.array(bar) == pytest.approx(np.array([(0, 6), (6, 0.01), (6.01, 2)]))
        assert [sum(width for _, width in bar) for bar in spans(below).values()] == pytest.approx([100] * 4)

    def test_a_kind_has_one_color_that_no_framework_has(self, tmp_path):
        above, _ = layers.draw(profile(*ROWS), tmp_path / "layers.png").axes
        filled = [
            matplotlib.colors.to_hex(patch.get_facecolor()).upper() for patch in above.patches if patch.get_fill()
        ]
        assert filled[:3] == [layers.COLORS[kind] for kind in ("conv", "relu", "fc")]
        assert not {*layers.COLORS.values()} & {*style.COLORS.values()}

    def test_the_whole_net_is_outlined_and_both_lengths_are_said(self, tmp_path):
        above, below = layers.draw(profile(*ROWS), tmp_path / "layers.png").axes
        outlined = [patch.get_width() for patch in above.patches if not patch.get_facecolor()[3]]
        assert outlined == [7] * 4
        assert words(above)[:4] == ["layers 8.01, net 7"] * 4
        assert all(patch.get_facecolor()[3] for patch in below.patches)

    def test_without_a_whole_net_there_is_no_outline(self, tmp_path):
        above, _ = layers.draw(profile(*ROWS, whole=None), tmp_path / "layers.png").axes
        assert len(above.patches) == 12
        assert words(above)[:4] == ["layers 8.01"] * 4

    def test_a_backward_time_below_nothing_moves_no_segment_back(self, tmp_path):
        rows = profile(ROWS[0], ("relu1", "relu", -0.5), ROWS[2], series=SERIES[2:3], passes=["backward"])
        above, _ = layers.draw(rows, tmp_path / "layers.png").axes
        assert spans(above) == {0: [(0, 6), (6, 0), (6, 2)]}
        assert words(above)[0] == "layers 7.5, net 7\nrelu1 below 0"

    def test_the_sum_of_the_rows_is_the_profiles_own(self, tmp_path):
        rows = profile(*ROWS, series=SERIES[2:3], passes=["forward"])
        rows.loc[rows["layer"] == "sum of layers", "center_ms"] = 9.25
        above, _ = layers.draw(rows, tmp_path / "layers.png").axes
        assert words(above)[0] == "layers 9.25, net 7"

    def test_first_of_many_negative_layers_is_named(self, tmp_path):
        below_nothing = [(name, "relu", -0.5) for name in ("relu1", "relu2", "relu3")]
        rows = profile(ROWS[0], *below_nothing, series=SERIES[2:3], passes=["backward"], whole=None)
        above, _ = layers.draw(rows, tmp_path / "layers.png").axes
        assert words(above)[0] == "layers 4.5\nrelu1 and 2 more below 0"

    def test_a_segment_is_named_where_the_name_has_room(self, tmp_path):
        above, _ = layers.draw(profile(*ROWS), tmp_path / "layers.png").axes
        assert words(above)[4:] == ["conv1", "fc6"] * 4
        assert not overlapping(above)

    def test_the_published_times_are_drawn_as_shares(self, tmp_path):
        above, below = layers.draw(profile(*ROWS), tmp_path / "layers.png", layers.read_published()).axes
        names = [label.get_text() for label in below.get_yticklabels()]
        assert names[::3] == [
            f"owt, Caffe + cuDNN, Titan X,\nbatch 128 (2016), {pass_}" for pass_ in ("forward", "backward")
        ]
        assert len(above.get_yticklabels()) == 4
        first = spans(below)[0]
        assert len(first) == 16
        assert first[0][1] == pytest.approx(100 * 4.6583 / 42.286545)
        assert "gradient of the images" in below.get_xlabel()

    def test_the_published_times_add_up(self):
        theirs = layers.read_published()
        assert theirs.groupby("pass")["center_ms"].sum().to_dict() == pytest.approx(
            {"forward": 42.286545, "backward": 86.137701}
        )
        assert set(theirs["kind"]) == {"conv", "relu", "pool", "fc"}

    def test_a_layer_that_is_there_twice_is_not_stacked(self, tmp_path):
        with pytest.raises(UsageError, match="expected one row of conv1, forward per series, found two of torch eager"):
            layers.draw(profile(*ROWS, ROWS[0], series=SERIES[2:3]), tmp_path / "layers.png")

    def test_without_a_layer_the_error_says_what_to_do(self, tmp_path):
        with pytest.raises(UsageError, match="no layer with a center_ms, nothing to draw; run `alexnet-bench profile`"):
            layers.draw(profile(), tmp_path / "layers.png")
        with pytest.raises(UsageError, match=r"layers: expected the columns .*; missing layer, kind, center_ms"):
            layers.draw(pd.DataFrame([ROW]), tmp_path / "layers.png")


def test_every_kind_of_plot_is_saved_and_changes_no_global_settings(tmp_path):
    before = dict(matplotlib.rcParams)
    speeds = [SERIES[2] | {"batch": batch} for batch in (1, 8)]
    throughput.draw(frames.read([csv(tmp_path, *speeds)]), tmp_path / "sweep.svg")
    roofline.draw(points("conv1"), CEILINGS, tmp_path / "roofline.svg")
    layers.draw(profile(*ROWS), tmp_path / "layers.svg")
    assert dict(matplotlib.rcParams) == before
    for kind in ("sweep", "roofline", "layers"):
        assert "torch eager" in (tmp_path / f"{kind}.svg").read_text()
