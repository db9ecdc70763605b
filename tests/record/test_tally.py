"""Counts of predictions by class."""

import pytest

from bench.record.tally import Tally, met
from bench.stats.binomial import share


def tally():
    made = Tally(10)
    for truth, predicted in [(0, [0, 1, 2, 3, 4]), (0, [1, 2, 3, 4, 0]), (0, [1, 2, 3, 4, 5, 0]), (7, [9, 8, 7, 1, 2])]:
        made.add(truth, predicted)
    return made


def test_accuracies_count_the_first_class_and_the_first_five():
    assert tally().top1 == share(1, 4)
    assert tally().top5 == share(3, 4)
    assert tally().by_class() == {0: share(1, 3), 7: share(0, 1)}


def test_five_of_five_classes_say_nothing():
    made = Tally(5)
    made.add(0, [1, 2, 3, 4, 0])
    assert (made.top1, made.top5) == (share(0, 1), None)


def test_without_a_picture_there_is_no_accuracy():
    assert (Tally(10).top1, Tally(10).top5, Tally(10).by_class()) == (None, None, {})


def test_the_matrix_has_true_classes_in_rows_and_only_those_met():
    assert met([tally()]) == [0, 1, 7, 9]
    assert tally().matrix([0, 1, 7, 9]).tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert tally().matrix([0, 1, 7, 9]).sum() == pytest.approx(tally().total)
