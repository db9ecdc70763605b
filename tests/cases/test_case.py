"""Cases: ids, the grid, groups, and what a user may not ask for."""

import dataclasses

import pytest

from bench import UsageError
from bench.cases.axes import Axes
from bench.cases.case import Case, check_cases, groups
from bench.cases.parse import parse_choice, parse_choices, parse_count, parse_device, parse_modes
from impls import FRAMEWORKS
from impls.variants import VARIANTS

*FIRST, LAST = FRAMEWORKS
UNKNOWN_DEVICE = "unknown device '{}': choose cpu, cuda, mps, xpu, or one GPU such as cuda:1"
NO_CAFFE = f"unknown framework 'caffe': choose {', '.join(FIRST)} or {LAST}"
DEFAULTS = {
    "variant": ["tutorial"],
    "modes": {"torch": ["eager"], "tensorflow": ["graph"]},
    "layouts": {"torch": ["nchw"], "tensorflow": ["nhwc"]},
    "device": ["cpu"],
    "precisions": ["fp32"],
    "batch": [32],
    "pass_": ["forward", "forward_backward"],
}


def test_an_id_leaves_out_every_axis_at_its_default():
    case = Case("tutorial", "torch", "eager", "cpu", "fp32", "nchw", 32, "forward")
    assert case.id == "tutorial-torch-eager-cpu-fp32-b32-forward"


def test_an_id_appends_every_axis_that_is_not():
    case = Case(
        "owt", "torch", "eager", "cuda:1", "fp32", "channels_last", 8, "forward_backward", 2, 67, dropout=True, seed=3
    )
    assert case.id == "owt-torch-eager-cuda:1-fp32-b8-forward_backward-channels_last-t2-s67-dropout-seed3"


def test_ids_of_a_grid_are_all_different():
    cases = Axes(**DEFAULTS | {"variant": list(VARIANTS), "batch": [1, 2, 8]}).cases()
    assert len({case.id for case in cases}) == len(cases) == 8 * 3 * 2 * 2


def test_the_default_grid_is_four_cases_in_one_group():
    (group,) = groups(Axes(**DEFAULTS).cases())
    assert [(case.framework, case.pass_) for case in group] == [
        ("torch", "forward"),
        ("tensorflow", "forward"),
        ("torch", "forward_backward"),
        ("tensorflow", "forward_backward"),
    ]


def test_variants_and_batches_are_groups_of_their_own():
    cases = Axes(**DEFAULTS | {"variant": ["owt", "bvlc"], "batch": [1, 2]}).cases()
    assert len(groups(cases)) == 4


def test_the_variants_own_size_is_no_axis():
    assert Axes(**DEFAULTS, size=224).cases()[0].id == Axes(**DEFAULTS).cases()[0].id
    assert Axes(**DEFAULTS, size=96).cases()[0].id.endswith("-s96")


def test_forward_backward_counts_three_forwards_less_the_images_gradient():
    cases = Axes(**DEFAULTS | {"variant": ["owt"]}).cases()
    assert [case.macs for case in cases] == [714_188_480, 714_188_480, 2_072_288_640, 2_072_288_640]


def test_all_is_every_choice_and_a_name_twice_is_one():
    assert parse_choices("pass", "all", ("a", "b")) == ["a", "b"]
    assert parse_choices("pass", "b,a,b", ("a", "b")) == ["b", "a"]


