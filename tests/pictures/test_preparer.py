"""Folders of pictures, prepared in threads and stored for Workers."""

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import UsageError
from bench.pictures.folder import is_held_out, read
from bench.pictures.preparer import Prepared, prepare_all, store
from bench.worker import pixels
from impls.pictures import PictureError
from impls.preprocessing import PREPROCESSINGS

SMALL = PREPROCESSINGS["plain"].at(28)


class TestPrepareAll:
    @pytest.fixture
    def paths(self, tmp_path) -> list[Path]:
        """Pictures of levels 0, 1, 2 ... of which every fifth is large, and so ends after those behind it."""
        paths = [tmp_path / f"{level}.png" for level in range(30)]
        for level, path in enumerate(paths):
            Image.new("RGB", (1500, 1500) if level % 5 == 0 else (30, 40), (level,) * 3).save(path, compress_level=1)
        return paths

    @pytest.mark.parametrize("threads", [1, 4])
    def test_pictures_come_in_the_order_of_their_paths_whichever_is_ready_first(self, paths, threads):
        found = list(prepare_all(paths, SMALL, threads))
        assert [picture.square[0, 0, 0] for picture in found] == list(range(30))
        assert {picture.square.shape for picture in found} == {(32, 32, 3)}
        facts = [(picture.width, picture.height, picture.format, picture.mode) for picture in found[4:6]]
        assert facts == [(30, 40, "PNG", "RGB"), (1500, 1500, "PNG", "RGB")]

    def test_an_error_is_in_place_of_what_cannot_be_read(self, paths):
        paths[3].write_bytes(b"text")
        paths[7].unlink()
        found = list(prepare_all(paths, SMALL, 3))
        assert [at for at, each in enumerate(found) if isinstance(each, PictureError)] == [3, 7]
        assert str(found[7]) == "7.png: cannot be decoded: No such file or directory"
        assert isinstance(found[4], Prepared)
        assert found[4].square[0, 0, 0] == 4

    def test_only_a_few_are_ahead_of_what_is_taken(self, paths):
        """Of a million paths the rest is not even looked at."""
        given = 0

        def endless():
            nonlocal given
            for path in itertools.cycle(paths):
                given += 1
                yield path

        found = prepare_all(endless(), SMALL, 2)
        for taken in range(1, 20):
            next(found)
            assert given <= taken + 5
        found.close()

    def test_its_threads_end_when_nobody_takes_more(self, paths):
        before = set(threading.enumerate())
        found = prepare_all(itertools.cycle(paths), SMALL, 4)
        next(found)
        assert set(threading.enumerate()) - before
        found.close()
        assert not set(threading.enumerate()) - before

    def test_its_threads_end_after_the_last_and_after_an_error_of_the_paths(self, paths):
        before = set(threading.enumerate())
        assert len(list(prepare_all(paths[:3], SMALL, 4))) == 3
        assert list(prepare_all([], SMALL, 4)) == []

        def broken():
            yield from paths[:10]
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            list(prepare_all(broken(), SMALL, 2))
        assert not set(threading.enumerate()) - before


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

    def test_odd_names_are_shown_as_the_listing_shows_them(self, folder):
        (folder / "blue" / "two\nlines.png").write_bytes(b"")
        done = store(read(folder), SMALL, folder / ".prepared")
        assert done.skipped[0].startswith("blue/two\\nlines.png: expected a picture")

    def test_its_threads_end_where_the_disk_is_full(self, folder):
        before = set(threading.enumerate())

        def full(count: int) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(UsageError, match="cannot write prepared pictures: No space left on device") as error:
            store(read(folder), SMALL, folder / ".prepared", full)
        assert error.value.__traceback__  # whose frames keep the generator
        assert not set(threading.enumerate()) - before

    def test_a_class_that_cannot_be_read_at_all_is_said(self, folder):
        for path in (folder / "red").iterdir():
            path.write_bytes(b"text")
        with pytest.raises(UsageError, match="12 unreadable pictures skipped, found none of 'red'; add pictures"):
            store(read(folder), SMALL, folder / ".prepared")

    def test_a_target_that_cannot_be_written_is_said(self, folder):
        with pytest.raises(UsageError, match="cannot write prepared pictures: Not a directory; make room there, or"):
            store(read(folder), SMALL, folder / "red" / "0.png" / "x")
