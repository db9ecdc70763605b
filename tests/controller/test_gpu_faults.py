"""Faults planted in a stand-in of a GPU: whole Runs of the null Net on a device of its own, beside a stand-in for NVML.

What a fault does to a Run is the same as on a real card: a flag, a refusal or an exit, and nothing measured is lost.
"""

import csv
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from command import NULL
from gpus import card

pytestmark = pytest.mark.process

ASYNC = "gpus=1,async=3"
LOST = "lost its device: RuntimeError: CUDA error: "
FAILED = "failed in measure: RuntimeError: CUDA error: "
HURRY = ("--worker-limit", "2")
THROTTLED = [0, 0, 0x40]  # now and then


#: A card that does not count its energy, for which no second of passes comes before the iteration of a fault.
UNWEIGHED = {name: value for name, value in card().items() if name != "watts"}


@dataclass(frozen=True)
class Planted:
    """A fault: what the null Net and its cards do, and the flag, exit code and words that say so."""

    net: str
    flag: str = ""
    code: int = 0
    says: str = ""
    cards: list[dict[str, Any]] = field(default_factory=lambda: [UNWEIGHED])
    state: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    keeps: bool = False
    """Whether a row of what was measured before is kept, though it is invalid."""


PLANTED = {
    "nothing": Planted(ASYNC),
    "its wait returns early": Planted("gpus=1,unsynced=30", code=1, says="its wait returns before the device is done"),
    "it is lost in a turn": Planted(f"{ASYNC},lost=60", code=1, says=LOST + "GPU is lost", keeps=True),
    "its memory fails, and says so": Planted(f"{ASYNC},ecc=60", code=1, says=LOST + "uncorrectable ECC", keeps=True),
    "its memory fails in silence": Planted(
        ASYNC, "every_round_disturbed", says="that ECC could not correct", cards=[card(ecc=[0, 1, 2, 3])]
    ),
    "its kernel fails": Planted(f"{ASYNC},failed=60", code=1, says=FAILED + "unspecified launch failure", keeps=True),
    "its kernel fails since it is lost, says NVML": Planted(
        f"{ASYNC},failed=60", code=1, says=LOST + "unspecified launch failure", state={"lost": 2}, keeps=True
    ),
    "it is full before a turn": Planted(f"{ASYNC},memory=60", code=1, says="ran out of memory: ", keeps=True),
    "it is full at the first call": Planted(f"{ASYNC},memory=1", code=1, says="ran out of memory: "),
    "it is too hot": Planted(
        ASYNC, "every_round_disturbed", says="thermal slowdown by hardware", cards=[card(reasons=THROTTLED)]
    ),
    "its power brake is on": Planted(ASYNC, "every_round_disturbed", says="power brake", cards=[card(reasons=0x80)]),
    "it is at its power limit": Planted(ASYNC, "gpu_power_cap", cards=[card(reasons=[0, 0x4])]),
    "its clock falls without a reason": Planted(ASYNC, "gpu_clock_varied", cards=[card(sm_mhz=[1980, 1980, 1200])]),
    "another process computes on it": Planted(
        ASYNC, "every_round_disturbed", says="1 other process computed on the GPU", cards=[card(pids=["own", 1])]
    ),
    "processes are numbered otherwise, as outside a container": Planted(ASYNC, cards=[card(pids=[1, 2])]),
    "its output is on another device": Planted(
        "gpus=2,async=3,elsewhere", code=1, says="asked for cuda, the output is on cuda:1"
    ),
    "there is no such device": Planted(
        "gpus=2,async=3", code=2, says="device 'cuda:5' asked for", cards=[card(), card()], args=("--device", "cuda:5")
    ),
    "tf32 was left on": Planted(f"{ASYNC},tf32", code=1, says="asked for fp32, but a matmul ran in tf32 precision"),
    "its event timer is too fast": Planted(f"{ASYNC},timer=1.5", "device_timer_off"),
    "its event timer is too slow": Planted(f"{ASYNC},timer=0.5", "device_timer_off"),
    "it computes faster than it is told what": Planted("gpus=1,async=1,launch=8", "launch_bound"),
    "it does not end": Planted(f"{ASYNC},hang=60", code=1, says="hung: no answer", args=HURRY, keeps=True),
    "its process dies": Planted(f"{ASYNC},die=60", code=1, says="ended by itself with exit code 9", keeps=True),
    "nothing watches it": Planted(ASYNC, "gpu_not_watched", state={"init": 9}),
    "it is lost to NVML alone": Planted(ASYNC, "gpu_not_watched", state={"lost": 6}),
    "power is read": Planted(ASYNC, cards=[card()]),
}


