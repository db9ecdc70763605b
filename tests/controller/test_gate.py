"""Acceptance checks, and the differences between two compared rows."""

import csv
import dataclasses

import pytest
from runs import A, B, event, make, turn, worker

from bench.controller import gate, parity
from bench.controller.parity import Judged
from bench.record import validity
from bench.record.journal import Journal
from bench.record.pairs import within
from bench.record.run import Run
from bench.worker.replies import Check, CheckKind, Conditions, FrameworkConditions, Library, PrecisionProbe, Reading

GPU, APPLE, INTEL = (dataclasses.replace(A, device=device) for device in ("cuda:1", "mps", "xpu:1"))


def check(what, error, tolerance=1e-4, kind="gradient"):
    return Judged.of_error(CheckKind(kind), what, error, tolerance)


def conditions(**changes):
    """Those of a Worker on two threads of a CPU, but for the changes."""
    settings = {"threads": 2, "onednn": True, "tf32": False, "bf16": None, "switches": {}}
    place = {"device": "cpu", "layout": "nchw", "traces": {}, "filled": []}
    return Conditions(**settings | place | {"libraries": [], "other_frameworks": []} | changes)


def test_the_worst_check_is_named_and_one_without_an_error_is_worse_than_any():
    fine, off, far = check("a", 1e-5), check("gradient conv1/kernel", 2e-4), check("logits", 1e-3, 1e-5)
    missing = check("gradient fc8/bias is missing", None)
    assert gate.value_fault([fine]) == ""
    words = "disagrees with the float64 reference in {} of {} arrays, worst {}"
    assert gate.value_fault([fine, off]) == words.format(1, 2, "gradient conv1/kernel: off by 2.0e-04, allowed 1e-04")
    assert gate.value_fault([off, far]) == words.format(2, 2, "logits: off by 1.0e-03, allowed 1e-05")
    assert gate.value_fault([off, far, missing]) == words.format(3, 3, "gradient fc8/bias is missing")


@pytest.mark.parametrize(
    ("case", "shown", "refused"),
    [
        (A, "fp32", False),
        (A, "unknown", True),
        (A, "tf32", True),
        (A, "bf16", True),
        (GPU, "unknown", False),  # Winograd's transforms lose digits there
        (GPU, "tf32", True),
        (dataclasses.replace(A, precision="bf16"), "bf16", False),
        (dataclasses.replace(A, precision="bf16"), "fp32", True),
    ],
)
def test_another_precision_than_was_asked_for_is_refused(case, shown, refused):
    found = {"matmul": PrecisionProbe(3e-7, case.precision), "conv": PrecisionProbe(2e-3, shown)}
    words = f"asked for {case.precision}, but a conv ran in {shown} precision (off by 2.0e-03 from float64)"
    assert gate.precision_fault(case, found) == (words if refused else "")


@pytest.mark.parametrize(
    ("case", "device", "refused"),
    [
        (A, "cpu", False),
        (A, "/job:localhost/replica:0/task:0/device:CPU:0", False),
        (A, "cpu:0", False),
        (A, "cuda:0", True),
        (GPU, "cuda:1", False),
        (GPU, "gpu:1", False),
        (GPU, "gpu:0", True),
        (GPU, "/job:localhost/replica:0/task:0/device:GPU:1", False),
        (GPU, "cpu", True),
        (A, "mps", True),
        (A, "tpu", True),  # an unknown device is not the CPU
        (APPLE, "mps:0", False),  # as PyTorch writes it
        (APPLE, "cpu", True),  # fell back
        (APPLE, "cuda:0", True),
        (INTEL, "xpu:1", False),
        (INTEL, "xpu:0", True),
        (INTEL, "cuda:1", True),
    ],
)
def test_an_output_on_another_device_is_refused(case, device, refused):
    words = f"asked for {case.device}, the output is on {device}"
    assert gate.place_fault(case, 2, conditions(device=device, layout=case.layout)) == (words if refused else "")


def test_activations_in_another_layout_are_refused():
    words = "asked for layout nchw, activations are in nhwc"
    assert gate.place_fault(A, 2, conditions(layout="nhwc")) == words


@pytest.mark.parametrize(("threads", "refused"), [(2, False), (None, False), (1, True)])
def test_other_threads_in_force_are_refused_where_they_are_known(threads, refused):
    words = "asked for 2 threads, 1 are in force"
    assert gate.place_fault(A, 2, conditions(threads=threads)) == (words if refused else "")


