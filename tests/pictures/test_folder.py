"""Labeled folders and their split."""

from pathlib import Path

import pytest

from bench import UsageError
from bench.pictures.folder import is_held_out, read

TRAINED, HELD_OUT = (next(f"{i}.jpg" for i in range(99) if is_held_out(f"{i}.jpg") is side) for side in (False, True))


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    return folder


def test_classes_and_files_are_sorted_by_name_and_other_files_left_out(tmp_path):
    made(tmp_path, f"b/{HELD_OUT}", f"b/{TRAINED}", "a/10.PNG", "a/9.webp", "a/.hidden.jpg", "a/notes.txt", ".c/1.jpg")
    made(tmp_path, "README.jpg")
    folder = read(tmp_path)
    assert folder.classes == ("a", "b")
    assert folder.ignored == 1
    found = [(picture.name, picture.label) for picture in folder.pictures]
    assert found == [("a/10.PNG", 0), ("a/9.webp", 0), *((f"b/{name}", 1) for name in sorted([TRAINED, HELD_OUT]))]


def test_a_picture_stays_on_its_side_when_others_come(tmp_path):
    names = [f"{name}/{i:03}.jpg" for name in "ab" for i in range(100)]
    few, all_ = read(made(tmp_path / "few", *names[::3])), read(made(tmp_path / "all", *names, f"0/{TRAINED}"))
    sides = {picture.name: picture.held_out for picture in all_.pictures}
    assert all(sides[picture.name] == picture.held_out for picture in few.pictures)
    assert sum(is_held_out(f"{i}.jpg") for i in range(2000)) == pytest.approx(400, abs=60)
    # written down: another hash would change the sides of everyone's pictures
    assert [i for i in range(20) if is_held_out(f"{i}.jpg")] == [0, 9, 11]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "expected one folder per class, found none; move each picture to a folder named after its class"),
        (("1.jpg",), "expected one folder per class, found none; move each picture to a folder named after its class"),
        (("a/", "b/x.txt"), "found none in 'a, b'; add pictures, or name the folder that contains the class folders"),
        (("train/a/1.jpg", "val/a/1.jpg"), "found none in 'train, val'; add pictures, or name the folder"),
        ((f"a/{TRAINED}",), "expected two or more classes, found only 'a'; add a folder of another class"),
        ((f"a/{TRAINED}", "b/"), "expected pictures of every class to train on, found none of 'b'; add pictures, or"),
        ((f"a/{TRAINED}", f"b/{HELD_OUT}"), "to train on, found 1 of 'b', all held out; add pictures, or remove that"),
        (
            (f"a/{TRAINED}", f"b/{TRAINED}"),
            "expected about one picture in five held out, found none of 2; add pictures",
        ),
    ],
)
def test_a_folder_that_cannot_be_learnt_from_is_one_line(tmp_path, names, message):
    folder = made(tmp_path / "set", *names)
    folder.mkdir(exist_ok=True)
    with pytest.raises(UsageError) as error:
        read(folder)
    assert message in str(error.value)
    assert str(error.value).startswith(f"'{folder}': ")
    assert "\n" not in str(error.value)


def test_no_folder_is_said(tmp_path):
    made(tmp_path, "file")
    with pytest.raises(UsageError, match=r"expected a folder at .*, found nothing; check the path"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match=r"expected a folder at .*, found a file; check the path"):
        read(tmp_path / "file")
