"""Nets that two or three ranks share, with a part of the arrays on each, against float64 of the whole net."""

import pytest
from team_calls import Built, Ran

import impls
from impls.splits import HYBRID, TOWERS

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

CALLS = """forward forward_backward state forward_backward forward
    restart forward train_step train_step state restart state forward_backward facts""".split()
TWO = (
    Built("small_groups2", None, {"split": TOWERS}),
    Built("small_groups1", None, {"split": HYBRID}),
    Built("small_groups2", None, {"split": TOWERS, "precision": "bf16"}),
    Built("small_groups1", None, {"split": HYBRID, "preset": "default"}),
)
THREE = (Built("small_groups3", None, {"split": TOWERS}), Built("small_groups1", None, {"split": HYBRID}))
CHANNELS_LAST = (
    Built("small_groups2", None, {"split": TOWERS, "layout": "channels_last", "lrn": "fast"}),
    Built("small_groups1", None, {"split": HYBRID, "layout": "channels_last"}),
)
NETS = [
    ("torch", (*TWO, *CHANNELS_LAST)),
    ("torch", THREE),
    ("tensorflow", TWO),
    ("tensorflow", THREE),
    ("jax", TWO),
    ("jax", THREE),
]


@pytest.mark.parametrize(
    ("framework", "nets"), NETS, ids=["torch-2", "torch-3", "tensorflow-2", "tensorflow-3", "jax-2", "jax-3"]
)
def test_every_call_gives_float64s_values_of_the_whole_net(framework, nets, tmp_path):
    pytest.importorskip(impls.FRAMEWORKS[framework].package)
    if framework == "jax":
        pytest.importorskip("optax")
    ran = Ran(framework, nets, CALLS, tmp_path, 3 if nets is THREE else 2)
    assert ran.wrong() == []
