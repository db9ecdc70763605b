"""examples/peers.py on synthetic Runs."""

import dataclasses
import importlib.util

import pytest
from command import NULL
from paths import ROOT
from runs import A, make

from bench.stats.descriptive import Interval

spec = importlib.util.spec_from_file_location("peers", ROOT / "examples/peers.py")
assert spec
assert spec.loader
peers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peers)

THEIRS = dataclasses.replace(A, guest="theirs")
HEADS = [{"file": "theirs.py", "function": "build", "sha256": "0", "label": "theirs", "arm": None}]


@pytest.mark.parametrize(
    ("value", "reaches", "verdict"),
    [
        (Interval(1.02, 0.99, 1.05), 1.0, "1.020 [0.990, 1.050], at most 1.02: met"),
        (Interval(1.021, 0.99, 1.05), 1.0, "1.021 [0.990, 1.050], at most 1.02: MISSED"),
        (Interval(1.015, 1.001, 1.03), 1.0, "1.015 [1.001, 1.030], at most 1.02: MISSED"),
        (Interval(1.015, 1.001, 1.03), 2.0, "1.015 [1.001, 1.030], at most 1.02: met"),
        (Interval(0.5, None, None), 1.0, "MISSED, no ratio from 3 or more Rounds"),
        (None, 1.0, "MISSED, no ratio from 3 or more Rounds"),
    ],
)
def test_a_target_is_met_by_a_center_within_the_limit_and_an_interval_that_reaches_one(value, reaches, verdict):
    assert peers.judge_target("it", value, 1.02, reaches) == f"it: {verdict}"


@pytest.mark.process
def test_a_plan_is_measured_as_run_does(tmp_path):
    run = peers.measure_plan("peers-null", [*NULL, "--rounds", "1", "--out", str(tmp_path)])
    assert run.folder.name.endswith("-peers-null")
    assert (run.folder / "summary.csv").is_file()


def test_ours_over_theirs_is_the_inverse_ratio(tmp_path):
    run = make(tmp_path / "run", [A, THEIRS], slower=1.25, guests=HEADS)
    (line,) = peers.over_peers(run)
    assert line.startswith("owt, torch eager, forward: ours over theirs: 0.800 [0.800, 0.800], at most 1.02: met")


def test_a_peer_without_a_ratio_to_ours_is_missed(tmp_path):
    other = dataclasses.replace(A, guest="other")
    heads = [*HEADS, HEADS[0] | {"label": "other"}]
    run = make(tmp_path / "run", [THEIRS, other], slower=1.25, guests=heads)
    words = "owt, torch eager, forward: ours over {}: MISSED, no ratio from 3 or more Rounds"
    assert list(peers.over_peers(run)) == [words.format("theirs"), words.format("other")]


def test_ratio_of_means_counts_rounds_with_a_negative_cost():
    assert peers.ratio_of_means([(1.0, 2.0)] * 4) == Interval(0.5, 0.5, 0.5)
    value = peers.ratio_of_means([(1.0, 2.0), (-0.2, 2.0), (1.0, 2.0)])
    assert value.center == pytest.approx(1.8 / 6)
    # leaving out one Round: .2, .5 and .2; their mean .3, t(.975, 2) = 4.303
    half = 4.302653 * (2 / 3 * (0.1**2 + 0.2**2 + 0.1**2)) ** 0.5
    assert (value.low, value.high) == pytest.approx((0.3 - half, 0.3 + half), rel=1e-4)
    assert peers.ratio_of_means([(1.0, 2.0)] * 2) is None


def test_the_cost_of_lrn_is_time_with_it_less_time_without(tmp_path):
    native = dataclasses.replace(A, variant="tutorial")
    fast = dataclasses.replace(native, lrn="fast")
    without = dataclasses.replace(native, guest="without_lrn")
    cases = [dataclasses.replace(case, pass_=pass_) for pass_ in ("forward", "forward_backward") for case in (native, fast, without)]  # fmt: skip  # noqa: E501
    slower = {case.id: factor for case, factor in zip(cases, (2.0, 1.2, 1.0) * 2, strict=True)}
    heads = [HEADS[0] | {"label": "without_lrn"}]
    run = make(tmp_path / "run", cases, slower=slower, base_ns=1_000_000, guests=heads)
    lines = list(peers.lrn_costs(run))
    assert lines[0].startswith("tutorial, torch eager, forward: cost of the fast LRN over the native LRN's: 0.200 [")
    assert [line.endswith("at most 0.5: met") for line in lines] == [True, True]
