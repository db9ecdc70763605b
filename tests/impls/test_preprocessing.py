"""Crops of stored pictures, and the values that a net is given."""

import numpy as np
import pytest

from impls import preprocessing
from impls.preprocessing import PREPROCESSINGS

#: A stored picture whose values tell where a crop is from: row, column, 0.
STORED = np.stack([*np.mgrid[:112, :112], np.zeros((112, 112))], axis=2).astype(np.uint8)


def place(crop: np.ndarray) -> tuple[int, int, bool]:
    """Top, left and whether flipped."""
    flip = crop[0, 0, 1] > crop[0, -1, 1]
    return int(crop[0, 0, 0]), int(crop[0, -1 if flip else 0, 1]), bool(flip)


@pytest.mark.parametrize(("size", "stored"), [(224, 256), (99, 112), (67, 72), (20, 20)])
def test_stored_squares_are_an_eighth_larger_than_crops_and_never_smaller(size, stored):
    assert preprocessing.stored_size(size) == stored


def test_a_crop_depends_on_seed_epoch_and_index_alone_with_every_numpy():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert [place(preprocessing.augmented(STORED, 99, *key)) for key in keys] == [
        (7, 11, False),
        (9, 12, False),
        (1, 12, True),
        (10, 9, True),
    ]


def test_crops_are_whole_and_take_every_place_flipped_or_not():
    places = set()
    for index in range(400):
        crop = preprocessing.augmented(STORED, 99, 0, 0, index)
        top, left, flip = place(crop)
        whole = STORED[top : top + 99, left : left + 99]
        assert np.array_equal(crop, whole[:, ::-1] if flip else whole)
        places |= {("top", top), ("left", left), ("flip", flip)}
    assert len(places) == 14 + 14 + 2


def test_the_crop_for_evaluation_is_the_middle():
    assert place(preprocessing.central(STORED, 98)) == (7, 7, False)
    assert preprocessing.central(STORED, 98).shape == (98, 98, 3)


def test_a_picture_smaller_than_the_crop_is_refused():
    with pytest.raises(ValueError, match=r"expected a picture of at least \(113, 113, 3\), found \(112, 112"):
        preprocessing.central(STORED, 113)
    with pytest.raises(ValueError, match=r"found \(1, 112, 112, 3\)"):
        preprocessing.augmented(STORED[None], 1, 0, 0, 0)


def test_normalized_values_are_exact_and_of_float32():
    values = PREPROCESSINGS["plain"].normalized(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3))
    assert values.dtype == np.float32
    assert values.shape == (1, 16, 16, 3)
    assert values[..., 0].ravel().tolist() == [(x - 127.5) / 64 for x in range(256)]
    with pytest.raises(TypeError, match="expected pixels of uint8, found float32"):
        PREPROCESSINGS["plain"].normalized(values)


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_what_is_shown_of_normalized_pixels_are_these_pixels_for_all_values(name):
    record = PREPROCESSINGS[name].at(16)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    batch = np.stack([np.stack([levels, levels[::-1], levels.T], axis=2), np.stack([levels.T] * 3, axis=2)])
    assert np.array_equal(record.shown(record.normalized(batch)), batch)


def test_a_wrong_order_of_channels_or_a_wrong_mean_is_shown_as_wrong_colors():
    batch = np.full((1, 8, 8, 3), (200, 100, 0), np.uint8)
    values = PREPROCESSINGS["caffe"].normalized(batch)
    assert PREPROCESSINGS["caffe"].shown(values[..., ::-1])[0, 0, 0].tolist() == [19, 100, 181]
    assert PREPROCESSINGS["plain"].shown(values)[0, 0, 0].tolist() == [0, 0, 255]


def test_what_a_shift_moves_out_of_the_range_is_clipped():
    record = PREPROCESSINGS["2012"]
    batch = np.full((1, 8, 8, 3), (250, 100, 5), np.uint8)
    shifted = record.normalized(batch, np.array([[10, 10, -10]], np.float32))
    assert record.shown(shifted)[0, 0, 0].tolist() == [255, 110, 0]


def test_mean_and_stddev_of_colors_are_those_of_all_pixels():
    squares = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    sums = preprocessing.ColorSums()
    for square in squares:
        sums.add(square)
    pixels = squares.reshape(-1, 3).astype(np.float64)
    assert sums.mean == pytest.approx(pixels.mean(0), rel=1e-12)
    assert sums.stddev == pytest.approx(pixels.std(0), rel=1e-12)
    assert np.array_equal(sums.principal, preprocessing.principal_colors(squares))


def test_pictures_of_one_color_have_no_stddev():
    sums = preprocessing.ColorSums()
    sums.add(np.full((67, 67, 3), (7, 99, 251), np.uint8))
    assert (sums.mean.tolist(), sums.stddev.tolist()) == ([7, 99, 251], [0, 0, 0])
