"""The real frameworks in real Workers, at full size: equal to the reference, layer for layer, before any clock."""

import json

import pytest

from impls.variants import VARIANTS

QUICK = "tutorial,original,keras_bn"  # LRN and SAME pads, groups, BatchNorm


def verified(command, *args):
    got = command("verify", *args, "--json")
    assert got.code == 0, got.err + got.out
    return json.loads(got.out)["checks"]


def test_logits_loss_and_every_gradient_are_equal(command):
    checks = verified(command, "--variant", QUICK)
    assert {check["framework"] for check in checks} == {"torch", "tensorflow"}
    assert {check["batch"] for check in checks} == {2}
    for check in checks:
        assert check["error"] <= {"logits": 1e-5, "loss": 1e-5, "gradient": 1e-4, "state": 1e-5}[check["kind"]], check


@pytest.mark.slow
def test_all_variants_are_equal(command):
    checks = verified(command, "--variant", "all")
    assert {check["variant"] for check in checks} == set(VARIANTS)


@pytest.mark.slow
@pytest.mark.parametrize("batch", ["1", "7", "8"])
def test_other_batches_are_equal_too(command, batch):
    assert verified(command, "--variant", QUICK, "--batch", batch)


def test_another_size_draws_its_own_images(command):
    got = command("verify", "--variant", "owt", "--size", "96", "--json")
    assert got.code == 0, got.err
    assert {check["tolerance"] for check in json.loads(got.out)["checks"] if check["kind"] == "gradient"} == {1e-4}


def test_groups_need_no_onednn(command):
    """TensorFlow's native grouped convolution has no gradient on a CPU without oneDNN; ours is split."""
    args = ("--framework", "tensorflow", "--variant", "original", "--size", "96", "--env", "TF_ENABLE_ONEDNN_OPTS=0")
    assert verified(command, *args)


def test_both_frameworks_report_the_tables_shapes_and_counts(command):
    got = command("layers", "--variant", QUICK, "--framework", "torch,tensorflow", "--json")
    assert got.code == 0, got.err
    for row in json.loads(got.out):
        own = {name: row[name] for name in ("height", "width", "channels", "params", "state")}
        assert row["reported"] == {"torch": own, "tensorflow": own}


def test_a_net_with_batch_norm_is_proven_and_timed_in_one_worker(command):
    """Its first training pass moves the statistics that the logits' proof needs: the order matters."""
    few = ("--rounds", "1", "--no-gate", "--burn-in", "1", "--iterations", "2")
    run = command("run", "--variant", "keras_bn", "--size", "96", "--batch", "4", *few)
    assert run.code == 0, run.err
    assert len(run.of("worker")) == 2


def test_a_short_run_times_both_and_records_their_layers(command):
    few = ("--rounds", "3", "--no-gate", "--burn-in", "2", "--iterations", "4")
    args = ("--size", "96", "--batch", "2", *few, "--variant", "owt", "--json")
    run = command("run", *args)
    assert run.code == 0, run.err
    got = json.loads(run.out)
    assert [case["valid"] for case in got["cases"]] == [True] * 4
    assert [ratio["ci95_low"] is not None for ratio in got["ratios"]] == [True] * 2
    assert {case["parity_gradients"] < 1e-4 for case in got["cases"]} == {True}
    assert (run.folder / "layers.csv").read_text().count("\n") == 1 + 2 * len(VARIANTS["owt"].layers)
    assert (run.folder / "times.png").stat().st_size > 10_000
    for worker in run.of("worker"):
        assert worker["versions"]["threads"] == run.of("run")[0]["threads"]
