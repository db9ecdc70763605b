"""Pairs of parameters: maps, pairs by shape, values carried, and what does not fit."""

import dataclasses

import numpy as np
import pytest

from bench import UsageError
from bench.controller.pairing import Order, Pair, map_text, pair, read_map
from impls.port import Parameter

LABELS = ("torch a.py:A", "jax b.py:b")


def parameters(**shapes):
    return [Parameter(name, name, list(shape), list(shape), True) for name, shape in shapes.items()]


def lines(tmp_path, text):
    path = tmp_path / "a.map"
    path.write_text(text)
    return read_map(path)


def refusal(tmp_path, text, first=(), second=()):
    with pytest.raises(UsageError) as error:
        pair(first, second, lines(tmp_path, text), LABELS)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestByShape:
    def test_the_first_of_a_shape_gets_the_first_of_that_shape(self):
        first = parameters(conv=(3, 3, 2, 4), bias=(4,), gamma=(4,), dense=(5, 6))
        second = parameters(w=(5, 6), b=(4,), g=(4,), k=(3, 3, 2, 4))
        pairs = pair(first, second, [], LABELS)
        assert [each.line() for each in pairs] == ["conv = k", "bias = b", "gamma = g", "dense = w"]

    def test_what_follows_a_pair_is_paired_with_what_follows_its_other(self):
        """A shortcut is made after the other convolutions of its block in the one, before them in the other."""
        deep, shortcut = (3, 3, 2, 4), (1, 1, 2, 4)
        first = parameters(conv=deep, gamma=(4,), beta=(4,), short=shortcut, short_gamma=(4,), short_beta=(4,))
        second = parameters(s=shortcut, s_gamma=(4,), s_beta=(4,), c=deep, c_gamma=(4,), c_beta=(4,))
        pairs = {each.first.name: each.second.name for each in pair(first, second, [], LABELS)}
        assert pairs["gamma"] == "c_gamma"
        assert pairs["short_beta"] == "s_beta"

    def test_another_layout_of_a_kernel_is_turned_and_said(self):
        first, second = parameters(conv=(3, 3, 2, 4), dense=(5, 6)), parameters(k=(4, 2, 3, 3), w=(6, 5))
        pairs = pair(first, second, [], LABELS)
        assert [each.line() for each in pairs] == ["conv = k axes=3,2,0,1", "dense = w axes=1,0"]
        assert pairs[0].carried(np.zeros((3, 3, 2, 4))).shape == (4, 2, 3, 3)

    def test_the_first_that_fits_nothing_is_named_with_the_first_left_over(self, tmp_path):
        words = refusal(tmp_path, "", parameters(conv=(3, 3, 2, 4), bias=(4,)), parameters(k=(3, 3, 2, 5), b=(4,)))
        assert words.startswith(
            "--net: conv (3, 3, 2, 4) of torch a.py:A fits no parameter of jax b.py:b: the first without a pair there "
            "is k (3, 3, 2, 5); correct the port, or name the pairs in a --map"
        )
        (odd,) = parameters(k=(3, 6))
        words = refusal(tmp_path, "", parameters(conv=(3, 5)), [dataclasses.replace(odd, own=[6, 3])])
        assert "is k (6, 3) as (3, 6); correct the port" in words
        words = refusal(tmp_path, "", parameters(bias=(4,)), parameters(b=(4,), extra=(4,)))
        assert words.startswith("--net: extra (4,) of jax b.py:b fits no parameter of torch a.py:A: all of those have")


class TestMap:
    def test_a_map_comes_before_shapes_and_a_saved_one_is_read_back(self, tmp_path):
        first, second = parameters(a=(4,), b=(4,), dense=(12, 5)), parameters(x=(4,), y=(4,), w=(12, 5))
        text = "# names\n\na = y   # the other way\ndense = w order=2x3x2:1,2,0\n"
        pairs = pair(first, second, lines(tmp_path, text), LABELS)
        assert map_text(pairs, [], LABELS) == "# torch a.py:A = jax b.py:b\na = y\nb = x\ndense = w order=2x3x2:1,2,0\n"
        assert [each.mapped for each in pairs] == [True, False, True]
        again = pair(first, second, lines(tmp_path, map_text(pairs, [], LABELS)), LABELS)
        assert [each.line() for each in again] == [each.line() for each in pairs]

    def test_a_minus_is_no_parameter(self, tmp_path):
        pairs = pair(parameters(a=(4,), b=(4,)), parameters(x=(4,)), lines(tmp_path, "a = -\n"), LABELS)
        assert [each.line() for each in pairs] == ["b = x"]

    def test_what_has_no_pair_is_saved_too(self, tmp_path):
        first, second = parameters(a=(4,), b=(4,)), parameters(x=(4,), y=(4,))
        links = lines(tmp_path, "a = -\n- = y\n")
        text = map_text(pair(first, second, links, LABELS), links, LABELS)
        assert text.splitlines()[1:] == ["b = x", "a = -", "- = y"]

    def test_an_order_moves_the_inputs_of_a_dense_layer(self):
        images = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
        weight = np.random.default_rng(0).random((24, 5))
        (one,), (other,) = parameters(w=(24, 5)), parameters(k=(24, 5))
        moved = Pair(one, other, order=Order((2, 3, 4), (1, 2, 0))).carried(weight)
        last = images.transpose(0, 2, 3, 1).reshape(1, 24)
        assert np.allclose(images.reshape(1, 24) @ weight, last @ moved)
        assert not np.allclose(images.reshape(1, 24) @ weight, last @ weight)

    @pytest.mark.parametrize(
        "line",
        [
            "a",
            "a =",
            "= b",
            "a b = c",
            "a = b c=1",
            "a = b axes=0,0",
            "a = b order=2x3:0,1,2",
            "a = b order=x",
            "a = b order=-1x3:0,1",
            "a = b axes=0,1 axes=1,0",
        ],
    )
    def test_a_line_that_is_none_is_quoted_with_its_number(self, tmp_path, line):
        words = refusal(tmp_path, f"# one\n{line}\n")
        assert words == (
            "a.map, line 2: expected `NAME = NAME`, then optionally `axes=1,0` or `order=256x6x6:1,2,0`, "
            f"found {line!r}"
        )

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("wait = x", "a.map, line 1: torch a.py:A has no parameter 'wait': it has weight ..."),
            ("weight = z", "a.map, line 1: jax b.py:b has no parameter 'z': it has x ..."),
            ("weight = x\nweight = x", "a.map: expected each parameter once, found 'weight' twice"),
            ("weight = x", "a.map, line 1: weight (2, 3) does not fit x (7, 3)"),
            (
                f"weight = x order={10**20}x2:1,0",
                f"a.map, line 1: weight (2, 3) does not fit x (7, 3) by order={10**20}x2:1,0",
            ),
            ("weight = x order=2x2:1,0", "a.map, line 1: weight (2, 3) does not fit x (7, 3) by order=2x2:1,0"),
        ],
    )
    def test_a_line_that_does_not_fit_names_what_is_wrong(self, tmp_path, text, says):
        assert refusal(tmp_path, text, parameters(weight=(2, 3)), parameters(x=(7, 3))) == says

    def test_a_file_that_cannot_be_read_is_one_line(self, tmp_path):
        with pytest.raises(UsageError, match=r"^--map: cannot read .*gone: No such file or directory$"):
            read_map(tmp_path / "gone")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match=r"^--map: cannot read .*binary: "):
            read_map(tmp_path / "binary")
