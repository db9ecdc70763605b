"""The published timings beside ours: what is drawn is held against the CSV, read here by other means and by hand."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from bench import UsageError
from bench.output.plots import frames, history, published, style

with (Path(published.__file__).with_name("published.csv")).open(encoding="utf-8") as file:
    CSV = list(csv.DictReader(file))
PUBLISHED = published.read_timings()
MARKS = published.marks_of_timings(PUBLISHED)
ROW = {
    "run_id": "20261126T063215Z-reference",
    "variant": "owt",
    "framework": "torch",
    "mode": "eager",
    "device": "cpu",
    "device_name": "a fast CPU",
    "precision": "fp32",
    "batch": 32,
    "pass": "forward",
    "mean_ms": 320.0,
    "size": 224,
    "threads": 2,
}
OURS = pd.DataFrame(
    [
        ROW,
        ROW | {"pass": "forward_backward", "mean_ms": 1280.0},
        ROW | {"variant": "tutorial", "framework": "jax", "mode": "jit", "mean_ms": 400.0},
    ]
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return history.draw(None, tmp_path_factory.mktemp("history") / "history.png", PUBLISHED)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    return history.draw(OURS, tmp_path_factory.mktemp("history") / "history.svg", PUBLISHED)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Six nets with long names."""
    nets = [
        {},
        {"size": None},
        {"variant": "half_width", "size": 160},
        {"variant": "half_width", "flags": "not_proven"},
    ]
    nets += [{"variant": "caffenet", "size": 227}, {"variant": "tutorial", "size": 64, "flags": "not_proven"}]
    rows = [
        ROW | {"framework": "tensorflow", "mode": "graph", "mean_ms": 300.0 + at} | net for at, net in enumerate(nets)
    ]
    return history.draw(pd.DataFrame(rows), tmp_path_factory.mktemp("history") / "history.png", PUBLISHED)


def several(row):
    return any(f", {count} x " in row["hardware"] for count in (2, 4, 8))


def drawable(row):
    known = row["date"] and (row["batch"] or row["images_per_s"])
    return known and not several(row) and "loss was nan" not in row["caveat"]


def lines(panel, start):
    return [line for line in panel.get_lines() if str(line.get_gid()).startswith(start)]


def speeds(artists):
    return sorted(float(speed) for line in artists for speed in line.get_ydata())


def words(figure):
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def ours(*changes):
    return published.marks_of_rows(pd.DataFrame([ROW | change for change in changes]), 2024.0)


class TestPublished:
    def test_every_row_is_there_with_its_source_and_its_caveat(self):
        assert len(PUBLISHED) == len(CSV) == 158
        for name in ("hardware", "library", "precision", "kind", "date", "source", "caveat"):
            assert list(PUBLISHED[name]) == [row[name] for row in CSV]

    def test_caffes_net_on_224_pixels_is_our_bvlc_at_that_size_and_not_our_original(self):
        assert list(PUBLISHED["net"]) == [row["net"].replace("original", published.BVLC) for row in CSV]
        assert all("bvlc_alexnet at 224" in row["caveat"] for row in CSV if row["net"] == "original")

    @pytest.mark.parametrize(
        ("date", "day"), [("2014-12-19", "2014-12-19"), ("2017-05", "2017-05-16"), ("2018", "2018-07-02")]
    )
    def test_a_date_without_a_day_is_the_middle_of_what_is_stated(self, date, day):
        days = PUBLISHED[PUBLISHED["date"] == date]["day"]
        assert len(days) == sum(row["date"] == date for row in CSV) > 0
        assert set(days) == {pd.Timestamp(day)}

    def test_a_date_that_is_not_stated_is_none(self):
        assert PUBLISHED["day"].isna().sum() == sum(row["date"] == "" for row in CSV) == 11

    @pytest.mark.parametrize(("column", "value"), [("source", ""), ("caveat", ""), ("kind", "guess")])
    def test_a_row_without_what_must_stand_beside_it_is_refused(self, column, value, tmp_path, monkeypatch):
        broken = tmp_path / "published.csv"
        pd.DataFrame([CSV[0], CSV[1] | {column: value}]).to_csv(broken, index=False)
        monkeypatch.setattr(published, "FILE", broken)
        with pytest.raises(ValueError, match=f"row 2: missing or unknown {column}"):
            published.read_timings()


