"""Training on stored pictures: each step is the reference's, and the logits of a short batch are those of its rows."""

import numpy as np
import pytest
from arrays import flat
from nets import configured
from training import NET, WITH_BN

from bench.pictures import flowers, folder, preparer
from bench.worker import pixels
from bench.worker.messages import StartTraining
from bench.worker.trainer import Trainer
from impls import reference
from impls.net import Build, Sgd
from impls.preprocessing import PREPROCESSINGS, augmented, color_shift
from impls.weights import initial, map_shared, shapes

pytestmark = pytest.mark.process
SGD, BATCH = Sgd(0.01), 4
PLAIN = PREPROCESSINGS["plain"].at(NET.input_size)
MODES = {"torch": ("eager", "nchw"), "tensorflow": ("graph", "nhwc"), "jax": ("jit", "nhwc")}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    flowers.draw(path / "drawn", per_class=6)
    preparer.store(folder.read(path / "drawn"), PLAIN, path / "stored")
    return path / "stored"


COLORS = [[30.0, 20.0, 10.0], [-5.0, 6.0, 7.0], [1.0, -2.0, 3.0]]


def trainer(framework, variant, stored, batch=BATCH, start=None, velocity=None, preprocessing=PLAIN, colors=()):
    how = Build(batch, "cpu", "fp32", *MODES[framework])
    net = configured(framework).build(variant, start or initial(variant), how)
    velocity = velocity and str(velocity)
    request = StartTraining(str(stored), preprocessing, SGD, 3, velocity, list(colors))
    return Trainer(net, variant, batch, request)


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_steps_are_those_of_the_reference_on_the_crops_of_the_epoch(framework, stored, tmp_path):
    variant, pictures = NET, pixels.map_stored(stored)
    rows = np.flatnonzero(~pictures.held_out)[: 2 * BATCH].tolist()
    found = trainer(framework, variant, stored)
    losses = found.train(rows, epoch=2)
    found.save(tmp_path / "weights", tmp_path / "velocity")
    weights = {layer: {n: a.astype(np.float64) for n, a in its.items()} for layer, its in initial(variant).items()}
    velocity = {layer: {name: np.zeros_like(a) for name, a in its.items()} for layer, its in weights.items()}
    wanted = []
    for batch in (rows[:BATCH], rows[BATCH:]):
        crops = [augmented(pictures.pictures[row], variant.input_size, 3, 2, row) for row in batch]
        trace = reference.forward(variant, weights, PLAIN.normalized(np.stack(crops)).astype(np.float64), training=True)
        loss, start = reference.cross_entropy(trace.logits, pictures.labels[batch])
        gradients = reference.gradients(variant, weights, trace, None, start)
        wanted.append(loss)
        for layer, its in weights.items():
            for name in its:
                its[name], velocity[layer][name] = reference.update(
                    its[name], velocity[layer][name], gradients[layer][name], SGD
                )
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    saved = map_shared(tmp_path / "weights")
    assert {layer: {name: a.shape for name, a in its.items()} for layer, its in saved.items()} == shapes(variant)
    for key, array in flat(velocity, ".").items():
        close = np.linalg.norm(flat(map_shared(tmp_path / "velocity"), ".")[key] - array) / np.linalg.norm(array)
        assert close < 1e-3, key  # a flipped ReLU of the second step is allowed


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_what_is_saved_goes_on_as_if_nothing_had_been(framework, stored, tmp_path):
    rows = np.flatnonzero(~pixels.map_stored(stored).held_out)[: 2 * BATCH].tolist()
    whole = trainer(framework, WITH_BN, stored)
    wanted = [whole.train(rows, epoch) for epoch in (1, 2)][-1]
    first = trainer(framework, WITH_BN, stored)
    first.train(rows, epoch=1)
    first.save(tmp_path / "weights", tmp_path / "velocity")
    again = trainer(framework, WITH_BN, stored, start=map_shared(tmp_path / "weights"), velocity=tmp_path / "velocity")
    np.testing.assert_allclose(again.train(rows, epoch=2), wanted, rtol=1e-5)
    fresh = trainer(framework, WITH_BN, stored, start=map_shared(tmp_path / "weights"))
    assert abs(fresh.train(rows, epoch=2)[1] / wanted[1] - 1) > 1e-4  # without the velocity it is another training


@pytest.mark.parametrize("name", ["plain", "caffe", "2012"])
def test_every_framework_is_given_the_same_bits_and_colors_change_them(name, stored):
    record, rows = PREPROCESSINGS[name].at(NET.input_size), [9, 0, 5, 2]
    crops = np.stack([augmented(pixels.map_stored(stored).pictures[row], NET.input_size, 3, 2, row) for row in rows])
    wanted = record.normalized(crops)
    if record.color_noise:
        shifts = np.stack([color_shift(np.array(COLORS), 0.1, 3, 2, row) for row in rows])
        assert np.abs(shifts).max() > 1
        wanted = wanted + shifts[:, None, None]  # 2012 divides by 1
    for framework in MODES:
        found = trainer(framework, NET, stored, preprocessing=record, colors=COLORS if record.color_noise else ())
        found.train(rows, epoch=2)
        (images,) = map(np.asarray, found.net.batches)
        given = images.transpose(0, 2, 3, 1) if framework == "torch" else images.reshape(wanted.shape)
        assert given.dtype == np.float32
        assert np.abs(given - wanted).max() < 1e-4, framework
        same = record.normalized(crops, shifts if record.color_noise else None)
        assert np.array_equal(given, same), framework


def test_training_ends_at_the_first_loss_that_is_not_finite(stored):
    found = trainer("torch", NET, stored)
    found.net.restart(Sgd(1e9))
    losses = found.train(list(range(4 * BATCH)), epoch=1)
    assert losses[-1] is None
    assert len(losses) < 4


def test_moving_statistics_are_saved_with_the_parameters(stored, tmp_path):
    found = trainer("torch", WITH_BN, stored)
    found.train(list(range(BATCH)), epoch=1)
    found.save(tmp_path / "weights", tmp_path / "velocity")
    saved = map_shared(tmp_path / "weights")
    assert saved["bn1"].keys() == {"gamma", "beta", "moving_mean", "moving_variance"}
    assert not np.array_equal(saved["bn1"]["moving_mean"], initial(WITH_BN)["bn1"]["moving_mean"])
