"""A program that a scheduler's task begins: its environment, signals and niceness, and its end with the task."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from paths import ROOT

from bench.machine import fresh

pytestmark = pytest.mark.process

SEES = """
import json, os, signal
print(json.dumps([sorted(os.environ), [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())]]))
"""
#: A task whose child sleeps, and that is killed.
TASK = """
import subprocess, sys, time
from bench.machine import fresh
child = subprocess.Popen(fresh.command([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(99)"]),
                         env=fresh.environment(), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(99)
"""


def test_no_variable_of_a_task_reaches_the_program(monkeypatch):
    for name in ("RAY_JOB_ID", "OMP_NUM_THREADS", "ALEXNET_BENCH_BATCH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TMPDIR", "/scratch")
    found = fresh.environment()
    assert found["TMPDIR"] == "/scratch"
    assert found.keys() <= set(fresh.KEPT)


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"])
def test_gpus_that_a_task_was_given_are_those_of_the_program(monkeypatch, name):
    monkeypatch.setenv(name, "1,3")
    assert fresh.environment()[name] == "1,3"


def test_this_package_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/__init__.py").write_text("raise RuntimeError('of the current folder')")
    words = [sys.executable, "-P", "-c", "import bench; print(bench.__file__)"]
    done = subprocess.run(
        fresh.command(words), env=fresh.environment(), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(ROOT / "bench/__init__.py")


def test_signals_that_a_task_blocks_reach_the_program():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        done = subprocess.run(fresh.command([sys.executable, "-c", SEES]), capture_output=True, text=True, check=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert json.loads(done.stdout)[1] == []


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_it_ends_with_a_task_that_is_killed():
    task = subprocess.Popen(
        [sys.executable, "-c", TASK], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    child = psutil.Process(int(task.stdout.readline()))
    task.kill()
    task.communicate()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_without_its_parent_it_does_not_begin():
    command = fresh.command([sys.executable, "-c", "print('began')"])
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may lower it")
def test_root_gets_the_niceness_back_that_a_task_lost():
    code = (
        "import os; from bench.machine.fresh import as_started; os.nice(15); "
        "print(as_started(3), os.getpriority(os.PRIO_PROCESS, 0))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "3"]


def test_another_user_is_told_the_niceness_that_stays(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    monkeypatch.setattr(os, "getpriority", lambda *_: 15)
    assert fresh.as_started(0) == 15
