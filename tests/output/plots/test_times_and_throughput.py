"""Plots from result CSVs: a picture that holds something, and says what; of the CSVs themselves see test_frames."""

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from csvs import ROW as CSV_ROW
from csvs import csv
from matplotlib.image import imread

from bench import UsageError
from bench.output import console
from bench.output.plots import frames, layers, roofline, style, throughput, times

ROW = CSV_ROW | {"threads": 2}
SIX = [
    *(("jax", "jit", "nhwc"), ("torch", "compile", "nchw"), ("torch", "eager", "nchw")),
    *(("tensorflow", "xla", "nhwc"), ("torch", "eager", "channels_last"), ("tensorflow", "graph", "nhwc")),
]
SERIES = [ROW | {"framework": name, "mode": mode, "layout": layout} for name, mode, layout in SIX]
SPEED = {"center_ms": 10.0, "ci95_low_ms": 8.0, "ci95_high_ms": 12.5}
CEILINGS = {"matmul_gflop_per_s": 120.0, "conv_gflop_per_s": 100.0, "copy_gb_per_s": 10.0}


def test_a_chart_is_drawn_in_the_frameworks_own_colours(tmp_path):
    rows = [
        ROW | {"framework": name, "mode": mode, "pass": pass_}
        for name, mode in (("torch", "eager"), ("tensorflow", "graph"))
        for pass_ in ("forward", "forward_backward")
    ]
    times.draw(frames.read([csv(tmp_path, *rows)]), tmp_path / "times.png")
    pixels = (imread(tmp_path / "times.png")[..., :3] * 255).round().astype(int)
    for color in (style.COLORS["torch"], style.COLORS["tensorflow"]):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(-1) <= 1).mean() > 0.02


def test_results_of_other_programs_need_few_columns(tmp_path):
    few = {name: ROW[name] for name in frames.NEEDED} | {"framework": "mxnet"}
    times.draw(frames.read([csv(tmp_path, few)]), tmp_path / "times.svg")
    assert "mxnet" in (tmp_path / "times.svg").read_text()


def test_global_settings_stay_as_they_were(tmp_path):
    before = dict(matplotlib.rcParams)
    times.draw(frames.read([csv(tmp_path, ROW)]), tmp_path / "times.png")
    assert dict(matplotlib.rcParams) == before


def test_one_case_of_two_runs_is_two_groups_of_bars(tmp_path):
    rows = frames.read([csv(tmp_path, ROW | {"run_id": "a"}, ROW | {"run_id": "b"})])
    assert times.label_rows(rows).nunique() == 2


def test_two_sizes_of_one_net_are_told_apart(tmp_path):
    rows = frames.read([csv(tmp_path, ROW | {"size": 224}, ROW | {"size": 96})])
    assert list(times.label_rows(rows)) == ["owt\nbatch 8, cpu\n224 px", "owt\nbatch 8, cpu\n96 px"]


def test_an_unknown_picture_format_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*times.docx: Format 'docx' is not supported"):
        times.draw(frames.read([csv(tmp_path, ROW)]), tmp_path / "times.docx")


def test_the_two_arms_of_a_case_are_two_bars(tmp_path):
    both = [ROW | {"arm": arm, "mean_ms": ms} for arm, ms in (("A", 10.0), ("B", 11.0))]
    rows = frames.read([csv(tmp_path, *both)])
    drawn = []
    axes_bar = matplotlib.axes.Axes.bar
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.axes.Axes, "bar", lambda *a, **k: drawn.append((a[1], k)) or axes_bar(*a, **k))
        times.draw(rows, tmp_path / "arms.png")
    assert [look["label"] for _, look in drawn] == ["torch eager A", "torch eager B"]
    assert len({at[0] for at, _ in drawn}) == 2
    assert [look.get("hatch") for _, look in drawn] == [None, "//"]


def words(panel):
    """What stands in a panel, beside its axes."""
    return [text.get_text() for text in panel.texts if text.get_text()]


