"""Settings that all Workers share, and a pool of Workers for commands that time nothing."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.arm import Ab, describe_arm
from bench.cases.case import PRESETS, Case
from bench.controller import worker_process
from bench.controller.worker_process import WorkerDied, WorkerProcess
from bench.worker.guest import Guest
from impls.weights import Weights


@dataclass(frozen=True)
class GivenWeights:
    """Weights from a file: its name without a path, its hash, and the arrays, which fit every variant asked for."""

    file: str
    sha256: str
    arrays: Weights

    @property
    def digest(self) -> str:
        """Enough of the hash to tell two files apart in a Case's id."""
        return self.sha256[:8]


@dataclass(frozen=True)
class WorkerSettings:
    """What every Worker of an invocation shares."""

    threads: int
    limit_s: float
    pythons: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    given: GivenWeights | None = None
    ab: Ab | None = None
    guests: Mapping[str, Guest] = field(default_factory=dict)
    """Users' own nets, by label."""
    cache: Path | None = None
    """Where what is compiled is kept for later Workers."""

    def guest(self, case: Case) -> Guest | None:
        """Whose net a Case times, None for ours."""
        if case.guest is None:
            return None
        return (self.ab and self.ab.guest(case.arm)) or self.guests[case.guest]

    def python(self, case: Case) -> str | None:
        """The interpreter of a Case's Worker, None for this one."""
        arm = self.ab.python(case.arm) if self.ab else None
        return arm or self.pythons.get(case.framework)

    def package(self, case: Case) -> Path | None:
        """Where the ``impls`` of a Case's Worker are, None for those of this process."""
        return self.ab.package(case.arm) if self.ab else None

    def environment(self, case: Case) -> dict[str, str | None]:
        """What is let through to a Case's Worker beside the whitelist; None takes a variable away."""
        return {**self.env, **(self.ab.env(case.arm) if self.ab else {})}

    def compiled_before(self, cache: str) -> bool:
        """Whether there is anything in what a Worker is to compile into; what the driver keeps is not a compiler's."""
        if self.cache is None:
            return False
        folder = self.cache / cache
        found = folder.rglob("*") if folder.is_dir() else ()
        return any(path.is_file() and path.relative_to(folder).parts[0] != "cuda" for path in found)

    def pinned_threads(self, case: Case) -> int | None:
        """How many threads a Case's Worker is given, None where the framework chooses."""
        return case.threads or (self.threads if case.preset == PRESETS[0] else None)

    def launch(self, name: str, case: Case, logs: Path, cache: str = "") -> WorkerProcess:
        """Start the Case's Worker; ``configured`` waits for it. ``cache`` names what it compiles into."""
        return worker_process.launch(
            name,
            case.framework,
            device=case.device,
            threads=self.pinned_threads(case),
            preset=case.preset,
            python=self.python(case),
            env=self.environment(case),
            precision=case.process_precision,
            cache=(self.cache or logs / "compile_cache") / (cache or name),
            logs=logs,
            limit_s=self.limit_s,
            package=self.package(case),
        )

    def start(self, name: str, case: Case, logs: Path) -> tuple[WorkerProcess, dict[str, Any]]:
        """Start a Worker and wait until it is configured; with what it says of itself."""
        running = self.launch(name, case, logs)
        return running, worker_process.configured(running, case.device)


def how(case: Case, **changes: Any) -> dict[str, Any]:
    """The fields of a Net's Build, dropout off unless it is asked for here."""
    fields = {name: getattr(case, name) for name in ("batch", "device", "precision", "mode", "layout", "seed", "lrn")}
    return fields | changes


def building(case: Case, folder: Path, theirs: Guest | None = None, **changes: Any) -> dict[str, Any]:
    """The request to build a Case's Net, ours or a user's, with those changes to its Build, from the weights in
    ``folder``."""
    net = theirs and {"path": theirs.path, "function": theirs.function, "sha256": theirs.sha256}
    return {"variant": case.variant, "size": case.size, "folder": str(folder), "how": how(case, **changes), "net": net}


def preflight(cases: Sequence[Case], conditions: WorkerSettings) -> None:
    """Ask for GPUs, other interpreters and other revisions before anything is made: what is missing is a mistake, not a
    fault."""

    def alike(case: Case) -> tuple:
        return conditions.python(case), conditions.package(case), case.framework, case.device

    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        for case in {alike(case): case for case in cases}.values():
            own = conditions.package(case)
            if case.device == "cpu" and conditions.python(case) is None and own is None:
                continue
            try:
                running, _ = conditions.start(case.framework, case, Path(scratch))
                if own:
                    running.ask("probe", how=how(case))
            except WorkerDied as died:
                if own and died.kind in ("died", "error", "missing"):
                    raise UsageError(_unfit(case, conditions, died)) from died
                continue  # the command will meet it again, and say what it wrote
            running.kill()


def _unfit(case: Case, conditions: WorkerSettings, died: WorkerDied) -> str:
    """Why the revision of an Arm cannot be timed by this one's harness, in one line."""
    side = describe_arm(conditions.ab.recorded(), case.arm) if conditions.ab and case.arm else ""
    why = died.last_words if died.kind == "died" and died.last_words else died.reason
    return (
        f"arm {case.arm} ({side}) cannot run a Worker for {case.framework}: {why}; choose a revision nearer to this one"
    )


class WorkerPool:
    """One Worker a framework, mode and process-wide precision, kept from variant to variant; a dead one is started
    afresh for the next."""

    def __init__(self, conditions: WorkerSettings, logs: Path):
        self.conditions, self.logs = conditions, logs
        self.running: dict[str, WorkerProcess] = {}
        self.said: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *error: object) -> None:
        for running in self.running.values():
            running.kill()

    def name(self, case: Case) -> str:
        return f"{case.worker}-{case.process_precision}"

    def worker(self, case: Case) -> WorkerProcess:
        """The running Worker of a Case, started where there is none; ``said`` keeps what it said of itself."""
        name = self.name(case)
        if name not in self.running:
            self.running[name], self.said[name] = self.conditions.start(name, case, self.logs)
        return self.running[name]

    def ask(self, case: Case, do: str, **message: Any) -> dict[str, Any]:
        """One request to the Case's Worker; WorkerDied is passed on, and the Worker forgotten."""
        running = self.worker(case)
        try:
            return running.ask(do, **message)
        except WorkerDied:
            self.running = {name: one for name, one in self.running.items() if one is not running}
            raise
