"""Locks of devices: held together or not at all."""

import filelock
import pytest

from bench.machine.lock import lock_devices


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def is_free(folder, device):
    lock = filelock.FileLock(folder / f"alexnet-bench-{device}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    lock.release()
    return True


def test_all_devices_are_held_within_the_context_and_free_after_it(folder):
    with lock_devices(["cuda:1", "cpu"], print):
        assert [is_free(folder, device) for device in ("cpu", "cuda")] == [False, False]
    assert [is_free(folder, device) for device in ("cpu", "cuda")] == [True, True]


def test_an_interrupt_while_waiting_for_the_second_lock_releases_the_first(folder):
    def interrupt(text):
        raise KeyboardInterrupt

    both = lock_devices(["cpu", "cuda"], interrupt)
    with filelock.FileLock(folder / "alexnet-bench-cuda.lock"):
        with pytest.raises(KeyboardInterrupt), both:
            pass
        assert is_free(folder, "cpu")
