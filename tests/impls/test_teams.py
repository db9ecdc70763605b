"""Nets on two ranks, each a process with a thread and images of its own, against float64 of the global batch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_program import Script, named
from ranks import Saved, run_ranks

import impls
from bench.controller import parity
from bench.worker.checks import flat
from impls import reference
from impls.layers import BatchNorm
from impls.net import Build, Sgd, pattern, refuse_for_team
from impls.reference import relative_l2
from impls.variants import Variant, variant_named
from impls.weights import Weights, initial

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

WORLD, BATCH, LR = 2, 2, 0.001
#: Every call twice at least, in an order where one that left something behind would show in the next.
CALLS = """fill forward forward_backward apart state all_reduce all_reduce forward forward_backward fill all_reduce
    state
    restart forward train_step train_step state forward all_reduce restart state forward_backward apart
    facts""".split()
PASSES = ("forward", "forward_backward", "apart", "train_step")  # each takes the next of two batches, the second first
#: Of one process, in turn: variant, size and what else is built.
NETS: tuple[tuple[str, int | None, dict[str, str]], ...] = (
    ("small_bn", None, {}),
    ("half_width", 67, {}),
    ("small_bn", None, {"preset": "default"}),
    ("small", None, {"precision": "bf16"}),
)
TEAMS = [
    ("torch", "eager"),
    ("tensorflow", "graph"),
    pytest.param("tensorflow", "xla", marks=pytest.mark.slow),
    ("jax", "jit"),
]


def draws(variant: Variant, weights: Weights) -> np.ndarray:
    """Tie-free batches of every rank, (WORLD, 2, BATCH, h, w, c)."""
    found: list[np.ndarray] = []
    for draw in range(500):
        images = parity.images(variant, 0, draw, BATCH)
        if reference.clear_of_ties(variant, weights, images, parity.TIE):
            found.append(images)
        if len(found) == 2 * WORLD:
            return np.stack(found).reshape(WORLD, 2, *images.shape)
    raise AssertionError("no draws are clear of ties")


class Expected:
    """Float64 values of every call of a script, in turn, on one net of a Team: those of each rank."""

    def __init__(self, variant: Variant, images: np.ndarray, labels: np.ndarray):
        self.variant, self.images, self.labels = variant, images, labels
        self.passes = 0
        self.restart()

    def restart(self) -> list[dict[str, Any]]:
        self.weights = [reference.float64(initial(self.variant)) for _ in range(WORLD)]
        self.velocity = {key: np.zeros_like(array) for key, array in self.trainable(self.weights[0]).items()}
        return [{}] * WORLD

    def trainable(self, weights: Weights) -> dict[tuple[str, str], np.ndarray]:
        names = {placed.layer.name: placed.layer.trainable(placed.input) for placed in self.variant.placed()}
        return {(layer, name): weights[layer][name] for layer, its in names.items() for name in its}

    def differentiate(self, entropy: bool) -> tuple[list[float], list[dict[str, dict[str, np.ndarray]]]]:
        """Losses and gradients of all ranks; moves the moving statistics of each."""
        losses, gradients = [], []
        for weights, images, labels in zip(self.weights, self.images, self.labels, strict=True):
            trace = reference.forward(self.variant, weights, images[self.batch], training=True)
            loss, start = reference.cross_entropy(trace.logits, labels[self.batch])
            losses.append(loss if entropy else reference.loss(trace.logits))
            gradients.append(reference.gradients(self.variant, weights, trace, start=start if entropy else None))
            for layer in self.variant.layers:
                if isinstance(layer, BatchNorm):
                    mean, variance = trace.statistics[layer.name]
                    values = trace.inputs[self.variant.layers.index(layer)][..., 0].size
                    new = {"moving_mean": mean, "moving_variance": variance * values / (values - 1)}
                    for name, array in new.items():
                        moving = weights[layer.name]
                        moving[name] = (1 - layer.momentum) * moving[name] + layer.momentum * array
        return losses, gradients

    @property
    def batch(self) -> int:
        return self.passes % 2

    def call(self, name: str) -> list[dict[str, Any]]:
        if name in PASSES:
            self.passes += 1
        return getattr(self, name)()

    def forward(self) -> list[dict[str, Any]]:
        return [
            {"logits": reference.forward(self.variant, weights, images[self.batch]).logits}
            for weights, images in zip(self.weights, self.images, strict=True)
        ]

    def forward_backward(self) -> list[dict[str, Any]]:
        losses, gradients = self.differentiate(False)
        summed = {key: sum(flat(its)[key] for its in gradients) for key in flat(gradients[0])}
        return [{"loss": loss} | summed for loss in losses]

    def apart(self) -> list[dict[str, Any]]:
        losses, gradients = self.differentiate(False)
        return [{"loss": loss} | flat(its) for loss, its in zip(losses, gradients, strict=True)]

    def train_step(self) -> list[dict[str, Any]]:
        losses, gradients = self.differentiate(True)
        found: dict[str, Any] = {}
        for (layer, name), velocity in self.velocity.items():
            mean = sum(its[layer][name] for its in gradients) / WORLD
            weight, velocity = reference.update(self.weights[0][layer][name], velocity, mean, Sgd(LR))
            for weights in self.weights:
                weights[layer][name] = weight
            self.velocity[layer, name] = velocity
            found |= {f"parameter.{layer}.{name}": weight, f"velocity.{layer}.{name}": velocity}
        return [{"loss": loss} | found for loss in losses]

    def state(self) -> list[dict[str, Any]]:
        names = [layer.name for layer in self.variant.layers if isinstance(layer, BatchNorm)]
        return [
            {f"{layer}.{name}": its[layer][name] for layer in names for name in ("moving_mean", "moving_variance")}
            for its in self.weights
        ]

    def all_reduce(self) -> list[dict[str, Any]]:
        indices = np.arange(self.variant.params, dtype=np.uint32)
        return [{"sums": sum(pattern(rank, indices).astype(np.float64) for rank in range(WORLD))}] * WORLD

    def fill(self) -> list[dict[str, Any]]:
        return [{}] * WORLD


#: Relative L2 of a value by a word of its name.
ALLOWED = {
    precision: {"sums": 0.0, "moving_mean": limits["state"], "moving_variance": limits["state"]}
    | {"parameter": 1e-5 if precision == "fp32" else 1e-2}
    | {kind: limits[kind] for kind in ("logits", "loss", "gradient", "velocity")}
    for precision, limits in parity.LIMITS.items()
}


class Ran:
    """What the ranks of a framework's Team gave in a mode, and what they should have."""

    def __init__(self, framework: str, mode: str, folder: Path):
        self.variants = [named(name, size) for name, size, _ in NETS]
        scripts: list[list[Script]] = [[] for _ in range(WORLD)]
        self.expected: list[Expected] = []
        for number, variant in enumerate(self.variants):
            images = draws(variant, initial(variant))
            labels = np.random.Generator(np.random.PCG64(number)).integers(variant.classes, size=(WORLD, 2, BATCH))
            for rank, script in enumerate(scripts):
                file = folder / f"images.{number}.{rank}.npy"
                np.save(file, images[rank])
                name, size, how = NETS[number]
                script.append(Script(name, size, str(file), labels[rank].tolist(), CALLS, {"mode": mode} | how, LR))
            self.expected.append(Expected(variant, images, labels))
        self.saved = run_ranks(framework, scripts, folder)

    def given(self, rank: int, number: int, place: int) -> Saved:
        """By name, what this rank's call gave."""
        start = f"{number}.{place}."
        return {name.removeprefix(start): array for name, array in self.saved[rank].items() if name.startswith(start)}

    def wrong(self) -> list[str]:
        """Every value that is not float64's."""
        found = []
        for number, expected in enumerate(self.expected):
            limits = ALLOWED[NETS[number][2].get("precision", "fp32")]
            for place, call in enumerate(CALLS):
                if call == "facts":
                    continue
                for rank, wanted in enumerate(expected.call(call)):
                    given = self.given(rank, number, place)
                    assert given.keys() - {"first"} == wanted.keys(), call
                    for name, array in wanted.items():
                        off = relative_l2(given[name].reshape(np.shape(array)), array)
                        allowed = next(value for word, value in limits.items() if word in name.split("."))
                        if not off <= allowed:
                            found.append(f"net {number}, rank {rank}, call {place}, {call}: {name} is {off:.1e} off")
        return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Ran]:
    made: dict[tuple[str, str], Ran] = {}

    def ran(framework: str, mode: str) -> Ran:
        pytest.importorskip(impls.FRAMEWORKS[framework].package)
        if framework == "jax":
            pytest.importorskip("optax")
        if (framework, mode) not in made:
            made[framework, mode] = Ran(framework, mode, tmp_path_factory.mktemp(framework))
        return made[framework, mode]

    return ran