class TestMarks:
    @pytest.mark.parametrize(
        ("hardware", "library", "precision", "pass_", "images_per_s"),
        [
            ("Titan X (Maxwell)", "cuDNN R4 (Torch)", "fp16", "forward_backward", 1786.21),  # 128 in 71.66 ms
            ("Titan X (Maxwell)", "cuDNN R4 (Torch)", "fp16", "forward", 5146.76),  # 128 in 24.87 ms
            ("GTX 1080 Ti", "Torch, CUDA 8, cuDNN 5.1.10", "fp32", "forward_backward", 1151.91),  # 16 in 13.89 ms
            ("CPU (Cascade Lake socket, 4 instances at once)", "PyTorch (TorchBench eval)", "int8", "forward", 137.22),
            ("V100", "MXNet 1.2.0rc1, cuDNN 7.0.5", "fp32", "train", 2994.32),  # as published
        ],
    )
    def test_images_a_second_are_the_batch_over_the_time(self, hardware, library, precision, pass_, images_per_s):
        facts = {"hardware": hardware, "library": library, "precision": precision, "pass": pass_}
        found = MARKS[(MARKS[list(facts)] == pd.Series(facts)).all(axis=1)]
        assert list(found["images_per_s"].round(2)) == [images_per_s]

    def test_only_nets_that_are_our_variants_are_in_a_series(self):
        assert set(MARKS[MARKS["series"] != ""]["net"]) == {"owt", published.BVLC}
        for name, part in MARKS[MARKS["series"] != ""].groupby("series"):
            assert len(part.groupby(["net", "cpu", "precision"])) == 1, name

    def test_a_full_training_step_is_in_no_series(self):
        step = PUBLISHED[PUBLISHED["net"] == "owt"].iloc[:1].assign(kind="train")
        found = published.marks_of_timings(pd.concat([PUBLISHED, step], ignore_index=True))
        train = found[found["pass"] == "train"]
        assert set(train["series"]) == {""}
        assert set(train["kind"]) == {"train"}
        assert set(found[found["pass"] == "forward_backward"]["kind"]) == {"forward_backward"}
        assert len(train) == 1 + sum(row["kind"] == "train" and bool(drawable(row)) for row in CSV)

    def test_numbers_follow_the_dates_and_stand_for_the_fastest_of_a_year(self):
        numbered = MARKS.dropna(subset="number").drop_duplicates("number").sort_values("number")
        assert list(numbered["number"]) == list(range(1, 14))
        assert numbered["day"].is_monotonic_increasing
        best = max(
            128 / float(row["forward_backward_ms"]) for row in CSV if row["net"] == "owt" and "2016" in row["date"]
        )
        fastest = MARKS[MARKS["fastest"] & (MARKS["pass"] == "forward_backward") & (MARKS["day"].dt.year == 2016)]
        assert fastest["images_per_s"].max() == pytest.approx(1e3 * best)

    def test_timings_left_out_are_counted_per_reason(self):
        assert published.reasons_left_out(PUBLISHED).value_counts().to_dict() == {
            "": sum(bool(drawable(row)) for row in CSV),
            "without a date": 11,
            "without a batch": sum(bool(row["date"]) and not (row["batch"] or row["images_per_s"]) for row in CSV),
            "of several GPUs at once": sum(map(several, CSV)),
            "whose loss was nan": sum("loss was nan" in row["caveat"] for row in CSV),
        }


class TestOurs:
    def test_a_mark_is_the_batch_over_the_center_at_the_date_of_its_run(self):
        found = ours({"center_ms": 160.0}).iloc[0]
        assert found["images_per_s"] == 200
        assert found["year"] == pytest.approx(2026.9, abs=0.01)

    @pytest.mark.parametrize("run_id", [None, "r", "20269926T063215Z-reference"])
    def test_a_run_without_a_date_is_at_the_right_edge(self, run_id):
        assert list(ours({"run_id": run_id})["year"]) == [2024.0]
        assert list(ours({"run_id": run_id}, {})["year"].round(1)) == [2026.9, 2026.9]

    def test_another_size_or_an_unproven_net_is_not_the_variant(self):
        found = ours({}, {"size": 160.0}, {"flags": "noisy not_proven"})
        assert list(found["net"]) == ["owt", "owt at 160 px", "owt, not proven"]

    def test_without_a_size_a_row_is_in_no_published_series(self):
        names = ["owt, size not stated", f"{published.BVLC}, size not stated", "my own"]
        found = ours({"size": None}, {"size": "", "variant": published.BVLC}, {"size": None, "variant": "my own"})
        assert list(found["net"]) == names
        row = {name: value for name, value in ROW.items() if name != "size"}
        assert list(published.marks_of_rows(pd.DataFrame([row]), 2024.0)["net"]) == names[:1]

    def test_parts_and_what_was_slowed_down_and_what_is_not_valid_are_left_out(self):
        other = ({"variant": "owt.conv2"}, {"flags": "slowed_down"}, {"valid": False}, {"pass": "backward"})
        assert len(ours({}, *other)) == 1
        with pytest.raises(UsageError) as error:
            ours(*other)
        assert str(error.value) == (
            "history: expected a valid forward or forward_backward of a whole net, found none; time a net"
        )

    def test_several_devices_are_left_out_as_published_ones_are(self, tmp_path):
        assert list(ours({"world": 1}, {"world": 2})["world"]) == [1]
        rows = pd.DataFrame([ROW | {"world": 1}, ROW | {"world": 2}])
        said = words(history.draw(rows, tmp_path / "teams.svg", PUBLISHED))
        assert "Not drawn: your rows of several devices; the scaling plot has them." in said
        assert "several devices;" not in words(history.draw(rows[:1], tmp_path / "one.svg", PUBLISHED))

    def test_few_columns_are_enough(self):
        few = ("variant", "framework", "mode", "device", "batch", "pass", "mean_ms")
        found = published.marks_of_rows(pd.DataFrame([{name: ROW[name] for name in few}]), 2024.0)
        assert list(found["images_per_s"]) == [100.0]
        assert list(found["device_name"]) == [""]


