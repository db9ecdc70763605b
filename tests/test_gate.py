"""What is refused, and what is said of two rows that were not alike."""

import dataclasses

import pytest
from test_results import A, worker

from bench import gate

GPU = dataclasses.replace(A, device="cuda:1")


def check(what, error, tolerance=1e-4, kind="gradient"):
    return {
        "kind": kind,
        "what": what,
        "error": error,
        "tolerance": tolerance,
        "ok": error is not None and error <= tolerance,
    }


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
    found = {"matmul": {"error": 3e-7, "precision": case.precision}, "conv": {"error": 2e-3, "precision": shown}}
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
        (A, "mps", True),  # a word that nobody knows is not the CPU
    ],
)
def test_an_output_on_another_device_is_refused(case, device, refused):
    words = f"asked for {case.device}, the output lies on {device}"
    assert gate.place_fault(case, 2, {"device": device, "layout": case.layout, "threads": 2}) == (
        words if refused else ""
    )


def test_activations_in_another_layout_are_refused():
    words = "asked for layout nchw, activations lie in nhwc"
    assert gate.place_fault(A, 2, {"device": "cpu", "layout": "nhwc", "threads": 2}) == words


@pytest.mark.parametrize(("threads", "refused"), [(2, False), (None, False), (1, True)])
def test_other_threads_in_force_are_refused_where_they_are_known(threads, refused):
    words = "asked for 2 threads, 1 are in force"
    conditions = {"device": "cpu", "layout": "nchw", "threads": threads}
    assert gate.place_fault(A, 2, conditions) == (words if refused else "")


def test_a_retrace_is_a_change_of_conditions_and_a_library_loaded_late_is_none():
    before = worker(A, traces={"forward": 1})["conditions"]
    late = before | {"libraries": [{"name": "libcudnn.so.9", "inside": True}]}
    assert gate.changed(before, late) == {}
    assert gate.changed(before, before | {"traces": {"forward": 2}}) == {"traces": [{"forward": 1}, {"forward": 2}]}


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
def test_rows_under_unlike_conditions_are_told_apart(changes, words):
    assert gate.differing([worker(A)], [worker(A, **changes)]) == words


def test_one_rounds_worker_that_was_unlike_is_enough():
    odd = [worker(A), worker(A, threads=1)]
    assert gate.differing([worker(A)] * 2, odd) == ["threads 1 and 2, 2 in the baseline"]


@pytest.mark.parametrize(
    ("multiple", "refused"), [(None, False), (0.7, False), (1.5, False), (4.0, False), (4.1, True)]
)
def test_work_that_beats_the_machine_by_more_than_any_algorithm_was_left_out(multiple, refused):
    words = "implausible: 4.1 times the machine's matrix rate, so work was left out"
    assert gate.pruned_fault(multiple) == (words if refused else "")
