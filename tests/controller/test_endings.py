"""What a Worker started ends with it; what is no message on its pipe fails its own Cases alone."""

import dataclasses
import os
import select
import signal
import subprocess
import sys
import time

import psutil
import pytest
from command import NULL, Inline
from null_runs import NULL_CASE, run_cases
from paths import ROOT

from bench.record.run import Run

pytestmark = pytest.mark.process

#: Processes that a user's net starts in ``build``: one in the Worker's group, one in a session of its own, and one in
#: a session of its own without the Worker's environment.
STARTS = """import subprocess, sys
    wait = [sys.executable, "-c", "import time; time.sleep({seconds})"]
    subprocess.Popen(wait, env={{}})
    subprocess.Popen(wait, start_new_session=True)
    {then}"""


def alive(seconds):
    """Processes that wait for that long."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"sleep({seconds})" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("then", ["pass", "os._exit(7)", "raise ValueError"], ids=["ends well", "dies", "fails"])
def test_processes_that_a_net_started_end_with_its_worker(tmp_path, then):
    seconds = 9000 + len(then)
    run = run_cases(tmp_path, [NULL_CASE], net=STARTS.format(seconds=seconds, then=then), rounds=1)
    left = alive(seconds)
    for process in left:
        process.kill()
    assert not left
    if then == "raise ValueError":
        (reason,) = {run.row(case)["invalid_reason"] for case in run.cases}
        assert reason == "its function raised an error without a message"


def test_a_death_is_known_though_a_descendant_holds_the_pipe(tmp_path):
    """Before, it was known after --worker-limit, which is 60 s here."""
    fork = "os._exit(7) if os.fork() else __import__('time').sleep(8765)"
    began = time.monotonic()
    run = run_cases(tmp_path, [NULL_CASE], net=fork, rounds=1)
    assert run.row(run.cases[0])["invalid_reason"] == "ended by itself with exit code 7"
    assert time.monotonic() - began < 50


#: The Worker's pipe of replies, as a net could find it.
PIPE = "next(frame.frame.f_locals['reply_pipe'] for frame in __import__('inspect').stack() if frame.function == 'main')"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("b'garbage\\n'", "expected a line of JSON, found "),
        pytest.param("b'\\xff\\xfe[1]\\n'", "expected a line of JSON, found ", marks=pytest.mark.slow),
        ("b'{\"a\": 1}\\n'", "expected a reply or a failure, found a"),
        pytest.param("b'[]\\n'", "expected a JSON object, found ", marks=pytest.mark.slow),
    ],
)
def test_bytes_that_are_no_message_fail_the_cases_of_that_net(tmp_path, written, reason):
    run = run_cases(tmp_path, [NULL_CASE], net=f"os.write({PIPE}, {written})", rounds=1)
    assert reason in run.row(run.cases[0])["invalid_reason"]


def test_a_stream_without_a_line_break_ends_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.controller.worker_process.LONGEST_REPLY", 1 << 21)
    endless = f"while True: os.write({PIPE}, b'x' * 65536)"
    run = run_cases(tmp_path, [NULL_CASE], net=endless, rounds=1)
    assert run.row(run.cases[0])["invalid_reason"] == "wrote 2 MiB without a line break in reply to build"


SLOW_TYPES = {
    "layout": "None",
    "traces": "[1]",
    "layers": "{'a': 1}",
    "state": "3",
    "logits": "'no array'",
    "fetch": "[]",
}


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("device", "5"),
        ("peak_memory", "'much'"),
        ("gradients", "None"),
        *(pytest.param(method, value, marks=pytest.mark.slow) for method, value in SLOW_TYPES.items()),
    ],
)
def test_a_method_that_returns_another_type_is_one_line_and_fails_its_cases(tmp_path, method, value):
    both = [dataclasses.replace(NULL_CASE, pass_=pass_) for pass_ in ("forward", "forward_backward")]
    run = run_cases(tmp_path, both, net=f"net.{method} = lambda *args: {value}", rounds=1)
    for case in run.cases:
        reason = run.row(case)["invalid_reason"]
        assert reason
        assert "\n" not in reason


def test_a_removed_folder_ends_the_run_at_once(tmp_path):
    command = Inline(tmp_path)
    process = command.start("run", *NULL, "--rounds", "50")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("results/*/workers/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder,) = (tmp_path / "results").iterdir()
    (folder / "run.jsonl").unlink()
    done = command.finish(process)
    assert done.code == 2
    assert "run.jsonl was removed while the Run was measured: nothing more can be kept" in done.err
    assert "Traceback" not in done.err


def test_a_closed_terminal_ends_a_run_as_ctrl_c_does(tmp_path):
    command = Inline(tmp_path)
    terminal, end = os.openpty()
    command.scratch.mkdir(parents=True)
    arguments = ["run", *NULL, "--rounds", "50", *command.out(("run",))]
    child = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(command.scratch)},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup this process ignores it
    )
    os.close(end)
    deadline = time.monotonic() + 90
    while not any('"event":"turn"' in path.read_text() for path in tmp_path.glob("results/*/run.jsonl")):
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    child.send_signal(signal.SIGHUP)
    assert child.wait(60) == 130
    (folder,) = (tmp_path / "results").iterdir()
    assert [end.reason for end in Run(folder).events[-1:]] == ["interrupted"]
    assert ",interrupted," in (folder / "summary.csv").read_text()
    assert not list(command.scratch.glob("alexnet-bench-*/"))