class TestFigure:
    @pytest.mark.parametrize(("net", "stored"), [("owt", "owt"), (published.BVLC, "original")])
    @pytest.mark.parametrize(("panel", "column"), [(0, "forward_ms"), (1, "forward_backward_ms")])
    def test_a_series_holds_all_timings_of_its_net_and_no_other(self, alone, net, stored, panel, column):
        drawn = speeds(lines(alone.axes[panel], f"published {net} "))
        rows = [row for row in CSV if row["net"] == stored and drawable(row) and row[column]]
        expected = sorted(1e3 * float(row["batch"]) / float(row[column]) for row in rows)
        assert drawn == pytest.approx(expected)

    @pytest.mark.parametrize(("panel", "kinds"), [(0, {"inference"}), (1, {"train", "forward_backward"})])
    def test_other_nets_are_gray(self, alone, panel, kinds):
        nets = ("unknown", "tf_cnn_benchmarks", "tf_conv_only")
        rows = [row for row in CSV if row["net"] in nets and drawable(row)]
        count = sum(row["kind"] in kinds for row in rows) + sum(bool(row["forward_ms"]) for row in rows) * (panel == 0)
        gray = lines(alone.axes[panel], "context")
        assert sum(len(line.get_ydata()) for line in gray) == count
        assert {line.get_color() for line in gray} == {history.GRAY}
        assert not [line for line in lines(alone.axes[panel], "published") if line.get_color() == history.GRAY]

    def test_full_training_steps_are_crosses_below(self, alone):
        crosses = [[line for line in lines(panel, "context") if line.get_marker() == "x"] for panel in alone.axes]
        assert not crosses[0]
        expected = sum(row["kind"] == "train" and bool(drawable(row)) for row in CSV)
        assert sum(len(line.get_ydata()) for line in crosses[1]) == expected > 0

    def test_a_line_joins_the_fastest_of_each_year_of_one_series(self, alone):
        for panel, column in zip(alone.axes, ("forward_ms", "forward_backward_ms"), strict=True):
            (line,) = lines(panel, "line owt GPU fp32")
            best = dict.fromkeys(("2014", "2015", "2016"), 0.0)
            for row in CSV:
                if (row["net"], row["precision"]) == ("owt", "fp32") and "CPU" not in row["hardware"]:
                    year = row["date"][:4]
                    best[year] = max(best[year], 1e3 * float(row["batch"]) / float(row[column]))
            assert list(line.get_ydata()) == pytest.approx(list(best.values()))

    def test_each_number_has_its_source_and_caveat_in_the_key(self, alone):
        drawn = {text.get_text() for panel in alone.axes for text in panel.texts if text.get_gid() == "number"}
        numbered = MARKS.dropna(subset="number").drop_duplicates("number")
        assert drawn == {str(number) for number in numbered["number"]}
        key = words(alone)
        for _, row in numbered.iterrows():
            start = f"{row['number']} {row['net']}, {row['hardware']}, {row['library']}, {row['look']}"
            entry = key[key.index(start) :]
            assert f"batch {row['batch']:g}, {row['date']}" in entry
            assert f"] {row['caveat']}" in entry
            assert row["source"].split(":")[0].removeprefix("https") in entry

    def test_timings_not_drawn_are_counted_and_the_file_is_named(self, alone):
        said = "11 without a date, 2 without a batch, 16 of several GPUs at once, 4 whose loss was nan"
        assert f"Not drawn of 158 published: {said}. All, with full sources: bench/output/plots/published.csv" in words(
            alone
        )

    @pytest.mark.parametrize("name", ["alone", "beside", "many"])
    def test_all_small_print_lies_on_the_page_and_apart(self, name, request):
        figure = request.getfixturevalue(name)
        page, boxes = figure.bbox, [text.get_window_extent() for text in figure.texts]
        names = [text.get_tightbbox() for panel in figure.axes for text in panel.texts]
        assert all(box.x1 <= page.x1 for box in names)
        assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
        apart = [box.padded(-1) for box in boxes]
        assert not [1 for at, box in enumerate(apart) if box.count_overlaps(apart[at + 1 :])]

    def test_ours_are_larger_in_their_frameworks_color_and_share_their_nets_shape(self, beside):
        (mine,) = lines(beside.axes[1], "ours owt")
        old = lines(beside.axes[1], "published owt")
        assert speeds([mine]) == [25.0]
        assert mine.get_color() == style.COLORS["torch"]
        assert {line.get_marker() for line in old} == {mine.get_marker()}
        assert mine.get_markersize() > max(line.get_markersize() for line in old)

    def test_measured_marks_are_named_with_framework_and_device(self, beside):
        names = [[text.get_text() for text in panel.texts if text.get_gid() == "name"] for panel in beside.axes]
        assert names == [["jax jit tutorial, cpu: 80/s", "torch eager owt, cpu: 100/s"], ["torch eager owt, cpu: 25/s"]]
        assert "Large marks, measured 2026-11-26: owt, tutorial, a fast CPU (cpu), 2 threads, fp32, batch 32." in words(
            beside
        )

    def test_a_net_that_nothing_published_is_of_is_a_series_of_its_own(self, beside):
        (mine,) = lines(beside.axes[0], "ours tutorial")
        shapes = {line.get_marker() for line in lines(beside.axes[0], "published")}
        assert mine.get_marker() not in shapes
        assert "No published timing is of tutorial: compare its marks only with each other." in words(beside)
        assert "published timing is of owt" not in words(beside)

    @pytest.mark.parametrize("name", ["alone", "beside", "many"])
    def test_the_legend_lies_on_the_page_and_above_the_key(self, name, request):
        figure = request.getfixturevalue(name)
        box, key = figure.legends[0].get_window_extent(), [text for text in figure.texts if text.get_text() == "1"]
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= key[0].get_window_extent().y1

    def test_a_long_name_has_its_whole_net_in_a_second_line(self, many):
        names = [text.get_text() for text in many.axes[0].texts if text.get_gid() == "name"]
        assert "tensorflow graph, cpu: 106/s\nhalf_width at 160 px" in names
        assert "tensorflow graph, cpu: 106/s\nhalf_width, not proven" in names
        assert "tensorflow graph owt, cpu: 107/s" in names

    def test_a_net_of_no_stated_size_has_a_mark_of_its_own_and_a_note(self, many):
        (mine,) = lines(many.axes[0], "ours owt, size not stated")
        others = [line for kind in ("published", "ours") for line in lines(many.axes[0], kind) if line is not mine]
        assert mine.get_marker() not in {line.get_marker() for line in others}
        assert "Nothing published is comparable with owt, size not stated: compare its marks only" in words(many)

    def test_the_title_names_the_machine(self, beside):
        assert beside.get_suptitle() == "AlexNet as published from 2014 to 2023, and on a fast CPU"

    def test_select_marks_returns_exactly_the_drawn_marks(self, alone):
        shown = published.select_marks(PUBLISHED)
        assert list(shown.columns) == published.SHOWN
        drawn = [line for panel in alone.axes for kind in ("published", "context") for line in lines(panel, kind)]
        assert speeds(drawn) == pytest.approx(sorted(shown["images_per_s"]))
        assert shown["number"].dropna().is_monotonic_increasing
        assert shown["number"].iloc[-1] is pd.NA