def test_a_retrace_is_a_change_of_conditions_and_a_library_loaded_late_is_none():
    before = conditions(traces={"forward": 1})
    assert gate.changed(before, conditions(traces={"forward": 1}, libraries=[Library("libcudnn.so.9", True)])) == {}
    assert gate.changed(before, conditions(traces={"forward": 2})) == {"traces": ({"forward": 1}, {"forward": 2})}


def proven(**changes):
    """What a Worker of A recorded, but for those changes."""
    return event("worker", group=0, round=0, attempt=0, **worker(A, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"threads": 1}, ["threads 1, 2 in the baseline"]),
        ({"onednn": False}, ["oneDNN off, on in the baseline"]),
        ({"onednn": None}, []),  # XLA has no oneDNN to switch
        ({"tf32": True}, ["TF32 on, off in the baseline"]),
        ({"matmul": "bf16"}, ["matmul in bf16, fp32 in the baseline"]),
    ],
)
def test_rows_under_different_conditions_are_reported(changes, words):
    assert validity.setting_differences([proven()], [proven(**changes)]) == words


def test_one_round_with_other_conditions_is_a_difference():
    odd = [proven(), proven(threads=1)]
    assert validity.setting_differences([proven()] * 2, odd) == ["threads 1 and 2, 2 in the baseline"]


@pytest.mark.parametrize(
    ("multiple", "refused"), [(None, False), (0.7, False), (1.5, False), (4.0, False), (4.1, True)]
)
def test_work_that_beats_the_machine_by_more_than_any_algorithm_was_left_out(multiple, refused):
    words = "implausible: 4.1 times the machine's ceiling, so work was left out"
    assert validity.pruned_fault(multiple) == (words if refused else "")


class TestBadSamples:
    """Two Workers at work at once, or no duration at all: stored, and never counted."""

    def add(self, folder, *turns):
        make(folder, rounds=1)
        made = Journal(folder)
        for taken in turns:
            made.add(event("turn", **taken))
        for round_ in {taken["round"] for taken in turns}:
            made.add(event("round", group=0, round=round_, attempt=0, disturbed=""))
        return Run(folder)

    def test_samples_of_two_workers_that_overlap_are_left_out_on_both_sides(self, tmp_path):
        ours, theirs = turn(A, [10] * 5, 10**12, round=1), turn(B, [10] * 3, 10**12 + 35, round=1)
        run = self.add(tmp_path, ours, theirs)
        assert run.samples_by_round(A)[1] == [10] * 3  # 0 to 30; the fourth ends at 40, after the other began
        assert run.samples_by_round(B)[1] == [10] * 1  # 55 to 65; the others began before 50
        run.write()
        with open(tmp_path / "samples.csv", newline="") as file:
            valid = [row["valid"] for row in csv.DictReader(file)]
        assert valid[-8:] == ["True"] * 3 + ["False"] * 4 + ["True"]

    def test_samples_that_touch_do_not_overlap(self, tmp_path):
        run = self.add(tmp_path, turn(A, [10] * 2, 10**12, round=1), turn(B, [10] * 2, 10**12 + 20, round=1))
        assert (run.samples_by_round(A)[1], run.samples_by_round(B)[1]) == ([10] * 2, [10] * 2)

    def test_a_turn_inside_another_leaves_samples_before_and_after(self, tmp_path):
        run = self.add(tmp_path, turn(A, [10] * 5, 10**12, round=1), turn(B, [10], 10**12 + 20, round=1))
        assert 1 not in run.samples_by_round(B)
        assert run.samples_by_round(A)[1] == [10] * 2  # what follows is not known to have been alone

    def test_a_long_turn_covers_more_than_the_next_one(self, tmp_path):
        late = [turn(B, [10], 10**12 + start, round=1) for start in (10, 900, 1000)]
        run = self.add(tmp_path, turn(A, [1000], 10**12, round=1), *late)
        assert run.samples_by_round(B)[1] == [10]

    @pytest.mark.parametrize("ns", [0, -5])
    def test_a_duration_that_is_none_is_left_out(self, tmp_path, ns):
        event = turn(A, [10, 10, 10], 10**12, round=1) | {"ns": [10, ns, 10]}
        assert self.add(tmp_path, event).samples_by_round(A)[1] == [10, 10]

    def test_the_same_clock_in_another_round_is_no_overlap(self, tmp_path):
        run = self.add(tmp_path, turn(A, [10], 10**12, round=1), turn(B, [10], 10**12, round=2))
        assert (run.samples_by_round(A)[1], run.samples_by_round(B)[2]) == ([10], [10])

    def test_a_round_without_one_good_sample_is_no_round(self, tmp_path):
        run = self.add(tmp_path, turn(A, [10], 10**12, round=1) | {"ns": [0]})
        assert list(run.samples_by_round(A)) == [0]

    def test_a_cycle_with_a_turn_that_has_no_sample_left_is_not_in_the_ratio(self, tmp_path):
        make(tmp_path, rounds=3)
        lines = (tmp_path / "run.jsonl").read_text().splitlines()
        first = next(i for i, line in enumerate(lines) if '"event":"turn"' in line)
        lines[first] = lines[first].replace(",1000,1000]", ",0,-1]")
        (tmp_path / "run.jsonl").write_text("\n".join(lines) + "\n")
        (pair,) = within(Run(tmp_path))
        assert pair.ratio.rounds == 2


