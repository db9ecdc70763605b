"""What a device itself took for the pass of a Case, where its event timer can be believed."""

from dataclasses import dataclass
from statistics import median

from bench.cases.case import Case
from bench.record.events import BurnIn, DeviceTime, Turn
from bench.record.recording import Recording

OFF = 0.01  # of the host's time between two events: clocks of crystals differ by less
LONGER = 1.1  # times the median sample, which contains the device's time
SHORTER, SPARE_NS = 1.5, 200_000  # times device and launch together, which contain the fastest sample but for its wait


@dataclass(frozen=True)
class OnDevice:
    """Medians over Rounds: what the device takes for a pass, and what the host takes to enqueue it."""

    device_ns: float
    launch_ns: float

    @property
    def launch_bound(self) -> bool:
        """Whether the host takes longer than the device."""
        return self.launch_ns > self.device_ns


def on_device(run: Recording, case: Case) -> OnDevice | None:
    """None if it was not measured, is not to be believed, or has gaps: of a pass that waits for the device itself."""
    measured = _measured(run, case)
    if measured is None or timer_off(run, case) or not all(event.enqueued for event in run.of_case(DeviceTime, case)):
        return None
    return measured


def timer_off(run: Recording, case: Case) -> bool:
    """Whether the device's timer disagrees with the host's clock, on an idle device or about the pass."""
    checks = [event.timer for event in run.of_case(DeviceTime, case)]
    if any(not (1 - OFF) * check.least_ns <= check.device_ns <= (1 + OFF) * check.most_ns for check in checks):
        return True
    spin_ns = max((event.spin_ns for event in run.of_case(BurnIn, case)), default=0)  # of an --ab, after the pass
    measured, samples = _measured(run, case), [ns for turn in run.of_case(Turn, case) for ns in turn.ns[turn.lead :]]
    if measured is None or not samples:
        return False
    samples = [ns - spin_ns for ns in samples]
    contained = SHORTER * (measured.device_ns + measured.launch_ns) + SPARE_NS
    return measured.device_ns > LONGER * median(samples) or min(samples) > contained


def _measured(run: Recording, case: Case) -> OnDevice | None:
    events = run.of_case(DeviceTime, case)
    if not events:
        return None
    return OnDevice(
        *(
            median(median(each) for each in kind)
            for kind in zip(*((e.device_ns, e.launch_ns) for e in events), strict=True)
        )
    )
