"""Conditions that all Workers share, and a crew of Workers for commands that time nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import child
from bench.case import Case
from bench.child import Child, WorkerDied


@dataclass(frozen=True)
class Conditions:
    """What every Worker of an invocation shares."""

    threads: int
    limit_s: float
    pythons: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    def launch(self, name: str, case: Case, logs: Path) -> Child:
        """Start the Case's Worker; ``child.configured`` waits for it."""
        return child.launch(
            name,
            case.framework,
            device=case.device,
            threads=case.threads or self.threads,
            pythons=self.pythons,
            env=self.env,
            precision=case.precision,
            logs=logs,
            limit_s=self.limit_s,
        )

    def start(self, name: str, case: Case, logs: Path) -> tuple[Child, dict[str, Any]]:
        """Start a Worker and wait until it is configured; with what it says of itself."""
        running = self.launch(name, case, logs)
        return running, child.configured(running, case.device)


def build(running: Child, case: Case, folder: Path, *, batch: int, dropout: bool = False) -> dict[str, Any]:
    """Have a Worker build the Case's Net from the weights in ``folder``."""
    how = {name: getattr(case, name) for name in ("device", "precision", "mode", "layout", "seed")}
    how |= {"batch": batch, "dropout": dropout}
    return running.ask("build", variant=case.variant, size=case.size, folder=str(folder), how=how)


class Crew:
    """One Worker a framework and mode, kept from variant to variant; a dead one is started afresh for the next."""

    def __init__(self, conditions: Conditions, logs: Path):
        self.conditions, self.logs = conditions, logs
        self.running: dict[str, Child] = {}

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error: object) -> None:
        for running in self.running.values():
            running.kill()

    def ask(self, case: Case, folder: Path, batch: int, do: str, **message: Any) -> dict[str, Any]:
        """Build the Case's Net at a batch and put one request to it."""
        if case.worker not in self.running:
            self.running[case.worker], _ = self.conditions.start(case.worker, case, self.logs)
        try:
            build(self.running[case.worker], case, folder, batch=batch)
            return self.running[case.worker].ask(do, **message)
        except WorkerDied:
            del self.running[case.worker]
            raise
