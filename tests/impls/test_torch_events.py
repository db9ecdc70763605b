"""Units of the event timer of torch's CUDA devices, on a stand-in for the device that torch.cuda speaks to."""

import pytest
import torch
from nets import configured

configured("torch")
from impls import torch_alexnet, torch_events  # noqa: E402

GHZ = 1.5


class Event:
    """An event of a queue whose clock only kernels move."""

    queue_ns = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        self.at_ns = Event.queue_ns

    def synchronize(self):
        pass

    def elapsed_time(self, last):
        return (last.at_ns - self.at_ns) / 1e6


@pytest.fixture
def timer(monkeypatch):
    def sleep(cycles):
        Event.queue_ns += round(cycles / GHZ)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    monkeypatch.setattr(torch_events, "_sleep", sleep)
    return torch_events.timer("cuda:1")


def test_milliseconds_of_events_become_nanoseconds(timer):
    first = timer.mark()
    Event.queue_ns += 1_234_567
    assert timer.between_ns(first, timer.mark()) == 1_234_567


@pytest.mark.parametrize("ns", [100_000, 3_000_000])
def test_the_kernel_that_blocks_takes_the_cycles_of_that_time(timer, ns):
    assert timer.cycles_per_ns == pytest.approx(GHZ)
    first = timer.mark()
    timer.block(ns)
    assert timer.between_ns(first, timer.mark()) == pytest.approx(ns, rel=1e-6)


@pytest.mark.parametrize("device", ["cpu", "mps", "xpu"])
def test_other_devices_have_none(device):
    assert torch_alexnet.timer(device) is None


def test_a_torch_without_that_kernel_has_none(monkeypatch):
    monkeypatch.setattr(torch_events, "_sleep", None)
    assert torch_alexnet.timer("cuda") is None
