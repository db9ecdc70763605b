"""Folders of pictures, prepared in threads and stored for Workers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import UsageError
from bench.pictures.folder import is_held_out, read
from bench.pictures.preparer import store
from bench.worker import pixels
from impls.preprocessing import PREPROCESSINGS

SMALL = PREPROCESSINGS["plain"].at(28)


class TestStore:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        for name, colors in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            (tmp_path / name).mkdir()
            for i in range(12):
                Image.new("RGB", (50 + i, 40), colors).save(tmp_path / name / f"{i}.png")
        return tmp_path

    def test_workers_map_what_was_stored(self, folder):
        counted: list[int] = []
        done = store(read(folder), SMALL, folder / ".prepared", counted.append)
        stored = pixels.map_stored(folder / ".prepared")
        assert stored.pictures.shape == (24, 32, 32, 3)
        assert stored.pictures.dtype == np.uint8
        assert not stored.pictures.flags.writeable
        assert stored.labels.tolist() == [0] * 12 + [1] * 12
        assert [row[0, 0].tolist() for row in stored.pictures] == [[0, 0, 200]] * 12 + [[200, 0, 0]] * 12
        assert stored.held_out.tolist() == [is_held_out(picture.path.name) for picture in done.pictures]
        assert (done.skipped, dict(done.notes), counted) == ((), {}, list(range(1, 25)))

    def test_unreadable_pictures_are_named_and_leave_no_row(self, folder):
        (folder / "blue" / "5.png").write_bytes(b"")
        Image.new("RGBA", (50, 40), (0, 0, 0, 0)).save(folder / "blue" / "6.png")
        done = store(read(folder), SMALL, folder / ".prepared")
        stored = pixels.map_stored(folder / ".prepared")
        assert len(done.skipped) == 1
        assert done.skipped[0].startswith("blue/5.png: expected a picture")
        assert dict(done.notes) == {"transparent parts shown on white": 1}
        assert len(stored.pictures) == len(stored.labels) == len(stored.held_out) == len(done.pictures) == 23
        rows = {picture.name: row for picture, row in zip(done.pictures, stored.pictures, strict=True)}
        assert rows["blue/6.png"][0, 0].tolist() == [255, 255, 255]
        assert rows["red/11.png"][31, 31].tolist() == [200, 0, 0]

    def test_a_class_that_cannot_be_read_at_all_is_said(self, folder):
        for path in (folder / "red").iterdir():
            path.write_bytes(b"text")
        with pytest.raises(UsageError, match="12 unreadable pictures skipped, found none of 'red'; add pictures"):
            store(read(folder), SMALL, folder / ".prepared")

    def test_a_target_that_cannot_be_written_is_said(self, folder):
        with pytest.raises(UsageError, match="cannot write prepared pictures: Not a directory; make room there, or"):
            store(read(folder), SMALL, folder / "red" / "0.png" / "x")
