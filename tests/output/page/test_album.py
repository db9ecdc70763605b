"""Folders of `train` and `predict` in the report: a table, and their plots."""

import base64

import numpy as np
import pytest
from pages import Page
from runs import make

from bench import UsageError
from bench.output.page import album, chapter
from bench.record import prediction, training
from bench.record.events import WeightsFile
from bench.record.prediction import Accuracy, Outcome, Rate
from impls.preprocessing import PREPROCESSINGS

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PLAIN = PREPROCESSINGS["plain"].at(99)


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "train<b>"
    folder.mkdir()
    settings = training.Settings(
        schema=training.SCHEMA,
        alexnet_bench="1",
        variant="half_width",
        size=99,
        preprocessing=PLAIN,
        classes=["<i>cat</i>", "dog"],
        frameworks=["torch"],
        epochs=3,
        lr=0.005,
        momentum=0.9,
        decay=5e-4,
        batch=8,
        seed=0,
        init="fan_in",
        freeze=[],
        weights=None,
        pictures=None,
        names="0",
    )
    training.write_settings(folder, settings)
    training.write_history(folder, [training.Epoch("torch", 1, 1.0, 1.1, 0.75, 40, 100.0, 2.0)])
    training.write_confusion(folder, settings.classes, {"torch": np.array([[20, 5], [5, 10]])})
    (folder / training.CURVES).write_bytes(PNG)
    return folder


@pytest.fixture
def predicted(tmp_path):
    folder = tmp_path / "predict"
    folder.mkdir()
    settings = prediction.Settings(
        *(prediction.SCHEMA, "1", WeightsFile("best.safetensors", "abcdef0123"), "half_width", 99, PLAIN),
        *(["cat", "dog"], "the weights", ["torch"], "cpu", 8, ["photos"], False, {}),
    )
    rate = Rate(0.5, 0.4, 0.6)
    outcome = Outcome(True, 12, 10, 2, 0, {}, {"torch": Accuracy(10, rate, None)}, {"converted from CMYK": 3})
    prediction.write_settings(folder, settings, outcome)
    (folder / prediction.MATRIX).write_bytes(PNG)
    (folder / prediction.MISTAKES).write_bytes(PNG)
    return folder


def test_a_training_has_its_table_and_its_plots_and_what_it_lacks_is_left_out(trained):
    assert album.is_album(trained)
    page = Page(chapter.render_page([], folders=[trained]))
    text = page.text()
    for part in (
        "train<b>",
        "half_width at 99 px",
        "<i>cat</i>, dog",
        "0.750 [",
        "1 of 1",
        "A training of 1 of 3 epochs",
    ):
        assert part in text
    html = chapter.render_page([], folders=[trained])
    assert html.count("<img ") == 1
    assert base64.b64encode(PNG).decode() in html
    assert "<i>cat" not in html


def test_a_prediction_has_its_accuracy_and_its_plots(predicted):
    html = chapter.render_page([], folders=[predicted])
    text = Page(html).text()
    for part in (
        "10 of 12 pictures were predicted",
        "0.500 [0.400, 0.600]",
        "3 pictures: converted from CMYK",
        "abcdef01",
    ):
        assert part in text
    assert html.count("<img ") == 2
    assert 'alt="Confusion. torch 0.500 [0.400, 0.600]"' in html


def test_runs_and_folders_share_a_page(trained, predicted, tmp_path):
    html = chapter.render_page([make(tmp_path / "run")], folders=[trained, predicted])
    assert html.count("<article ") == 3
    assert 'href="#album2"' in html
    assert "1 Run and 2 folders" in html


def test_a_cut_off_prediction_says_so(predicted):
    whole = prediction.read(predicted)
    prediction.write_settings(predicted, whole.settings)
    assert "A prediction that was cut off" in chapter.render_page([], folders=[predicted])


def test_a_folder_that_cannot_be_read_is_one_line(predicted):
    (predicted / prediction.SETTINGS).write_text("{}")
    with pytest.raises(UsageError, match=r"predict: cannot read what `predict` wrote: .*settings"):
        chapter.render_page([], folders=[predicted])
