"""Training steps of each adapter against the reference: batches, modes, presets, rates, weights set back."""

import numpy as np
import pytest
from nets import PEERS, configured
from training import LIMITS, NET, WITH_BN, failed

from bench.controller import parity
from bench.worker.main import Worker
from bench.worker.messages import BuildNet, Verify
from bench.worker.replies import Output
from impls import FRAMEWORKS
from impls.net import Build, Sgd
from impls.variants import VARIANTS

pytestmark = pytest.mark.process

MODES = [
    (framework, mode)
    for framework in PEERS
    for mode in FRAMEWORKS[framework].modes
    if mode in ("eager", "graph", "xla", "jit")
]
WANTED = ["label", "restart", "train_step", "trained"]


@pytest.fixture(scope="module", autouse=True)
def variants():
    with pytest.MonkeyPatch.context() as patch:
        for variant in (NET, WITH_BN):
            patch.setitem(VARIANTS, variant.name, variant)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(variant, batch):
        if (variant.name, batch) not in made:
            path = made[variant.name, batch] = tmp_path_factory.mktemp(f"{variant.name}{batch}")
            assert parity.prepare(variant, path, batch=batch, whole=True, labeled=True).tie_free
        return made[variant.name, batch]

    return folder


@pytest.fixture
def built(folders):
    def built(framework, variant, batch=2, mode=None, **changes):
        record = FRAMEWORKS[framework]
        worker = Worker(framework)
        worker.adapter = configured(framework)
        how = Build(batch, "cpu", "fp32", mode or record.modes[0], record.layouts[0], **changes)
        if framework == "jax" and how.preset == "default":
            pytest.importorskip("optax")
        worker.build(BuildNet(variant.name, None, str(folders(variant, batch)), how, wanted=WANTED))
        return worker

    return built


def run(net, count=1):
    for _ in range(count):
        handles = net.train_step()
        net.wait(handles)
    return handles


def flat(gradients):
    return {(layer, name): np.array(array) for layer, arrays in gradients.items() for name, array in arrays.items()}


def proven():
    """Every mode, preset and batch, with BatchNorm and without; a quick test has each of these once at least."""
    for framework, mode in MODES:
        for preset in ("equal", "default"):
            for variant in (NET, WITH_BN):
                for batch in (1, 2, 7):
                    quick = batch == 2 if preset == "default" else mode != "xla" or variant is WITH_BN
                    name = f"{framework}-{mode}-{preset}-{variant.name}-{batch}"
                    marks = () if quick else pytest.mark.slow
                    yield pytest.param(framework, mode, preset, variant, batch, id=name, marks=marks)


@pytest.mark.parametrize(("framework", "mode", "preset", "variant", "batch"), list(proven()))
def test_step_is_proven_at_every_batch(built, framework, mode, preset, variant, batch):
    worker = built(framework, variant, batch, mode, preset=preset)
    verified = worker.verify(Verify([Output.LOGITS, Output.TRAINED, Output.GRADIENTS], True, "reference"))
    assert [(check.what, check.error) for check in failed(verified.checks)] == []
    assert {check.kind for check in verified.checks} >= {"change", "velocity", "loss"} < LIMITS.keys()