def overlapping(panel):
    """Pairs of texts in a panel that lie on each other."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in panel.texts if text.get_text()]
    level = [(said, box) for said, box in boxes if not said.startswith("copy")]  # a turned text's box is mostly empty
    return [(a, b) for i, (a, one) in enumerate(level) for b, other in level[:i] if one.overlaps(other)]


def series(rows, apart=style.APART):
    frame = pd.DataFrame(list(rows))
    return style.list_series(frame, style.label_series(frame, apart))


class TestSeries:
    def test_modes_that_do_not_compile_stand_before_those_that_do(self):
        frameworks = [one.name.split()[:2] for one in series(SERIES)]
        plain = [["torch", "eager"], ["torch", "eager"], ["tensorflow", "graph"]]
        assert frameworks == [*plain, ["jax", "jit"], ["torch", "compile"], ["tensorflow", "xla"]]

    def test_a_layout_is_named_only_where_it_varies_within_a_framework(self):
        assert [one.name for one in series(SERIES)][:3] == [
            "torch eager nchw",
            "torch eager channels_last",
            "tensorflow graph",
        ]
        assert [one.name for one in series(SERIES[1:4])] == ["torch eager", "torch compile", "tensorflow xla"]

    def test_what_varies_tells_two_series_apart(self):
        both = [
            {"net": None, "lrn": "native", "preset": "equal"},
            {"net": "theirs", "lrn": "fast", "preset": "default"},
        ]
        names = [one.name for one in series(ROW | one for one in both)]
        assert names == ["torch eager native LRN equal preset", "torch eager theirs fast LRN default preset"]
        assert [one.name for one in series([ROW | both[1]])] == ["torch eager"]

    def test_a_framework_keeps_its_colour_and_no_two_of_its_series_look_alike(self):
        found = series(SERIES)
        assert all(one.color == style.COLORS[one.framework] for one in found)
        for looks in ("hatch", "marker"):
            assert len({(one.framework, getattr(one, looks)) for one in found}) == len(found)

    def test_an_unknown_framework_counts_as_not_compiled(self):
        (one,) = series([ROW | {"framework": "mxnet", "mode": "jit"}])
        assert (one.compiled, one.color) == (False, style.OTHER)


@pytest.fixture
def unsaved(monkeypatch):
    """A plot is laid out and not painted, which takes most of its time; each kind is painted once at the end."""
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *args, **kwargs: None)


@pytest.mark.usefixtures("unsaved")
def test_bars_of_fair_peers_stand_together(tmp_path):
    figure = times.draw(frames.read([csv(tmp_path, *SERIES)]), tmp_path / "times.png")
    (panel,) = figure.axes
    places = [bar[0].get_x() + bar[0].get_width() / 2 for bar in panel.containers if hasattr(bar, "patches")]
    steps = np.diff(places)
    assert len(places) == 6
    assert steps[2] == pytest.approx(1.5 * steps[0])
    assert steps[[0, 1, 3, 4]] == pytest.approx(steps[0])


def drawn_bars(folder, *rows, target="times.png"):
    """What is drawn of those rows, and its only or first panel."""
    figure = times.draw(frames.read([csv(folder, *rows)]), folder / target)
    return figure, figure.axes[0]


def diamonds(panel):
    return [tuple(point) for line in panel.lines if line.get_marker() == "D" for point in line.get_xydata()]


def spoken(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.usefixtures("unsaved")
class TestBars:
    def test_the_centre_and_its_interval_stand_over_the_bar(self, tmp_path):
        figure, panel = drawn_bars(tmp_path, ROW | SPEED)
        assert diamonds(panel) == [(0, 10.0)]
        lines = [(one.get_linewidth()[0], one.get_segments()[0][:, 1].tolist()) for one in panel.collections]
        (thin, whisker), (_, edge), (thick, interval) = sorted(lines, key=lambda one: one[0] != 1)
        assert (whisker, edge, interval) == ([11.5, 13.5], [8.0, 12.5], [8.0, 12.5])
        assert thick > 3 * thin
        assert panel.get_ylabel() == "ms per pass: mean ± stddev (less is faster)"
        assert spoken(figure) == ["torch eager", "center of Rounds, 95 % interval"]

    @pytest.mark.parametrize(
        "missing",
        [
            {},
            {"center_ms": 10.0},
            SPEED | {"ci95_low_ms": None},
            SPEED | {"ci95_high_ms": "inf"},
            SPEED | {"center_ms": 13},
        ],
    )
    def test_without_an_interval_there_is_no_mark_and_no_word_of_it(self, tmp_path, missing):
        figure, panel = drawn_bars(tmp_path, ROW | missing)
        assert (diamonds(panel), spoken(figure)) == ([], ["torch eager"])

    def test_a_stddev_that_is_none_has_no_whisker(self, tmp_path):
        for odd in (None, -1.0, "inf"):
            _, panel = drawn_bars(tmp_path, ROW | {"stddev_ms": odd})
            assert [text.get_position()[1] for text in panel.texts] == [4]
            assert [text.xy[1] for text in panel.texts] == [12.5]

    def test_a_number_stands_above_every_mark(self, tmp_path):
        wide = {"center_ms": 12.0, "ci95_low_ms": 5.0, "ci95_high_ms": 30.0}
        figure, panel = drawn_bars(tmp_path, ROW | wide, ROW | SPEED | {"batch": 32})
        assert [text.xy[1] for text in panel.texts] == [30.0, 13.5]
        style.settle(figure)
        assert not overlapping(panel)

    @pytest.mark.parametrize("count", [1, 3, 24])
    def test_no_number_or_label_lies_on_another(self, tmp_path, count):
        rows = [one | SPEED | {"variant": f"single_tower_{n}"} for n in range(count) for one in SERIES[:1]]
        figure, _ = drawn_bars(tmp_path, *rows)
        style.settle(figure)
        for panel in figure.axes:
            assert not overlapping(panel)
            labels = [label.get_window_extent() for label in panel.get_xticklabels()]
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(labels))
        assert figure.get_figwidth() <= times.WIDEST

    def test_24_series_of_one_net_have_their_numbers_upright(self, tmp_path):
        rows = [
            one | {"preset": preset, "lrn": lrn}
            for one in SERIES
            for preset in ("equal", "default")
            for lrn in ("one", "another_of_a_long_name")
        ]
        figure, panel = drawn_bars(tmp_path, *rows)
        style.settle(figure)
        assert {text.get_rotation() for text in panel.texts} == {90}
        assert not overlapping(panel)
        assert panel.get_window_extent().height > 1.8 * figure.dpi
        assert figure.legends[0].get_window_extent().y1 < panel.get_window_extent().y0  # it has room of its own

    def test_parts_of_a_pass_share_their_scale_unless_bars_would_vanish(self, tmp_path):
        for shared, slow in ((True, 20.0), (False, 1000.0)):
            rows = [ROW | {"variant": f"a_rather_long_name_{n}", "mean_ms": slow if n > 5 else 12.5} for n in range(12)]
            figure, _ = drawn_bars(tmp_path, *rows)
            tops = {panel.get_ylim()[1] for panel in figure.axes}
            assert (len(figure.axes) > 1, len(tops) == 1) == (True, shared)

    def test_a_case_that_is_there_twice_is_two_groups(self, tmp_path):
        rows = frames.read([csv(tmp_path, ROW | {"run_id": "a"}, ROW | {"run_id": "a", "mean_ms": 13.0})])
        assert list(times.label_rows(rows)) == [f"owt\nbatch 8, cpu\na\nrow {number}" for number in (1, 2)]

    def test_a_column_that_only_some_rows_have_is_named_where_it_is(self, tmp_path):
        rows = frames.read(
            [csv(tmp_path, ROW | {"size": 224}, ROW | {"size": 96}, ROW | {"variant": "b", "size": None})]
        )
        assert list(times.label_rows(rows)) == [
            "owt\nbatch 8, cpu\n224 px",
            "owt\nbatch 8, cpu\n96 px",
            "b\nbatch 8, cpu",
        ]

    def test_too_many_bars_say_so(self, tmp_path):
        rows = [ROW | {"batch": batch} for batch in range(1, times.MOST + 2)]
        with pytest.raises(UsageError, match="expected at most 240 rows as bars, found 241; name fewer CSVs"):
            drawn_bars(tmp_path, *rows)

    def test_the_legend_has_each_series_colour_where_the_first_pass_lacks_it(self, tmp_path):
        figure, _ = drawn_bars(tmp_path, ROW, ROW | {"framework": "jax", "pass": "forward_backward"})
        colors = [matplotlib.colors.to_hex(one.get_facecolor()).upper() for one in figure.legends[0].legend_handles]
        assert colors == [style.COLORS["torch"], style.COLORS["jax"]]


@pytest.mark.usefixtures("unsaved")
def test_many_bars_stand_one_pass_below_the_other(tmp_path):
    rows = [one | {"pass": pass_} for pass_ in ("forward", "forward_backward") for one in SERIES]
    upper, lower = times.draw(frames.read([csv(tmp_path, *rows)]), tmp_path / "times.png").axes
    assert upper.get_position().y0 > lower.get_position().y1


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
        assert panel.get_title(loc="right") == "an interval goes on up to 1,000,000"

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


def points(*names, series=SERIES[2:4], passes=("forward", "backward"), kind="layer"):
    """Rows in columns, since every framework does the same work; each framework slower than the one before it."""
    places = {"conv1": 100, "conv2": 500, "conv3": 520, "conv5": 510, "relu1": 0.125, "relu2": 0.125, "fc6": 15.0}
    return [
        one
        | {"name": name, "pass": pass_, "kind": kind, "intensity": at, "gflop_per_s": min(10 * at, 100) / (2 + slow)}
        for pass_ in passes
        for slow, one in enumerate(series)
        for name in names
        for at in [places.get(name.rpartition(".")[2], 60.0)]
    ]


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

    def test_rows_with_macs_are_named_and_a_light_kind_once(self, tmp_path):
        rows = points("owt.conv1", "owt.conv2", "owt.conv3", "owt.relu1", "owt.relu2", "owt.fc6")
        for panel in roofline.draw(rows, CEILINGS, tmp_path / "roofline.png").axes:
            known = {"matrix product 120 GFLOP/s", "convolution 100 GFLOP/s", "copy 10 GB/s"}
            assert sorted(set(words(panel)) - known) == ["conv1", "conv2–3", "fc6", "relu"]
            assert len(words(panel)) == 7
            assert not overlapping(panel)

    def test_rows_of_one_intensity_share_a_name(self, tmp_path):
        rows = points("conv2", "conv3", "conv5", passes=["forward"])
        (panel,) = roofline.draw(rows, CEILINGS, tmp_path / "roofline.png").axes
        assert "conv2, conv3, conv5" in words(panel)

    def test_nets_are_larger_and_stand_in_their_frameworks_colours(self, tmp_path):
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
    def test_what_was_not_measured_has_no_roof(self, tmp_path, missing, nothing):
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


def profile(*layers, series=SERIES[2:4], passes=("forward", "backward"), whole=7.0):
    rows = [(name, kind, ms) for name, kind, ms in layers] + [("sum of layers", "", sum(ms for *_, ms in layers))]
    rows += [("whole net", "", whole)] if whole else []
    return pd.DataFrame(
        one | {"layer": name, "kind": kind, "pass": pass_, "center_ms": ms, "ci95_low_ms": ms, "ci95_high_ms": ms + 1}
        for pass_ in passes
        for one in series
        for name, kind, ms in rows
    )


ROWS = (("conv1", "conv", 6.0), ("relu1", "relu", 0.01), ("fc6", "fc", 2.0))


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

    def test_a_kind_has_one_colour_that_no_framework_has(self, tmp_path):
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
        assert words(above)[:4] == ["rows 8.01, net 7"] * 4
        assert all(patch.get_facecolor()[3] for patch in below.patches)

    def test_without_a_whole_net_there_is_no_outline(self, tmp_path):
        above, _ = layers.draw(profile(*ROWS, whole=None), tmp_path / "layers.png").axes
        assert len(above.patches) == 12
        assert words(above)[:4] == ["rows 8.01"] * 4

    def test_a_backward_time_below_nothing_moves_no_segment_back(self, tmp_path):
        rows = profile(ROWS[0], ("relu1", "relu", -0.5), ROWS[2], series=SERIES[2:3], passes=["backward"])
        above, _ = layers.draw(rows, tmp_path / "layers.png").axes
        assert spans(above) == {0: [(0, 6), (6, 0), (6, 2)]}
        assert words(above)[0] == "rows 7.5, net 7\nrelu1 below 0"

    def test_the_sum_of_the_rows_is_the_profiles_own(self, tmp_path):
        rows = profile(*ROWS, series=SERIES[2:3], passes=["forward"])
        rows.loc[rows["layer"] == "sum of layers", "center_ms"] = 9.25
        above, _ = layers.draw(rows, tmp_path / "layers.png").axes
        assert words(above)[0] == "rows 9.25, net 7"

    def test_of_many_rows_below_nothing_the_first_is_named(self, tmp_path):
        below_nothing = [(name, "relu", -0.5) for name in ("relu1", "relu2", "relu3")]
        rows = profile(ROWS[0], *below_nothing, series=SERIES[2:3], passes=["backward"], whole=None)
        above, _ = layers.draw(rows, tmp_path / "layers.png").axes
        assert words(above)[0] == "rows 4.5\nrelu1 and 2 more below 0"

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

    def test_nothing_to_stack_says_what_to_do(self, tmp_path):
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


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_one_run_is_one_file_to_the_byte(tmp_path, ending, monkeypatch):
    for epoch, name in (("1", "a"), ("900000000", "b")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)  # what matplotlib would date a file by
        times.draw(frames.read([csv(tmp_path, ROW)]), tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_numbers_have_four_digits_and_no_powers_of_ten():
    assert [console.number(value) for value in (0.5, 12.345, 9999.4, 9999.6, 123456.7)] == [
        *("0.5", "12.35", "9,999", "10,000", "123,457")
    ]


def test_frameworks_that_are_not_ours_are_told_apart(tmp_path):
    rows = frames.read([csv(tmp_path, *(ROW | {"framework": name, "mode": "call"} for name in ("mxnet", "caffe")))])
    assert len({one.color for one in style.list_series(rows, style.label_series(rows))}) == 2


def test_bars_of_two_machines_say_which(tmp_path):
    rows = [ROW | {"batch": batch, "device_name": name} for batch, name in ((8, "a Xeon"), (32, "a Ryzen"))]
    (panel,) = times.draw(frames.read([csv(tmp_path, *rows)]), tmp_path / "times.png").axes
    said = " ".join(label.get_text() for label in panel.get_xticklabels())
    assert "a Xeon" in said
    assert "a Ryzen" in said


def test_a_pass_has_the_nets_that_were_timed_in_it_and_a_group_its_own_bars(tmp_path):
    rows = [ROW, ROW | {"variant": "bvlc", "framework": "jax", "mode": "jit"}]
    rows += [ROW | {"pass": "forward_backward", "mean_ms": 40.0}]
    panels = times.draw(frames.read([csv(tmp_path, *rows)]), tmp_path / "times.png").axes
    assert [[label.get_text().split()[0] for label in panel.get_xticklabels()] for panel in panels] == [
        ["owt", "bvlc"],
        ["owt"],
    ]
    assert [bar.get_x() + bar.get_width() / 2 for bar in panels[0].patches] == pytest.approx([0, 1])


def test_one_wide_interval_ends_in_an_arrow_and_leaves_room_for_the_rest(tmp_path):
    rows = [ROW | {"center_ms": 12.0, "ci95_low_ms": 0.1, "ci95_high_ms": 5000.0}]
    (panel,) = times.draw(frames.read([csv(tmp_path, *rows)]), tmp_path / "times.png").axes
    assert panel.get_ylim()[1] < 4 * 12.5
    assert [list(line.get_ydata()) for line in panel.lines if line.get_marker() == "^"] == [[37.5]]


def test_a_size_that_is_not_the_variants_own_is_said(tmp_path):
    rows = frames.read([csv(tmp_path, ROW | {"size": 67}, ROW | {"variant": "bvlc", "size": 227})])
    assert list(times.label_rows(rows)) == ["owt\nbatch 8, cpu\n67 px", "bvlc\nbatch 8, cpu"]
