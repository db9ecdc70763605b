"""Scratch folders: removed when they are left, and those of killed processes by the next one."""

import contextlib
import os
import subprocess
import sys
import tempfile

import pytest
from paths import ROOT

from bench import UsageError
from bench.machine import scratch
from bench.machine.scratch import scratch_folder

KILLED = """
import os, sys
from bench.machine.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "weights").write_bytes(b"x" * 1000)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def tmpdir_of_the_test(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def left(folder):
    return [path for path in folder.iterdir() if path.is_dir()]


def test_a_folder_is_removed_also_after_an_error(tmp_path):
    with contextlib.suppress(ValueError), scratch_folder() as folder:
        assert folder.parent == tmp_path
        (folder / "a").mkdir()
        raise ValueError
    assert left(tmp_path) == []


def test_a_folder_of_a_killed_process_is_removed_by_the_next(tmp_path, monkeypatch):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, env=env).returncode == -9
    (stale,) = left(tmp_path)
    with scratch_folder():
        assert stale.is_dir()  # so young that it may belong to a process that has not locked it yet
    monkeypatch.setattr(scratch, "YOUNG_S", -1)
    with scratch_folder() as folder:
        assert left(tmp_path) == [folder]


def test_folders_of_living_processes_and_of_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "YOUNG_S", -1)
    (tmp_path / "alexnet-bench-notes").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / scratch.OWNER).touch()
    (tmp_path / "alexnet-bench-link").symlink_to(elsewhere)
    with scratch_folder() as first, scratch_folder() as second:
        assert first.is_dir()
        assert second.is_dir()
    assert (tmp_path / "alexnet-bench-notes").is_dir()
    assert (elsewhere / scratch.OWNER).exists()


def test_no_room_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="cannot make a scratch folder: No such file or directory; make room there"):
        with scratch_folder():
            pass
