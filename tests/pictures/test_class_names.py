"""Names of classes are those of the weights, of a file, or of ILSVRC-2012, and a folder means one of them exactly."""

import pytest

from bench import UsageError
from bench.pictures.class_names import classes_of, ilsvrc2012


def test_the_names_of_ilsvrc_2012_are_in_the_order_of_sorted_synset_ids():
    names = ilsvrc2012()
    assert len(names) == 1000
    assert list(names.also) == sorted(names.also)
    assert [names.shown[place] for place in (150, 340, 355)] == ["sea lion", "zebra", "llama"]
    assert (names.also[150], names.also[0], names.shown[0]) == ("n02077923", "n01440764", "tench")


def test_a_folder_means_a_class_by_name_or_synset_and_by_nothing_else():
    names = ilsvrc2012()
    assert [names.place(truth) for truth in ("sea lion", "n02077923")] == [150, 150]
    assert [names.place(truth) for truth in ("150", "Sea Lion", "sea", "")] == [None] * 4


def test_a_name_of_two_classes_is_shown_with_the_synset_and_means_neither():
    names = ilsvrc2012()
    twice = [name for name in names.shown if name.startswith(("crane", "maillot"))]
    assert twice == ["crane (n02012849)", "crane (n03126707)", "maillot (n03710637)", "maillot (n03710721)"]
    assert len(set(names.shown)) == 1000
    assert names.place("crane") is None
    assert (names.place("crane (n03126707)"), names.place("n03126707")) == (517, 517)


def test_a_net_of_other_outputs_has_numbers_and_a_file_names_them(tmp_path):
    assert classes_of(1001, None, None).shown[:2] == ("class 0", "class 1")
    (tmp_path / "names.txt").write_text("background\ncat\n dog \n\n")
    found = classes_of(3, None, tmp_path / "names.txt")
    assert found.shown == ("background", "cat", "dog")
    assert found.source == "names.txt"
    assert classes_of(1000, None, None).source == "ILSVRC-2012"


def test_names_of_the_weights_are_one_line_each_and_match_their_folder():
    found = classes_of(2, ["a\nb", "c"], None)
    assert found.shown == (r"a\nb", "c")
    assert found.place("a\nb") == 0


@pytest.mark.parametrize(
    ("outputs", "known", "text", "expected"),
    [
        (2, ["a", "b"], "a\nb\n", "--labels: the weights name their classes; leave it out"),
        (3, ["a", "b"], None, "--weights: they name 2 classes, found 3 outputs"),
        (3, None, "a\nb\n", "--labels: expected a name for each of 3 outputs, found 2"),
        (3, None, "a\n\nb\n", "--labels: line 2: expected the name of a class, found ''"),
        (1, None, "a\x1b[31m\n", "--labels: line 1: expected the name of a class"),
        (1, None, b"\xff", "it is not UTF-8"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, outputs, known, text, expected):
    labels = None
    if text is not None:
        labels = tmp_path / "labels.txt"
        labels.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as error:
        classes_of(outputs, known, labels)
    assert expected in str(error.value)
