"""Listing of folders as people have them: odd names, links, loops, and what is no file."""

import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from paths import ROOT

from bench import UsageError
from bench.pictures.listing import escaped, listed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes, and links")


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names_of(folder: Path) -> list[str]:
    return [entry.name for entry in listed(folder).entries]


class TestNames:
    ODD = (
        "two\nlines.jpg",
        os.fsdecode(b"\xff\xe9.jpg"),
        "\x1b[31mred.jpg",
        "‮turned.jpg",
        "plain ü 花.jpg",
        r"a\nb.jpg",
    )

    def test_line_breaks_and_other_bytes_are_listed_and_shown_on_one_line(self, tmp_path):
        made(tmp_path, *(f"a/{name}" for name in self.ODD))
        entries = listed(tmp_path).entries
        assert [entry.file for entry in entries] == sorted(self.ODD)
        assert all(entry.path.is_file() for entry in entries)
        assert all(entry.name.isprintable() for entry in entries)
        assert sorted(names_of(tmp_path)) == sorted(
            ["a/two\\nlines.jpg", "a/\\udcff\\udce9.jpg", "a/\\x1b[31mred.jpg", "a/\\u202eturned.jpg"]
            + ["a/plain ü 花.jpg", "a/a\\\\nb.jpg"]
        )

    def test_different_names_are_shown_differently(self):
        alike = ["a\nb", "a\\nb", "a\\\\nb", "a\\\nb", "a'b", "a\\'b", "a'\"\n", "a'\\\"\n"]
        assert len(set(map(escaped, alike))) == len(alike)

    def test_classes_of_such_names_too(self, tmp_path):
        made(tmp_path, "two\nlines/1.jpg")
        listing = listed(tmp_path)
        assert listing.classes == ("two\nlines",)
        assert listing.entries[0].name == "two\\nlines/1.jpg"

    def test_classes_that_differ_in_case_only_are_told(self, tmp_path):
        made(tmp_path, "Rose/1.jpg", "rose/2.jpg", "ROSE/3.jpg", "tulip/4.jpg", "STRASSE/1.jpg", "straße/1.jpg")
        listing = listed(tmp_path)
        assert listing.alike == ["ROSE, Rose, rose", "STRASSE, straße"]
        assert len(listing.entries) == 6


class TestKinds:
    def test_files_are_listed_before_classes_and_all_by_name(self, tmp_path):
        made(
            tmp_path, "z.jpg", "b/10.jpg", "b/9.JPEG", "a/x.webp", "a/.hidden.jpg", ".git/1.jpg", "a/notes.txt", "x.mp4"
        )
        (tmp_path / "empty").mkdir()
        listing = listed(tmp_path)
        assert [(entry.name, entry.truth) for entry in listing.entries] == [
            ("z.jpg", None),
            ("a/x.webp", "a"),
            ("b/10.jpg", "b"),
            ("b/9.JPEG", "b"),
        ]
        assert listing.classes == ("a", "b", "empty")
        assert (listing.others, listing.deeper, listing.problems) == (2, 0, ())

    def test_folders_below_classes_are_counted_and_not_read(self, tmp_path):
        made(tmp_path, "a/1.jpg", "a/deep/2.jpg", "a/other/3.jpg", "b/deep/deeper/4.jpg")
        listing = listed(tmp_path)
        assert [entry.name for entry in listing.entries] == ["a/1.jpg"]
        assert listing.deeper == 3

    def test_pipes_and_sockets_are_problems_by_name(self, tmp_path, monkeypatch):
        made(tmp_path, "a/1.jpg")
        os.mkfifo(tmp_path / "a/pipe.jpg")
        monkeypatch.chdir(tmp_path / "a")  # a socket's path may have 107 bytes
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("socket.jpg")
            listing = listed(tmp_path)
        assert [entry.file for entry in listing.entries] == ["1.jpg"]
        assert listing.problems == (
            "a/pipe.jpg: expected a regular file",
            "a/socket.jpg: expected a regular file",
        )

    def test_an_empty_folder_has_nothing_and_no_problem(self, tmp_path):
        listing = listed(tmp_path)
        assert (listing.entries, listing.classes, listing.problems) == ((), (), ())


