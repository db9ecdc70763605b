"""The Protocol: turn lengths, cycles, and a hash that tells two apart."""

import dataclasses

import pytest

from bench.cases.protocol import CLASSIC, Protocol


@pytest.mark.parametrize(
    ("medians_ms", "length"), [([250, 900], 1), ([199], 2), ([100, 900], 2), ([60, 70], 5), ([0.01], 5)]
)
def test_a_turn_is_the_shortest_that_fills_200_ms(medians_ms, length):
    assert Protocol().turn_length([ms * 1e6 for ms in medians_ms]) == length


@pytest.mark.parametrize(
    ("iterations", "length", "turns"),
    [
        (10, 1, [1] * 5),
        (10, 2, [2, 2, 1]),
        (10, 5, [5]),
        (1, 5, [1]),
        (7, 2, [2, 2]),
        (20, 5, [5, 5]),
        (24, 5, [5, 5, 2]),
    ],
)
def test_a_round_has_the_iterations_asked_for_in_whole_cycles(iterations, length, turns):
    assert Protocol(iterations=iterations).cycles(length) == turns
    assert 2 * sum(turns) == iterations + iterations % 2


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
