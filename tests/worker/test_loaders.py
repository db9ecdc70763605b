"""Turns of a loader in a Worker: what is a sample, and that nothing of them is left."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from bench.cases.passes import methods_called
from bench.controller import parity
from bench.worker.main import Worker
from bench.worker.messages import BuildNet, MeasureLoader
from impls import null_alexnet, variants
from impls.loader import Feed
from impls.net import Build
from impls.preprocessing import PREPROCESSINGS

NET = variants.VARIANTS["half_width"].resized(67)


@pytest.fixture
def feed(tmp_path) -> Feed:
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    for number, path in enumerate(paths):
        Image.new("RGB", (80, 70), (40 * number, 0, 0)).save(path)
    (tmp_path / "listing.json").write_text(json.dumps({"paths": paths, "labels": [0, 1, 2, 3, 4, 0]}))
    return Feed(str(tmp_path / "listing.json"), PREPROCESSINGS["plain"].at(67), 2, 1)


@pytest.fixture
def worker(tmp_path) -> Worker:
    parity.prepare(NET, tmp_path, batch=2, labeled=True)
    made = Worker("null")
    made.adapter = null_alexnet
    wanted = methods_called(["fed"], proven=True)
    made.build(BuildNet("half_width", 67, str(tmp_path), Build(2, "cpu", "fp32", "noop", "nhwc"), wanted=wanted))
    return made


def test_samples_follow_the_batches_that_were_ready_when_the_first_came(worker, feed):
    measured = worker.measure_loader(MeasureLoader(feed, 4))
    assert measured.lead == feed.lead == 3
    assert len(measured.ns) == len(measured.start_ns) == 7
    assert measured.start_ns == sorted(measured.start_ns)
    assert 0 < measured.first_batch_ns <= measured.aside_ns
    assert 0 <= measured.sample_cpu_s <= measured.cpu_s
    assert measured.finite


def test_a_fed_step_takes_the_loaders_batch_and_resident_ones_are_back_afterwards(worker, feed, monkeypatch):
    resident, fed = [np.array(batch) for batch in worker.net.batches], []
    own = worker.net.feed
    monkeypatch.setattr(worker.net, "feed", lambda images, labels: (fed.append(images), own(images, labels)))
    worker.measure_loader(MeasureLoader(feed, 2, fed=True))
    assert len(fed) == feed.lead + 2
    assert fed[0].shape == (2, 67, 67, 3)
    assert all(np.array_equal(one, other) for one, other in zip(worker.net.batches, resident, strict=True))


def test_a_velocity_that_is_not_finite_is_told(worker, feed, monkeypatch):
    monkeypatch.setattr(worker.net, "fetch", lambda handles: math.nan)
    assert not worker.measure_loader(MeasureLoader(feed, 2, fed=True)).finite


def test_a_loader_that_fails_is_stopped(worker, feed, monkeypatch):
    loader = worker.loaders.loader(feed)
    stopped = []
    monkeypatch.setattr(loader, "stop", lambda: stopped.append(True))
    monkeypatch.setattr(loader, "next", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        worker.measure_loader(MeasureLoader(feed, 2))
    assert stopped == [True]
