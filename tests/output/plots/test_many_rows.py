"""Plots of many rows can be read or are refused; no two series look the same, and no title says what is not shown."""

import warnings

import pytest
from csvs import ROW, SAMPLE, csv

from bench import UsageError
from bench.output.plots import frames, history, published, series, style, throughput, times
from bench.output.plots.kinds import KINDS

NETS = [
    ROW | {"variant": f"backbone_{n:02}_patch16_224", "case_id": f"n{n:02}", "batch": 1, "mean_ms": 2.0 + n}
    for n in range(60)
]


def look(line):
    return line.get_color(), line.get_marker(), line.get_linestyle()


@pytest.mark.parametrize("kind", ["times", "throughput", "history"])
@pytest.mark.parametrize("count", [60, 1440])
def test_more_rows_than_a_plot_can_show_are_refused_in_a_sentence(tmp_path, kind, count):
    rows = [row | {"batch": batch} for row in NETS for batch in range(1, count // 60 + 1)]
    with pytest.raises(
        UsageError, match=r"^nothing to draw: expected at most \d+ [a-z ]+, found \d+; keep fewer rows$"
    ):
        KINDS[kind].draw([csv(tmp_path, *rows)], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


class TestSixteenLinesOfOneFramework:
    @pytest.fixture
    def figure(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return throughput.draw(frames.read([csv(tmp_path, *NETS[:16])]), tmp_path / "a.png")

    def test_no_two_look_the_same(self, figure):
        looks = {look(line) for line in figure.axes[0].lines if line.get_marker() in "ovPX"}
        assert len(looks) == 16

    def test_their_legend_is_below_the_axes(self, figure):
        legend = figure.legends[0].get_window_extent()
        assert legend.y1 < figure.axes[0].get_window_extent().y0
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.width

    def test_a_plot_of_other_nets_is_not_called_alexnet(self, tmp_path):
        rows = frames.read([csv(tmp_path, *(row | {"device_name": None} for row in NETS[:3]))])
        drawn = [module.draw(rows, tmp_path / "b.png").get_suptitle() for module in (throughput, times)]
        assert drawn == ["Throughput", "Time per pass"]

    def test_a_seventeenth_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="expected at most 16 series of one color; keep fewer rows"):
            throughput.draw(frames.read([csv(tmp_path, *NETS[:17])]), tmp_path / "a.png")


def test_bars_of_sixteen_series_have_sixteen_looks():
    series = [style.Series("", "torch", False, number, "#D55E00") for number in range(16)]
    assert len({(line.color, line.hatch) for line in series}) == 16


def test_a_fifth_unknown_framework_does_not_look_as_the_first(tmp_path):
    rows = frames.read([csv(tmp_path, *(ROW | {"framework": f"f{n}", "case_id": f"c{n}"} for n in range(8)))])
    series = style.list_series(rows, style.label_series(rows))
    assert len({(line.color, line.marker) for line in series}) == 8


def test_other_nets_have_one_entry_in_the_legend_of_the_history(tmp_path):
    rows = frames.read([csv(tmp_path, *NETS[:3])])
    figure = history.draw(rows, tmp_path / "a.png", published.read_timings())
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names.count("other nets: nothing published of them") == 1
    assert not any("backbone" in name for name in names)


class TestCalls:
    """Rows of another program's benchmarks, for which nobody counted images."""

    def rows(self, folder, *names, **more):
        plain = ROW | {
            "images_per_s": None,
            "batch": None,
            "framework": "other",
            "mode": "call",
            "variant": "test_parse",
        }
        return frames.read([csv(folder, *(plain | {"case_id": f"t.py::test_parse[{name}]"} | more for name in names))])

    def test_three_parameters_are_three_marks_with_three_names_in_calls_per_second(self, tmp_path):
        figure = throughput.draw(self.rows(tmp_path, "small", "medium", "large"), tmp_path / "a.png")
        (panel,) = figure.axes
        marks = [line for line in panel.lines if line.get_marker() not in ("None", "_", "|")]
        assert [len(line.get_xdata()) for line in marks] == [1, 1, 1]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            "test_parse[small]", "test_parse[medium]", "test_parse[large]"
        ]  # fmt: skip
        assert panel.get_ylabel().startswith("calls/s")
        assert "batch" not in panel.get_xlabel()

    def test_a_parameter_named_batch_makes_no_images(self, tmp_path):
        figure = throughput.draw(self.rows(tmp_path, "1", "2", batch=8), tmp_path / "a.png")
        assert figure.axes[0].get_ylabel().startswith("calls/s")
        assert len(figure.legends[0].get_texts()) == 2

    def test_images_and_calls_have_no_common_axis(self, tmp_path):
        path = csv(tmp_path, ROW | {"images_per_s": 640.0}, ROW | {"images_per_s": None, "case_id": "calls"})
        with pytest.raises(UsageError, match="expected images/s of every row, found none of 'calls'"):
            throughput.draw(frames.read([path]), tmp_path / "a.png")

    def test_they_have_bars_without_a_batch(self, tmp_path):
        assert list(times.label_rows(self.rows(tmp_path, "small"))) == ["test_parse, cpu"]


def test_sixteen_lines_of_a_series_plot_have_sixteen_looks(tmp_path):
    sample = SAMPLE | {"variant": "owt", "framework": "torch", "mode": "eager", "pass": "forward"}
    rows = [sample | {"case_id": f"c{n:02}", "start_ns": 10**6 * n + at} for n in range(16) for at in (0, 2000)]
    figure = series.draw(frames.samples([csv(tmp_path, *rows, name="samples.csv")]), tmp_path / "a.png")
    lines = figure.legends[0].get_lines()[:16]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 16
