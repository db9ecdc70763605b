"""The proof of a loader: what it delivers is held to the pictures, and a loader that cheats is refused by name."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench.cases.case import Case
from bench.controller.gate import Disagrees
from bench.controller.source import Source, epoch_fault
from bench.pictures import judge
from bench.record import events
from bench.record.events import Place
from bench.worker.loaders import Loaders
from impls import null_loader
from impls.loader import Batch
from impls.preprocessing import PREPROCESSINGS

CASE = Case("half_width", "null", "noop", "cpu", "fp32", "nhwc", 2, "load", size=67, loader=0)
RNG = np.random.Generator(np.random.PCG64(3))


@pytest.fixture
def source(tmp_path) -> Source:
    paths = []
    for number in range(40):
        small = Image.fromarray(RNG.integers(0, 256, (9, 11, 3), np.uint8))
        paths.append(str(tmp_path / f"{number:02}.png"))
        small.resize((160, 120), Image.Resampling.BICUBIC).save(paths[-1])
    facts = events.Pictures("f", "0", 40, 4, {}, PREPROCESSINGS["caffe"], 160, 120, 1000)
    return Source(tuple(paths), tuple(number % 4 for number in range(40)), facts, tmp_path)


def prove(source, loader=null_loader.Loader, case=CASE):
    """The proof with this class of loader, in this process."""
    made = Loaders("null")
    made.loader = lambda feed: made.loaders.setdefault(feed, loader(feed))
    process = SimpleNamespace(ask=lambda request: made.prove(request))
    return source.prove(SimpleNamespace(process=process), case, Place(0, 0, 0))


def changed(**how):
    """A loader whose batches are changed: ``images``, ``labels`` and ``rows`` are functions of an array."""

    class Changed(null_loader.Loader):
        def next(self):
            batch = super().next()
            return Batch(*(how.get(name, lambda array: array)(getattr(batch, name)) for name in Batch._fields))

    return Changed


def test_batches_are_page_locked_where_that_speeds_their_copy(source):
    """Neither where there is none, nor where the device shares the host's memory."""
    cases = [dataclasses.replace(CASE, device=device) for device in ("cpu", "cuda:1", "mps", "xpu")]
    assert [source.feed(case).pinned for case in cases] == [False, True, False, True]


def test_an_honest_loader_is_off_by_rounding_alone(source):
    proof = prove(source)
    assert (proof.case_id, proof.pictures) == (CASE.id, 32)
    assert 0.3 < proof.error <= judge.MOST
    assert 0 < proof.mean_error < 0.5
    assert Path(source.paths[0]).with_name(proof.picture.rpartition("/")[2]).exists()


def test_the_pictures_of_the_proof_are_spread_over_all(source):
    assert source.proven == [number * 40 // 32 for number in range(32)]
    few = dataclasses.replace(source, paths=source.paths[:3], labels=source.labels[:3])
    assert few.proven == [0, 1, 2]
    assert prove(few).pictures == 3


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"images": lambda x: x[..., ::-1]}, r"its loader is off by up to \d+ of 255 from float64, in .*; expected at"),
        ({"images": lambda x: x + np.float32(1.5)}, "its loader is off by up to 2"),
        ({"images": lambda x: x[:, ::-1]}, "its loader is off by up to"),
        ({"images": lambda x: np.full_like(x, np.nan)}, "its loader is off by up to nan"),
        ({"images": lambda x: np.roll(x, 1, axis=0)}, "its loader is off by up to"),
        ({"labels": lambda x: np.roll(x, 1)}, r"its loader delivered \d+ of 32 pictures with another label"),
        ({"rows": lambda x: x // 2 * 2}, "its loader delivered 16 of 32 pictures in an epoch, without"),
    ],
    ids=["bgr", "mean", "upside_down", "nan", "shifted", "labels", "twice"],
)
def test_a_loader_of_other_pictures_is_refused(source, how, why):
    with pytest.raises(Disagrees, match=why):
        prove(source, changed(**how))


def test_a_resize_without_a_filter_is_refused_and_with_the_default_preset_shown(source, monkeypatch):

    def sampled(image, side, box):
        return np.array(image.resize((side, side), Image.Resampling.NEAREST, box=box))

    monkeypatch.setattr("impls.pictures._resized", sampled)
    with pytest.raises(Disagrees, match="its loader is off by up to"):
        prove(source)
    assert prove(source, case=dataclasses.replace(CASE, preset="default")).error > 10


def test_an_epoch_is_every_picture_once_with_its_label():
    assert epoch_fault([1, 0, 2], [5, 4, 6], [4, 5, 6]) == ""
    assert epoch_fault([1, 0, 1], [5, 4, 5], [4, 5, 6]).endswith("delivered 2 of 3 pictures in an epoch, without [2]")
    assert epoch_fault([1, 0, 2], [5, 4, 9], [4, 5, 6]).endswith("delivered 1 of 3 pictures with another label")
