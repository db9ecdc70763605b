"""`data` as a user meets it: what it says of a folder, what it shows, and what it does with broken ones."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mounts import mounted
from paths import ROOT
from PIL import Image, PngImagePlugin

from bench.commands.cli import main
from bench.output.plots import contact_sheet
from bench.pictures import flowers, folder, preparer
from bench.pictures.folder import is_held_out
from bench.worker import pixels
from impls.preprocessing import PREPROCESSINGS, augmented, color_shift, principal_colors

#: File names on either side of the split.
TRAINED, HELD_OUT = (
    [name for name in (f"{i}.png" for i in range(400)) if is_held_out(name) == side] for side in (False, True)
)


def draw(path: Path, color=(200, 40, 90), size=(40, 30), mode="RGB", **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **how)
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Calls `data` in a folder of the test's own: (exit code, stdout, lines of stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        done = CliRunner().invoke(main, ["data", *map(str, words), "--size", "28"])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr.splitlines()

    return call


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes of five pictures each, all different."""
    for number, name in enumerate(("cat", "dog")):
        for place, file in enumerate(TRAINED[:4] + HELD_OUT[:1]):
            draw(tmp_path / "photos" / name / file, (100 * number, 20 * place, 7), (30 + 10 * place, 30 + 10 * number))
    return tmp_path / "photos"


def found(data, *words):
    code, out, _ = data(*words, "--json")
    assert code == 0
    return json.loads(out)


def row(out: str, name: str) -> list[str]:
    (line,) = (line for line in out.splitlines() if line.split()[:1] == [name])
    return line.split()[1:]


class TestFigures:
    def test_a_row_per_class_and_their_sum(self, data, photos):
        (photos / "dog" / "broken.png").write_bytes(b"")
        code, out, _ = data(photos)
        assert code == 0
        assert row(out, "cat") == ["5", "4", "1", "0"]
        assert row(out, "dog") == ["5", "4", "1", "1"]
        assert row(out, "all") == ["10", "8", "2", "1"]

    def test_sizes_are_those_of_pictures_and_the_small_ones_are_counted(self, data, photos):
        _, out, _ = data(photos)
        assert "Sizes: 30 x 30 (least), 40 x 40 (median), 70 x 40 (largest) pixels" in out
        assert "6 of 10 have a side below 32 and are enlarged" in out

    def test_formats_and_notes_are_counted(self, data, photos):
        draw(photos / "cat" / "a.jpg")
        draw(photos / "cat" / "b.png", (0, 0, 0, 0), mode="RGBA")
        _, out, _ = data(photos)
        assert "Formats: 10 PNG RGB, 1 JPEG RGB, 1 PNG RGBA." in out
        assert "Notes: 1 transparent parts shown on white." in out

    def test_colors_are_of_pictures_to_train_on_alone(self, data, tmp_path):
        draw(tmp_path / "p" / "cat" / TRAINED[0], (10, 20, 30))
        draw(tmp_path / "p" / "dog" / TRAINED[0], (30, 60, 30))
        draw(tmp_path / "p" / "dog" / HELD_OUT[0], (255, 255, 255))
        colors = found(data, tmp_path / "p")["colors"]
        assert colors == {"mean": [20, 40, 30], "stddev": [10, 20, 0]}
        _, out, _ = data(tmp_path / "p", "--preprocessing", "caffe")
        assert row(out, "red") == ["20.00", "10.00", "0.0784", "0.0392", "123", "1"]
        assert row(out, "blue") == ["30.00", "0.00", "0.1176", "0.0000", "104", "1"]

    def test_pictures_outside_of_classes_have_no_side(self, data, tmp_path):
        draw(tmp_path / "p" / TRAINED[0], (10, 20, 30))
        draw(tmp_path / "p" / HELD_OUT[0], (30, 20, 30))
        result = found(data, tmp_path / "p")
        counts = {"name": None, "pictures": 2, "training": 0, "held_out": 0, "broken": 0}
        assert result["classes"] == [counts]
        assert result["colors"]["mean"] == [20, 20, 30]
        out = data(tmp_path / "p")[1]
        assert row(out, "(no") == ["class)", "2", "0"]
        assert "Colors of all pictures" in out

    def test_where_there_are_classes_pictures_outside_of_them_count_for_no_color(self, data, photos):
        before = found(data, photos)["colors"]
        draw(photos / TRAINED[0], (255, 255, 255))
        after = found(data, photos)
        assert (after["pictures"], after["colors"]) == (11, before)
        assert "Colors of the pictures to train on" in data(photos)[1]

    def test_a_folder_of_held_out_pictures_alone_has_no_colors(self, data, tmp_path):
        draw(tmp_path / "p" / "cat" / HELD_OUT[0])
        assert found(data, tmp_path / "p")["colors"] is None
        assert "Colors" not in data(tmp_path / "p")[1]

    def test_a_class_without_pictures_has_a_row(self, data, photos):
        (photos / "emu").mkdir()
        assert row(data(photos)[1], "emu") == ["0", "0", "0", "0"]


