"""The real frameworks in real Workers, at full size: equal to the reference, layer for layer, before any clock."""

import json

import numpy as np
import pytest
from nets import PEERS, configured, how

from impls.net import resident_batches
from impls.variants import VARIANTS
from impls.weights import initial

pytestmark = pytest.mark.process

QUICK = "tutorial,original,keras_bn"  # LRN and SAME pads, groups, BatchNorm
SMALL = "original,keras_bn"  # the same at less than half of their params: original has LRN too, and its pads are rows


LIMITS = {"logits": 1e-5, "loss": 1e-5, "gradient": 1e-4, "state": 1e-5, "change": 1e-4, "velocity": 1e-4}


def verified(command, *args, framework="all"):
    """The checks of `verify`, every one within the limits that this project promises for fp32."""
    got = command("verify", "--framework", framework, *args, "--json")
    assert got.code == 0, got.err + got.out
    checks = json.loads(got.out)["checks"]
    for check in checks:
        if check["precision"] == "fp32":
            assert check["error"] <= LIMITS[check["kind"]], check
    return checks


def of(what, checks):
    return {check[what] for check in checks}


@pytest.mark.parametrize(
    ("variants", "size"),
    [(SMALL, "67"), ("half_width", None), pytest.param(QUICK, None, marks=pytest.mark.slow)],
)
def test_logits_loss_and_every_gradient_are_equal_in_all_three(command, variants, size):
    checks = verified(command, "--variant", variants, *(("--size", size) if size else ()))
    assert (of("framework", checks), of("batch", checks)) == (set(PEERS), {2})
    found = {(check["variant"], check["framework"], check["what"]) for check in checks if check["kind"] == "gradient"}
    assert found == {
        (variant, framework, f"gradient {placed.layer.name}/{name}")
        for variant in variants.split(",")
        for framework in PEERS
        for placed in VARIANTS[variant].placed()
        for name in placed.layer.trainable(placed.input)
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("batch", ["1", "2", "7"])
def test_all_variants_are_equal_at_every_batch(command, batch):
    checks = verified(command, "--variant", "all", "--batch", batch)
    assert (of("variant", checks), of("framework", checks)) == (set(VARIANTS), set(PEERS))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("size", "variants"),
    [
        ("131", "all"),
        ("160", "all"),
        # of keras_bn, whose batch is drawn as one, 200 draws at this size have no tie-free one
        ("256", "tutorial,caffenet,bvlc,original,single_tower,half_width,owt"),
    ],
)
def test_variants_are_equal_at_other_sizes(command, size, variants):
    checks = verified(command, "--variant", variants, "--size", size)
    assert of("variant", checks) == set(VARIANTS if variants == "all" else variants.split(","))
    assert of("framework", checks) == set(PEERS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_large_batch_of_a_net_with_batch_statistics_is_as_equal(command):
    """Where statistics lose digits as the batch grows, decisions flip: TensorFlow's fused kernel was off by 6.9e-2."""
    assert verified(command, "--variant", "keras_bn", "--batch", "32")


@pytest.mark.slow
def test_another_size_draws_its_own_images(command):
    checks = verified(command, "--variant", "owt", "--size", "96")
    assert {check["tolerance"] for check in checks if check["kind"] == "gradient"} == {1e-4}


@pytest.mark.slow
def test_an_odd_batch_is_equal_too(command):
    assert of("batch", verified(command, "--variant", "original", "--size", "99", "--batch", "7")) == {7}


ONEDNN_OFF = ("--env", "TF_ENABLE_ONEDNN_OPTS=0")


def test_tensorflow_needs_no_onednn(command):
    """Its native grouped convolution has no gradient on a CPU without oneDNN; ours is split."""
    assert verified(command, "--variant", "original", "--size", "96", *ONEDNN_OFF, framework="tensorflow")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_tensorflow_is_equal_with_onednn_and_without(command, onednn):
    checks = verified(command, "--variant", "all", "--env", f"TF_ENABLE_ONEDNN_OPTS={onednn}", framework="tensorflow")
    assert of("variant", checks) == set(VARIANTS)


@pytest.mark.slow
def test_in_bf16_all_three_are_within_what_rounding_costs(command):
    checks = verified(command, "--variant", "owt", "--size", "96", "--precision", "bf16")
    low = [check for check in checks if check["precision"] == "bf16"]
    assert of("framework", low) == set(PEERS)
    assert min(check["error"] for check in low if check["kind"] == "logits") > 1e-3  # and it really was bf16


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_in_bf16_all_variants_are_within_what_rounding_costs(command):
    checks = verified(command, "--variant", "all", "--precision", "bf16")
    assert of("variant", checks) == set(VARIANTS)


def test_dump_of_torch_agrees_with_jax_and_tensorflow(command, tmp_path):
    weights, dump = tmp_path / "like.npy", tmp_path / "a.npz"
    net = VARIANTS["half_width"].resized(67)
    made = {layer: [of["kernel"], of["bias"]] for layer, of in initial(net, 3).items()}
    np.save(weights, made, allow_pickle=True)  # type: ignore[arg-type]
    args = ("--variant", "half_width", "--size", "67", "--weights", str(weights), "--dump", str(dump))
    assert verified(command, *args, framework="torch")
    checks = verified(command, "--variant", "half_width", "--against", str(dump), framework="jax,tensorflow")
    assert {check["tolerance"] for check in checks if check["kind"] == "gradient"} == {1e-4}


@pytest.fixture(scope="module", params=["original", "keras_bn"])
def drawn(request):
    return VARIANTS[request.param], initial(VARIANTS[request.param])


@pytest.mark.parametrize("framework", PEERS)
def test_every_adapter_reports_the_tables_shapes_and_counts(drawn, framework):
    variant, weights = drawn
    table = [(it.layer.name, *it.output, it.params, it.state) for it in variant.placed()]
    names = ("layer", "height", "width", "channels", "params", "state")
    net = configured(framework).build(variant, weights, how(framework))
    net.load(resident_batches(how(framework), variant.input_size, variant.channels))
    reported = net.layers()
    assert [tuple(row[name] for name in names) for row in reported] == table


@pytest.mark.slow
def test_layers_shows_what_every_framework_reports(command):
    got = command("layers", "--variant", "original,keras_bn", "--framework", "all", "--json")
    assert got.code == 0, got.err
    for row in json.loads(got.out):
        own = {name: row[name] for name in ("height", "width", "channels", "params", "state")}
        assert row["reported"] == dict.fromkeys(PEERS, own)


def test_a_net_with_batch_norm_is_proven_and_timed_in_one_worker(command):
    """Its first training pass moves the statistics that the logits' proof needs: the order matters."""
    few = ("--rounds", "1", "--no-gate", "--burn-in", "1", "--iterations", "2")
    run = command("run", "--variant", "keras_bn", "--size", "96", "--batch", "4", *few)
    assert run.code == 0, run.err
    assert len(run.of("worker")) == 2


def test_a_short_run_times_all_three_and_records_their_layers_and_conditions(command):
    few = ("--rounds", "3", "--no-gate", "--burn-in", "2", "--iterations", "4")
    args = (
        "--framework",
        "torch,tensorflow,jax",
        "--size",
        "67",
        "--batch",
        "2",
        *few,
        "--variant",
        "half_width",
        "--json",
    )
    run = command("run", *args)
    assert run.code == 0, run.err
    got = json.loads(run.out)
    assert [case["valid"] for case in got["cases"]] == [True] * 6
    assert [ratio["ci95_low"] is not None for ratio in got["ratios"]] == [True] * 4
    assert [ratio["differs"] for ratio in got["ratios"]] == [[]] * 4
    assert {case["parity_gradients"] < 1e-4 for case in got["cases"]} == {True}
    net = VARIANTS["half_width"].resized(67)
    assert (run.folder / "layers.csv").read_text().count("\n") == 1 + 3 * len(net.layers)
    assert (run.folder / "times.png").stat().st_size > 10_000
    for worker in run.of("worker"):
        conditions, parameters = (
            worker["conditions"],
            len([s for p in net.placed() for s in p.layer.trainable(p.input)]),
        )
        assert conditions["threads"] == run.of("run")[0]["threads"]
        assert conditions["other_frameworks"] == []
        assert conditions["libraries"]
        assert conditions["traces"] in ({}, {"forward": 1, "forward_backward": 1})
        if worker["round"] == 0:
            assert worker["gradients"] == {"parameters": parameters, "others": 0, "finite": True}
        assert worker["identity"] == {"hash": net.hash, "params": net.params, "macs": net.macs}
    threads = run.of("run")[0]["threads"]
    assert all(0 < case["cores_used"] < threads + 0.5 for case in got["cases"])


@pytest.mark.slow
def test_a_ratio_of_rows_under_unlike_conditions_says_so(command):
    few = ("--rounds", "1", "--no-gate", "--burn-in", "1", "--iterations", "2", "--pass", "forward")
    run = command("run", "--variant", "owt", "--size", "96", "--batch", "2", *few, *ONEDNN_OFF)
    assert run.code == 0, run.err
    assert "forward tensorflow graph: not the same conditions: oneDNN off, on in the baseline" in run.out
    assert "INCOMPARABLE: " in run.out