@pytest.mark.parametrize("preset", ["equal", "default"])
@pytest.mark.parametrize("framework", PEERS)
def test_restart_sets_parameters_statistics_and_velocity_back(built, framework, preset):
    net = built(framework, WITH_BN, preset=preset).net

    def logits():
        handles = net.forward()
        net.wait(handles)
        return net.logits(handles)

    net.restart(Sgd(0.1))
    before, state = [logits(), logits()], flat(net.state())
    first = net.trained(run(net))
    kept = [flat(first.parameters), flat(first.velocity)]
    kept = [{key: array.copy() for key, array in each.items()} for each in kept]
    run(net, 3)
    assert all(np.abs(now - then).max() > 1e-3 for now, then in zip([logits(), logits()], before, strict=True))
    net.restart(Sgd(0.1))
    assert [np.array_equal(logits(), then) for then in before] == [True, True]
    assert all(np.array_equal(value, state[key]) for key, value in flat(net.state()).items())
    run(net, 2)  # now the next batch is that of the first step
    net.restart(Sgd(0.1))
    again = net.trained(run(net))
    for values, then in zip((again.parameters, again.velocity), kept, strict=True):
        for key, array in flat(values).items():
            np.testing.assert_allclose(array, then[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("preset", ["equal", "default"])
@pytest.mark.parametrize("framework", PEERS)
def test_restart_goes_on_from_a_velocity(built, framework, preset):
    net = built(framework, NET, preset=preset).net
    net.restart(Sgd(0.01))
    velocity = net.trained(run(net)).velocity
    velocity = {layer: {name: np.array(array) for name, array in its.items()} for layer, its in velocity.items()}
    run(net)  # the next batch is that of the first step
    net.restart(Sgd(0.01), velocity)
    again = flat(net.trained(run(net)).velocity)
    for key, array in flat(velocity).items():  # the same gradients, and what was left of the velocity
        np.testing.assert_allclose(again[key], 1.9 * array, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("framework", PEERS)
def test_frozen_layers_stay_and_the_others_step_as_before(built, framework):
    free = built(framework, WITH_BN).net
    free.restart(Sgd(0.1))
    moved = flat(free.trained(run(free)).parameters)
    net = built(framework, WITH_BN, frozen=("conv1", "bn1")).net
    net.restart(Sgd(0.1))
    before = flat(net.state())
    trained = net.trained(run(net))
    assert {layer for layer, _ in flat(trained.velocity)} == {"fc2", "fc3"}
    assert all(np.array_equal(value, before[key]) for key, value in flat(net.state()).items())
    assert before.keys() == {("bn1", "moving_mean"), ("bn1", "moving_variance")}
    assert not np.array_equal(flat(trained.parameters)["fc3", "bias"], free.weights["fc3"]["bias"])
    net.forward_backward()
    only_last = built(framework, NET, frozen=("conv1",)).net
    only_last.restart(Sgd(0.1))
    other = built(framework, NET).net
    other.restart(Sgd(0.1))
    stepped, wanted = (flat(each.trained(run(each)).parameters) for each in (only_last, other))
    assert stepped.keys() == {key for key in wanted if key[0] != "conv1"} < moved.keys() | wanted.keys()
    for key, array in stepped.items():
        np.testing.assert_allclose(array, wanted[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("framework", PEERS)
def test_other_rates_trace_nothing_and_are_those_of_the_step(built, framework):
    net = built(framework, NET).net
    net.restart(Sgd(0.1))
    run(net, 2)
    traced = net.traces()
    assert traced.get("train_step", 1) == 1
    lengths = []
    for sgd in (Sgd(0.1), Sgd(0.05), Sgd(0.1, decay=0.5), Sgd(0.1, momentum=0.1)):
        net.restart(sgd)
        lengths.append(
            [float(np.linalg.norm(net.trained(run(net, count)).velocity["fc3"]["kernel"])) for count in (1, 1)]
        )
    assert net.traces() == traced
    (first, second), half, decayed, slow = lengths
    assert half[0] == pytest.approx(first / 2, rel=1e-4)
    assert abs(decayed[0] / first - 1) > 0.01
    assert slow[0] == pytest.approx(first, rel=1e-4)
    assert abs(slow[1] / second - 1) > 0.01


@pytest.mark.parametrize("preset", ["equal", "default"])
@pytest.mark.parametrize("framework", PEERS)
def test_fetch_copies_the_first_velocity(built, framework, preset):
    net = built(framework, NET, preset=preset).net
    net.restart(Sgd(0.1))
    for _ in range(3):
        handles = run(net)
        arrays = next(iter(net.trained(handles).velocity.values()))
        assert net.fetch(handles) == pytest.approx(float(next(iter(arrays.values())).flat[0]), rel=1e-5)


def test_presets_differ_in_the_optimizer(built):
    def optimizers(preset):
        nets = [built(framework, NET, preset=preset).net for framework in PEERS]
        for net in nets:
            net.restart(Sgd(0.1))
            run(net)
        torch, tensorflow, jax = nets
        return torch.optimizer.defaults["fused"], tensorflow.optimizer is not None, jax.optimizer is not None

    assert (optimizers("equal"), optimizers("default")) == ((True, False, False), (None, True, True))
