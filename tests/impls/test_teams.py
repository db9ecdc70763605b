"""Nets on two ranks, each a process with a thread and images of its own, against float64 of the global batch."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from rank_program import Script
from ranks import run_ranks
from team_calls import BATCH, PASSES, Built, Ran

import impls
from impls.net import Build, refuse_for_team
from impls.reference import relative_l2
from impls.splits import DATA
from impls.variants import variant_named

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

WORLD = 2
#: Every call twice at least, in an order where one that left something behind would show in the next.
CALLS = """fill forward forward_backward apart state all_reduce all_reduce forward forward_backward fill all_reduce
    state
    restart forward train_step train_step state forward all_reduce restart state forward_backward apart
    facts""".split()
#: Of one process, in turn.
NETS = (
    Built("small_bn", None, {}),
    Built("half_width", 67, {}),
    Built("small_bn", None, {"preset": "default"}),
    Built("small", None, {"precision": "bf16"}),
)
TEAMS = [
    ("torch", "eager"),
    ("tensorflow", "graph"),
    pytest.param("tensorflow", "xla", marks=pytest.mark.slow),
    ("jax", "jit"),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Ran]:
    made: dict[tuple[str, str], Ran] = {}

    def ran(framework: str, mode: str) -> Ran:
        pytest.importorskip(impls.FRAMEWORKS[framework].package)
        if framework == "jax":
            pytest.importorskip("optax")
        if (framework, mode) not in made:
            nets = [net._replace(how=net.how | {"mode": mode}) for net in NETS]
            made[framework, mode] = Ran(framework, nets, CALLS, tmp_path_factory.mktemp(framework), WORLD)
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
    how = Build(2, "cpu", "fp32", "graph", "nhwc", dropout=True, frozen=("conv1",), split=DATA)
    with pytest.raises(ValueError, match="found a part of a net, a gradient for the images, dropout, frozen layers"):
        refuse_for_team(variant_named("owt.conv2"), how)
    refuse_for_team(variant_named("owt"), Build(2, "cpu", "fp32", "graph", "nhwc", split=DATA))
