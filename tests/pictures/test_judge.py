"""The float64 resize: what of Pillow, torch and TensorFlow it accepts, and what it refuses."""

import dataclasses
import functools
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from bench.pictures import judge
from impls.pictures import decode, square
from impls.preprocessing import PREPROCESSINGS, WARP, Preprocessing

#: A real photograph, 512 x 600, that every environment has: public domain, of the U.S. Navy.
PHOTO = Path(matplotlib.get_data_path(), "sample_data/grace_hopper.jpg")
NOISE = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (300, 421, 3), np.uint8)


@functools.cache
def photo() -> np.ndarray:
    return decode(PHOTO).pixels


@functools.cache
def judged(name: str, side: int) -> np.ndarray:
    return judge.square(photo(), to(name, side))


def to(name: str, side: int) -> Preprocessing:
    return dataclasses.replace(PREPROCESSINGS[name], size=side, side=side)


def off(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Largest and mean difference, of 255."""
    assert found.shape == wanted.shape
    difference = np.abs(np.asarray(found, np.float64) - wanted)
    return float(difference.max()), float(difference.mean())


class TestWeights:
    def test_halves_are_worked_by_hand(self):
        # of 4 pixels 2: centers 1 and 3, triangles of half width 2, each row divided by its sum
        rows = np.array([[1.5, 1.5, 0.5, 0.0], [0.0, 0.5, 1.5, 1.5]]) / 2
        assert np.abs(judge.weights(4, 0, 4, 2) - rows / rows.sum(1, keepdims=True)).max() < 1e-15

    def test_doubling_is_worked_by_hand(self):
        # of 2 pixels 4: centers .25, .75, 1.25, 1.75, triangles of half width 1
        assert judge.weights(2, 0, 2, 4).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]

    def test_a_part_is_that_part(self):
        assert np.array_equal(judge.weights(10, 3, 7, 4), np.eye(10)[3:7])


class TestPillow:
    @pytest.mark.parametrize("side", [100, 256, 511, 900])
    @pytest.mark.parametrize("name", PREPROCESSINGS)
    @pytest.mark.parametrize("pixels", ["photo", "noise"])
    def test_what_every_command_resizes_with_is_within_1_of_255(self, name, side, pixels):
        array = photo() if pixels == "photo" else NOISE
        most, mean = off(square(array, to(name, side)), judge.square(array, to(name, side)))
        assert most <= 1.0 + 1e-9
        assert mean < 0.4

    @pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (2, 3), (257, 255)])
    def test_of_odd_shapes_too(self, shape):
        array = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (*shape, 3), np.uint8)
        for name in ("torchvision", "caffe"):
            assert off(square(array, to(name, 64)), judge.square(array, to(name, 64)))[0] <= 1.0 + 1e-9

    @pytest.mark.parametrize("pixels", ["photo", "noise", "stripes"])
    def test_sampling_without_a_filter_is_refused(self, pixels):
        stripes = np.zeros((512, 512, 3), np.uint8)
        stripes[:, ::2] = 255
        array = {"photo": photo(), "noise": NOISE, "stripes": stripes}[pixels]
        how = to("caffe", 128)
        sampled = Image.fromarray(array).resize((128, 128), Image.Resampling.NEAREST)
        most, mean = off(np.asarray(sampled), judge.square(array, how))
        assert most > 30 * judge.MOST
        assert mean > 0.2


@pytest.mark.process
class TestTorch:
    @pytest.mark.parametrize("kind", ["uint8", "float32"])
    @pytest.mark.parametrize("name", ["torchvision", "caffe"])
    def test_interpolate_with_antialias_is_accepted_and_without_refused(self, name, kind):
        torch = pytest.importorskip("torch")
        batch = torch.from_numpy(photo().copy()).permute(2, 0, 1)[None].to(getattr(torch, kind))

        def resized(antialias: bool) -> np.ndarray:
            size = whole(name, 256)
            found = torch.nn.functional.interpolate(batch, size, mode="bilinear", antialias=antialias)
            return middle(found[0].permute(1, 2, 0).numpy(), 256)

        assert off(resized(antialias=True), judged(name, 256))[0] <= judge.MOST
        assert off(resized(antialias=False), judged(name, 256))[0] > 20


@pytest.mark.process
class TestTensorflow:
    @pytest.mark.parametrize("name", ["torchvision", "caffe"])
    def test_its_default_resize_is_refused_and_that_with_antialias_accepted(self, name):
        tf = pytest.importorskip("tensorflow")
        pixels = tf.io.decode_jpeg(PHOTO.read_bytes(), dct_method="INTEGER_ACCURATE")
        assert np.array_equal(pixels, photo())
        found = [middle(tf.image.resize(pixels, whole(name, 256), antialias=how).numpy(), 256) for how in (True, False)]
        assert off(found[0], judged(name, 256))[0] <= judge.MOST
        assert off(found[1], judged(name, 256))[0] > 20

    def test_its_default_decoding_is_refused(self):
        tf = pytest.importorskip("tensorflow")
        pixels = tf.io.decode_jpeg(PHOTO.read_bytes(), dct_method="INTEGER_FAST")
        found = middle(tf.image.resize(pixels, whole("torchvision", 256), antialias=True).numpy(), 256)
        assert off(found, judged("torchvision", 256))[0] > judge.MOST


def whole(name: str, side: int) -> tuple[int, int]:
    """Height and width of the whole picture when its shorter side is ``side``, as torchvision's Resize has them."""
    height, width = photo().shape[:2]
    if PREPROCESSINGS[name].resize == WARP:
        return side, side
    shorter = min(height, width)
    return int(side * height / shorter), int(side * width / shorter)


def middle(pixels: np.ndarray, side: int) -> np.ndarray:
    """torchvision's CenterCrop."""
    height, width = pixels.shape[:2]
    top, left = round((height - side) / 2), round((width - side) / 2)
    return pixels[top : top + side, left : left + side]
