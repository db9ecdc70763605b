import warnings
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from bench import UsageError
from bench.output.plots import contact_sheet
from bench.output.plots.contact_sheet import LEAST_SIDE, Tile, cut, draw, scaled

WRONG = (0xD5, 0x5E, 0x00)


def noise(side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def sheet_of(tiles, tmp_path, title="a title"):
    draw(tiles, title, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        return np.array(image.convert("RGB"))


def places(sheet, pixels):
    """Where the pixels, as shown, are in a sheet: (top, left) of each copy."""
    shown = scaled(pixels)
    corners = np.argwhere((sheet == shown[0, 0]).all(2))
    return [
        (top, left)
        for top, left in corners.tolist()
        if np.array_equal(sheet[top : top + len(shown), left : left + len(shown)], shown)
    ]


@pytest.mark.parametrize("side", [67, 99, 224, 227])
def test_every_pixel_of_a_picture_is_in_the_sheet_exactly_once_or_as_a_square(side, tmp_path):
    assert len(places(sheet_of([Tile(noise(side), "a\nb")], tmp_path), noise(side))) == 1
    factor = len(scaled(noise(side))) // side
    assert factor >= 1
    assert np.array_equal(scaled(noise(side))[::factor, ::factor], noise(side))
    assert len(scaled(noise(side))) >= LEAST_SIDE


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (5, 2), (9, 3), (16, 4)])
def test_tiles_form_a_square_row_by_row_and_none_covers_another(count, rows, tmp_path):
    tiles = [Tile(noise(67, number), f"class\n{number}.jpg") for number in range(count)]
    sheet = sheet_of(tiles, tmp_path)
    found = [places(sheet, tile.pixels) for tile in tiles]
    assert [len(each) for each in found] == [1] * count
    assert len({top for ((top, _),) in found}) == rows
    assert all(first[0] < second[0] for first, second in pairwise(found))


def test_sixty_four_are_eight_by_eight(tmp_path):
    sheet = sheet_of([Tile(noise(227, number), f"class\n{number}.jpg") for number in range(64)], tmp_path)
    height, width = sheet.shape[:2]
    assert 8 * 227 < width < 2000
    assert 8 * 227 < height < 2400
    assert len(places(sheet, noise(227, 63))) == 1


def test_a_wrong_one_has_a_frame_of_another_color(tmp_path):
    tiles = [Tile(noise(99, 0), "right"), Tile(noise(99, 1), "not", wrong=True)]
    sheet = sheet_of(tiles, tmp_path)
    for tile, color in zip(tiles, (False, True), strict=True):
        ((top, left),) = places(sheet, tile.pixels)
        assert (tuple(sheet[top - 1, left]) == WRONG) == color
        assert (tuple(sheet[top - 1, left - 1]) == WRONG) == color


def ink_below(sheet, pixels):
    """Dark pixels of the caption below a tile, by column, from 10 pixels left of it to 16 right of it."""
    ((top, left),) = places(sheet, pixels)
    side = len(scaled(pixels))
    return (sheet[top + side + 5 : top + side + 40, left - 10 : left + side + 16].max(2) < 160).sum(0)


def test_a_long_caption_is_cut_to_the_width_of_its_tile(tmp_path):
    sheet = sheet_of([Tile(noise(99), "W" * 300), Tile(noise(99, 1), "W" * 300 + "\n" + "W" * 300)], tmp_path)
    for seed in (0, 1):
        columns = ink_below(sheet, noise(99, seed))
        assert columns[10:-16].sum() > 100
        assert columns[-12:].sum() == columns[:9].sum() == 0


def test_a_text_is_cut_in_the_middle_as_little_as_needed():
    assert cut("sunflowers_0012.jpg", 19, len) == "sunflowers_0012.jpg"
    assert cut("sunflowers_0012.jpg", 12, len) == "sunflo…2.jpg"
    assert cut("ab", 1, len) == "…"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", ["$x^{", "$\\frac$", "a_b^c\\", "\x1b[31m\x00", "猫 \U0001f431", "a\udcff", ""])
def test_texts_of_others_are_drawn_as_they_are_without_a_warning(text, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sheet = sheet_of([Tile(noise(99), f"{text}\n{text}\n{text}")], tmp_path, title=text)
    assert caught == []
    assert len(places(sheet, noise(99))) == 1


def test_a_dollar_is_no_formula(tmp_path):
    formula = ink_below(sheet_of([Tile(noise(99), "$x$")], tmp_path), noise(99)).sum()
    letter = ink_below(sheet_of([Tile(noise(99), "x")], tmp_path), noise(99)).sum()
    assert formula > 2 * letter


def test_a_large_picture_is_reduced_by_a_whole_factor():
    assert scaled(np.full((1000, 900, 3), 7, np.uint8)).shape == (334, 300, 3)


def test_a_users_resolution_does_not_move_the_pictures(tmp_path):
    with contact_sheet.matplotlib.rc_context({"savefig.dpi": 300, "savefig.bbox": "tight"}):
        assert len(places(sheet_of([Tile(noise(99), "a")], tmp_path), noise(99))) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*sheet.png.*check the folder"):
        draw([Tile(noise(67), "a")], "", tmp_path / "file" / "sheet.png")
