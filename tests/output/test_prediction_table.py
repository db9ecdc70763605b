"""What `predict` prints: few files one by one, of many the accuracy and where it fails."""

import numpy as np
import pytest

from bench.controller.predicted import Predicted
from bench.controller.prediction import Answer, Asked
from bench.output import prediction_table
from bench.output.plots import confusion
from bench.pictures.class_names import ClassNames
from bench.pictures.listing import Entry
from bench.pictures.preparer import Prepared
from bench.record.events import WeightsFile
from bench.record.prediction import Settings
from impls.preprocessing import PREPROCESSINGS

PLAIN = PREPROCESSINGS["plain"].at(28)
SQUARE = np.zeros((PLAIN.side, PLAIN.side, 3), np.uint8)


def found(classes, frameworks, *pictures, top=2):
    """``pictures``: name, class folder and the logits by framework."""
    made = Predicted(frameworks, ClassNames(tuple(classes), "the test"), PLAIN, top)
    prepared = Prepared(SQUARE, 90, 80, "GIF", "P", ("first of 3 frames",))
    made.add(
        [
            Answer(
                Asked(Entry(f"/x/{truth}", name, truth), "x"),
                prepared,
                {key: np.array([row], np.float32) for key, row in zip(frameworks, logits, strict=True)},
            )
            for name, truth, *logits in pictures
        ]
    )
    return made


def printed(made, capsys):
    names = list(made.classes.shown)
    settings = Settings(
        *(1, "0", WeightsFile("w.npy", "0"), "owt", 28, PLAIN, names, "the test", list(made.frameworks)),
        *("cpu", 32, ["x"], False, {}),
    )
    prediction_table.print_predicted(settings, made)
    return capsys.readouterr().out


def test_a_few_files_have_bars_in_proportion_and_the_probabilities_of_all_frameworks(capsys):
    logits = [0.0, np.log(3), -9.0]
    out = printed(found("abc", ["torch", "jax"], ("1.gif", "b", logits, logits)), capsys)
    assert "x/b/1.gif (class folder b)" in out
    (first,) = [line for line in out.splitlines() if line.startswith(" b ")]
    assert first.split() == ["b", "0.7500", "0.7500", "#" * 22]
    assert "1 picture: first of 3 frames" in out


def test_of_many_files_the_accuracy_per_class_and_the_most_certain_mistakes_are_shown(capsys):
    rows = [(f"{number}.gif", "a", [0.0, number, -1, -2, -3, -4]) for number in range(1, 12)]
    out = printed(found("abcdef", ["torch"], *rows, ("0.gif", "f", [0, -1, -2, -3, -4, 9])), capsys)
    assert "torch            12  0.083 [0.015, 0.354]  1.000 [0.758, 1.000]" in out
    assert "f             1  1.000 [0.207, 1.000]  ##" in out
    assert "class folder" not in out
    mistakes = [line for line in out.splitlines() if line.startswith("worst mistake")]
    assert len(mistakes) == prediction_table.MOST_MISTAKES
    assert mistakes[0] == "worst mistake: x/a/11.gif: a, taken for b (1.000)"


def test_of_many_classes_the_least_accurate_are_shown(capsys):
    count = prediction_table.MOST_CLASSES + 10
    rows = [(f"{n}.gif", f"c{n}", np.eye(count)[n if n % 4 else 0] * 9) for n in range(count)]
    out = printed(found([f"c{n}" for n in range(count)], ["torch"], *rows), capsys)
    assert "torch, per class: the 30 least accurate of 40" in out
    assert " c4 " in out
    assert " c39 " not in out


def test_five_of_five_classes_are_no_accuracy(capsys):
    out = printed(found("abcde", ["torch"], ("1.gif", "a", [1, 0, 0, 0, 0])), capsys)
    assert "top-5 [95 %]" not in out
    assert "of 5 classes the first 5 are always right" in out


def test_frameworks_that_part_are_named_and_a_tie_is_called_one(capsys):
    same, other = [10.0, 10.00001, 0], [10.00001, 10.0, 0]
    out = printed(
        found("abc", ["torch", "jax"], ("1.gif", "a", same, other), ("2.gif", "a", [3, 0, 0], [0, 3, 0])), capsys
    )
    assert "Largest difference of logits between torch, jax: 3.0e-01 of the largest absolute logit, 10" in out
    assert "The most probable class differs in 2 of 2 pictures, 1 of them ties, which rounding decides:" in out
    assert "  x/a/1.gif: torch b, jax a; apart by " in out
    assert out.count("(a tie)") == 1
    assert "  x/a/2.gif: torch a, jax b; apart by 1.0e+00\n" in out


def test_names_from_outside_control_no_terminal(capsys):
    out = printed(found(["\x1b[31ma", "b", "c"], ["torch"], ("\x1b[2J.gif", "\x1b[0m", [1, 0, 0])), capsys)
    assert "\x1b" not in out


@pytest.mark.parametrize("count", [3, 200])
def test_a_confusion_matrix_of_any_number_of_classes_is_drawn(tmp_path, count):
    counts = np.eye(count, dtype=int)
    confusion.draw_counts([f"$c{n}" for n in range(count)], {"torch": counts, "jax": counts * 0}, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 10_000