def test_modes_go_to_the_framework_that_has_them():
    assert parse_modes(["torch", "tensorflow"], "eager,graph") == {"torch": ["eager"], "tensorflow": ["graph"]}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: parse_choices("variant", "alexnet", list(VARIANTS)),
            "unknown variant 'alexnet': choose tutorial, caffenet, bvlc, original, single_tower, keras_bn, half_width "
            "or owt",
        ),
        (
            lambda: parse_choices("framework", "caffe", list(FRAMEWORKS)),
            NO_CAFFE,
        ),
        (lambda: parse_modes(["torch"], "xla"), "torch has no mode 'xla': choose eager or compile"),
        (
            lambda: parse_modes(["torch", "tensorflow"], "jit"),
            "unknown mode 'jit': torch has eager, compile; tensorflow has graph, xla",
        ),
        (
            lambda: parse_modes(["torch", "tensorflow"], "graph"),
            "torch has no mode 'graph': choose eager or compile, or leave torch out",
        ),
        *(
            (lambda device=device: parse_device(device), UNKNOWN_DEVICE.format(device))
            for device in ("gpu", "cuda:x", "cpu:0", "mps:0", "xpu:", "xpu:x", "cuda:1:1", "rocm")
        ),
        (
            lambda: parse_choice("pass", "backward", ("forward", "forward_backward")),
            "unknown pass 'backward': choose forward or forward_backward",
        ),
        (lambda: parse_count("--batch", "0", 9), "--batch: expected a whole number from 1 to 9, found '0'"),
        (lambda: parse_count("--batch", "-3", 9), "--batch: expected a whole number from 1 to 9, found '-3'"),
        (lambda: parse_count("--rounds", "many", 9), "--rounds: expected a whole number from 1 to 9, found 'many'"),
        (lambda: parse_count("--rounds", "1.5", 9), "--rounds: expected a whole number from 1 to 9, found '1.5'"),
        (
            lambda: Axes(**DEFAULTS, size=10).cases(),
            "size 10 is too small: expected for tutorial at least 28 pixels",
        ),
    ],
)
def test_a_mistake_says_what_was_expected_and_what_was_found(ask, message):
    with pytest.raises(UsageError) as error:
        ask()
    assert str(error.value) == message


class TestChecked:
    """Cases that were read from a file: what nobody could have asked for is refused before it is used."""

    CASE = Case("owt", "torch", "eager", "cpu", "fp32", "nchw", 8, "forward")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"variant": "alexnet"}, "unknown variant 'alexnet': choose tutorial, "),
            ({"framework": "caffe"}, NO_CAFFE),
            (
                {"pass_": "backward"},
                "unknown pass 'backward': choose forward, forward_backward, train_step, load, fed, apart or all_reduce",
            ),
            ({"precision": "fp8"}, "unknown precision 'fp8': choose fp32, tf32 or bf16"),
            ({"device": "a|b"}, "unknown device 'a|b': choose cpu, cuda, mps, xpu, or one GPU such as cuda:1"),
            ({"arm": "C"}, "unknown arm 'C': choose A or B"),
            ({"mode": "a b"}, "mode: expected a word, found 'a b'"),
            ({"layout": "\x1b[2J"}, "layout: expected a word, found '\\x1b[2J'"),
            ({"weights": "<script>"}, "weights: expected a word, found '<script>'"),
            ({"batch": 0}, "batch: expected a whole number from 1 to 65,536, found 0"),
            ({"size": -5}, "size: expected a whole number from 1 to 2,048, found -5"),
            ({"size": 0}, "size: expected a whole number from 1 to 2,048, found 0"),
            ({"size": 1}, "size 1 is too small: expected for owt at least "),
            ({"size": 1, "variant": "owt.fc8"}, "size 1 is too small: expected for owt.fc8 at least "),
            ({"split": "rows"}, "unknown split 'rows': choose data, towers or hybrid"),
            ({"split": "hybrid"}, "split hybrid: expected a pass of several ranks, found forward of 1"),
            ({"split": "towers", "world": 2}, "--split towers: expected a net with convolutions in 2 groups"),
        ],
    )
    def test_invalid_case_read_back_is_refused(self, changes, message):
        with pytest.raises(UsageError) as error:
            check_cases([self.CASE, dataclasses.replace(self.CASE, **changes)])
        assert str(error.value).startswith(message)

    def test_duplicate_case_is_a_mistake(self):
        with pytest.raises(UsageError, match="duplicate case"):
            check_cases([self.CASE, self.CASE])

    def test_every_case_of_a_grid_passes(self):
        cases = Axes(
            **DEFAULTS | {"variant": list(VARIANTS), "batch": [1, 8]}, size=224, seed=3, weights="01234567"
        ).cases()
        assert check_cases(cases) == cases


def test_an_id_and_a_worker_end_in_their_arm_and_arms_share_a_group_though_threads_differ():
    case = TestChecked.CASE
    a, b = (dataclasses.replace(case, arm=label, threads=n) for n, label in ((1, "A"), (2, "B")))
    assert (a.id, b.id) == (f"{case.id}-t1-A", f"{case.id}-t2-B")
    assert (a.worker, b.worker) == ("torch-eager-A", "torch-eager-B")
    assert groups([a, b]) == [[a, b]]