SETTINGS = FrameworkConditions(2, True, False, None, {"default_dtype": "torch.float32"})


def reading(**changes):
    return dataclasses.replace(Reading(3, 0, [], "", 10**6, 10**6, SETTINGS), **changes)


def test_a_timed_iteration_is_refused_for_its_values_its_handles_or_its_settings():
    before = conditions(bf16=True, switches=SETTINGS.switches)  # of bf16, what the hardware has
    fine, off = check("a", 1e-5), check("logits", 1e-3, 1e-5)
    assert gate.reading_fault(reading(), [fine], before) == ""
    assert gate.reading_fault(reading(), [fine, off], before).startswith(
        "in a timed iteration disagrees with the float64 reference in 1 of 2 arrays, worst logits"
    )
    fault = gate.reading_fault(reading(fault="its output is not finite"), [], before)
    assert fault == "in a timed iteration its output is not finite"
    for changes, words in (
        ({"threads": 1}, "threads 2 -> 1"),
        ({"switches": {"default_dtype": "torch.float64"}}, "switches {'default_dtype': 'torch.float32'} -> "),
    ):
        settings = dataclasses.replace(SETTINGS, **changes)
        fault = gate.reading_fault(reading(settings=settings), [fine], before)
        assert fault.startswith(f"in a timed iteration it had changed {words}")


MS = 1_000_000


@pytest.mark.parametrize(
    ("fault", "fine", "refused", "words"),
    [
        (gate.reload_fault, (22 * MS, 10 * MS), (23 * MS, 10 * MS), "a pass takes 23.0 ms on images it has not seen"),
        (gate.reload_fault, (2 * MS, 0), (3 * MS, 0), "and 0.0 ms on them again: it keeps results"),
        (gate.clock_fault, (0.5, 1.0, 0), (0.4, 1.0, 0), "its samples add up to 0.40 s of the 1.00 s that they took"),
        (gate.clock_fault, (0.0, 0.9, 9), (0.0, 1.1, 9), "its clock is not the machine's"),
        (gate.clock_fault, (0.0, 1.7, 9, 2), (0.0, 1.9, 9, 2), "its clock is not the machine's"),
        (gate.late_fault, (15 * MS, 10 * MS), (16 * MS, 10 * MS), "takes 16.0 ms more than copying them"),
        (gate.late_fault, (5 * MS, 0), (6 * MS, 0), "work is left to the reading"),
        (gate.cores_fault, (1.5, 1.0, 1), (1.6, 1.0, 1), "asked for --threads 1, 1.6 cores were busy"),
        (gate.cores_fault, (9.0, 1.0, None), (2.6, 1.0, 2), "asked for --threads 2, 2.6 cores were busy"),
        (gate.cores_fault, (0.9, 0.09, 1), (0.9, 0.1, 1), "9.0 cores were busy"),
    ],
)
def test_times_that_cannot_be_those_of_the_work_are_refused_above_their_limit(fault, fine, refused, words):
    assert fault(*fine) == ""
    assert words in fault(*refused)


def test_a_fault_that_is_no_value_is_said_by_itself():
    fault = parity.judge([Check(CheckKind.FAULT, "two passes computed the same batch", None)], {})
    assert gate.value_fault([check("logits", 1e-3, 1e-5), *fault]) == "two passes computed the same batch"
