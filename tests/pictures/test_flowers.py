"""The drawn data set."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import UsageError
from bench.pictures import flowers
from bench.pictures.folder import read


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.jpg")
    }


def test_equal_seeds_draw_equal_files_and_others_do_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        flowers.draw(tmp_path / name, per_class=2, seed=seed)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert len(set(a.values()) | set(c.values())) == 20
    assert sorted(a)[::2] == [f"{name}/{name}_0000.jpg" for name in "daisy dandelion roses sunflowers tulips".split()]


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    flowers.draw(tmp_path / "small", per_class=1)
    flowers.draw(tmp_path / "large", per_class=2)
    assert digests(tmp_path / "small").items() < digests(tmp_path / "large").items()


def test_a_drawing_that_ends_early_leaves_no_folder_and_the_next_one_is_whole(tmp_path, monkeypatch):
    whole = flowers.picture

    def killed(name: str, index: int, seed: int) -> tuple[Image.Image, int]:
        if name == "roses":
            raise KeyboardInterrupt
        return whole(name, index, seed)

    with monkeypatch.context() as patch:
        patch.setattr(flowers, "picture", killed)
        with pytest.raises(KeyboardInterrupt):
            flowers.draw(tmp_path / "flowers", per_class=2)
    assert not (tmp_path / "flowers").exists()
    flowers.draw(tmp_path / "flowers", per_class=1)
    assert len(digests(tmp_path / "flowers")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["flowers"]


def test_a_folder_that_exists_or_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"expected no folder .* yet, found one; remove it, or name another"):
        flowers.draw(tmp_path, per_class=1)
    with pytest.raises(UsageError, match=r"cannot write .*: Not a directory; name a folder that can be written"):
        flowers.draw(tmp_path / "file" / "flowers", per_class=1)


def test_mean_colors_do_not_tell_the_classes_apart(tmp_path):
    flowers.draw(tmp_path / "flowers", per_class=30)
    pictures = read(tmp_path / "flowers").pictures
    means = np.array([np.asarray(Image.open(picture.path)).mean(axis=(0, 1)) for picture in pictures])
    labels = np.array([picture.label for picture in pictures])
    held_out = np.array([picture.held_out for picture in pictures])
    centers = np.array([means[~held_out & (labels == label)].mean(axis=0) for label in range(5)])
    nearest = np.linalg.norm(means[held_out, None] - centers, axis=2).argmin(axis=1)
    assert np.mean(nearest == labels[held_out]) < 0.6
