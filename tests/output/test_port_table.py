"""The last line of `verify` for a model and its port."""

from bench.controller.agreement import Point
from bench.controller.comparison import Comparison
from bench.controller.pairing import Pair
from bench.output.port_table import verdict
from impls.port import Parameter

WEIGHT = Parameter("fc.weight", "fc", [3, 2], [2, 3], True)


def compared(**more):
    return Comparison(("one", "other"), [Pair(WEIGHT, WEIGHT)], 0, [Point("output 1", 0.0, 1e-5)], **more)


def test_what_is_not_decided_or_not_compared_is_in_the_last_line():
    assert verdict(compared(undecided=["fc.weight"])) == (
        "equal: outputs agree; not decided: 1 of 1 parameters, such as fc.weight, whose gradients or changes rounding "
        "may move by more than 50%"
    )
    words = verdict(compared(left_out=["layers: none has a partner", "gradients and state: one is random"]))
    assert words == "equal: outputs agree; not compared: gradients and state: one is random"


def test_a_change_of_state_tells_of_momentum():
    words = verdict(compared(state=[Point("norm.running_mean", 8.0, 1e-5)]))
    assert words == (
        "DIFFERS in training mode: outputs agree, but the pass's change of norm.running_mean is off by 8.0e+00, "
        "allowed 1e-05; compare the momentum of BatchNorm, where torch's 0.1 is 0.9 in Keras and flax"
    )


def test_differences_of_what_is_trained_are_counted():
    points = [Point(name, None, 0.0, "trainable in one, not in other") for name in ("a", "b", "c")]
    assert verdict(compared(training=points)) == (
        "DIFFERS in training mode: outputs agree, but a: trainable in one, not in other, and 2 more such"
    )
