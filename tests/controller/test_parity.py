"""The parity set: tie-free images, from the file or drawn, and float64 values."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.controller import parity, shipped
from bench.controller.parity import LIMITS, Judged, Proof
from bench.worker.replies import Check, CheckKind
from impls import reference
from impls.layers import BatchNorm, Conv, Fc, Flatten, Pool, Relu
from impls.variants import VARIANTS, Variant
from impls.weights import initial, map_shared

CONV, BN = Conv("conv", 4, 3), BatchNorm("bn", eps=1e-3, momentum=0.1)
REST = (Relu("relu"), Pool("pool", 3, stride=2), Flatten("flatten"), Fc("fc", 3))
TINY = Variant("tiny", input_size=7, source="", note="", layers=(CONV, *REST))
TINY_BN = Variant("tiny_bn", input_size=7, source="", note="", layers=(CONV, BN, *REST))
STRICT = {"logits": 1e-5, "loss": 1e-5, "gradient": 1e-4, "change": 1e-4, "velocity": 1e-4, "state": 1e-5}
STRICT |= {"reduced": 1e-6}
LOOSE = STRICT | dict.fromkeys(("gradient", "change", "velocity"), 5e-2) | {"norm": 5e-3}
ON_FILE = json.loads(Path(parity.__file__).with_name("tie_free.json").read_text())


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)  # a full-size set is hundreds of MB, and pytest keeps three runs


@pytest.fixture
def tried(monkeypatch):
    """The draws that were looked at, in order."""
    found = []

    def images(variant, seed, draw, count, drawn=parity.images):
        found.append(draw)
        return drawn(variant, seed, draw, count)

    monkeypatch.setattr(parity, "images", images)
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_accepted_draws_of_three_units_are_on_file(name):
    draws = {together: len(set(draws)) for together, draws in ON_FILE[name].items()}
    assert draws == ({"1": 3, "2": 3} if name == "keras_bn" else {"1": 3})


@pytest.mark.parametrize(("name", "units"), [("half_width", 2), ("half_width", 3), ("keras_bn", 3)])
def test_the_draws_on_file_are_still_tie_free_and_no_other_is_tried(name, units, folder, tried):
    found = parity.prepare(VARIANTS[name], folder, batch=8, whole=True, labeled=True, units=units)
    draws = ON_FILE[name]["2" if name == "keras_bn" else "1"][:units]
    assert (found.tie_free, list(found.draws), found.stale) == (True, draws, ())
    assert tried == draws * 3  # for the digest, to check them, to keep them
    assert found.proofs(8, "fp32") == [Proof(8, "fp32", STRICT)]


class TestShipped:
    """Reference values that come with the project."""

    @pytest.fixture
    def prepared(self, folder, monkeypatch):
        """The parity set of half_width, as a Run prepares it, and what was computed for that."""

        def prepare(**options):
            computed = []
            monkeypatch.setattr(parity, "compute", lambda *args, old=parity.compute: computed.append(1) or old(*args))
            found = parity.prepare(VARIANTS["half_width"], folder / "-".join(options), batch=8, **options)
            return found, bool(computed)

        return prepare

    @pytest.mark.parametrize("name", VARIANTS)
    def test_each_variant_has_values_of_its_layers_weights_and_images(self, name):
        variant, together = VARIANTS[name], max(int(count) for count in ON_FILE[name])
        weights = initial(variant)
        drawn = [parity.images(variant, 0, draw, together) for draw in ON_FILE[name][str(together)]]
        for units in (2, 3):
            labels = parity.draw_labels(variant, 0, units * together)
            found = parity.shipped_values(variant, weights, drawn[:units], labels)
            assert {"logits", "loss", "entropy"} < found.keys()
            assert (len(found["loss"]), len(found["logits"])) == (units, units * together)

    def test_the_first_two_units_have_the_digest_of_a_file_of_theirs(self):
        """Which does not change with a third: old copies of the project have it."""
        for name, together in (("half_width", 1), ("keras_bn", 2)):
            variant = VARIANTS[name]
            drawn = [parity.images(variant, 0, draw, together) for draw in ON_FILE[name][str(together)][:2]]
            labels = parity.draw_labels(variant, 0, 2 * together)
            assert shipped.load(
                name, together, shipped.digest(variant, initial(variant), np.concatenate(drawn), labels)
            )

    def test_a_team_takes_them_with_those_of_the_third_unit(self, prepared, folder, monkeypatch):
        two, _ = prepared(labeled=True)
        found, computed = prepared(labeled=True, units=3)
        monkeypatch.setattr(shipped, "load", lambda *args: None)
        again, recomputed = prepared(labeled=True, units=3, seed=0)
        assert (computed, recomputed) == (False, True)
        assert found.draws == again.draws == (*two.draws, ON_FILE["half_width"]["1"][2])
        for path in sorted(two.folder.rglob("*.npy")):
            name = path.relative_to(two.folder)
            if name.parts[0] == "weights":
                continue
            first, old, new = (np.load(each.folder / name) for each in (two, found, again))
            assert len(first) == 2
            assert old.dtype == new.dtype == first.dtype
            assert np.array_equal(old[:2], first)
            np.testing.assert_allclose(old, new, rtol=1e-5, atol=1e-9)

    def test_without_those_of_the_third_unit_a_team_computes_all(self, prepared, tmp_path, monkeypatch):
        name = "half_width-1.npz"
        (tmp_path / name).write_bytes((shipped.FOLDER / name).read_bytes())
        monkeypatch.setattr(shipped, "FOLDER", tmp_path)
        assert [prepared()[1], prepared(units=3)[1]] == [False, True]

    def test_a_run_takes_them_and_they_are_those_computed(self, prepared, folder, monkeypatch):
        found, computed = prepared(labeled=True)
        monkeypatch.setattr(shipped, "load", lambda *args: None)
        again, recomputed = prepared(seed=0, labeled=True)
        assert (computed, recomputed) == (False, True)
        assert (found.draws, found.base, found.tie_free) == (again.draws, again.base, again.tie_free)
        names = sorted(path.relative_to(found.folder) for path in found.folder.rglob("*.npy"))
        assert names == sorted(path.relative_to(again.folder) for path in again.folder.rglob("*.npy"))
        for name in names:
            old, new = np.load(found.folder / name), np.load(again.folder / name)
            assert old.dtype == new.dtype
            np.testing.assert_allclose(old, new, rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize("options", [{"seed": 1}, {"weights": initial(VARIANTS["half_width"], 1)}, {"whole": True}])
    def test_other_weights_and_whole_gradients_are_computed(self, prepared, options):
        assert prepared(**options)[1]

    def test_values_of_other_weights_than_numpy_draws_now_are_not_taken(self, prepared, monkeypatch):
        monkeypatch.setattr(shipped, "digest", lambda *args: "another")
        assert prepared()[1]

    @pytest.mark.parametrize("kept", [0, 100, 150_000, None], ids=["empty", "cut", "cut in a value", "missing"])
    def test_a_damaged_or_missing_file_is_not_taken_and_told(self, prepared, tmp_path, monkeypatch, kept):
        whole = (shipped.FOLDER / "half_width-1.npz").read_bytes()
        monkeypatch.setattr(shipped, "FOLDER", tmp_path)
        if kept is not None:
            (tmp_path / "half_width-1.npz").write_bytes(whole[:kept])
        found, computed = prepared(whole=True)
        assert computed
        assert (found.unshipped, found.stale) == (True, ())

    def test_values_of_other_layers_are_not_taken(self):
        net, weights = VARIANTS["half_width"], initial(TINY)
        images = parity.images(TINY, 0, 0, 1)
        labels = parity.draw_labels(TINY, 0, 2)
        digest = shipped.digest(TINY, weights, images, labels)
        assert shipped.digest(net, weights, images, labels) != digest
        assert shipped.digest(TINY, weights, images, labels[::-1]) != digest

    def test_images_on_file_that_are_not_tie_free_are_stale(self, prepared, monkeypatch):
        monkeypatch.setattr(parity, "accepted", lambda *args, **options: [0, 1])
        assert prepared(whole=True)[0].stale == ("images",)

    def test_values_that_are_not_those_computed_are_named(self):
        values = {"logits": np.ones(3), "loss": np.ones(())}
        assert shipped.differences(values, values) == []
        assert shipped.differences(values, {"logits": np.ones(3) * (1 + 2e-6)}) == ["logits", "loss"]
        assert shipped.differences(values, values | {"loss": np.array(np.nan)}) == ["loss"]


def test_another_size_draws_its_own_tie_free_images(folder):
    resized = VARIANTS["tutorial"].resized(67)
    found = parity.prepare(resized, folder, batch=2)
    images = np.load(folder / "images.npy")
    assert found.tie_free
    assert images.shape == (2, 67, 67, 3)
    assert list(found.draws) == parity.accepted(resized, initial(resized), 1, 0, [], most=parity.DRAWS)
    trace = reference.forward(resized, initial(resized), images, training=True)
    assert reference.margin(resized, trace) >= parity.TIE


@pytest.mark.parametrize("variant", [TINY, TINY_BN], ids=["one by one", "the batch together"])
def test_of_the_first_draws_those_farthest_from_a_tie_are_taken(variant):
    weights, together = initial(variant), parity.images_per_unit(variant, 2)
    found = parity.farthest(variant, weights, together, 0, range(parity.FEW))
    images = [parity.images(variant, 0, draw, together) for draw in range(parity.FEW)]
    margins = [reference.margin(variant, reference.forward(variant, weights, those, training=True)) for those in images]
    assert found == sorted(np.argsort(margins)[-2:])
    assert found == parity.accepted(variant, weights, together, 0, [], most=parity.DRAWS)


@pytest.mark.parametrize("few", [0, 5, parity.FEW])
@pytest.mark.parametrize("variant", [TINY, TINY_BN], ids=["one by one", "the batch together"])
def test_a_third_unit_leaves_the_first_two_as_they_are(variant, few, monkeypatch):
    weights, together = initial(variant), parity.images_per_unit(variant, 2)
    two, three = (parity.accepted(variant, weights, together, 0, [], parity.DRAWS, units, few=few) for units in (2, 3))
    assert (three[:2], len(set(three))) == (two, 3)
    for draw in three:
        trace = reference.forward(variant, weights, parity.images(variant, 0, draw, together), training=True)
        assert reference.margin(variant, trace) >= parity.TIE
    assert parity.accepted(variant, weights, together, 0, two, parity.DRAWS, 3)[:2] == two


@pytest.mark.parametrize("name", ["tutorial", "half_width"])
def test_images_on_file_are_far_from_a_tie(name):
    variant, weights = VARIANTS[name], initial(VARIANTS[name])
    images = np.concatenate([parity.images(variant, 0, draw, 1) for draw in parity.on_file(variant, 0, 1)])
    assert reference.margin(variant, reference.forward(variant, weights, images, training=True)) >= 9e-6


@pytest.mark.parametrize("variant", [TINY, TINY_BN], ids=["one by one", "the batch together"])
def test_a_planted_near_tie_is_rejected(variant):
    weights = initial(variant)
    together = parity.images_per_unit(variant, 2)
    kept = parity.accepted(variant, weights, together, 0, [], most=50)
    bad = kept[0]
    trace = reference.forward(variant, weights, parity.images(variant, 0, bad, together), training=True)
    x = trace.inputs[variant.layers.index(Relu("relu"))]
    near = x[-1, 2, 2, 0] - 1e-7 * np.sqrt(np.mean(x**2))  # what is left of the pre-activation is far below TIE
    layer, name = ("bn", "beta") if variant is TINY_BN else ("conv", "bias")
    weights[layer][name] = weights[layer][name] - np.eye(4)[0] * near
    again = parity.accepted(variant, weights, together, 0, kept, most=50)
    assert len(again) == len(kept)
    assert bad not in again


def test_images_are_looked_at_row_by_row_and_given_up_at_the_first_tie(monkeypatch):
    seen = []
    forward = dict(reference.OPS)
    monkeypatch.setitem(reference.OPS, Fc, (lambda *args: seen.append(args) or forward[Fc][0](*args), None))
    weights, near = initial(TINY), parity.images(TINY, 0, 0, 1)
    assert reference.clear_of_ties(TINY, weights, near, 0.0)
    assert len(seen) == 1
    assert not reference.clear_of_ties(TINY, weights, near, 1e9)
    assert len(seen) == 1


def test_labels_are_all_different_and_of_the_seed():
    net = VARIANTS["owt"]
    labels = parity.draw_labels(net, 0, 8)
    assert (labels.dtype, labels.shape, len(set(labels.tolist()))) == (np.int32, (8,), min(8, net.classes))
    assert np.array_equal(labels, parity.draw_labels(net, 0, 8))
    assert not np.array_equal(labels, parity.draw_labels(net, 1, 8))
    assert sorted(parity.draw_labels(TINY, 0, 7).tolist()[:3]) == [0, 1, 2]
    assert np.array_equal(parity.draw_labels(TINY, 0, 7)[3:6], parity.draw_labels(TINY, 0, 3))


def test_fewer_draws_come_back_where_no_more_may_be_tried():
    assert parity.accepted(TINY, initial(TINY), 1, 0, [7], most=1) == [7]


def test_without_tie_free_images_the_limits_are_loose_and_recorded(monkeypatch, tmp_path, tried):
    monkeypatch.setattr(parity, "TIE", 1e9)
    found = parity.prepare(TINY, tmp_path, batch=2)
    assert (found.tie_free, found.draws) == (False, (0, 1))
    assert found.proofs(2, "fp32") == [Proof(2, "fp32", LOOSE)]
    assert tried == [*range(parity.DRAWS), 0, 1]
    assert np.load(tmp_path / "images.npy").shape == (2, 7, 7, 3)
    team = parity.prepare(TINY, tmp_path / "team", batch=2, units=3)
    assert (team.tie_free, team.draws) == (False, (0, 1, 2))
    assert np.load(tmp_path / "team/images.npy").shape == (3, 7, 7, 3)


@pytest.mark.parametrize("variant", [TINY, TINY_BN])
def test_a_batch_is_proven_strictly_and_in_another_precision_after_its_base_batch_in_fp32(variant, tmp_path):
    found = parity.prepare(variant, tmp_path, batch=8)
    assert found.proofs(8, "fp32") == [Proof(8, "fp32", STRICT)]
    for low in ("bf16", "tf32"):
        assert found.proofs(8, low) == [Proof(2, "fp32", STRICT), Proof(8, low, LIMITS[low])]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_low_precisions_limits_are_three_times_what_rounded_operands_cost_the_reference(precision):
    found = [parity.rounding(variant, precision) for variant in VARIANTS.values()]
    for kind, limit in LIMITS[precision].items():
        worst = max(errors[kind] for errors in found)
        digit = 10.0 ** math.floor(math.log10(3 * worst))
        assert limit == pytest.approx(math.ceil(3 * worst / digit) * digit), (kind, worst)


@pytest.mark.slow
def test_rounding_to_a_precision_costs_the_reference_what_its_bits_say():
    """8 bits and 11: an eighth of the error, in a net with no tie near enough to flip."""
    tf32, bf16 = (parity.rounding(VARIANTS["half_width"], precision)["logits"] for precision in ("tf32", "bf16"))
    assert 4 < bf16 / tf32 < 16
    assert LIMITS["bf16"]["logits"] / 12 < bf16 < LIMITS["bf16"]["logits"]


@pytest.mark.parametrize(("error", "ok"), [(1e-4, True), (2e-4, False), (np.nan, False), (None, False)])
def test_a_check_is_ok_within_its_tolerance_and_never_where_it_has_no_finite_error(error, ok):
    check = Check(CheckKind.GRADIENT, "gradient conv1 bias", error, norm=1.0)
    assert parity.judge([check], STRICT) == [Judged(check.kind, check.what, error, 1e-4, ok)]


def test_a_low_precision_limits_the_norm_of_a_gradient_too():
    """Half of a gradient is off by 0.5, which bf16 allows; its length tells."""
    check = Check(CheckKind.GRADIENT, "gradient fc6/kernel", 0.5, norm=0.5)
    value, norm = parity.judge([check], LIMITS["bf16"])
    assert value.ok
    assert (norm.what, norm.error, norm.ok) == ("norm of gradient fc6/kernel", 0.5, False)


@pytest.mark.parametrize("units", [2, 3])
@pytest.mark.parametrize(
    ("variant", "batch", "together"), [(TINY, 1, 1), (TINY, 8, 1), (TINY_BN, 7, 1), (TINY_BN, 8, 2)]
)
def test_two_units_of_images_or_three_compose_any_batch(variant, batch, together, units, tmp_path):
    parity.prepare(variant, tmp_path, batch=batch, units=units)
    assert len(np.load(tmp_path / "images.npy")) == len(np.load(tmp_path / "labels.npy")) == units * together
    assert {len(np.load(path)) for path in (tmp_path / "reference").glob("gradient.*")} == {units}


@pytest.mark.parametrize("seed", [0, 3])
def test_workers_find_the_weights_the_images_and_the_reference_of_the_seed(seed, tmp_path):
    found = parity.prepare(TINY_BN, tmp_path, batch=2, seed=seed)
    weights = initial(TINY_BN, seed)
    units = [parity.images(TINY_BN, seed, draw, 2) for draw in found.draws]
    mapped = map_shared(tmp_path / "weights")
    assert all(
        np.array_equal(mapped[layer][name], array) for layer, of in weights.items() for name, array in of.items()
    )
    assert np.array_equal(np.load(tmp_path / "images.npy"), np.concatenate(units))
    assert units[0].dtype == np.float32

    passes = [reference.forward(TINY_BN, weights, unit, training=True) for unit in units]
    expected = {
        "logits": reference.forward(TINY_BN, weights, np.concatenate(units)).logits,
        "loss": [reference.loss(trained.logits) for trained in passes],
        "statistics.bn": [np.stack(trained.statistics["bn"]) for trained in passes],
    }
    gradients = [reference.gradients(TINY_BN, weights, trained) for trained in passes]
    for layer, arrays in gradients[0].items():
        expected |= {f"gradient.{layer}.{name}": [unit[layer][name] for unit in gradients] for name in arrays}
    assert {path.stem for path in (tmp_path / "reference").iterdir()} == expected.keys()
    for name, array in expected.items():
        stored = np.load(tmp_path / "reference" / f"{name}.npy")
        np.testing.assert_allclose(stored, array, rtol=1e-6, atol=1e-12, err_msg=name)
