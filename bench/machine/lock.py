"""Locks that keep two Runs, or a Run and a self-test, from using a device at the same time."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock

from bench import UsageError


@contextlib.contextmanager
def lock_devices(devices: Sequence[str], waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the locks of the devices; ``waiting`` is called with a message before it has to wait."""
    with contextlib.ExitStack() as held:
        for kind in sorted({device.partition(":")[0] for device in devices}):
            lock = filelock.FileLock(Path(tempfile.gettempdir()) / f"alexnet-bench-{kind}.lock", mode=0o666)
            try:
                held.enter_context(lock.acquire(timeout=0))
            except filelock.Timeout:
                waiting("another alexnet-bench run holds this device: waiting for it to end")
                held.enter_context(lock.acquire())
            except OSError as error:
                why = f"{lock.lock_file}: {error.strerror}; set TMPDIR to a folder that can be written"
                raise UsageError(f"cannot lock {why}") from error
        yield
