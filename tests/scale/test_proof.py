"""Whole nets on Teams: every value of every gradient and training step, on every rank, against float64 of all images.

A Run compares some values of large arrays; here all of them are, within the limits of a Run.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.controller import gate, parity, team, team_reply
from bench.controller.devices import devices_here
from bench.controller.settings import WorkerSettings, build_request
from bench.worker.messages import CallFirst, Verify
from bench.worker.replies import CheckKind, Output, Verified
from bench.worker.team_batches import TEAM_UNITS
from impls import FRAMEWORKS, PEERS
from impls.layers import BatchNorm
from impls.splits import DATA, HYBRID, TOWERS
from impls.variants import variant_named

pytestmark = pytest.mark.timeout(1800)

NETS = ("owt", "half_width", "keras_bn", "tutorial")
TEAMS = [*((name, mode, 2) for name, record in PEERS.items() for mode in record.teams), ("torch", "eager", 4)]
LIMIT_S = 600.0
#: Kinds of values that each pass is compared in, one per parameter; the loss, and moving statistics, are too.
COMPARED = {"forward_backward": {CheckKind.GRADIENT}, "train_step": {CheckKind.CHANGE, CheckKind.VELOCITY}}
#: Lines added to the code of a Team. Numbers of half precision are off by 2e-4 of themselves; one value of one gradient
#: off by a millionth is within all limits.
HALF = {
    "torch": """
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

class Planted(TeamNet):
    def __init__(self, *args):
        super().__init__(*args)
        self.parallel.register_comm_hook(None, fp16_compress_hook)
""",
    "tensorflow": """
class Planted(TeamNet):
    def _reduced(self, x, loss_of, by):
        def replica(x):
            loss, *gradients = self.gradient(x, loss_of)
            rounded = [tf.cast(tf.cast(gradient, tf.float16), tf.float32) for gradient in gradients]
            return loss, *tf.distribute.get_replica_context().all_reduce(by, rounded)

        return _strategy.run(replica, (x,))
""",
    "jax": """
class Planted(TeamNet):
    def summed(self, gradients):
        return super().summed(jax.tree.map(lambda it: lax.reduce_precision(it, 5, 10), gradients))

    def averaged(self, gradients):
        return super().averaged(jax.tree.map(lambda it: lax.reduce_precision(it, 5, 10), gradients))
""",
}
MOVED = """
class Planted(TeamNet):
    def differentiate(self, end, x):
        loss, *gradients = super().differentiate(end, x)
        gradients[0].view(-1)[0] *= 1 + 1e-6 * self.rank
        return loss, *gradients