@pytest.mark.parametrize(("framework", "mode"), TEAMS)
def test_every_call_gives_float64s_values_of_the_global_batch(ran, framework, mode):
    assert ran(framework, mode).wrong() == []


@pytest.mark.parametrize(("framework", "mode"), TEAMS)
def test_what_is_summed_is_bit_equal_on_all_ranks_and_what_is_a_ranks_own_is_not(ran, framework, mode):
    it = ran(framework, mode)
    for number, variant in enumerate(it.variants):
        for place, call in enumerate(CALLS):
            first, *others = (it.given(rank, number, place) for rank in range(WORLD))
            for name, array in first.items():
                same = all(np.array_equal(array, each[name]) for each in others)
                if call in ("forward_backward", "train_step", "all_reduce"):
                    assert same == (name != "loss"), (number, place, call, name)
                elif call in ("forward", "apart"):
                    assert not same or relative_l2(array, np.zeros_like(array)) == 0, (number, place, call, name)
        assert variant.params == it.given(0, number, CALLS.index("all_reduce"))["sums"].size


@pytest.mark.parametrize(("framework", "mode"), TEAMS)
def test_a_fetched_number_is_the_first_of_what_is_computed_last(ran, framework, mode):
    it = ran(framework, mode)
    for number, variant in enumerate(it.variants):
        of = {"all_reduce": "sums", "forward": "logits", "train_step": f"velocity.{variant.layers[0].name}.kernel"}
        for place, call in enumerate(CALLS):
            for rank in range(WORLD):
                given = it.given(rank, number, place)
                if "first" in given:
                    array = given[of.get(call, f"gradient.{variant.layers[0].name}.kernel")]
                    assert float(given["first"]) == pytest.approx(float(array.flat[0]), rel=1e-6), (number, place, call)


