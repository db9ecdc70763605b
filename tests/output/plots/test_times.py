"""Times plot: bars, intervals and labels; series and their looks, which all plots share."""

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from csvs import csv
from matplotlib.image import imread
from plot_rows import ROW, SERIES, SPEED, overlapping

from bench import UsageError
from bench.output import console
from bench.output.plots import frames, style, times


def test_a_chart_is_drawn_in_the_frameworks_own_colors(tmp_path):
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


def test_a_model_alone_has_its_input_for_a_label(tmp_path):
    rows = frames.read([csv(tmp_path, ROW | {"size": 224}, ROW | {"input": "16"}, ROW | {"input": "3x40x50"})])
    assert list(times.label_rows(rows)) == [
        f"{subject}\nbatch 8, cpu" for subject in ("owt", "input 16", "input 3x40x50")
    ]


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


def series(rows, apart=style.SERIES_COLUMNS):
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

    def test_columns_that_vary_are_in_a_series_label(self):
        both = [
            {"net": None, "lrn": "native", "preset": "equal"},
            {"net": "theirs", "lrn": "fast", "preset": "default"},
        ]
        names = [one.name for one in series(ROW | one for one in both)]
        assert names == ["torch eager native LRN equal preset", "torch eager theirs fast LRN default preset"]
        assert [one.name for one in series([ROW | both[1]])] == ["torch eager"]

    def test_a_framework_keeps_its_color_and_no_two_of_its_series_look_alike(self):
        found = series(SERIES)
        assert all(one.color == style.COLORS[one.framework] for one in found)
        for looks in ("hatch", "marker"):
            assert len({(one.framework, getattr(one, looks)) for one in found}) == len(found)

    def test_an_unknown_framework_counts_as_not_compiled(self):
        (one,) = series([ROW | {"framework": "mxnet", "mode": "jit"}])
        assert (one.compiled, one.color) == (False, style.OTHER)


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
    def test_the_center_and_its_interval_stand_over_the_bar(self, tmp_path):
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
        _, panel = drawn_bars(tmp_path, ROW | wide, ROW | SPEED | {"batch": 32})
        assert [text.xy[1] for text in panel.texts] == [30.0, 13.5]
        assert not overlapping(panel)

    @pytest.mark.parametrize("count", [1, 3, 24])
    def test_no_number_or_label_lies_on_another(self, tmp_path, count):
        rows = [one | SPEED | {"variant": f"single_tower_{n}"} for n in range(count) for one in SERIES[:1]]
        figure, _ = drawn_bars(tmp_path, *rows)
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
        with pytest.raises(UsageError, match="expected at most 240 rows as bars, found 241; keep fewer rows"):
            drawn_bars(tmp_path, *rows)

    def test_the_legend_has_each_series_color_where_the_first_pass_lacks_it(self, tmp_path):
        figure, _ = drawn_bars(tmp_path, ROW, ROW | {"framework": "jax", "pass": "forward_backward"})
        colors = [matplotlib.colors.to_hex(one.get_facecolor()).upper() for one in figure.legends[0].legend_handles]
        assert colors == [style.COLORS["torch"], style.COLORS["jax"]]


@pytest.mark.usefixtures("unsaved")
def test_many_bars_stand_one_pass_below_the_other(tmp_path):
    rows = [one | {"pass": pass_} for pass_ in ("forward", "forward_backward") for one in SERIES]
    upper, lower = times.draw(frames.read([csv(tmp_path, *rows)]), tmp_path / "times.png").axes
    assert upper.get_position().y0 > lower.get_position().y1


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


def test_bars_of_two_machines_are_labeled_with_them(tmp_path):
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
