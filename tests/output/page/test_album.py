"""Folders of `train` and `predict` in the report: a table, and their plots."""

import base64

import albums
import pytest
from pages import Page
from runs import make

from bench import UsageError
from bench.output.page import album, chapter
from bench.record import prediction


@pytest.fixture
def trained(tmp_path):
    return albums.trained(tmp_path)


@pytest.fixture
def predicted(tmp_path):
    return albums.predicted(tmp_path)


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
    assert base64.b64encode(albums.PNG).decode() in html
    assert "<i>cat" not in html
    assert str(trained.parent) not in html


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
