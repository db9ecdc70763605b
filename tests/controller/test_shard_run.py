"""The Run of a shard in a child process, and a Run folder that travels as bytes."""

import subprocess
import sys
import time

import fleets
import psutil
import pytest

from bench import UsageError
from bench.controller import shard_run
from bench.controller.shard_run import Packed, packed
from bench.record.run import Run

#: In place of `run`: says that it began, and does not end when it is asked to.
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(99)
"""


@pytest.fixture
def run(tmp_path):
    made = fleets.shard(tmp_path / "node/shard-1-of-4", 1, 4)
    made.write()
    return made


class TestPacked:
    def test_a_run_arrives_as_it_was(self, run, tmp_path):
        there = packed(1, run.folder.parent, b"x" * 9999 + b"alexnet-bench: the end\n")
        assert (there.code, there.name, there.reason[-7:]) == (1, "shard-1-of-4", "the end")
        assert len(there.said) == shard_run.SAID
        folder = there.unpack(tmp_path / "here")
        assert folder == tmp_path / "here/shard-1-of-4"
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in run.folder.iterdir()
        }
        assert shard_run.opened(folder, run.head.shard.grid).rows() == Run(run.folder).rows()
        assert [path.name for path in (tmp_path / "here").iterdir()] == ["shard-1-of-4"]

    def test_without_a_run_it_has_the_last_line(self, tmp_path):
        assert packed(2, tmp_path, b"a\nalexnet-bench: no such file\n").reason == "no such file"
        assert packed(-9, tmp_path, b"").reason == "it wrote nothing, and ended with exit code -9"

    @pytest.mark.parametrize("name", ["../a", "a/b", "/a", "..", ".", "", "a\0"])
    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path, name):
        for odd in (Packed(0, name, (("run.jsonl", b""),), ""), Packed(0, "a", (("run.jsonl", b""), (name, b"")), "")):
            with pytest.raises(UsageError, match="expected the name of a file in a Run, found "):
                odd.unpack(tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_files_without_a_journal_are_no_run(self, tmp_path):
        with pytest.raises(UsageError, match=r"a: expected run\.jsonl in it, found none; nothing of it is kept"):
            Packed(0, "a", (("summary.csv", b""),), "").unpack(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_run_that_is_there_is_kept(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a/run.jsonl").write_text("old")
        with pytest.raises(UsageError, match="File exists; nothing of it is kept"):
            Packed(0, "a", (("run.jsonl", b"new"),), "").unpack(tmp_path)
        assert (tmp_path / "a/run.jsonl").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_run_of_another_grid_is_left_out(run):
    with pytest.raises(UsageError, match=r"expected a shard of grid abc, found .*; it is left out of the index"):
        shard_run.opened(run.folder, "abc")


@pytest.mark.process
def test_a_run_that_does_not_end_when_asked_to_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_run, "ENDING_S", 0.2)
    child = subprocess.Popen([sys.executable, "-c", STUBBORN, str(tmp_path / "began")])
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    shard_run.end(child)
    assert child.returncode == -9


@pytest.mark.process
def test_an_interrupted_task_ends_its_child(tmp_path, monkeypatch):
    began = tmp_path / "began"
    monkeypatch.setattr(shard_run, "command", lambda *_: [sys.executable, "-c", STUBBORN, str(began)])
    monkeypatch.setattr(shard_run, "ENDING_S", 0.2)

    real, raised = time.sleep, []

    def sleep(seconds):
        real(min(seconds, 0.05))
        if began.exists() and not raised:
            raised.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        shard_run.run_shard([], 0, 1, tmp_path)
    assert [each for each in psutil.process_iter(["cmdline"]) if str(began) in (each.info["cmdline"] or [])] == []