def test_a_formula_in_a_name_is_drawn_as_it_stands(tmp_path):
    row = {"case_id": "a", "variant": "owt", "framework": r"$\frac$", "mode": "call", "device": "cpu", "batch": 8}
    row |= {"pass": "forward", "mean_ms": 10.0, "device_name": r"a $\frac$ CPU", "run_id": "20260101T000000Z-a"}
    pd.DataFrame([row]).to_csv(tmp_path / "a.csv", index=False)
    history.draw(frames.read([tmp_path / "a.csv"]), tmp_path / "h.svg", PUBLISHED)
    assert r"a $\frac$ CPU" in (tmp_path / "h.svg").read_text()


@pytest.mark.parametrize(
    ("size", "params", "net"),
    [
        (224, 60_965_224, published.BVLC),
        (224, 49_430_888, "bvlc at 224 px, of other layers"),  # before its pools rounded up
        (227, 60_965_224, "bvlc"),
        (10, 1, "bvlc at 10 px, of other layers"),
    ],
)
def test_a_row_whose_net_had_other_layers_is_in_no_series(size, params, net):
    facts = {"variant": "bvlc", "size": size, "params": params, "pass": "forward", "batch": 1, "mean_ms": 1.0}
    texts = dict.fromkeys(("framework", "device"), "cpu") | {"valid": "True", "flags": "", "run_id": ""}
    marks = published.marks_of_rows(pd.DataFrame([facts | texts]), 2026.0)
    assert marks["net"].tolist() == [net]
