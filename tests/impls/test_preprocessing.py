"""Preprocessing: crops of stored pictures, and the values that a net is given, against their published sources."""

import dataclasses

import numpy as np
import pytest

from impls import preprocessing
from impls.preprocessing import CAFFE_MEANS, PREPROCESSINGS, color_shift, principal_colors

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


RED, BYTES = np.array([[[[200, 100, 50]]]], np.uint8), np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)


class TestRecords:
    def test_torchvision_is_pixels_of_1_less_mean_by_deviation(self):
        # https://docs.pytorch.org/vision/stable/models.html: rescaled to [0.0, 1.0], then normalized with these
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        found = PREPROCESSINGS["torchvision"].normalized(BYTES)
        assert np.abs(found - (BYTES / 255.0 - mean) / deviation).max() < 1e-6
        # 200/255 = 0.784314, less 0.485 by 0.229
        assert PREPROCESSINGS["torchvision"].normalized(RED)[0, 0, 0, 0] == pytest.approx(1.307047, abs=1e-6)

    def test_caffe_is_blue_green_red_less_104_117_123(self):
        assert PREPROCESSINGS["caffe"].normalized(RED).tolist() == [[[[50 - 104, 100 - 117, 200 - 123]]]]

    def test_2012_is_red_green_blue_less_the_same_means(self):
        assert PREPROCESSINGS["2012"].normalized(RED).tolist() == [[[[200 - 123, 100 - 117, 50 - 104]]]]
        assert CAFFE_MEANS == (104, 117, 123)

    def test_sizes_are_those_of_the_sources(self):
        assert {name: (each.size, each.side, each.resize, each.crops) for name, each in PREPROCESSINGS.items()} == {
            "plain": (224, 256, "shorter", 1),
            "torchvision": (224, 256, "shorter", 1),
            "caffe": (227, 256, "warp", 1),
            "2012": (224, 256, "shorter", 10),
        }
        assert all(each.color_noise == (0.1 if name == "2012" else 0) for name, each in PREPROCESSINGS.items())

    def test_at_its_own_size_a_record_is_itself_and_at_others_all_else_stays(self):
        for record in PREPROCESSINGS.values():
            assert record.at(record.size) == record
            assert record.at(99) == dataclasses.replace(record, size=99, side=112)

    @pytest.mark.parametrize("name", PREPROCESSINGS)
    def test_a_shift_is_added_to_red_green_blue_before(self, name):
        record, shifts = PREPROCESSINGS[name], np.array([[8, -16, 32]], np.float32)
        shifted = np.array([[[[208, 84, 82]]]], np.uint8)
        assert record.normalized(RED, shifts).dtype == np.float32
        assert np.array_equal(record.normalized(RED, shifts), record.normalized(shifted))

    def test_a_shift_may_leave_the_range_of_bytes(self):
        white = np.full((1, 1, 1, 3), 255, np.uint8)
        assert PREPROCESSINGS["2012"].normalized(white, np.full((1, 3), 10, np.float32))[0, 0, 0].tolist() == [
            *(265 - 123, 265 - 117, 265 - 104),
        ]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"size": 0}, "size and side: expected 1 <= size <= side <= 10000"),
            ({"side": 223}, "size and side: expected 1 <= size <= side <= 10000"),
            ({"side": 10_001}, "size and side: expected"),
            ({"resize": "longer"}, "resize: expected shorter or warp"),
            ({"colors": "GBR"}, "colors: expected RGB or BGR"),
            ({"subtract": (1.0, 2.0)}, "subtract and divide: expected three numbers each"),
            ({"divide": (1.0, 2.0, 3.0, 4.0)}, "subtract and divide: expected three numbers each"),
            ({"divide": (1.0, 0.0, 1.0)}, "numbers: expected finite ones, none of divide 0"),
            ({"subtract": (1.0, float("nan"), 1.0)}, "numbers: expected finite ones"),
            ({"color_noise": float("inf")}, "numbers: expected finite ones"),
            ({"crops": 5}, "crops: expected 1 or 10"),
        ],
    )
    def test_other_values_are_refused_by_name(self, changes, message):
        with pytest.raises(ValueError, match=f"^preprocessing plain: {message}"):
            dataclasses.replace(PREPROCESSINGS["plain"], **changes)


class TestBox:
    SIZES = ((1, 5000), (5000, 1), (1, 1), (500, 375), (375, 500), (256, 256), (257, 256), (255, 256), (3, 7), (99, 98))

    @staticmethod
    def published(width: int, height: int, side: int) -> tuple[int, int, int, int]:
        """Width and height after torchvision's Resize(side), and left and top of its CenterCrop(side).

        Source: pytorch/vision, torchvision/transforms/functional.py: the longer side is int(side * long / short), the
        crop begins at int(round(left over / 2.0)).
        """
        long = int(side * max(width, height) / min(width, height))
        resized = (side, long) if width <= height else (long, side)
        return *resized, *(round((length - side) / 2.0) for length in resized)

    def test_it_is_what_torchvisions_resize_and_center_crop_leave(self):
        rng = np.random.Generator(np.random.PCG64(0))
        record = PREPROCESSINGS["torchvision"]
        for width, height in [*self.SIZES, *rng.integers(1, 3000, (2000, 2)).tolist()]:
            new_w, new_h, x, y = self.published(width, height, 256)
            left, top, right, bottom = record.box(width, height)
            # in pixels of the resized picture
            found = np.array(
                [left * new_w / width, top * new_h / height, right * new_w / width, bottom * new_h / height]
            )
            np.testing.assert_allclose(found, [x, y, x + 256, y + 256], rtol=1e-12, atol=1e-9)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height

    def test_the_middle_of_the_square_is_torchvisions_own_crop(self):
        rng = np.random.Generator(np.random.PCG64(1))
        for width, height in [*self.SIZES, *rng.integers(1, 3000, (500, 2)).tolist()]:
            new_w, new_h, x, y = self.published(width, height, 256)
            crop = round((new_w - 224) / 2), round((new_h - 224) / 2)
            assert crop == (x + 16, y + 16)

    def test_caffe_warps_the_whole_picture(self):
        assert PREPROCESSINGS["caffe"].box(500, 375) == (0, 0, 500, 375)