class TestCopies:
    def test_none_is_said(self, data, photos):
        assert "Copies: none" in data(photos)[1]
        assert "WARNING" not in data(photos)[1]

    def test_copies_within_a_class_and_side_are_named_and_do_no_harm(self, data, photos):
        draw(photos / "cat" / "copy.png", (0, 0, 7), (30, 30))
        assert not is_held_out("copy.png")
        _, out, _ = data(photos)
        assert "Copies: 1 picture with the pixels of another, in 1 group.\n" in out
        assert f"  cat/{TRAINED[0]} = cat/copy.png\n" in out
        assert "WARNING" not in out

    def test_another_format_or_other_metadata_hide_no_copy(self, data, photos):
        note = PngImagePlugin.PngInfo()
        note.add_text("Software", "another")
        draw(photos / "cat" / TRAINED[10], (100, 3, 7), pnginfo=note)
        draw(photos / "cat" / "copy.bmp", (100, 3, 7))
        (group,) = found(data, photos)["copies"]
        assert sorted(group["pictures"]) == sorted(["cat/copy.bmp", f"cat/{TRAINED[10]}"])

    def test_a_copy_on_the_other_side_of_the_split_is_a_warning(self, data, photos):
        draw(photos / "cat" / HELD_OUT[5], (0, 0, 7), (30, 30))
        _, out, _ = data(photos)
        assert "WARNING: 1 picture is both trained on and held out: the accuracy is better than that on new" in out
        assert "several classes" not in out
        assert f"cat/{TRAINED[0]} = cat/{HELD_OUT[5]} (trained on and held out)\n" in out
        (group,) = found(data, photos)["copies"]
        assert (group["split"], group["classes"]) == (True, False)

    def test_a_copy_in_another_class_is_a_warning_and_comes_first(self, data, photos):
        draw(photos / "cat" / "copy.png", (0, 0, 7), (30, 30))
        for name in ("cat", "dog"):
            draw(photos / name / TRAINED[20], (1, 2, 3))
        _, out, _ = data(photos)
        assert "WARNING: 1 picture is in several classes: no net can be right about all of their copies" in out
        assert f"\n  cat/{TRAINED[20]} = dog/{TRAINED[20]} (several classes)\n" in out
        assert "trained on and held out" not in out
        groups = found(data, photos)["copies"]
        assert [group["classes"] for group in groups] == [True, False]

    def test_many_copies_are_named_in_part(self, data, photos):
        for number in range(7):
            for file in range(6):
                draw(photos / "cat" / f"{number}-{file}.png", (number, 200, 3))
        _, out, _ = data(photos)
        assert "Copies: 35 pictures with the pixels of another, in 7 groups." in out
        assert len(re.findall(r"^  cat/\d-0.png = .*\.png and 2 more", out, re.M)) == 5
        assert "  and 2 more; --json names all\n" in out


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Three pictures of each flower."""
    path = tmp_path_factory.mktemp("drawn") / "flowers-drawn"
    flowers.draw(path, per_class=3)
    return path


def tiles_in(sheet: Path, squares: list[np.ndarray]) -> list[int]:
    """How often each square, as shown, is in a sheet."""
    with Image.open(sheet) as image:
        shown = np.array(image.convert("RGB"))
    counts = []
    for square in map(contact_sheet.scaled, squares):
        corners = np.argwhere((shown == square[0, 0]).all(2)).tolist()
        side = len(square)
        counts.append(sum(np.array_equal(shown[y : y + side, x : x + side], square) for y, x in corners))
    return counts


class TestSheet:
    @pytest.mark.parametrize("name", PREPROCESSINGS)
    def test_shows_the_crops_of_a_prediction_as_pixels(self, data, drawn, tmp_path, name):
        code, out, _ = data(drawn, "--preprocessing", name, "--output", tmp_path / "sheet.png")
        assert code == 0
        assert f"Contact sheet: {tmp_path / 'sheet.png'}" in out
        record = PREPROCESSINGS[name].at(28)
        crops = [preparer.prepare(path, record).square[2:30, 2:30] for path in sorted(drawn.rglob("*.jpg"))]
        assert tiles_in(tmp_path / "sheet.png", crops) == [1] * 15

    @pytest.mark.parametrize("name", ["plain", "2012"])
    def test_augmented_is_what_a_training_sees_in_its_first_epoch(self, data, drawn, tmp_path, name):
        shutil.copytree(drawn, tmp_path / "p")
        (tmp_path / "p" / "daisy" / "broken.jpg").write_bytes(b"")  # has no row in a training
        words = ("--preprocessing", name, "--augmented", "--seed", "5", "--output", tmp_path / "sheet.png")
        assert data(tmp_path / "p", *words)[0] == 0
        record = PREPROCESSINGS[name].at(28)
        preparer.store(folder.read(tmp_path / "p"), record, tmp_path / "stored")
        stored = pixels.map_stored(tmp_path / "stored")
        rows = np.flatnonzero(~stored.held_out).tolist()
        assert 0 < len(rows) < 15
        colors, seen = principal_colors(stored.pictures[row] for row in rows), []
        for row in rows:
            shift = color_shift(colors, record.color_noise, 5, 1, row) if record.color_noise else np.zeros(3)
            crop = augmented(stored.pictures[row], 28, 5, 1, row)
            seen.append(np.rint(crop + shift).clip(0, 255).astype(np.uint8))
        assert tiles_in(tmp_path / "sheet.png", seen) == [1] * len(rows)

    def test_it_has_as_many_of_each_class(self, data, tmp_path, monkeypatch):
        captions: list[str] = []
        monkeypatch.setattr(contact_sheet, "draw", lambda tiles, *rest: captions.extend(t.caption for t in tiles))
        for name, count in (("a", 1), ("b", 30), ("c", 30)):
            for number in range(count):
                draw(tmp_path / "p" / name / f"{number}.png", (number, 0, 0))
        (tmp_path / "p" / "c" / "0.png").write_bytes(b"")
        assert data(tmp_path / "p", "--batch", "9")[0] == 0
        first, captions[:] = [*captions], []
        assert [caption.split("\n")[0] for caption in first] == ["a"] + ["b"] * 4 + ["c"] * 4
        data(tmp_path / "p", "--batch", "9")
        assert captions == first
        captions.clear()
        data(tmp_path / "p", "--batch", "9", "--seed", "1")
        assert [caption.split("\n")[0] for caption in captions] == ["a"] + ["b"] * 4 + ["c"] * 4
        assert captions != first

    def test_it_goes_to_results_by_the_name_of_the_folder(self, data, tmp_path):
        draw(tmp_path / "my $ photos\n" / "0.png")
        code, out, _ = data(tmp_path / "my $ photos\n")
        assert (code, (tmp_path / "results" / "data-my-photos-n.png").is_file()) == (0, True)
        assert "Contact sheet: results/data-my-photos-n.png" in out

    @pytest.mark.parametrize(
        ("output", "expected"),
        [
            ("a.svg", "--output: expected a file that ends in .png, found 'a.svg'"),
            ("no/a.png", "--output: expected a folder at 'no', found none; make it"),
        ],
    )
    def test_an_output_that_cannot_be_is_refused_before_anything_is_read(self, data, tmp_path, output, expected):
        code, out, err = data(tmp_path, "--output", output)
        assert (code, out, err) == (2, "", [f"alexnet-bench: {expected}"])


class TestBrokenFolders:
    def test_what_cannot_be_read_is_named_skipped_and_counted(self, data, photos):
        odd = photos / "cat"
        (odd / "line\nbreak.png").write_bytes(b"")
        (odd / os.fsdecode(b"caf\xe9.png")).write_bytes(b"text")
        (odd / "nowhere.png").symlink_to(odd / "gone")
        (odd / "loop.png").symlink_to(odd / "loop.png")
        os.mkfifo(odd / "pipe.png")
        code, out, err = data(photos)
        assert code == 0
        assert row(out, "cat") == ["5", "4", "1", "2"]
        kinds = "expected a picture (JPEG, PNG, WEBP, GIF, BMP, AVIF), found"
        assert sorted(err) == [
            f"alexnet-bench: cat/caf\\udce9.png: {kinds} something else",
            f"alexnet-bench: cat/line\\nbreak.png: {kinds} an empty file",
            "alexnet-bench: cat/loop.png: a link that cannot be followed: Too many levels of symbolic links",
            "alexnet-bench: cat/nowhere.png: a link that leads nowhere",
            "alexnet-bench: cat/pipe.png: expected a regular file",
        ]
        assert data(photos, "--strict")[0] == 1

    def test_readable_pictures_of_odd_names_are_shown_without_a_warning(self, data, tmp_path, recwarn):
        for name in (b"a\nb.png", b"caf\xe9.png", b"$x^{.png", "\U0001f33b.png".encode(), b"\x1b[31m.png"):
            draw(tmp_path / "p" / "c\n\x1b[2J" / os.fsdecode(name))
        code, out, err = data(tmp_path / "p")
        assert (code, err) == (0, [])
        assert all(line.isprintable() for line in out.splitlines())
        assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
        assert (tmp_path / "results" / "data-p.png").is_file()

    def test_a_loop_of_folders_a_second_link_and_deeper_folders_end_nothing(self, data, photos):
        (photos / "cat" / "kittens").mkdir()
        draw(photos / "cat" / "kittens" / "0.png")
        (photos / "self").symlink_to(photos)
        (photos / "tiger").symlink_to(photos / "cat")
        code, out, err = data(photos)
        assert (code, row(out, "all")) == (0, ["10", "8", "2", "0"])
        assert err == [
            "alexnet-bench: self: a link to the folder itself, which is read already",
            "alexnet-bench: tiger: a link to cat, which is read already",
            "alexnet-bench: ignored: 1 folder within the folders of classes",
        ]

    @pytest.mark.parametrize("what", ["other", "deeper", "alike", "broken"])
    def test_strict_counts_every_kind(self, data, photos, what):
        if what == "other":
            (photos / "cat" / "notes.txt").write_text("")
        elif what == "deeper":
            (photos / "cat" / "kittens").mkdir()
        elif what == "broken":
            (photos / "cat" / "a.png").write_text("")
        else:
            draw(photos / "Cat" / "0.png")
        assert data(photos)[0] == 0
        assert data(photos, "--strict")[0] == 1

    def test_strict_is_0_for_a_whole_folder(self, data, photos):
        assert data(photos, "--strict")[0] == 0

    def test_classes_that_differ_in_case_only_are_named_and_are_two(self, data, photos):
        draw(photos / "Cat" / "0.png", (9, 9, 9))
        code, out, err = data(photos)
        assert (code, row(out, "Cat"), row(out, "cat")) == (0, ["1", "1", "0", "0"], ["5", "4", "1", "0"])
        assert err == [
            "alexnet-bench: classes whose names differ in case only, which some file systems take for one: Cat, cat"
        ]

    def test_a_fifth_of_broken_files_is_counted_and_named_in_part(self, data, tmp_path):
        for name in ("a", "b"):
            for number in range(50):
                path = draw(tmp_path / "p" / name / f"{number}.png", (number, 0, 0))
                if number % 5 == 0:
                    path.write_bytes(path.read_bytes()[:50])
        code, out, err = data(tmp_path / "p")
        assert (code, row(out, "all")[0], row(out, "all")[3]) == (0, "80", "20")
        assert len(err) == 6
        assert err[0].startswith("alexnet-bench: a/0.png: cannot be decoded: ")
        assert err[5] == "alexnet-bench: and 15 more; --json names all"
        assert len(found(data, tmp_path / "p")["skipped"]) == 20

    def test_files_of_other_kinds_are_counted(self, data, photos):
        (photos / "cat" / "notes.txt").write_text("")
        (photos / "README.md").write_text("")
        _, _, err = data(photos)
        assert err == [
            "alexnet-bench: ignored: 2 files of other kinds than .jpg, .jpeg, .png, .webp, .gif, .bmp, .avif"
        ]

    def test_an_empty_folder_is_an_error(self, data, tmp_path):
        (tmp_path / "p" / "cat").mkdir(parents=True)
        code, out, err = data(tmp_path / "p")
        assert (code, out) == (2, "")
        (line,) = err
        assert "expected pictures (.jpg, .jpeg, .png, .webp, .gif, .bmp, .avif), found none in it and none" in line
        assert line.endswith("none in its 1 folder; name a folder that has some")

    def test_a_folder_of_broken_files_alone_is_an_error_that_names_them(self, data, tmp_path):
        (tmp_path / "p").mkdir()
        for number in range(3):
            (tmp_path / "p" / f"{number}.png").write_bytes(b"")
        code, out, err = data(tmp_path / "p")
        assert (code, out, len(err)) == (2, "", 4)
        assert err[0].startswith("alexnet-bench: 0.png: expected a picture")
        assert "found none that can be read of 3 files; the lines above say why" in err[-1]

    def test_no_folder_is_an_error(self, data, tmp_path):
        assert data(tmp_path / "no")[2] == [
            f"alexnet-bench: expected a folder at '{tmp_path}/no', found nothing; check the path"
        ]

    def test_an_unreadable_class_and_file_are_named(self, photos, tmp_path):
        may_not = []
        if os.getuid() == 0:  # who may read everything, unless told otherwise
            may_not = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
            if not shutil.which("setpriv") or subprocess.run([*may_not, "true"], capture_output=True).returncode:
                pytest.skip("root may read everything here")
        os.chmod(photos / "dog", 0)
        os.chmod(photos / "cat" / TRAINED[0], 0)
        words = ["data", photos, "--size", "28", "--output", tmp_path / "a.png"]
        try:
            ran = subprocess.run(
                [*may_not, sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True
            )
        finally:
            os.chmod(photos / "dog", 0o700)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr.splitlines() == [
            "alexnet-bench: dog: cannot be read: Permission denied",
            f"alexnet-bench: cat/{TRAINED[0]}: cannot be decoded: Permission denied",
        ]
        assert row(ran.stdout, "cat") == ["4", "3", "1", "1"]

    def test_a_full_disk_for_the_sheet_is_one_line_after_the_figures(self, command, photos, tmp_path):
        with mounted(tmp_path / "disk", f"mount -t tmpfs -o size=4k tmpfs {tmp_path / 'disk'}") as disk:
            ran = command("data", str(photos), "--size", "28", "--output", str(disk / "a.png"))
        assert ran.code == 2
        assert row(ran.out, "all") == ["10", "8", "2", "0"]
        assert ran.err.startswith("alexnet-bench: cannot write ")
        assert ran.err.endswith("No space left on device; check the folder and its disk\n")


class TestFlowers:
    def test_drawn_pictures_are_kept_where_they_are_asked_for(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(flowers, "draw", lambda target, real=flowers.draw: real(target, per_class=2))
        code, out, _ = data("flowers", "--save", "kept")
        assert code == 0
        assert "flowers: 10 pictures, 5 classes" in out
        assert "Drawn pictures: kept" in out
        assert len(list((tmp_path / "kept").rglob("*.jpg"))) == 10
        assert (tmp_path / "results" / "data-flowers.png").is_file()
        code, _, err = data("flowers", "--save", "kept")
        assert (code, err[-1]) == (
            2,
            "alexnet-bench: expected no folder 'kept' yet, found one; remove it, or name another",
        )

    def test_a_folder_of_that_name_is_taken(self, data, tmp_path):
        draw(tmp_path / "flowers" / "rose" / "0.png")
        assert "flowers: 1 picture, 1 class" in data("flowers")[1]

    def test_a_folder_of_ones_own_is_not_kept_elsewhere(self, data, photos):
        code, _, err = data(photos, "--save", "kept")
        assert (code, len(err)) == (2, 1)
        assert "--save: it keeps the drawn pictures; leave it out" in err[0]


def test_ctrl_c_keeps_what_was_counted_so_far(command, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    draw(tmp_path / "p" / "a" / "0.png")
    (tmp_path / "p" / "a" / "00.png").write_bytes(b"")
    Image.fromarray(noise).save(tmp_path / "p" / "a" / "1.png", compress_level=1)
    for number in range(2, 400):
        os.link(tmp_path / "p" / "a" / "1.png", tmp_path / "p" / "a" / f"{number}.png")
    names = sorted(os.listdir(tmp_path / "p" / "a"))
    process = command.start(
        "data", str(tmp_path / "p"), "--size", "28", "--output", str(tmp_path / "a.png"), "--strict"
    )
    later = {str(tmp_path / "p" / "a" / name) for name in names[40:]}
    while not opened(process) & later:  # at most 17 are prepared ahead
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    ran = command.finish(process)
    assert ran.code == 130, ran.err
    read = int(row(ran.out, "a")[0])
    assert 20 <= read < 399
    assert f"\nStopped after {read + 1} of 401 files.\n" in ran.out
    assert ran.err.endswith(f"alexnet-bench: interrupted: {read + 1} of 401 files were read\n")
    assert (tmp_path / "a.png").is_file()


def opened(process) -> set[str]:
    """Files that a process has open."""
    files = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            files.add(os.readlink(link))
    return files
