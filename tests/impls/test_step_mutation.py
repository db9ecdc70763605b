"""Training steps against planted faults: the update or the loss of an adapter is bent, and a certain check must see it.

Updates are in the form of the paper: the velocity holds the learning rate, and is the change of the parameter.
"""

import dataclasses
import functools

import numpy as np
import pytest
from nets import PEERS, configured, how
from training import CLASSES, LIMITS, NET, WITH_BN, failed

from bench.controller import parity
from bench.worker.main import Worker
from bench.worker.messages import BuildNet, Measure, Verify
from bench.worker.replies import Output
from impls.variants import VARIANTS
from impls.weights import initial

pytestmark = pytest.mark.process


def correct(w, v, g, lr, momentum, decay, first):
    v = momentum * v - lr * (g + decay * w)
    return w + v, v


def nesterov(w, v, g, lr, momentum, decay, first):
    _, v = correct(w, v, g, lr, momentum, decay, first)
    return w + momentum * v - lr * (g + decay * w), v


def dampening(w, v, g, lr, momentum, decay, first):
    v = momentum * v - (1 - 0.9 * (1 - first)) * lr * (g + decay * w)
    return w + v, v


def no_decay(w, v, g, lr, momentum, decay, first):
    return correct(w, v, g, lr, momentum, 0 * decay, first)


def decoupled_decay(w, v, g, lr, momentum, decay, first):
    moved, v = correct(w, v, g, lr, momentum, 0 * decay, first)
    return moved - lr * decay * w, v


def no_decay_of_biases(w, v, g, lr, momentum, decay, first):
    return correct(w, v, g, lr, momentum, decay * (len(w.shape) > 1), first)


def decay_after_sgd(w, v, g, lr, momentum, decay, first):
    moved, v = correct(w, v, g, lr, momentum, 0 * decay, first)
    return moved + decay * w, v


def ema(w, v, g, lr, momentum, decay, first):
    return correct(w, v, (1 - momentum) * g, lr, momentum, (1 - momentum) * decay, first)


def rate_twice(w, v, g, lr, momentum, decay, first):
    v = momentum * v - lr * lr * (g + decay * w)
    return w + v, v


def last_layer_left_out(w, v, g, *rest):
    return (w, v) if CLASSES in tuple(w.shape) else correct(w, v, g, *rest)


def old_velocity(w, v, g, *rest):
    _, new = correct(w, v, g, *rest)
    return w + v, new


def momentum_of_one_step(w, v, g, lr, momentum, decay, first):
    return correct(w, 0 * v, g, lr, momentum, decay, first)


#: Each with the kinds of checks, of change and velocity, that must fail.
UPDATES = {
    nesterov: {"change"},
    dampening: {"velocity"},
    no_decay: {"change", "velocity"},
    decoupled_decay: {"velocity"},
    no_decay_of_biases: {"change", "velocity"},
    decay_after_sgd: {"change", "velocity"},
    ema: {"change", "velocity"},
    rate_twice: {"change", "velocity"},
    last_layer_left_out: {"change", "velocity"},
    old_velocity: {"change"},
    momentum_of_one_step: {"velocity"},
}


def plant_update(framework, adapter, patch, update):
    """Have the adapter's Net update every parameter by ``update``, whose ``first`` is 1 in the first step, else 0."""
    if framework == "torch":
        import torch

        class Bent(torch.optim.SGD):
            @torch.no_grad()
            def step(self):
                (group,) = self.param_groups
                lr, momentum, decay = (group[name] for name in ("lr", "momentum", "weight_decay"))
                for w in group["params"]:
                    buffer = self.state[w]["momentum_buffer"]
                    first = float(not buffer.any())
                    moved, v = update(w.detach(), -lr * buffer, w.grad, lr, momentum, decay, first)
                    w.copy_(moved)
                    buffer.copy_(v / -lr)

        patch.setattr(torch.optim, "SGD", Bent)
    elif framework == "tensorflow":
        import tensorflow as tf

        def bent(weight, velocity, gradient, rates):
            first = tf.cast(tf.reduce_all(tf.equal(velocity, 0)), tf.float32)
            moved, v = update(tf.identity(weight), tf.identity(velocity), gradient, *rates, first)
            with tf.control_dependencies([moved, v]):
                weight.assign(moved)
                velocity.assign(v)

        patch.setattr(adapter, "update", bent)
    else:
        import jax
        import jax.numpy as jnp

        @functools.cache
        def optimizer(sgd):
            def step(parameters, velocity, gradients):
                def bent(w, v, g):
                    rates = (jnp.float32(rate) for rate in (sgd.lr, sgd.momentum, sgd.decay))
                    return update(w, v, g, *rates, jnp.all(v == 0).astype(jnp.float32))

                done = jax.tree.map(bent, parameters, velocity, gradients)
                return tuple(
                    jax.tree.map(lambda pair, i=i: pair[i], done, is_leaf=lambda x: isinstance(x, tuple))
                    for i in (0, 1)
                )

            return step

        patch.setattr(adapter.Net, "optimizer", property(lambda net: optimizer(net.sgd)))


def class_zero(framework, adapter, patch):
    label = adapter.Net.label
    patch.setattr(adapter.Net, "label", lambda net, labels: label(net, [np.zeros_like(each) for each in labels]))


def labels_of_the_other_batch(framework, adapter, patch):
    label = adapter.Net.label
    patch.setattr(adapter.Net, "label", lambda net, labels: label(net, labels[::-1]))


def same_batch_always(framework, adapter, patch):
    patch.setattr(adapter.Net, "next_batch", lambda net: net.batches[0])


