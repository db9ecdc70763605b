"""Batches of the ranks of a Team: their compositions, the sums expected of them, and every way to miss those."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from bench.controller import parity
from bench.worker import steps
from bench.worker.batches import compose
from bench.worker.checks import flat, sampled, sampled_places
from bench.worker.prover import LEFT, METHODS, SAME_BATCH, Prover, Values
from bench.worker.replies import CheckKind, FrameworkConditions, Output
from bench.worker.team_batches import TEAM_UNITS, compose_team
from impls import reference
from impls.layers import BatchNorm, Conv, Fc, Flatten, Pool, Relu
from impls.net import Trained, pattern
from impls.variants import Variant
from impls.weights import initial

CONV, BN = Conv("conv", 4, 3), BatchNorm("bn", eps=1e-3, momentum=0.1)
REST = (Relu("relu"), Pool("pool", 3, stride=2), Flatten("flatten"), Fc("fc", 60), Fc("last", 200))
NET = Variant("net", input_size=7, source="", note="", layers=(CONV, *REST))
WITH_BN = Variant("with_bn", input_size=7, source="", note="", layers=(CONV, BN, *REST))
LIMITS = parity.LIMITS["fp32"]
SETTINGS = FrameworkConditions(1, None, None, None, {})


@pytest.fixture(params=[NET, WITH_BN], ids=["plain", "BatchNorm"])
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    folders = {}

    def folder_of(variant, together, whole):
        if (variant, together, whole) not in folders:
            folder = folders[variant, together, whole] = tmp_path_factory.mktemp("parity")
            parity.prepare(variant, folder / "set", batch=together, whole=whole, labeled=True, units=TEAM_UNITS)
        return folders[variant, together, whole] / "set"

    return folder_of


@pytest.fixture
def team_of(variant, folder_of):
    """The two batches of every rank, by rank."""

    def team_of(world, batch, seed=0, whole=False):
        folder = folder_of(variant, parity.images_per_unit(variant, batch), whole)
        given = (variant, initial(variant), folder, "reference", batch, seed)
        return [compose_team(*given, rank=rank, world=world) for rank in range(world)]

    return team_of


def by_unit(orders, variant, batch):
    """How many images of each unit are in each order."""
    each = parity.images_per_unit(variant, batch)
    return np.stack([np.bincount(order // each, minlength=TEAM_UNITS) for order in orders])


class TestComposition:
    @pytest.mark.parametrize("world", [2, 3, 4, 8])
    @pytest.mark.parametrize("batch", [1, 2, 3, 8, 128])
    @pytest.mark.parametrize("seed", range(3))
    def test_neighbors_both_batches_and_both_sums_differ(self, team_of, variant, world, batch, seed):
        team = team_of(world, batch, seed)
        first, second = (np.stack([batches[number].order for batches in team]) for number in (0, 1))
        for number, orders in enumerate((first, second)):
            assert all(np.array_equal(np.sort(batches[number].everyone), np.sort(orders)) for batches in team)
            found = by_unit(orders, variant, batch)
            assert found.sum(axis=1).tolist() == [batch] * world
            assert all((one != other).any() for one, other in itertools.pairwise(found))
        counts = [by_unit(orders, variant, batch) for orders in (first, second)]
        assert all((one != other).any() for one, other in zip(*counts, strict=True))
        shares = [each.sum(axis=0) / (world * batch) for each in counts]
        assert np.abs(shares[0] - shares[1]).max() > 0.5 / world

    @pytest.mark.parametrize("world", [2, 3, 4, 8])
    @pytest.mark.parametrize("batch", [1, 2, 3, 8, 128])
    @pytest.mark.parametrize("seed", range(3))
    def test_no_part_of_the_ranks_has_the_mean_of_all(self, team_of, variant, world, batch, seed):
        """Else a reduction within each node alone, with the average for the sum, would be right."""
        for number in (0, 1):
            found = by_unit([batches[number].order for batches in team_of(world, batch, seed)], variant, batch)
            for size in range(1, world):
                for part in itertools.combinations(range(world), size):
                    assert np.abs(found[list(part)].mean(axis=0) - found.mean(axis=0)).max() > 1e-9

    @pytest.mark.parametrize("batch", [3, 8, 128])
    def test_a_rank_has_few_images_of_a_second_unit(self, team_of, variant, batch):
        found = np.sort(
            np.concatenate([by_unit([own.order for own in both], variant, batch) for both in team_of(4, batch)])
        )
        fewest, fewer, most = (set(column.tolist()) for column in found.T)
        if variant is WITH_BN:
            assert (fewest, fewer, most) == ({0}, {0}, {batch})
        else:
            assert fewest == {0}
            assert fewer <= set(range(1, max(1, batch // 4) + 1))
            assert batch < 128 or len(fewer) > 1

    def test_two_images_per_rank_are_three_of_a_unit_and_one_of_the_next(self, folder_of):
        given = (NET, initial(NET), folder_of(NET, 1, False), "reference", 2)
        for seed in range(5):
            sums = [
                by_unit([own.everyone.ravel()], NET, 2)[0].tolist()
                for own in compose_team(*given, seed, rank=0, world=2)
            ]
            assert [sorted(each) for each in sums] == [[0, 1, 3], [0, 1, 3]]
            assert sums[0].index(1) == sums[1].index(3)

    @pytest.mark.parametrize("world", [2, 3, 8])
    @pytest.mark.parametrize("batch", [1, 2, 8])
    def test_another_seed_is_another_assignment(self, team_of, world, batch):
        found = {
            tuple(np.sort(own.everyone).ravel().tolist())
            for seed in range(20)
            for own in team_of(world, batch, seed)[0]
        }
        assert len(found) >= 6

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("batch", [1, 2, 3, 8])
    def test_a_lone_net_has_the_batches_that_it_has_without_a_team(self, variant, folder_of, tmp_path, seed, batch):
        parity.prepare(variant, tmp_path / "two", batch=batch)
        folders = (tmp_path / "two", folder_of(variant, parity.images_per_unit(variant, batch), False))
        two, three = (compose(variant, initial(variant), folder, "reference", batch, seed) for folder in folders)
        for own, other in zip(two, three, strict=True):
            assert np.array_equal(own.order, other.order)
            assert np.array_equal(own.images(), other.images())
            assert np.array_equal(own.labels, other.labels)
            assert own.values("loss") @ own.shares == pytest.approx(other.values("loss") @ other.shares, rel=1e-12)

    def test_what_is_no_team_and_a_parity_set_of_two_units_are_refused(self, tmp_path):
        parity.prepare(NET, tmp_path, batch=1)
        given = (NET, initial(NET), tmp_path, "reference", 1, 0)
        with pytest.raises(ValueError, match="a Team needs a parity set of 3 units, found 2"):
            compose_team(*given, rank=0, world=2)
        for rank, world in ((0, 1), (2, 2), (-1, 2)):
            with pytest.raises(ValueError, match=f"expected a rank of 2 or more, found rank {rank} of {world}"):
                compose_team(*given, rank=rank, world=world)


def gradients_of(variant, batch, entropy):
    """Loss and gradients of the float64 reference of one rank's images."""
    trace = reference.forward(variant, initial(variant), batch.images(), training=True)
    loss, start = (
        reference.cross_entropy(trace.logits, batch.labels) if entropy else (reference.loss(trace.logits), None)
    )
    return loss, reference.gradients(variant, initial(variant), trace, start=start)


