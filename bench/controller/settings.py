"""Settings that the Workers of an invocation share, and how the Worker and Net of a Case are started and built."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cases.arm import Ab
from bench.cases.case import PRESETS, Case
from bench.cases.passes import PASSES, methods_called
from bench.controller.devices import Device
from bench.controller.launch import Launch
from bench.controller.running_worker import RunningWorker
from bench.controller.source import Source
from bench.controller.team import LOOPBACK, Team, addresses_of
from bench.controller.worker_process import WorkerProcess
from bench.machine.node import interface_of
from bench.worker.guest import Guest
from bench.worker.messages import BuildNet
from bench.worker.replies import ModelParts
from impls import accelerator_of
from impls.net import Build, Rank, Settings
from impls.weights import Weights

#: Variables that name the network interface of a Team's traffic.
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
RANK_PATIENCE = 10  # a framework waits for another rank so many times as long as the controller for a reply


@dataclass(frozen=True)
class GivenWeights:
    """Weights from a file: its name without a path, its hash, and the arrays, which fit every variant of the Run."""

    file: str
    sha256: str
    arrays: Weights


@dataclass(frozen=True)
class WorkerSettings:
    """Settings shared by every Worker of an invocation."""

    threads: int
    limit_s: float
    pythons: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str | None] = field(default_factory=dict)
    given: GivenWeights | None = None
    ab: Ab | None = None
    guests: Mapping[str, Guest] = field(default_factory=dict)
    """Users' nets, by label."""
    modules: Mapping[str, ModelParts] = field(default_factory=dict)
    """Their modules that are timed alone, by label; only for a profile."""
    source: Source | None = None
    """Pictures of the Cases with loaders."""
    cache: Path | None = None
    """Folder in which compiled code is kept for later Workers."""
    devices: Sequence[Device] = ()
    """Where the Run counts devices: rank r of a Team has device r, a lone Worker the first."""

    @property
    def sharing(self) -> int:
        """How many devices share the cores of this machine."""
        return max(1, len(self.devices))

    def guest(self, case: Case) -> Guest | None:
        """The user's net that a Case times; None for ours."""
        if case.guest is None:
            return None
        guest = (self.ab and self.ab.guest(case.arm)) or self.guests[case.guest]
        return dataclasses.replace(guest, part=case.part) if case.part else guest

    def of_unknown_cost(self, case: Case) -> bool:
        """Whether a Case times a user's net that does not compute its Variant, as one that takes our weights does."""
        guest = self.guest(case)
        return guest is not None and not guest.takes_weights

    def python(self, case: Case) -> str | None:
        """Path of the interpreter of a Case's Worker; None for this one."""
        arm = self.ab.python(case.arm) if self.ab else None
        return arm or self.pythons.get(case.framework)

    def package(self, case: Case) -> Path | None:
        """Folder of the ``impls`` of a Case's Worker; None for those of this process."""
        return self.ab.package(case.arm) if self.ab else None

    def environment(self, case: Case) -> dict[str, str | None]:
        """Variables passed to a Case's Worker in addition to the whitelist; None removes a variable."""
        return {**self.env, **(self.ab.env(case.arm) if self.ab else {})}

    def compiled_before(self, cache: str) -> bool:
        """Whether a Worker's compile cache has files, not counting those of the GPU driver."""
        if self.cache is None:
            return False
        folder = self.cache / cache
        files = folder.rglob("*") if folder.is_dir() else ()
        return any(path.is_file() and path.relative_to(folder).parts[0] != "cuda" for path in files)

    def pinned_threads(self, case: Case) -> int | None:
        """Number of threads that a Case's Worker is given; None if the framework chooses."""
        return case.threads or (self.threads if case.preset == PRESETS[0] else None)

    def launch(self, name: str, case: Case, logs: Path, cache: str = "") -> WorkerProcess | Team:
        """Start the Case's Worker and return while it configures itself. ``cache`` names its compile cache."""
        settings = Settings(case.device, self.pinned_threads(case), case.process_precision, case.preset)
        alone = Launch(
            name,
            case.framework,
            settings,
            cache=(self.cache or logs / "compile_cache") / (cache or name),
            logs=logs,
            limit_s=self.limit_s,
            python=self.python(case) or sys.executable,
            env=self.environment(case),
            package=self.package(case),
            cores=self.devices[0].cores if self.devices else (),
            node=self.devices[0].node if self.devices else None,
        )
        return WorkerProcess(alone) if case.world == 1 else Team(list(self._launches(alone, case.world)), name)

    def _launches(self, alone: Launch, world: int) -> Iterator[Launch]:
        """How the ranks of a Team are started, each on its slice of the cores or its GPU."""
        nodes = [device.node for device in self.devices[:world] if device.node]
        addresses = addresses_of([node.machine.address for node in nodes] or [LOOPBACK] * world)
        for number, device in enumerate(self.devices[:world]):
            interface = device.node.machine.interface if device.node else interface_of(LOOPBACK)
            accelerator = accelerator_of(alone.settings.device)
            name = f"{accelerator.kind}:{device.index}" if accelerator.indexed else accelerator.kind
            rank = Rank(number, addresses, self.limit_s * RANK_PATIENCE)
            yield dataclasses.replace(
                alone,
                name=f"{alone.name}-rank{number}",
                settings=dataclasses.replace(alone.settings, device=name, rank=rank),
                cache=alone.cache / f"rank{number}",
                # else gloo takes the interface that the host's name resolves to
                env={**(dict.fromkeys(INTERFACES, interface) if interface else {}), **alone.env},
                cores=device.cores,
                node=device.node,
            )

    def start(self, name: str, case: Case, logs: Path) -> RunningWorker:
        """Start the Case's Worker and wait until it is configured."""
        worker = RunningWorker(self.launch(name, case, logs))
        worker.ready()
        return worker


def build_of(case: Case) -> Build:
    """How a Case's Net is built for its proof: without dropout."""
    return Build(
        *(case.batch, case.device, case.precision, case.mode, case.layout),
        seed=case.seed,
        lrn=case.lrn,
        preset=case.preset,
        split=case.split if case.world > 1 else None,
    )


def build_request(
    case: Case,
    folder: Path,
    guest: Guest | None = None,
    how: Build | None = None,
    passes: Sequence[str] = (),
    *,
    proven: bool = True,
) -> BuildNet:
    """Request to build a Case's Net, ours or the user's, from the weights in ``folder``.

    ``how`` replaces ``build_of(case)``; ``passes`` are what it is built for, and whether it is ``proven`` in them.
    """
    needed = methods_called([name for name in passes if not PASSES[name].updates], proven=proven)
    wanted = [method for method in methods_called(passes, proven=proven) if method not in needed]
    asked = how or build_of(case), guest, needed, wanted
    return BuildNet(case.variant, case.size, str(folder), *asked, bool(case.input), case.input_shape)