@pytest.mark.parametrize(("framework", "mode"), TEAMS)
def test_a_ranks_facts_are_those_of_a_lone_net(ran, framework, mode):
    it = ran(framework, mode)
    for number, variant in enumerate(it.variants):
        for rank in range(WORLD):
            device, layout, traces, peak, layers = json.loads(str(it.given(rank, number, len(CALLS) - 1)["facts"]))
            assert "cpu" in device.lower()
            assert (layout, peak) == (impls.FRAMEWORKS[framework].layouts[0], None)
            assert traces == {} or traces == dict.fromkeys([*PASSES, "all_reduce"], 1)
            shapes = [
                {
                    "layer": placed.layer.name,
                    "height": (1, 1, *placed.output)[-3],
                    "width": (1, 1, *placed.output)[-2],
                    "channels": placed.output[-1],
                    "params": placed.params,
                }
                for placed in variant.placed()
            ]
            assert [{name: row[name] for name in shapes[0]} for row in layers] == shapes


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["tensorflow", "jax"])
def test_a_rank_that_is_stopped_for_20_seconds_is_waited_for(tmp_path, framework):
    """TensorFlow left to itself gives it up after 10."""
    pytest.importorskip(impls.FRAMEWORKS[framework].package)
    np.save(tmp_path / "images.npy", np.zeros((1, BATCH, 19, 19, 3), np.float32))
    script = Script("small", None, str(tmp_path / "images.npy"), [[0] * BATCH], ["all_reduce"] * 3000)
    saved = run_ranks(framework, [[script]] * WORLD, tmp_path, stopped_s=20)
    assert all(np.array_equal(saved[0][name], saved[1][name]) for name in saved[0])


def test_what_a_team_does_not_compute_is_refused_by_name():
    how = Build(2, "cpu", "fp32", "graph", "nhwc", dropout=True, frozen=("conv1",), team=True)
    with pytest.raises(ValueError, match="found a part of a net, a gradient for the images, dropout, frozen layers"):
        refuse_for_team(variant_named("owt.conv2"), how)
    refuse_for_team(variant_named("owt"), Build(2, "cpu", "fp32", "graph", "nhwc", team=True))
