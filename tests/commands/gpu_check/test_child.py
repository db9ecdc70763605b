"""A command in a process of its own, which may not end, and what it starts."""

import re
import sys
import time

import psutil
import pytest

from bench.commands.gpu_check import child

#: Starts another process in a session of its own, writes both numbers, and does not end when it is asked to.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), other.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(child, "argv_of", lambda words: [sys.executable, "-c", *words])


def numbers_in(log):
    """The numbers of both, once they are written; else none."""
    found = re.search(r"^(\d+) (\d+)$", log.read_text(), flags=re.MULTILINE)
    return [int(number) for number in found.groups()] if found else []


def running(log):
    """Those of them that run; a zombie has ended, and waits for whoever is its parent now."""
    numbers = numbers_in(log)
    assert len(numbers) == 2
    found = [psutil.Process(number) for number in numbers if psutil.pid_exists(number)]
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def test_a_command_that_ends_has_its_code_and_its_log(tmp_path, script):
    ended = child.run(
        ["import sys; print('told'); print('more', file=sys.stderr); sys.exit(3)"], tmp_path / "a.log", 60
    )
    assert ended.code == 3
    assert (tmp_path / "a.log").read_text().splitlines()[-2:] == ["told", "more"]


@pytest.mark.parametrize("ending", ["SIG_IGN", "SIG_DFL"])
def test_at_its_limit_it_ends_or_is_killed_with_what_it_started(tmp_path, script, ending):
    ended = child.run([STUBBORN.replace("SIG_IGN", ending)], tmp_path / "a.log", 6)
    assert ended.code is None
    assert ended.wall_s > 4
    assert running(tmp_path / "a.log") == []


def test_repeated_interruptions_kill_it_too(tmp_path, script, monkeypatch):
    def interrupt(seconds):
        if numbers_in(tmp_path / "a.log"):
            raise KeyboardInterrupt
        before(seconds)

    before = time.sleep
    monkeypatch.setattr(child.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        child.run([STUBBORN], tmp_path / "a.log", 20)
    monkeypatch.undo()
    assert running(tmp_path / "a.log") == []


def test_variables_that_are_options_do_not_reach_it(monkeypatch):
    monkeypatch.setenv("ALEXNET_BENCH_BATCH", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    given = child.environment()
    assert "ALEXNET_BENCH_BATCH" not in given
    assert given["CUDA_VISIBLE_DEVICES"] == "1"
