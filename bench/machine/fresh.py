"""Fresh: begin a program from a task of a scheduler, without what the scheduler set in the task's own process.

``python -m bench.machine.fresh PARENT WORD...`` becomes the program of these words. It is terminated when its parent
ends, however that ends, and its signals are those of a shell: Ray blocks Ctrl-C's in all that it starts.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import bench
from impls import ACCELERATORS

PR_SET_PDEATHSIG = 1  # of Linux
#: Variables that a program needs from its surroundings; no others of a task's reach it.
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
ROOT = str(Path(str(bench.__file__)).parent.parent)


def command(words: Sequence[str]) -> list[str]:
    """The command line that becomes this one, and ends with the calling process."""
    return [sys.executable, "-P", "-m", __name__, str(os.getpid()), *words]


def environment() -> dict[str, str]:
    """The variables of this process that a program needs, among them the GPUs of a task that was given some, and the
    place of this package, which a checkout has in the current folder."""
    variables = [name for accelerator in ACCELERATORS.values() for name in accelerator.visible_by]
    visible = {name: value for name in variables if (value := os.environ.get(name))}
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    path = {"PYTHONPATH": os.pathsep.join(filter(None, (ROOT, kept.get("PYTHONPATH"))))}
    return kept | path | visible


def as_started(nice: int) -> int:
    """Give this thread, and what it starts, that niceness if it may; return the niceness that it has then."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    return os.getpriority(os.PRIO_PROCESS, 0)


def main() -> None:
    parent, words = int(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError, AttributeError):  # without Linux's prctl it outlives a parent that is killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # it ended before prctl
    os.execv(words[0], words)


if __name__ == "__main__":
    main()
