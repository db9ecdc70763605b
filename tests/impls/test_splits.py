"""Nets that two or three ranks share, with a part of the arrays on each, against float64 of the whole net."""

import numpy as np
import pytest
from team_calls import Built, Ran

import impls
from impls.splits import HYBRID, TOWERS, part_of

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

CALLS = """forward forward_backward state forward_backward forward
    restart forward train_step train_step state restart state forward_backward facts""".split()
TWO = (Built("small_groups2", None, {"split": TOWERS}), Built("small_groups1", None, {"split": HYBRID}))
THREE = (Built("small_groups3", None, {"split": TOWERS}), Built("small_groups1", None, {"split": HYBRID}))
OTHERS = (
    Built("small_groups2", None, {"split": TOWERS, "precision": "bf16"}),
    Built("small_groups1", None, {"split": HYBRID, "preset": "default"}),
)
CHANNELS_LAST = (
    Built("small_groups2", None, {"split": TOWERS, "layout": "channels_last", "lrn": "fast"}),
    Built("small_groups1", None, {"split": HYBRID, "layout": "channels_last"}),
)
NETS = [
    pytest.param(("torch", (*TWO, *OTHERS, *CHANNELS_LAST), 2), id="torch-2"),
    pytest.param(("torch", THREE, 3), id="torch-3"),
    pytest.param(("tensorflow", TWO, 2), id="tensorflow-2"),
    pytest.param(("jax", TWO, 2), id="jax-2"),
    *(
        pytest.param((framework, nets, world), marks=pytest.mark.slow, id=f"{framework}-{world}-{what}")
        for framework in ("tensorflow", "jax")
        for nets, world, what in ((OTHERS, 2, "others"), (THREE, 3, "towers"))
    ),
]


@pytest.fixture(scope="module", params=NETS)
def ran(request, tmp_path_factory) -> Ran:
    framework, nets, world = request.param
    pytest.importorskip(impls.FRAMEWORKS[framework].package)
    if framework == "jax":
        pytest.importorskip("optax")
    return Ran(framework, nets, CALLS, tmp_path_factory.mktemp(framework), world)


def test_every_call_gives_float64s_values_of_the_whole_net(ran):
    assert ran.wrong() == []


def test_every_rank_has_the_same_bits_of_the_whole_net_and_a_loss_of_its_own(ran):
    for number, _ in enumerate(ran.nets):
        for place, call in enumerate(ran.calls):
            if call in ("forward_backward", "train_step"):
                first, *others = (ran.given(rank, number, place) for rank in range(ran.world))
                for name in first.keys() - {"first"}:
                    same = all(np.array_equal(first[name], each[name]) for each in others)
                    assert same == (name != "loss"), (number, place, call, name)


def test_a_fetched_number_is_the_first_that_a_rank_has_of_what_is_computed_last(ran):
    of = {"forward": "logits", "forward_backward": "gradient.conv1.kernel", "train_step": "velocity.conv1.kernel"}
    for number, net in enumerate(ran.nets):
        part = part_of(ran.variants[number], net.how["split"], ran.world)
        for place, call in enumerate(ran.calls):
            for rank in range(ran.world):
                given = ran.given(rank, number, place)
                if call in of:
                    at = 0 if call == "forward" else part.first_filter(rank)
                    found, expected = float(given["first"]), float(given[of[call]].flat[at])
                    assert found == pytest.approx(expected, rel=1e-6), (number, place, call, rank)
