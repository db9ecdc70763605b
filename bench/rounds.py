"""The controller of a Run: groups one after another, each in Rounds, until it is done, interrupted or out of time.

It imports no framework. What it measures is in run.jsonl before it asks for more, so nothing measured is lost.
"""

import dataclasses
import functools
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import host, parity
from bench.case import Case, groups
from bench.crew import Conditions
from bench.protocol import Protocol
from bench.results import Journal
from bench.round import Round


class Rounds:
    """One Run: ``run()`` measures every group and says why it ended."""

    def __init__(
        self,
        cases: list[Case],
        protocol: Protocol,
        conditions: Conditions,
        folder: Path,
        tell: Callable[..., None] = lambda *words, **fields: None,
    ):
        self.cases, self.protocol, self.conditions, self.folder, self.tell = cases, protocol, conditions, folder, tell
        self.journal = Journal(folder)
        self.failed: dict[str, str] = {}
        self.began = time.monotonic()
        self.reason = "planned"
        self.random = random.Random(protocol.seed)

    def head(self, **fields: Any) -> None:
        given = self.conditions.given
        self.journal.add(
            "run",
            **fields,
            threads=self.conditions.threads,
            env=dict(self.conditions.env),
            weights=given and {"file": given.file, "sha256": given.sha256},
            cases=[dataclasses.asdict(case) for case in self.cases],
            protocol=dataclasses.asdict(self.protocol),
            fingerprint=host.fingerprint(),
        )

    def run(self) -> str:
        """Measure; the stop reason: planned, time_cap, interrupted. The journal has an ``end`` in every case."""
        scratch = Path(tempfile.mkdtemp(prefix="alexnet-bench-"))
        try:
            for number, cases in enumerate(groups(self.cases)):
                self._group(number, cases, scratch / str(number))
                shutil.rmtree(scratch / str(number), ignore_errors=True)
        except KeyboardInterrupt:
            self.reason = "interrupted"
        except BaseException:
            self.reason = "failed"
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            self.journal.add("end", reason=self.reason, failed=self.failed)
        return self.reason

    def _group(self, number: int, cases: list[Case], scratch: Path) -> None:
        @functools.cache
        def proof() -> parity.ParitySet:
            """Computed once, while the first Round's Workers import."""
            self.tell("reference", case=cases[0])
            given = self.conditions.given
            weights = given.arrays if given else None
            made = parity.prepare(cases[0].net, scratch, batch=cases[0].batch, seed=cases[0].seed, weights=weights)
            ids, draws = [case.id for case in cases], list(made.draws)
            self.journal.add("parity", group=number, case_ids=ids, tie_free=made.tie_free, draws=draws)
            return made

        first_began = time.monotonic()
        for round_ in range(self.protocol.rounds):
            if round_ and self._no_time_for((time.monotonic() - first_began) / round_):
                self.reason = "time_cap"
                return
            for attempt in range(2):
                here = [case for case in cases if case.id not in self.failed]
                if not here:
                    return
                round_of = Round(self, number, round_, attempt, proof, logs=self.folder / "workers")
                if round_of.run(here):
                    break

    def _no_time_for(self, seconds: float) -> bool:
        """Whether a Round of that length would end after --max-time; every group's first Round is run all the same."""
        limit = self.protocol.max_time_s
        return limit is not None and time.monotonic() - self.began + seconds > limit

    def fail(self, case: Case, reason: str) -> None:
        if case.id not in self.failed:
            self.failed[case.id] = reason
            self.journal.add("failed", case_id=case.id, reason=reason)
            self.tell("failed", case=case, reason=reason)