def combined(gradients, factors):
    """The sum of these gradients times their factors, in float32."""
    total = {}
    for each, factor in zip(gradients, factors, strict=True):
        for layer, arrays in each.items():
            for name, array in arrays.items():
                own = total.setdefault(layer, {})
                own[name] = own.get(name, 0) + factor * array
    return {
        layer: {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        for layer, arrays in total.items()
    }


def wrong(checks):
    """What fails. The gradient of the bias before BatchNorm is 0 but for rounding."""
    return [each.what for each in parity.judge(checks, LIMITS) if not each.ok and "conv/bias" not in each.what]


#: What the framework has on ``rank`` instead of the sum over all ranks: factors of the gradients of the ranks.
PLANTED = {
    "no reduction": lambda rank, world: [float(other == rank) for other in range(world)],
    "no reduction, times the world": lambda rank, world: [world * float(other == rank) for other in range(world)],
    "average for sum": lambda rank, world: [1 / world] * world,
    "sum of an average": lambda rank, world: [float(world)] * world,
    "a shard twice": lambda rank, world: [2.0, 0.0, *[1.0] * (world - 2)],
    "one shard on all ranks": lambda rank, world: [float(world), *[0.0] * (world - 1)],
    "a rank left out": lambda rank, world: [*[1.0] * (world - 1), 0.0],
    "half of the ranks alone, as an average": lambda rank, world: [
        *[2.0] * (world // 2),
        *[0.0] * (world - world // 2),
    ],
}


class TestGradients:
    @pytest.mark.parametrize("world", [2, 3, 4])
    @pytest.mark.parametrize("batch", [1, 2, 3, 8])
    def test_they_are_the_sum_over_all_ranks_and_the_loss_is_the_ranks_own(self, team_of, variant, world, batch):
        team = team_of(world, batch)
        for number in (0, 1):
            losses, gradients = zip(*(gradients_of(variant, both[number], False) for both in team), strict=True)
            total = combined(gradients, [1.0] * world)
            for rank, both in enumerate(team):
                assert wrong(both[number].gradient_checks(losses[rank], total, False, set())) == []
                assert wrong(both[number].gradient_checks(losses[rank - 1 if rank else 1], total, False, set())) == [
                    "loss"
                ]
                assert wrong(both[number].apart.gradient_checks(losses[rank], gradients[rank], False, set())) == []
                assert len(wrong(both[number].apart.gradient_checks(losses[rank], total, False, set()))) > 4

    def test_they_are_those_of_all_images_in_one_batch(self, folder_of):
        given = (NET, initial(NET), folder_of(NET, 1, True), "reference", 3, 0)
        team = [compose_team(*given, rank=rank, world=2) for rank in (0, 1)]
        for number in (0, 1):
            images = np.concatenate([both[number].images() for both in team])
            labels = np.concatenate([both[number].labels for both in team])
            trace = reference.forward(NET, initial(NET), images, training=True)
            whole = reference.gradients(NET, initial(NET), trace)
            own = team[1][number]
            loss = gradients_of(NET, own, False)[0]
            assert wrong(own.gradient_checks(loss, whole, True, set())) == []
            _, start = reference.cross_entropy(trace.logits, labels)
            for layer, arrays in reference.gradients(NET, initial(NET), trace, start=start).items():
                for name, array in arrays.items():
                    assert reference.relative_l2(own.entropy_gradient(layer, name, True), array.ravel()) < 1e-6

    @pytest.mark.parametrize("world", [2, 3, 4])
    @pytest.mark.parametrize("batch", [1, 2, 8])
    @pytest.mark.parametrize("fault", PLANTED)
    def test_a_wrong_reduction_is_refused_on_every_rank(self, team_of, variant, world, batch, fault):
        team = team_of(world, batch)
        for number in (0, 1):
            losses, gradients = zip(*(gradients_of(variant, both[number], False) for both in team), strict=True)
            for rank, both in enumerate(team):
                planted = combined(gradients, PLANTED[fault](rank, world))
                prover = Prover(SimpleNamespace(state=dict), initial(variant), lambda seed: [])
                prover.batches = both
                checks = both[number].gradient_checks(losses[rank], planted, False, set())
                assert len(wrong(checks)) >= len(flat(planted)) - 1
                _, checks = prover.compare(Values(loss=losses[rank], gradients=planted), False)
                assert wrong(checks)  # if nearer to the other batch, its loss at least

    @pytest.mark.parametrize("world", [2, 3, 4])
    @pytest.mark.parametrize("batch", [1, 2, 8])
    def test_a_stale_gradient_is_that_of_the_other_batch(self, team_of, variant, world, batch):
        team = team_of(world, batch)
        for number in (0, 1):
            stale = combined([gradients_of(variant, both[1 - number], False)[1] for both in team], [1.0] * world)
            for both in team:
                loss = gradients_of(variant, both[number], False)[0]
                assert len(wrong(both[number].gradient_checks(loss, stale, False, set()))) >= len(flat(stale)) - 1
                prover = Prover(SimpleNamespace(state=dict), initial(variant), lambda seed: [])
                prover.batches = both
                found, checks = prover.compare(Values(loss=loss, gradients=stale), False)
                assert wrong(checks)
                assert variant is WITH_BN or (found, wrong(checks)) == (1 - number, ["loss", LEFT])

    @pytest.mark.parametrize("what", ["conv/kernel", "fc/bias", "last/kernel"])
    def test_an_array_that_is_left_out_of_the_reduction_is_named(self, team_of, variant, what):
        team = team_of(2, 2)
        losses, gradients = zip(*(gradients_of(variant, both[0], False) for both in team), strict=True)
        layer, name = what.split("/")
        for rank, both in enumerate(team):
            total = combined(gradients, [1.0, 1.0])
            total[layer][name] = combined(gradients[rank : rank + 1], [1.0])[layer][name]
            assert wrong(both[0].gradient_checks(losses[rank], total, False, set())) == [f"gradient {what}"]


def stepped(variant, team, order, sgd, factors):
    """What a rank has after steps on these batches, by the mean of all ranks' gradients times ``factors``."""
    parameters, velocity = {}, {}
    loss = 0.0
    for number in order:
        gradients = [gradients_of(variant, both[number], True)[1] for both in team]
        for layer, arrays in combined(gradients, [factor / len(team) for factor in factors]).items():
            for name, gradient in arrays.items():
                w = parameters.setdefault(layer, {}).setdefault(name, initial(variant)[layer][name].astype(float))
                v = velocity.setdefault(layer, {}).get(name, 0.0)
                velocity[layer][name] = sgd.momentum * v - sgd.lr * gradient - sgd.lr * sgd.decay * w
                parameters[layer][name] = w + velocity[layer][name]
    return loss, combined([parameters], [1.0]), combined([velocity], [1.0])


class TestSteps:
    @pytest.mark.parametrize(("world", "batch"), [(2, 1), (2, 2), (3, 2), (4, 8)])
    def test_a_step_is_by_the_mean_over_all_ranks_and_the_loss_is_the_ranks_own(self, team_of, variant, world, batch):
        team = team_of(world, batch)
        for number in (0, 1):
            _, *moved = stepped(variant, team, [number], steps.PROVEN, [1.0] * world)
            for both in team:
                values = Trained(gradients_of(variant, both[number], True)[0], *moved)
                found, checks = steps.checks(values, initial(variant), both, 1, steps.PROVEN, change=True)
                assert (found, wrong(checks)) == (number, [])

    @pytest.mark.parametrize("world", [2, 4])
    @pytest.mark.parametrize(
        "factors",
        [lambda world: [world, *[0.0] * (world - 1)], lambda world: [world] * world, lambda world: [1 / world] * world],
        ids=["no reduction", "sum for average", "averaged twice"],
    )
    def test_a_step_by_another_gradient_is_refused(self, team_of, variant, world, factors):
        team = team_of(world, 2)
        _, *moved = stepped(variant, team, [0], steps.PROVEN, factors(world))
        values = Trained(gradients_of(variant, team[0][0], True)[0], *moved)
        _, checks = steps.checks(values, initial(variant), team[0], 1, steps.PROVEN, change=True)
        assert len(wrong(checks)) >= len(team[0][0].parameters) - 1

    def test_a_velocity_by_stale_gradients_is_refused(self, team_of, variant):
        team = team_of(2, 2)
        for order, faults in (([0, 1, 0], 0), ([1, 0, 0], 1), ([0, 0, 0], 1)):
            _, *moved = stepped(variant, team, order, steps.TIMED, [1.0, 1.0])
            _, checks = steps.checks(Trained(0.0, *moved), initial(variant), team[1], 3, steps.TIMED)
            assert bool(wrong(checks)) == bool(faults)


class RankNet:
    """A rank of a Team whose values are those of the reference, with a fault if one is planted."""

    def __init__(self, variant, team, rank, fault=""):
        self.variant, self.team, self.rank, self.fault = variant, team, rank, fault
        self.passes = 0

    def load(self, batches):
        self.own = batches

    def label(self, labels):
        self.labels = labels

    def wait(self, handles):
        pass

    def state(self):
        return {}

    def fetch(self, handles):
        if isinstance(handles, tuple):
            factor = 1.5 if self.fault == "fetch" else 1.0
            return float(next(iter(next(iter(handles[1].values())).values())).flat[0]) * factor
        return float(handles[0])

    def _next(self):
        self.passes += self.fault != "repeats"
        return self.passes % 2

    def forward_backward(self):
        number = self._next()
        own = self.team[self.rank][number]
        gradients = [gradients_of(self.variant, both[number], False)[1] for both in self.team]
        return gradients_of(self.variant, own, False)[0], combined(gradients, [1.0, 1.0]), True

    def apart(self):
        number = self._next()
        loss, gradients = gradients_of(self.variant, self.team[self.rank][number], False)
        if self.fault == "reduces":
            gradients = combined([gradients_of(self.variant, both[number], False)[1] for both in self.team], [1.0, 1.0])
        return loss, gradients, False

    def restart(self, sgd):
        self.sgd, self.order = sgd, []

    def train_step(self):
        self.order.append(self._next())
        world = len(self.team)
        factors = [world * float(rank == self.rank) if self.fault == "own" else 1.0 for rank in range(world)]
        _, parameters, velocity = stepped(self.variant, self.team, self.order, self.sgd, factors)
        return gradients_of(self.variant, self.team[self.rank][self.order[-1]], True)[0], velocity, False, parameters

    def trained(self, handles):
        return Trained(handles[0], handles[3], handles[1])

    def all_reduce(self):
        places = np.arange(self.variant.params)
        total = sum(pattern(rank, places) for rank in range(len(self.team)))
        if self.fault == "bucket":
            total[100:200] = pattern(self.rank, places)[100:200]
        if self.fault == "average":
            total /= len(self.team)
        if self.fault == "own":
            total = pattern(self.rank, places)
        if self.fault == "half":
            total = total.astype(np.float16).astype(np.float32)
        return total[:-1] if self.fault == "short" else total

    def gradients(self, handles):
        return handles[:2]

    own_gradients = gradients

    def reduced(self, handles):
        return handles


@pytest.fixture
def prover_of(team_of):
    def prover_of(fault="", rank=0):
        team = team_of(2, 2)
        net = RankNet(NET, team, rank, fault)
        prover = Prover(net, initial(NET), lambda seed: team[rank])
        prover.load(0, labeled=True)
        return prover

    return prover_of


class SharedNet(RankNet):
    """A rank of a shared net: every rank has to read, whatever the number that it fetches."""

    first_filter = 4

    def fetch(self, handles):
        kernel = next(iter(next(iter(handles[1].values())).values()))
        return float(kernel.flat[0 if self.fault == "fetch" else self.first_filter])

    def gradients(self, handles):
        self.reads = getattr(self, "reads", 0) + 1
        return super().gradients(handles)


@pytest.mark.parametrize("variant", [NET], indirect=True)
class TestSharedNet:
    @pytest.fixture
    def prover(self, team_of, request):
        team = team_of(2, 2)
        prover = Prover(SharedNet(NET, team, 1, getattr(request, "param", "")), initial(NET), lambda seed: team[1])
        prover.load(0, labeled=True)
        return prover

    def test_the_number_of_a_rank_is_that_of_its_first_filter(self, prover):
        assert prover.reading(0, prover.net.forward_backward(), Output.GRADIENTS, SETTINGS).fault == ""

    @pytest.mark.parametrize("prover", ["fetch"], indirect=True)
    def test_the_first_number_of_another_rank_is_refused(self, prover):
        reading = prover.reading(0, prover.net.forward_backward(), Output.GRADIENTS, SETTINGS)
        assert "its fetch returned" in reading.fault

    def test_a_pass_that_follows_is_read_by_all_ranks_or_none(self, prover):
        run = prover.net.forward_backward
        assert prover.reading(0, run(), Output.GRADIENTS, SETTINGS, following=run).fault == ""
        assert prover.net.reads == 2


@pytest.mark.parametrize("variant", [NET], indirect=True)
class TestProver:
    @pytest.mark.parametrize("output", [Output.GRADIENTS, Output.OWN, Output.REDUCED])
    def test_right_values_pass_before_and_while_it_is_timed(self, prover_of, output):
        prover = prover_of()
        checks, count = prover.prove(output, False, None)
        assert wrong(checks) == []
        assert len(checks) == (1 if output == Output.REDUCED else 1 + len(prover.batches[0].parameters))
        assert (count is None) == (output == Output.REDUCED)
        run = getattr(prover.net, METHODS[output])
        reading = prover.reading(3, run(), output, SETTINGS, following=run)
        assert (wrong(reading.checks), reading.fault) == ([], "")
        assert (reading.batch is None) == (output == Output.REDUCED)

    def test_all_ranks_have_one_digest_of_what_was_reduced_and_none_of_their_own(self, prover_of):
        found = []
        for rank in (0, 1):
            prover = prover_of(rank=rank)
            for output in (Output.GRADIENTS, Output.OWN, Output.REDUCED):
                prover.prove(output, False, None)
            readings = [
                prover.reading(0, getattr(prover.net, METHODS[output])(), output, SETTINGS).digest
                for output in (Output.GRADIENTS, Output.OWN, Output.REDUCED)
            ]
            found.append((prover.digests, readings))
        assert found[0] == found[1]
        digests, readings = found[0]
        assert digests.keys() == {Output.GRADIENTS, Output.REDUCED}
        assert [bool(each) for each in readings] == [True, False, True]

    def test_steps_of_all_ranks_pass_and_have_one_digest(self, prover_of):
        found = []
        for rank in (0, 1):
            prover = prover_of(rank=rank)
            assert wrong(prover.prove(Output.TRAINED, False, None)[0]) == []
            prover.net.restart(steps.TIMED)
            prover.net.train_step()
            reading = prover.reading(1, prover.net.train_step(), Output.TRAINED, SETTINGS)
            assert (wrong(reading.checks), reading.fault) == ([], "")
            found.append((prover.digests, reading.digest))
        assert found[0] == found[1]
        assert found[0][0].keys() == {Output.TRAINED}
        assert found[0][1]
        prover = prover_of("own")
        assert len(wrong(prover.prove(Output.TRAINED, False, None)[0])) >= 6
        assert prover.digests[Output.TRAINED] != found[0][0][Output.TRAINED]

    def test_a_lone_net_has_no_digest(self, prover_of, folder_of):
        prover = prover_of()
        lone = compose(NET, initial(NET), folder_of(NET, 1, False), "reference", 2, 0)
        prover.batches = [batch.apart for batch in prover.batches]
        assert prover.reading(0, prover.net.apart(), Output.GRADIENTS, SETTINGS).digest == ""
        assert [type(batch) for batch in prover.batches] == [type(batch) for batch in lone]

    @pytest.mark.parametrize("fault", ["bucket", "average", "own", "half", "short"])
    @pytest.mark.parametrize("thorough", [False, True])
    def test_a_wrong_sum_is_refused(self, prover_of, fault, thorough):
        (check,), _ = prover_of(fault).prove(Output.REDUCED, thorough, None)
        (judged,) = parity.judge([check], LIMITS)
        assert (judged.kind, judged.ok) == (CheckKind.REDUCED, False)

    def test_a_witness_that_reduces_is_refused(self, prover_of):
        checks, _ = prover_of("reduces").prove(Output.OWN, False, None)
        assert len(wrong(checks)) >= 6

    @pytest.mark.parametrize("output", [Output.GRADIENTS, Output.OWN])
    def test_the_same_batch_twice_is_refused(self, prover_of, output):
        prover = prover_of("repeats")
        assert SAME_BATCH in wrong(prover.prove(output, False, None)[0])
        run = getattr(prover.net, METHODS[output])
        assert prover.reading(0, run(), output, SETTINGS, following=run).fault == SAME_BATCH

    def test_fetch_copies_the_number_that_is_read(self, prover_of):
        prover = prover_of("fetch")
        for output in (Output.GRADIENTS, Output.OWN):
            assert (
                "its fetch returned"
                in prover.reading(0, getattr(prover.net, METHODS[output])(), output, SETTINGS).fault
            )


VALUES = {"conv": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.zeros(2)}}


class TestDigest:
    def test_it_is_of_every_bit_in_an_order_of_names_and_of_any_layout(self):
        turned = {
            "conv": {"bias": np.zeros(2), "kernel": np.asfortranarray(VALUES["conv"]["kernel"])},
        }
        digest = Values(gradients=VALUES).digest()
        assert digest == Values(gradients=turned, loss=3.0).digest()
        turned["conv"]["kernel"][1, 2] = np.nextafter(5.0, 6.0)
        assert digest != Values(gradients=turned).digest()
        assert digest != Values(gradients=VALUES).digest(digest)

    def test_of_a_step_it_is_of_parameters_and_velocities(self):
        other = {"conv": {"kernel": np.ones(6), "bias": np.zeros(2)}}
        digests = {
            Values(trained=Trained(0.0, *each)).digest()
            for each in ((VALUES, other), (other, VALUES), (VALUES, VALUES), (other, other))
        }
        assert len(digests) == 4
        assert Values(reduced=np.ones(3)).digest() != Values(reduced=np.ones(4)).digest()


@pytest.mark.parametrize("size", [1, 4096, 4097, 10**6])
def test_places_are_those_of_the_sampled_values(size):
    assert np.array_equal(sampled(np.arange(size)), sampled_places(size))
