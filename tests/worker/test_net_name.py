"""What --net is given: a file or a module, a name in it, and arguments that are literals."""

import pytest

from bench import UsageError
from bench.cases.arm import parse_ab
from bench.worker.net_file import read_nets
from bench.worker.net_name import NetName, parse_net_name, split_names, values


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mine.py:build", NetName("mine.py", "", "build", "")),
        ("a:b/mine.py:build", NetName("a:b/mine.py", "", "build", "")),
        ("some (1)/mine.py:build(2)", NetName("some (1)/mine.py", "", "build", "(2)")),
        ("a.b:Net(weights=None)", NetName("a.b", "a.b", "Net", "(weights=None)")),
        ("a.b:Net( 'x:y(z)',k = [1,{'a':-2}] )", NetName("a.b", "a.b", "Net", "('x:y(z)', k=[1, {'a': -2}])")),
        ("a.b:Net()", NetName("a.b", "a.b", "Net", "()")),
        ("a.b:Net.from_name('x')", NetName("a.b", "a.b", "Net.from_name", "('x')")),
    ],
)
def test_a_name_is_read_with_its_arguments(text, name):
    assert parse_net_name(text) == name


def test_arguments_have_their_values():
    assert values("('x', k=[1, {'a': -2}])") == (["x"], {"k": [1, {"a": -2}]})
    assert values("") == ([], {})


@pytest.mark.parametrize(
    "text", ["a.py", "a.py:", "a.py:1", "a.b:c d", "a-b:c", ":c", "a.b:c)", "a.b:c(1)(2)x", "a.py:c..d(1)", "a.py:.c"]
)
def test_what_names_no_net_is_one_line(text):
    with pytest.raises(UsageError) as error:
        parse_net_name(text)
    assert str(error.value) == f"--net: expected FILE.py:NAME or package.module:NAME, found {text!r}"


@pytest.mark.parametrize(
    "arguments",
    ["(f(1))", "(x)", "(*[1])", "(**{'a': 1})", "(1)(2)", "(", "(k=)", "(a=1, a=2)", "({[]: 1})", "(1).x()"],
)
def test_arguments_that_are_no_literals_are_one_line_and_not_run(arguments):
    with pytest.raises(UsageError, match=r"^--net: ") as error:
        parse_net_name(f"a.b:Net{arguments}")
    assert "\n" not in str(error.value)


def test_a_comma_within_arguments_divides_no_arms():
    assert split_names("a.py:f(1, b=(2, 3)), a.py:g") == ["a.py:f(1, b=(2, 3))", "a.py:g"]
    assert split_names("""a.py:f("(, '"),a.py:g('],')""") == ["""a.py:f("(, '")""", "a.py:g('],')"]


def test_two_arms_may_be_one_function_with_two_arguments(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\ndef net(width, depth): ...")
    ab = parse_ab(f"net={path}:net(1, depth=2),{path}:net(3, 4)")
    assert [guest.label for guest in ab.guests] == ["mine.net_1_depth_2", "mine.net_3_4"]
    assert ab.recorded().values == ("mine.py:net(1, depth=2)", "mine.py:net(3, 4)")


def test_what_is_given_arguments_is_a_model_whatever_its_parameters(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\ndef net(width): ...")
    (net,) = read_nets([f"{path}:net(8)"])
    assert (net.guest().model, net.guest().call, net.guest().label) == (True, "net(8)", "mine.net_8")
    with pytest.raises(
        UsageError, match=r"or none for a model, found \(width\); a model's are given as net\(\.\.\.\)$"
    ):
        read_nets([f"{path}:net"])
