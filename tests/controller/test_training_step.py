"""Runs of a training step: what the summary has of it, and a Net whose steps become wrong while it is timed."""

import csv
import dataclasses

import pytest
from command import NULL
from null_runs import NULL_CASE, run_cases

pytestmark = pytest.mark.process

STEP = dataclasses.replace(NULL_CASE, pass_="train_step")

#: By name, code of a user's net that is wrong, and what is said of it.
WRONG = {
    "nothing after the steps of the proof": (
        "step = net.train_step; "
        "net.train_step = lambda: step() if len(net.steps) < 3 else null_alexnet.Step(4 + net.turn)",
        "velocity ",
    ),
    "a velocity that is not finite": (
        "trained = net.trained\n"
        "    def spoilt(handles):\n"
        "        found = trained(handles)\n"
        "        if len(net.steps) > 3: found.velocity['conv1']['bias'][0] = float('nan')\n"
        "        return found\n"
        "    net.trained = spoilt",
        "is not finite",
    ),
    "another momentum": (
        "import dataclasses; restart = net.restart; "
        "net.restart = lambda sgd: restart(dataclasses.replace(sgd, momentum=0.8))",
        "velocity ",
    ),
    "the batch of every second step again": (
        "net.turn = 0; step = net.train_step; net.train_step = lambda: (setattr(net, 'turn', 0), step())[1]",
        "velocity ",
    ),
}


def test_rows_of_a_step_have_its_time_less_that_of_the_passes_and_its_proof(inline):
    run = inline("run", *NULL, "--rounds", "3", "--pass", "all")
    assert run.code == 0, run.err
    with open(run.folder / "summary.csv", newline="") as file:
        rows = {row["pass"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["forward", "forward_backward", "train_step"]
    step, both = rows["train_step"], rows["forward_backward"]
    assert {row["valid"] for row in rows.values()} == {"True"}
    for column in ("parity_change", "parity_velocity"):
        assert 0 < float(step[column]) < 1e-4
    assert float(step["update_ci95_low_ms"]) < float(step["update_ci95_high_ms"])
    assert (step["backward_ci95_low_ms"], both["update_ci95_low_ms"]) == ("", "")
    assert both["backward_ci95_low_ms"]


def test_right_net_of_a_user_is_timed_in_a_step(tmp_path):
    slow = "import time; step = net.train_step; net.train_step = lambda: (time.sleep(0.05), step())[1]"
    (row,) = run_cases(tmp_path, [STEP], slow, iterations=8).rows()
    assert (row["valid"], row["invalid_reason"]) == (True, "")


@pytest.mark.parametrize("name", WRONG)
def test_net_whose_step_is_wrong_is_refused(tmp_path, name):
    code, reason = WRONG[name]
    (row,) = run_cases(tmp_path, [STEP], code, iterations=8).rows()
    assert not row["valid"]
    assert reason in row["invalid_reason"]
