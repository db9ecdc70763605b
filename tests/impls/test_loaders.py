"""Each framework's own loader: the same pixels as the float64 judge's, every picture once per epoch, and an end."""

import dataclasses
import json
import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from nets import configured
from PIL import Image

from bench.controller import source
from bench.pictures import flowers, judge
from bench.worker.loaders import Loaders
from bench.worker.messages import ProveLoader
from impls import loader as loaders
from impls.loader import Feed
from impls.pictures import crop, decode, square
from impls.preprocessing import PREPROCESSINGS, central

pytestmark = pytest.mark.process
FRAMEWORKS = ("torch", "tensorflow", "jax", "null")
WAYS = {name: each.at(67) for name, each in PREPROCESSINGS.items()}
COUNT = 24


@pytest.fixture(scope="module")
def listing(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    flowers.draw(folder / "flowers", per_class=5)
    paths = sorted(map(str, (folder / "flowers").glob("*/*.jpg")))[:COUNT]
    image = Image.open(paths[-1])
    image.convert("L").save(folder / "grey.png")
    paths[-1] = str(folder / "grey.png")
    file = folder / "listing.json"
    file.write_text(json.dumps({"paths": paths, "labels": [place % 5 for place in range(COUNT)]}))
    return str(file)


def loaders_of(framework):
    """Those of a Worker, whose framework is configured before it computes."""
    configured(framework)
    return Loaders(framework)


def proven(framework, feed, folder):
    """Images, places and labels of an epoch."""
    epoch = loaders_of(framework).prove(ProveLoader(feed, str(folder / "images.npy")))
    return np.load(folder / "images.npy"), epoch.rows, epoch.labels


def errors(images, rows, feed):
    paths, _ = feed.files
    wanted = np.stack([judge.square(decode(Path(paths[row])).pixels, feed.preprocessing) for row in rows])
    crops = np.stack([central(each, feed.preprocessing.size) for each in wanted])
    return source.pixel_errors(images, crops, feed.preprocessing)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_epoch_has_each_picture_once_with_its_label_and_pixels_of_the_judge(framework, workers, listing, tmp_path):
    feed = Feed(listing, WAYS["torchvision"], 8, workers)
    images, rows, labels = proven(framework, feed, tmp_path)
    assert sorted(rows) == list(range(COUNT))
    assert rows != sorted(rows)
    assert labels == [row % 5 for row in rows]
    assert images.dtype == np.float32
    assert errors(images, rows, feed).max() <= judge.MOST


@pytest.mark.parametrize("name", ["caffe", "2012", "plain"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_preprocessing_is_that_of_the_judge(framework, name, listing, tmp_path):
    feed = Feed(listing, WAYS[name], 8, 1)
    images, rows, _ = proven(framework, feed, tmp_path)
    assert errors(images, rows, feed).max() <= judge.MOST


def test_tensorflows_defaults_are_other_pixels(listing, tmp_path):
    feed = Feed(listing, WAYS["torchvision"], 8, 1, preset="default")
    images, rows, _ = proven("tensorflow", feed, tmp_path)
    assert errors(images, rows, feed).max() > 10


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_default_that_is_right_is_the_same_loader(framework, listing, tmp_path):
    both = [Feed(listing, WAYS["torchvision"], 8, 1, preset=preset) for preset in ("equal", "default")]
    (first, *_), (second, *_) = (proven(framework, feed, tmp_path) for feed in both)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_epochs_differ_in_order_and_each_has_all_pictures(framework, listing):
    feed = Feed(listing, WAYS["torchvision"], 8, 1)
    made = loaders_of(framework).loader(feed)
    made.start()
    epochs = [[int(row) for _ in range(3) for row in made.arrays(made.next())[2]] for _ in range(3)]
    made.stop()
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_of_a_loader_runs_after_its_stop_and_it_starts_again(framework, listing):
    made = loaders_of(framework).loader(Feed(listing, WAYS["torchvision"], 4, 2))
    for _ in range(2):
        made.start()
        made.next()
        made.stop()
        assert not multiprocessing.active_children()
        assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1


def test_batches_ahead_are_bounded_by_the_prefetch(listing, monkeypatch):
    from impls import jax_loader

    asked: list[Path] = []
    monkeypatch.setattr(jax_loader.pictures, "crop", lambda path, how: (asked.append(path), crop(path, how))[1])
    feed = Feed(listing, WAYS["torchvision"], 4, 1)
    made = jax_loader.Loader(feed)
    made.start()
    for _ in range(3):
        made.next()
    time.sleep(0.3)
    made.stop()
    assert 3 * feed.batch <= len(asked) <= (3 + feed.prefetch + 1) * feed.batch


def test_lead_covers_what_was_ready_or_under_way(listing):
    assert [Feed(listing, WAYS["plain"], 4, workers).lead for workers in (0, 1, 2)] == [1, 3, 6]
    assert loaders.PREFETCH == 2


@pytest.mark.parametrize("shape", [(375, 500), (90, 260), (67, 67), (1, 300)])
def test_the_crop_of_a_loader_is_the_middle_of_the_square(shape, tmp_path):
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for way in WAYS.values():
        whole = central(square(pixels, way), way.size)
        assert np.abs(crop(tmp_path / "a.png", way).astype(int) - whole).max() <= 1


def test_a_framework_without_a_loader_says_so(listing):
    from bench.worker import loaders as worker_loaders

    none = {"null": dataclasses.replace(worker_loaders.FRAMEWORKS["null"], loader="")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_loaders, "FRAMEWORKS", none)
        with pytest.raises(worker_loaders.NoLoader, match="null has no loader"):
            Loaders("null").loader(Feed(listing, WAYS["plain"], 4, 0))


def test_a_tmpdir_too_long_for_sockets_is_a_refusal_and_no_endless_wait(listing, tmp_path, monkeypatch):
    configured("torch")
    (folder := tmp_path / ("x" * 60)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    feed = Feed(listing, WAYS["plain"], 8, 2)
    with pytest.raises(ValueError, match="expected a TMPDIR of at most 75 characters for the sockets of DataLoader's"):
        Loaders("torch").prove(ProveLoader(feed, str(tmp_path / "images.npy")))
    assert len(proven("torch", dataclasses.replace(feed, workers=0), tmp_path)[1]) == COUNT
