"""Child: a command of the suite in a process of its own, ended with all that it started at its limit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.machine import fresh

POLL_S = 0.2
GRACE_S = 8.0  # for a command that is asked to end, so that a Run writes its tables
GRACE_SHARE = 0.25  # of a shorter limit
GONE_S = 3.0  # for the killed to leave the device
OPTIONS = "ALEXNET_BENCH_"  # variables that are options of every command


@dataclass(frozen=True)
class Ended:
    """``code`` is None for a child that was ended at its limit: asked to end ``grace_s`` before it."""

    argv: Sequence[str]
    code: int | None
    wall_s: float
    grace_s: float = 0.0


def argv_of(words: Sequence[str]) -> list[str]:
    """The command line of these words of the suite."""
    return [sys.executable, "-P", "-m", "bench", *words]


def grace_of(limit_s: float) -> float:
    """Seconds of a limit that a command has for its end, once it is asked to."""
    return min(GRACE_S, GRACE_SHARE * limit_s)


def run(words: Sequence[str], log: Path, limit_s: float) -> Ended:
    """Run a command for at most ``limit_s``, appending what it prints to ``log``.

    Shortly before its limit, and where this process is interrupted, it is asked to end, and then killed with all that
    it started; a KeyboardInterrupt is raised again.
    """
    argv, began = argv_of(words), time.monotonic()
    grace = grace_of(limit_s)
    with log.open("ab") as out:
        out.write(f"$ alexnet-bench {' '.join(words)}\n".encode())
        out.flush()
        child = subprocess.Popen(
            fresh.command(argv),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is this process's to handle
        )
        try:
            while child.poll() is None and time.monotonic() - began < limit_s - grace:
                time.sleep(POLL_S)
            late = child.poll() is None
            if late:
                end(child, grace)
        except BaseException:
            end(child, grace)
            raise
    return Ended(argv, None if late else child.returncode, time.monotonic() - began, grace)


def environment() -> dict[str, str]:
    """The variables of this process, but for those that are options, with the place of this package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OPTIONS)}
    path = os.pathsep.join(filter(None, (fresh.ROOT, os.environ.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask a command to end, then kill it and all that it started: Workers have sessions of their own."""
    known = started_by(child)
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also where a second Ctrl-C ends the wait
        known |= started_by(child)
        for process in known:
            with contextlib.suppress(psutil.Error):  # of a process that has its number now, psutil kills nothing
                process.kill()
        child.kill()
        child.wait()
    psutil.wait_procs(known, timeout=GONE_S)


def started_by(child: subprocess.Popen[bytes]) -> set[psutil.Process]:
    """The processes that a child has started, directly and not; none if it has ended."""
    with contextlib.suppress(psutil.Error):
        return set(psutil.Process(child.pid).children(recursive=True))
    return set()