"""


@dataclasses.dataclass(frozen=True)
class Expected:
    """A net at its full size with float64 values of its units of images."""

    case: Case
    folder: Path


@pytest.fixture(scope="module")
def expected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expected]:
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    variant = variant_named(name)
    batch = 2 if any(isinstance(layer, BatchNorm) for layer in variant.layers) else 1
    case = Case(name, "", "", "cpu", "fp32", "", batch, "train_step", world=2)
    made = parity.prepare(variant, folder / "parity", batch=batch, units=TEAM_UNITS, labeled=True, whole=True)
    assert made.tie_free
    assert made.stale == ()
    yield Expected(case, folder)
    shutil.rmtree(folder)  # 1.5 GB


class Asked:
    """What every rank of a Team of this Case says of every pass, and what a Run would say of it."""

    def __init__(
        self,
        expected: Expected,
        framework: str,
        folder: Path,
        patch: pytest.MonkeyPatch,
        mode: str = "",
        world: int = 2,
        lines: str = "",
        split: str = DATA,
    ):
        record = FRAMEWORKS[framework]
        pytest.importorskip(record.package)
        how = {"framework": framework, "mode": mode or record.teams[0], "layout": record.layouts[0], "world": world}
        case = dataclasses.replace(expected.case, **how, split=split)
        impls = planted(folder, framework, lines) if lines else None

        class Copied(WorkerSettings):
            def package(self, case: Case) -> Path | None:
                return impls

        devices = devices_here(world, on_gpu=False, oversubscribe=True)
        made = Copied(1, LIMIT_S, devices=devices).launch("team", case, folder / "logs")
        assert isinstance(made, team.Team)
        self.ranks: list[list[Verified]] = []

        def joined(replies: list[Any]) -> Any:
            if isinstance(replies[0], Verified):
                self.ranks.append(replies)
            return team_reply.joined(replies)

        patch.setattr(team, "joined", joined)
        self.faults: dict[str, str] = {}
        try:
            made.wait_until_configured()
            made.ask(build_request(case, expected.folder / "parity", passes=list(COMPARED)))
            for pass_ in COMPARED:
                made.ask(CallFirst(PASSES[pass_].method))
                asked = made.ask(Verify([Output(PASSES[pass_].proof)], thorough=True, target="reference"))
                self.faults[pass_] = gate.value_fault(parity.judge(asked.checks, parity.LIMITS["fp32"]))
            made.end()
        finally:
            made.kill()

    def worst(self) -> Iterator[tuple[str, CheckKind, parity.Judged, int]]:
        """Of each pass and kind of value the worst check, and its rank."""
        for pass_, replies in zip(COMPARED, self.ranks, strict=True):
            judged = [
                (check, rank)
                for rank, reply in enumerate(replies)
                for check in parity.judge(reply.checks, parity.LIMITS["fp32"])
            ]
            for kind in dict.fromkeys(check.kind for check, _ in judged):
                yield pass_, kind, *max((each for each in judged if each[0].kind == kind), key=lambda it: it[0].excess)


def planted(folder: Path, framework: str, lines: str) -> Path:
    """A copy of impls whose Team of this framework has these lines, which define Planted in place of its TeamNet."""
    shutil.copytree(ROOT / "impls", folder / "impls")
    module = FRAMEWORKS[framework].adapter.rpartition(".")[2].replace("alexnet", "team")
    source = folder / "impls" / f"{module}.py"
    source.write_text(f"{source.read_text()}\n{lines}\n\nTeamNet = Planted\n")
    return folder / "impls"


def prove(asked: Asked, expected: Expected, world: int) -> None:
    net = variant_named(expected.case.variant)
    parameters = sum(len(placed.layer.trainable(placed.input)) for placed in net.placed())
    for number, (pass_, kinds) in enumerate(COMPARED.items()):
        replies = asked.ranks[number]
        assert len(replies) == world
        for reply in replies:  # nothing passes because it was not compared
            found = [check.kind for check in reply.checks]
            assert [found.count(kind) for kind in kinds] == [parameters] * len(kinds)
            assert CheckKind.LOSS in found
        assert len({reply.digests[Output(PASSES[pass_].proof)] for reply in replies}) == 1
    assert list(asked.faults.values()) == ["", ""]


@pytest.mark.parametrize("expected", NETS, indirect=True)
@pytest.mark.parametrize(("framework", "mode", "world"), TEAMS)
def test_every_value_on_every_rank_is_that_of_all_images(framework, mode, world, expected, tmp_path, monkeypatch):
    asked = Asked(expected, framework, tmp_path, monkeypatch, mode, world)
    for pass_, kind, check, rank in asked.worst():
        where = f"{check.what}, rank {rank}"
        print(f"{framework} {mode} x{world} {expected.case.variant} {pass_}: {kind} {check.error or 0:.1e}: {where}")
    prove(asked, expected, world)


@pytest.mark.parametrize(("expected", "split"), [("original", TOWERS), ("owt", HYBRID)], indirect=["expected"])
@pytest.mark.parametrize("framework", PEERS)
def test_a_shared_net_has_every_value_of_the_whole(framework, split, expected, tmp_path, monkeypatch):
    asked = Asked(expected, framework, tmp_path, monkeypatch, split=split)
    for pass_, kind, check, rank in asked.worst():
        where = f"{check.what}, rank {rank}"
        print(f"{framework} {split} {expected.case.variant} {pass_}: {kind} {check.error or 0:.1e}: {where}")
    prove(asked, expected, 2)


class TestPlanted:
    @pytest.mark.parametrize("expected", ["half_width"], indirect=True)
    @pytest.mark.parametrize("framework", PEERS)
    def test_a_reduction_in_half_precision_is_refused(self, framework, expected, tmp_path, monkeypatch):
        asked = Asked(expected, framework, tmp_path, monkeypatch, lines=HALF[framework])
        for fault, kind in zip(asked.faults.values(), ("gradient", "velocity"), strict=True):
            assert fault.startswith("disagrees with the float64 reference in "), fault
            assert f" arrays, worst {kind} " in fault or " arrays, worst change " in fault, fault
            print(framework, fault)

    @pytest.mark.parametrize("expected", ["half_width"], indirect=True)
    def test_a_value_that_only_one_rank_has_is_refused(self, expected, tmp_path, monkeypatch):
        asked = Asked(expected, "torch", tmp_path, monkeypatch, lines=MOVED)
        assert list(asked.faults.values()) == [
            f"its ranks differ: {what} of ranks 0 and 1 are not the same bits" for what in ("gradients", "trained")
        ]
