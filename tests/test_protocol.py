"""The Protocol: turn lengths, cycles, and a hash that tells two apart."""

import dataclasses

import pytest

from bench.protocol import CLASSIC, Protocol


@pytest.mark.parametrize(
    ("medians_ms", "length"), [([250, 900], 1), ([199], 2), ([100, 900], 2), ([60, 70], 5), ([0.01], 5)]
)
def test_a_turn_is_the_shortest_that_fills_200_ms(medians_ms, length):
    assert Protocol().turn_length([ms * 1e6 for ms in medians_ms]) == length


@pytest.mark.parametrize(
    ("iterations", "length", "samples"), [(10, 1, 10), (10, 2, 12), (10, 5, 10), (1, 5, 10), (20, 5, 20)]
)
def test_iterations_are_rounded_up_to_whole_cycles(iterations, length, samples):
    assert Protocol(iterations=iterations).cycles(length) * 2 * length == samples


def test_the_classic_protocol_is_the_articles():
    assert (CLASSIC.burn_in, CLASSIC.iterations, CLASSIC.rounds) == (10, 100, 1)
    assert not CLASSIC.gate
    assert not CLASSIC.paired


def test_every_field_is_in_the_hash():
    other = {str: "x", int: 77, bool: None, float: 77.0, tuple: (3,), type(None): 1.0}
    plain = Protocol()
    for field in dataclasses.fields(Protocol):
        value = getattr(plain, field.name)
        changed = not value if isinstance(value, bool) else other[type(value)]
        assert dataclasses.replace(plain, **{field.name: changed}).hash != plain.hash, field.name
