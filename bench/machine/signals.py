"""Signals that end a command as Ctrl-C does, so that what was measured is kept."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

#: A request to end, and a closed terminal or a lost connection.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

_asked = threading.Event()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """In this context the first SIGTERM or SIGHUP raises KeyboardInterrupt, unless it was ignored before (nohup)."""
    before = {number: signal.getsignal(number) for number in ENDING}
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]  # asked for now: one that is gone is none

    def interrupt(number: int, frame: FrameType | None) -> None:
        _asked.set()
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        if number != signal.SIGTERM:
            _leave(terminals)
        raise KeyboardInterrupt

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def check() -> None:
    """Raise KeyboardInterrupt if a signal asked to end; what its handler raises is lost in a destructor."""
    if _asked.is_set():
        raise KeyboardInterrupt


def answered() -> None:
    """The command is ending: ``check`` raises no more."""
    _asked.clear()


def _leave(terminals: Sequence[int]) -> None:
    """Write to nowhere in place of a terminal, which is gone: a write to it would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in terminals:
        os.dup2(nowhere, stream)
    os.close(nowhere)