class TestLinks:
    def test_links_to_files_and_to_folders_outside_are_followed(self, tmp_path):
        made(tmp_path, "outside/1.jpg", "set/a/2.jpg")
        (tmp_path / "set/a/link.jpg").symlink_to(tmp_path / "outside/1.jpg")
        (tmp_path / "set/b").symlink_to(tmp_path / "outside")
        listing = listed(tmp_path / "set")
        assert [entry.name for entry in listing.entries] == ["a/2.jpg", "a/link.jpg", "b/1.jpg"]
        assert listing.problems == ()

    def test_links_that_lead_nowhere_or_to_themselves_are_problems(self, tmp_path):
        made(tmp_path, "a/1.jpg")
        (tmp_path / "a/gone.jpg").symlink_to("nothing")
        (tmp_path / "a/loop.jpg").symlink_to("loop.jpg")
        (tmp_path / "self").symlink_to("self")
        listing = listed(tmp_path)
        assert [entry.name for entry in listing.entries] == ["a/1.jpg"]
        assert listing.problems == (
            "self: a link that cannot be followed: Too many levels of symbolic links",
            "a/gone.jpg: a link that leads nowhere",
            "a/loop.jpg: a link that cannot be followed: Too many levels of symbolic links",
        )

    @pytest.mark.parametrize("link", ["a-before", "z-after"])
    def test_a_link_to_another_class_is_the_problem_and_not_the_class(self, tmp_path, link):
        made(tmp_path, "m/1.jpg")
        (tmp_path / link).symlink_to("m")
        listing = listed(tmp_path)
        assert [entry.name for entry in listing.entries] == ["m/1.jpg"]
        assert listing.classes == ("m",)
        assert listing.problems == (f"{link}: a link to m, which is read already",)

    def test_a_link_to_the_folder_that_is_listed_is_a_problem(self, tmp_path):
        made(tmp_path, "a/1.jpg")
        (tmp_path / "up").symlink_to("../" + tmp_path.name)
        (tmp_path / "a/up").symlink_to("..")  # below a class nothing is read
        listing = listed(tmp_path)
        assert [entry.name for entry in listing.entries] == ["a/1.jpg"]
        assert listing.problems == ("up: a link to the folder itself, which is read already",)
        assert listing.deeper == 1

    def test_of_two_links_to_one_folder_the_first_is_a_class(self, tmp_path):
        made(tmp_path, "outside/1.jpg")
        (tmp_path / "set").mkdir()
        for name in ("a", "b"):
            (tmp_path / "set" / name).symlink_to("../outside")
        listing = listed(tmp_path / "set")
        assert [entry.name for entry in listing.entries] == ["a/1.jpg"]
        assert listing.problems == ("b: a link to a, which is read already",)

    def test_a_named_link_to_a_folder_is_that_folder(self, tmp_path):
        made(tmp_path, "set/a/1.jpg")
        (tmp_path / "link").symlink_to("set")
        assert names_of(tmp_path / "link") == ["a/1.jpg"]


@pytest.mark.process
class TestUnreadable:
    """As somebody without rights, since root may read everything."""

    @staticmethod
    def listed_by_nobody(folder: Path) -> str:
        """What such a process finds: problems and entries, or its error."""
        code = f"""
import os
from bench.pictures.listing import listed
from bench import UsageError
if os.getuid() == 0:
    os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
try:
    found = listed(__import__("pathlib").Path({str(folder)!r}))
    print(*found.problems, *(entry.name for entry in found.entries), sep="\\n")
except UsageError as error:
    print(error)
"""
        ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @pytest.fixture
    def folder(self, tmp_path_factory) -> Path:
        """A folder that nobody can reach: pytest's own are closed to others."""
        path = tmp_path_factory.mktemp("open")
        for each in (path, *path.parents):
            if each.stat().st_uid == os.getuid() and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o055)
            if not each.stat().st_mode & 0o005:
                pytest.skip(f"{each} is closed to others")
        made(path, "a/1.jpg", "closed/2.jpg", "outside/3.jpg")
        yield path
        for each in (path, path / "closed", path / "outside"):
            each.chmod(0o700)

    def test_a_class_that_cannot_be_read_is_named_and_the_others_are_read(self, folder):
        (folder / "closed").chmod(0)
        assert self.listed_by_nobody(folder) == "closed: cannot be read: Permission denied\na/1.jpg\noutside/3.jpg\n"

    def test_a_link_into_a_closed_folder_is_named(self, folder):
        (folder / "outside").chmod(0)
        (folder / "a/link.jpg").symlink_to("../outside/3.jpg")
        assert self.listed_by_nobody(folder).splitlines()[:2] == [
            "a/link.jpg: a link that cannot be followed: Permission denied",
            "outside: cannot be read: Permission denied",
        ]

    def test_a_folder_that_cannot_be_read_is_one_line(self, folder):
        folder.chmod(0)
        assert self.listed_by_nobody(folder) == (
            f"cannot read {str(folder)!r}: Permission denied; check its permissions\n"
        )


def test_a_file_takes_few_bytes_also_while_a_folder_is_read(tmp_path):
    """A million take as many MB."""
    made(tmp_path, "a/0.jpg")
    for index in range(20_000):
        os.link(tmp_path / "a/0.jpg", tmp_path / "a" / f"picture_{index:06d}.jpg")
    tracemalloc.start()
    entries = listed(tmp_path).entries
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == 20_001
    assert kept / len(entries) < 200
    assert peak / len(entries) < 250


def test_no_folder_is_one_line(tmp_path):
    made(tmp_path, "file")
    for name, found in (("none", "nothing"), ("file", "a file")):
        with pytest.raises(UsageError, match=f"expected a folder at .*, found {found}; check the path"):
            listed(tmp_path / name)
