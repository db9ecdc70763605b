"""The Cases of users' models: with which inputs, and whether next to ours."""

import dataclasses

import pytest

from bench import UsageError
from bench.cases.case import groups
from bench.commands.cli import parse_words
from bench.commands.plan import ALONE, plan_run
from bench.output import reproduce
from bench.record.conditions import work

MODEL = "import torch\ndef build(): ...\ndef other():\n    inputs = 1\n"
OWN = f"{MODEL}\nif True:\n    from somewhere import inputs\n"
NET = "import torch\ndef build(variant, how):\n    inputs = 1\n"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The plan of `run` with these words, in a folder with a model, one with inputs of its own, and a Net."""
    for name, text in (("model.py", MODEL), ("own.py", OWN), ("net.py", NET)):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return lambda *words: plan_run(parse_words("run", ["--framework", "torch", "--pass", "forward", *words]))


def rows(plan):
    return [(case.guest, case.input) for case in plan.cases]


def test_a_model_of_images_is_timed_next_to_ours(plan):
    made = plan("--net", "model.py:build")
    assert (rows(made), made.note) == ([(None, None), ("model", None)], "")


def test_a_model_with_inputs_of_another_shape_is_timed_alone(plan):
    made = plan("--net", "model.py:build", "--net", "model.py:other", "--input", "03X40x50")
    assert (rows(made), made.note) == ([("model", "3x40x50"), ("model.other", "3x40x50")], ALONE)
    assert all(case.id.endswith("-input_3x40x50") for case in made.cases)
    assert made.cases[0].input_shape == [3, 40, 50]


def test_a_model_with_a_function_of_its_inputs_is_timed_alone(plan):
    made = plan("--net", "own.py:build")
    assert (rows(made), made.note) == ([("own", "own")], ALONE)
    assert made.cases[0].input_shape == []


def test_a_model_with_own_inputs_takes_no_turns_with_nets_of_images(plan):
    made = plan("--net", "own.py:build", "--net", "model.py:build")
    assert made.note == ""
    assert [[case.guest for case in group] for group in groups(made.cases)] == [[None, "model"], ["own"]]


def test_both_arms_have_the_input(plan):
    made = plan("--ab", "net=model.py:build,model.py:other", "--input", "16")
    assert rows(made) == [("model", "16"), ("model.other", "16")]
    assert len(groups(made.cases)) == 1


def test_rows_of_different_inputs_are_different_work(plan):
    cases = [plan("--net", "model.py:build", *words).cases[-1] for words in ((), ("--input", "16"), ("--input", "17"))]
    assert len({case.id for case in cases}) == len({str(work(case)) for case in cases}) == 3
    plain = dataclasses.replace(cases[0], guest=None)
    assert work(plain)["size"] == 224
    assert "input" not in work(plain)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--input", "3x16"], "--input: our nets take the images of --variant; expected a model, --net FILE.py:NAME"),
        (["--net", "own.py:build", "--input", "3"], "--input: own.py has its own inputs(batch); leave one of them out"),
        (
            ["--net", "net.py:build", "--input", "3"],
            "--input: net.py:build is a Net, given images of --variant; leave it out",
        ),
        (["--net", "model.py:build", "--input", "3", "--size", "67"], "--input and --size: give only one of the two"),
        (
            ["--net", "model.py:build", "--input", "3", "--variant", "owt,tutorial"],
            "--variant: the inputs of a model depend on none; expected one, found 2",
        ),
        (
            ["--ab", "net=model.py:build,own.py:build"],
            "--ab net: one side has inputs(batch), the other takes images; expected the same on both",
        ),
        *(
            (
                ["--net", "model.py:build", "--input", text],
                "--input: expected sizes joined by x, without the batch, such as 3x224x224, found " + repr(text),
            )
            for text in ("3x", "x3", "3,224,224", "-3x4", "3x2.5", "")
        ),
        (["--net", "model.py:build", "--input", "3x0"], "--input: expected 1 to 268,435,456 values, found '3x0'"),
        (
            ["--net", "model.py:build", "--input", "99999x99999"],
            "--input: expected 1 to 268,435,456 values, found '99999x99999'",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(plan, words, says):
    with pytest.raises(UsageError) as error:
        plan(*words)
    assert str(error.value) == says


@pytest.mark.parametrize(("words", "option"), [(["--input", "3x8"], ["--input", "3x8"]), ([], [])])
def test_the_command_that_reproduces_a_row_has_its_input(plan, words, option):
    file = "model.py" if option else "own.py"
    case = plan("--net", f"{file}:build", *words).cases[0]
    run = type(
        "Run", (), {"head": type("Head", (), {"ab": None}), "protocol": type("P", (), {"shared_workers": False})}
    )
    found = reproduce._axes(run, [case])
    assert [found[found.index("--input") + at] for at in (0, 1)] == option if option else "--input" not in found
