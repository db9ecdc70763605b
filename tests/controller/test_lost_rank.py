"""Runs of torch on two devices, of which a rank is killed in mid-Round: the Round is repeated, and nothing is lost."""

import json
import time

import psutil
import pytest

from bench.controller.worker_process import MARK
from bench.record.run import Run

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = 2
RUN = (
    *("run", "--devices", "1,2", "--oversubscribe", "--framework", "torch", "--pass", "forward_backward"),
    *("--variant", "half_width", "--size", "67", "--batch", "1", "--rounds", str(ROUNDS), "--iterations", "40"),
    *("--no-gate", "--burn-in", "2", "--env", "TORCH_CPP_LOG_LEVEL=INFO"),  # so that every rank has said something
)


def turns_of_team(lines: list[bytes], round_: int) -> int:
    events = [json.loads(line) for line in lines]
    return sum(each["event"] == "turn" and each["round"] == round_ and bool(each["rank_ns"]) for each in events)


def kill_rank(process: psutil.Process, number: int) -> None:
    children = process.children(recursive=True)
    (victim,) = (child for child in children if f"-rank{number}-" in child.environ().get(MARK, ""))
    victim.kill()


@pytest.mark.parametrize(("number", "round_"), [(1, 0), (0, 1)])
def test_a_round_in_which_a_rank_of_torch_was_killed_is_repeated_once(number, round_, command):
    pytest.importorskip("torch")
    process = command.start(*RUN)
    until = time.monotonic() + 400
    acknowledged: list[bytes] = []
    while turns_of_team(acknowledged, round_) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
        for journal in command.results.glob("*/run.jsonl"):
            acknowledged = journal.read_bytes().split(b"\n")[:-1]
    kill_rank(psutil.Process(process.pid), number)
    done = command.finish(process)
    assert done.code == 0, done.err
    journal = (done.folder / "run.jsonl").read_bytes().split(b"\n")
    assert journal[: len(acknowledged)] == acknowledged

    (fault,) = done.of("fault")
    assert (fault["worker"], fault["kind"], fault["round"], fault["attempt"]) == ("torch-eager-x2", "died", round_, 0)
    assert fault["reason"].startswith(f"rank {number}: killed by SIGKILL")
    assert f"[rank{number}]:" in fault["stderr_tail"].partition("\nrank ")[0], fault["stderr_tail"]
    (void,) = done.of("void")
    assert (void["round"], void["attempt"]) == (round_, 0)

    run = Run(done.folder)
    assert run.finished(0) == set(range(ROUNDS))
    assert [run.invalid_reason(case) for case in run.cases] == [""] * 4
    assert all(len(run.samples(case)) == ROUNDS for case in run.cases)
    assert [each["reason"] for each in done.of("end")] == ["planned"]
    kept = [turn for turn in done.of("turn") if (turn["round"], turn["attempt"]) == (round_, 0) and turn["rank_ns"]]
    assert len(kept) >= 3
