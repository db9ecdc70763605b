"""Signals that end a command as Ctrl-C does."""

import contextlib
import os
import signal

import pytest

from bench.machine import signals
from bench.machine.signals import interruptible


@pytest.fixture(autouse=True)
def not_ignored():
    """As in a shell; under nohup this process ignores SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.ENDING)
def test_a_signal_is_an_interrupt_once(number):
    before = signal.getsignal(number)
    with interruptible(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # what was measured is being written


def test_an_interrupt_that_a_destructor_lost_is_raised_by_the_next_check():
    with interruptible():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signals.check()
        signals.answered()
        signals.check()


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
            signals.check()
    finally:
        signal.signal(signal.SIGHUP, before)