@pytest.fixture
def run_on(inline, nvml):
    """Run the null Net with this fault; returns how it finished, and the rows of summary.csv."""

    def run(planted: Planted, *args: str, base: tuple[str, ...] = NULL):
        nvml(*planted.cards, **planted.state)
        given = ("--mode", "part", "--device", "cuda", "--env", f"NULL_NET={planted.net}", *planted.args, *args)
        finished = inline("run", *base, *given)
        file = next(finished.results.glob("*/summary.csv"), None)
        return finished, list(csv.DictReader(file.open())) if file else []

    return run


class TestPlanted:
    @pytest.mark.parametrize("fault", PLANTED)
    def test_a_fault_has_its_flag_refusal_or_exit(self, run_on, fault):
        planted = PLANTED[fault]
        finished, rows = run_on(planted)
        said = finished.out + finished.err + " ".join(row["invalid_reason"] for row in rows)
        assert finished.code == planted.code, said
        assert planted.says in " ".join(said.split())
        flags = {flag for row in rows for flag in row["flags"].split()} & GPU_FLAGS
        assert flags == {planted.flag} - {""} if not planted.code else not flags & {"launch_bound", "device_timer_off"}
        measured = any(row["median_ms"] for row in rows)
        assert measured == (planted.keeps or not planted.code)


#: Flags that a Run on a loaded machine does not get.
GPU_FLAGS = {
    *("gpu_power_cap", "gpu_not_watched", "gpu_clock_varied", "launch_bound", "device_timer_off"),
    *("every_round_disturbed", "rounds_disturbed"),
}


class TestFigures:
    def test_a_row_has_what_the_device_and_the_host_take_and_what_nvml_says(self, run_on):
        finished, rows = run_on(Planted(ASYNC, cards=[card()]))
        assert {row["pass"]: row["l2"] for row in rows} == {"forward": "warm", "forward_backward": "cold"}
        for row in rows:
            assert float(row["device_ms"]) == 3.0  # by the clock of the null device
            assert 0 < float(row["launch_ms"]) < 3
            assert (float(row["gpu_mhz"]), float(row["gpu_mhz_high"]), float(row["gpu_watts"])) == (1980, 1980, 400)
        weighed = {event["case_id"]: event for event in finished.of("energy")}
        for row in rows:
            event = weighed[row["case_id"]]  # of 400 W, as long as between the two readings of the counter
            assert event["joules"] == pytest.approx(400 * event["wall_s"], rel=0.02)
            assert event["wall_s"] >= event["iterations"] * 3e-3
            assert float(row["joules_per_image"]) == pytest.approx(event["joules"] / event["iterations"] / 2)

    def test_a_cpu_has_none_of_it(self, inline):
        finished = inline("run", *NULL)
        (file,) = finished.results.glob("*/summary.csv")
        of_gpu = ("device_ms", "launch_ms", "joules_per_image", "gpu_mhz", "gpu_mhz_high", "l2")
        assert {row[name] for row in csv.DictReader(file.open()) for name in of_gpu} == {""}

    def test_burn_in_ends_by_time_where_its_iterations_are_short(self, run_on):
        gated = tuple(arg for arg in NULL if arg != "--no-gate")
        iterations = {}
        for device in ("cpu", "cuda"):
            finished, _ = run_on(Planted("gpus=1,async=1"), "--device", device, "--pass", "forward", base=gated)
            newest = max(finished.results.iterdir())
            events = [json.loads(line) for line in (newest / "run.jsonl").read_text().splitlines()]
            (iterations[device], *_) = [len(event["ns"]) for event in events if event["event"] == "burn_in"]
        assert iterations["cuda"] > 2 * iterations["cpu"]


class TestLost:
    def test_a_device_that_is_gone_ends_later_groups_too_and_no_figure_is_lost(self, run_on):
        finished, rows = run_on(Planted(f"{ASYNC},lost=60"), "--batch", "2,3")
        assert finished.code == 1
        assert any(row["median_ms"] for row in rows)
        gone = [row["invalid_reason"] for row in rows if row["batch"] == "3"]
        assert all(reason.startswith("its device is gone: ") and "dmesg" in reason for reason in gone)