class TestViews:
    def test_one_is_the_middle(self):
        record = dataclasses.replace(PREPROCESSINGS["plain"], size=98, side=112)
        assert [place(view) for view in record.views(STORED)] == [(7, 7, False)]

    def test_ten_are_corners_and_middle_and_these_flipped(self):
        record = dataclasses.replace(PREPROCESSINGS["2012"], size=98, side=112)
        five = [(0, 0), (0, 14), (14, 0), (14, 14), (7, 7)]
        views = record.views(STORED)
        assert [place(view) for view in views] == [(*at, False) for at in five] + [(*at, True) for at in five]
        assert all(np.array_equal(flipped, view[:, ::-1]) for view, flipped in zip(views[:5], views[5:], strict=True))
        assert all(view.shape == (98, 98, 3) for view in views)


class TestColors:
    def test_principal_colors_are_eigenvectors_of_the_covariance_by_their_deviation(self):
        rng = np.random.Generator(np.random.PCG64(0))
        squares = rng.integers(0, 256, (7, 12, 12, 3), np.uint8) // [1, 2, 5]
        squares[..., 1] += squares[..., 0] // 2
        covariance = np.cov(squares.reshape(-1, 3).T, bias=True)
        found = principal_colors(squares.astype(np.uint8))
        assert np.abs(found.T @ found - covariance).max() < 1e-9 * covariance.max()
        products = found @ found.T
        assert np.abs(products - np.diag(np.diag(products))).max() < 1e-9 * covariance.max()
        assert (np.abs(found).max(axis=1) == found.max(axis=1)).all()  # the sign does not depend on LAPACK

    def test_they_are_of_all_pictures_and_not_of_each(self):
        """Pictures of one color each have no components of their own; what varies is between them."""
        flat = [np.full((4, 4, 3), level, np.uint8) for level in (50, 150)]
        found = principal_colors(flat)
        np.testing.assert_allclose(found[np.abs(found).sum(1).argmax()], [50, 50, 50], rtol=1e-9)
        assert np.abs(principal_colors(flat[:1])).max() < 1e-6
        assert np.abs(found).sum() == pytest.approx(150)

    def test_black_pictures_have_none(self):
        assert principal_colors([np.zeros((4, 4, 3), np.uint8)]).tolist() == [[0, 0, 0]] * 3

    COLORS = np.array([[30.0, 20, 10], [-5, 6, 7], [1, -2, 3]])

    def test_a_shift_depends_on_seed_epoch_and_index_alone_with_every_numpy(self):
        keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
        found = [color_shift(self.COLORS, 0.1, *key) for key in keys]
        assert np.array_equal(found[0], found[-1])
        assert found[0].dtype == np.float32
        np.testing.assert_allclose(
            found[:4],
            [
                (-6.7034478, -4.0003995, -1.1010268),
                (5.1216860, 3.0080736, 1.2304142),
                (5.8462281, 2.6268611, 0.3996570),
                (-1.2632753, -1.5190868, -1.5133842),
            ],
            rtol=1e-6,
        )

    def test_factors_are_normal_of_that_deviation_and_independent(self):
        factors = np.array([color_shift(np.eye(3), 0.1, 0, 0, index) for index in range(4000)])
        assert np.abs(factors.mean(0)).max() < 0.1 * 3.3 / 4000**0.5
        assert np.abs(factors.std(0, ddof=1) / 0.1 - 1).max() < 0.04
        assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.06
        assert np.mean(np.abs(factors) < 0.1) == pytest.approx(0.6827, abs=0.015)

    def test_the_shift_is_a_sum_of_colors_and_not_of_channels(self):
        factors = color_shift(np.eye(3), 0.1, 3, 2, 1).astype(np.float64)
        np.testing.assert_allclose(color_shift(self.COLORS, 0.1, 3, 2, 1), factors @ self.COLORS, rtol=1e-5)

    def test_crops_are_those_without_colors(self):
        """The shift takes other numbers of the generator than the crop."""
        flips = [place(preprocessing.augmented(STORED, 99, 0, 0, index))[2] for index in range(400)]
        signs = [bool(color_shift(np.eye(3), 0.1, 0, 0, index)[0] > 0) for index in range(400)]
        assert 150 < sum(a == b for a, b in zip(flips, signs, strict=True)) < 250


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
