"""Locks that keep two Runs, or a Run and a self-test, from using a device at the same time."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock

from bench import UsageError


class DeviceLock:
    """Context manager that holds the locks of the devices; calls ``waiting`` with a message before it has to wait."""

    def __init__(self, devices: Sequence[str], waiting: Callable[[str], None]):
        self.waiting = waiting
        kinds = sorted({device.partition(":")[0] for device in devices})
        folder = Path(tempfile.gettempdir())
        self.locks = [filelock.FileLock(folder / f"alexnet-bench-{kind}.lock", mode=0o666) for kind in kinds]

    def __enter__(self) -> None:
        with contextlib.ExitStack() as held:  # if a later lock fails, the earlier ones are released
            for lock in self.locks:
                self._acquire(lock)
                held.callback(lock.release)
            self.held = held.pop_all()

    def __exit__(self, *error: object) -> None:
        self.held.close()

    def _acquire(self, lock: filelock.BaseFileLock) -> None:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            self.waiting("another alexnet-bench run holds this device: waiting for it to end")
            lock.acquire()
        except OSError as error:
            why = f"{lock.lock_file}: {error.strerror}; set TMPDIR to a folder that can be written"
            raise UsageError(f"cannot lock {why}") from error