def sum_of_the_batch(framework, adapter, patch):
    if framework == "torch":
        patch.setattr(adapter.F, "cross_entropy", functools.partial(adapter.F.cross_entropy, reduction="sum"))
    elif framework == "tensorflow":
        name = "sparse_softmax_cross_entropy_with_logits"
        entropy = getattr(adapter.tf.nn, name)
        patch.setattr(adapter.tf.nn, name, lambda labels, logits: labels.shape[0] * entropy(labels, logits))
    else:
        log_softmax = adapter.jax.nn.log_softmax
        patch.setattr(adapter.jax.nn, "log_softmax", lambda y: len(y) * log_softmax(y))


def loss_of_the_step_before(framework, adapter, patch):
    train_step, trained = adapter.Net.train_step, adapter.Net.trained
    losses = []

    def late(net):
        handles = train_step(net)
        losses.append(trained(net, handles).loss)
        return handles

    patch.setattr(adapter.Net, "train_step", late)
    patch.setattr(adapter.Net, "trained", lambda net, handles: trained(net, handles)._replace(loss=losses[-2:][0] + 1))


def moving_velocity_kept(framework, adapter, patch):
    """Of a restart only the first is done."""
    restart = adapter.Net.restart

    def once(net, sgd):
        if not hasattr(net, "began"):
            net.began = True
            restart(net, sgd)

    patch.setattr(adapter.Net, "restart", once)


OTHERS = {
    class_zero: {"change", "velocity", "loss"},
    labels_of_the_other_batch: {"change", "velocity", "loss"},
    same_batch_always: {"velocity"},
    sum_of_the_batch: {"change", "velocity", "loss"},
    loss_of_the_step_before: {"loss"},
    moving_velocity_kept: {"change", "velocity"},
}


@pytest.fixture(scope="module", params=[NET, pytest.param(WITH_BN, marks=pytest.mark.slow)], ids=["plain", "BatchNorm"])
def variant(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, request.param.name, request.param)
        yield request.param


@pytest.fixture(scope="module")
def folder(variant, tmp_path_factory):
    folder = tmp_path_factory.mktemp(variant.name)
    assert parity.prepare(variant, folder, batch=2, weights=initial(variant), labeled=True).tie_free
    return folder


def built(framework, variant, folder, preset="equal"):
    worker = Worker(framework)
    worker.adapter = configured(framework)
    asked = dataclasses.replace(how(framework), preset=preset)
    worker.build(BuildNet(variant.name, None, str(folder), asked, wanted=["label", "restart", "train_step"]))
    return worker


def kinds(worker):
    """Kinds of the checks of a training step that fail, of those that compare values of a step."""
    checks = worker.verify(Verify([Output.TRAINED], thorough=False, target="reference")).checks
    report(checks)
    return {str(check.kind) for check in failed(checks)} & {"change", "velocity", "loss"}


def report(checks):
    """The worst error of each kind, which pytest shows of a test that fails."""
    worst = {}
    for check in checks:
        if check.error is not None:
            worst[check.kind] = max(worst.get(check.kind, 0.0), check.error)
    print({str(kind): f"{error:.1e} ({error / LIMITS.get(kind, 1):.2g} of the limit)" for kind, error in worst.items()})


def test_planted_update_without_a_fault_passes(framework, variant, folder, monkeypatch):
    plant_update(framework, configured(framework), monkeypatch, correct)
    assert kinds(built(framework, variant, folder)) == set()


#: The check is the same for all: it compares arrays that an adapter gave.
FRAMEWORKS = ["torch", *(pytest.param(name, marks=pytest.mark.slow) for name in PEERS if name != "torch")]


@pytest.mark.parametrize("framework", FRAMEWORKS, indirect=True)
@pytest.mark.parametrize("update", UPDATES)
def test_fault_of_an_update_is_found_by_the_check_for_it(framework, variant, folder, monkeypatch, update):
    plant_update(framework, configured(framework), monkeypatch, update)
    found = kinds(built(framework, variant, folder))
    assert found - {"loss"} == UPDATES[update]  # a wrong step may be nearer to the other batch


@pytest.mark.parametrize("plant", OTHERS)
def test_fault_of_loss_labels_or_batches_is_found_by_the_check_for_it(framework, variant, folder, monkeypatch, plant):
    plant(framework, configured(framework), monkeypatch)
    found = kinds(built(framework, variant, folder))
    if plant is moving_velocity_kept:  # its second proof begins at moved weights, whose loss may be near
        found -= {"loss"}
    assert found == OTHERS[plant]


def test_step_that_ends_after_those_of_the_proof_is_found_in_what_is_timed(framework, variant, folder, monkeypatch):
    adapter = configured(framework)
    restart, train_step = adapter.Net.restart, adapter.Net.train_step
    last = []
    monkeypatch.setattr(adapter.Net, "restart", lambda net, sgd: last.clear() or restart(net, sgd))

    def idle(net):
        if len(last) < 3:
            last.append(train_step(net))
        return last[-1]

    timed = Measure("train_step", 6, reads=[2, 5], output=Output.TRAINED)
    for step in (train_step, idle):
        monkeypatch.setattr(adapter.Net, "train_step", step)
        worker = built(framework, variant, folder)
        assert kinds(worker) == set()
        readings = worker.measure(timed).readings
        found = [{str(check.kind) for check in failed(reading.checks)} for reading in readings]
        assert found == [set(), {"velocity"} if step is idle else set()]
        assert not any(reading.fault for reading in readings)
