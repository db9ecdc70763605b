"""The controller of a Run: groups one after another, each in Rounds, until it is done, interrupted or out of time.

It imports no framework. Every measurement is in run.jsonl before the next begins, so nothing is lost and a Run that
was cut off can be resumed.
"""

import dataclasses
import functools
import itertools
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from bench import UsageError
from bench.cases.case import Case, groups
from bench.cases.passes import PASSES
from bench.cases.protocol import Protocol
from bench.cases.shard import Shard
from bench.controller import estimate, parity
from bench.controller.budget import Budget
from bench.controller.proof import Reference
from bench.controller.round import Kept, Round
from bench.controller.settings import WorkerSettings
from bench.controller.slot import Session
from bench.controller.watcher import Watcher
from bench.machine import host, signals
from bench.machine.scratch import scratch_folder
from bench.record import events, pairs
from bench.record.events import Place
from bench.record.journal import Journal
from bench.record.reasons import StopReason
from bench.record.run import Run
from bench.record.selftest_store import SelfTest
from bench.worker.batches import UNITS
from bench.worker.team_batches import TEAM_UNITS

#: A Run ends for the first of these that is the reason of a group.
PRECEDENCE = (StopReason.TIME_CAP, StopReason.MAX_ROUNDS, StopReason.TARGET, StopReason.PLANNED, StopReason.FAILED)


class Group(NamedTuple):
    """Cases whose Workers take turns, the Rounds finished earlier, and the parity set, computed on the first call."""

    number: int
    cases: list[Case]
    finished: set[int]
    proof: Reference


class Rounds:
    """One Run: ``run()`` measures every group and returns why it ended. ``earlier`` is the Run that it resumes."""

    def __init__(
        self,
        cases: list[Case],
        protocol: Protocol,
        settings: WorkerSettings,
        folder: Path,
        watcher: Watcher | None = None,
        earlier: Run | None = None,
    ):
        self.cases, self.protocol, self.folder, self.watcher = cases, protocol, folder, watcher or Watcher()
        self.settings = dataclasses.replace(settings, cache=folder / "compile_cache")
        self.journal = Journal(folder)
        self.session = Session(protocol, self.settings, folder, self.journal, self.watcher)
        self.earlier = earlier
        self.failed: dict[str, str] = dict(earlier.failed) if earlier else {}
        self.began = time.monotonic()
        self.matrix_flops = functools.cache(estimate.matrix_flops)
        self.noise_stays = bool(earlier and earlier.disturbed)
        self.proven: dict[int, AbstractSet[str]] = {}
        self.kept: Kept = {}
        """Workers for the next group of their device and precision, if the Protocol shares Workers."""

    def write_header(self, run_id: str, name: str, selftest: dict[str, SelfTest], shard: Shard | None = None) -> None:
        """Record the header."""
        given, ab = self.settings.given, self.settings.ab
        self.journal.add(
            events.Header(
                run_id=run_id,
                name=name,
                schema=events.SCHEMA,
                threads=self.settings.threads,
                env=dict(self.settings.env),
                pythons=sorted(self.settings.pythons),
                weights=events.WeightsFile(given.file, given.sha256) if given else None,
                guests=self._guests(),
                ab=ab.recorded() if ab else None,
                cases=self.cases,
                protocol=self.protocol,
                fingerprint=host.fingerprint(),
                selftest=selftest,
                pictures=self.settings.source.facts if self.settings.source else None,
                devices=[device.recorded() for device in self.settings.devices],
                shard=shard,
            )
        )

    def resume(self) -> int:
        """Resume an earlier Run: Rounds that it had not finished are void and are measured again.

        Returns how many bytes of an unfinished last line were removed.
        """
        dropped = self.journal.cut_torn_line()
        if self.earlier:
            self.journal.add(events.Resume(dropped))
            for group, round_, attempt in sorted(self.earlier.unfinished):
                self.journal.add(events.Void(group, round_, attempt, "the Run was cut off in it"))
        return dropped

    def run(self) -> StopReason:
        """Measure every group and return why the Run ended: ``FAILED`` only if every Case failed.

        The journal gets an ``end`` event unless the disk is full.
        """
        reason = StopReason.FAILED
        try:
            with scratch_folder() as scratch:
                everything = list(self._groups(scratch))
                reasons: list[StopReason] = []
                parts = [everything] if self.protocol.shared_workers else [[group] for group in everything]
                for number, together in enumerate(parts):
                    budget = Budget(self.protocol, self._seconds(parts[number:]))
                    reasons += self._measure(together, budget)
                    for group in together:
                        shutil.rmtree(scratch / str(group.number), ignore_errors=True)
            reason = next(reason for reason in PRECEDENCE if reason in reasons)
        except KeyboardInterrupt:
            signals.answered()
            reason = StopReason.INTERRUPTED
        finally:
            if not self.journal.broken:
                self.journal.add(events.End(reason))
        return reason

    def _groups(self, scratch: Path) -> Iterator[Group]:
        for number, cases in enumerate(groups(self.cases)):
            proof = functools.cache(functools.partial(self._proof, number, cases, scratch))
            yield Group(number, cases, self.earlier.finished(number) if self.earlier else set(), proof)

    def _guests(self) -> list[events.GuestNet]:
        """Users' nets, for the header; the two Arms of an --ab may have nets of the same label."""
        guests = ((self.settings.guest(case), case.arm) for case in self.cases)
        distinct = dict.fromkeys((guest.whole, arm) for guest, arm in guests if guest)
        return [
            events.GuestNet(
                file=guest.source,  # without its folder, since a Run may be published
                function=guest.call,
                sha256=guest.sha256,
                label=guest.label,
                arm=arm,
                framework=guest.framework,
                takes_weights=guest.takes_weights,
                modules=self.settings.modules.get(guest.label),
            )
            for guest, arm in distinct
        ]

    def _proof(self, number: int, cases: list[Case], scratch: Path) -> parity.ParitySet:
        """Compute the parity set of a group, while the first Round's Workers import."""
        folder, case = scratch / str(number), cases[0]
        if case.input:  # models alone, which are compared with nothing
            return parity.ParitySet(folder, True, (), 1)
        self.watcher.on_reference(case)
        given = self.settings.given
        weights = given.arrays if given else None
        labeled = any(PASSES[case.pass_].updates for case in cases)
        try:
            made = parity.prepare(
                *(case.net, folder),
                batch=next((case.batch for case in cases if case.batch % 2), case.batch),
                seed=case.seed,
                weights=weights,
                labeled=labeled,
                units=TEAM_UNITS if any(case.world > 1 for case in cases) else UNITS,
            )
        except OSError as error:
            why = error.strerror or error  # numpy's error has the number of bytes and no reason
            raise UsageError(f"cannot write the weights to {scratch}: {why}; make room there, or set TMPDIR") from error
        ids, draws = [case.id for case in cases], list(made.draws)
        self.journal.add(events.Parity(number, ids, made.tie_free, draws))
        return made

    def _seconds(self, parts: Sequence[Sequence[Group]]) -> float | None:
        """The first part's share of the time left until --max-time."""
        limit = self.protocol.max_time_s
        if limit is None:
            return None
        left_s = limit - (time.monotonic() - self.began)
        if len(parts) == 1:
            return left_s
        return estimate.shares(left_s, [sum(map(self._estimate_s, part)) for part in parts])[0]

    def _estimate_s(self, group: Group) -> float:
        """Estimated wall time of a group's Rounds that are left; infinite, if a net of unknown cost has any."""
        rounds, live = self.protocol.rounds - len(group.finished), self._live(group)
        if rounds and any(map(self.settings.of_unknown_cost, live)):
            return math.inf
        protocol = dataclasses.replace(self.protocol, rounds=rounds, max_time_s=None)
        flops = self.matrix_flops() / self.settings.sharing
        return estimate.seconds_of(live, protocol, flops) if rounds else 0.0

    def _measure(self, together: list[Group], budget: Budget) -> list[StopReason]:
        """Run the Rounds of groups, one Round of each at a time, and return why each stopped."""
        rounds_done, out_of_time = 0, False
        for round_ in range(self.protocol.rounds):
            left = [group for group in together if round_ not in group.finished and self._live(group)]
            if not left:
                continue
            if all(self._target_reached(group) for group in left):
                break
            if rounds_done and not budget.fits(len(left)):
                out_of_time = True
                break
            try:
                for group in left:
                    self._round(group, round_, budget)
            finally:
                for worker in self.kept.values():
                    worker.process.kill()
                self.kept = {}
            rounds_done += 1
        reasons = [self._stop_reason(group, out_of_time) for group in together]
        for group, reason in zip(together, reasons, strict=True):
            self.journal.add(events.Stop(group.number, reason))
        return reasons

    def _live(self, group: Group) -> list[Case]:
        """The Cases of a group that have not failed."""
        return [case for case in group.cases if case.id not in self.failed]

    def _stop_reason(self, group: Group, out_of_time: bool) -> StopReason:
        if not self._live(group):
            return StopReason.FAILED
        if out_of_time:
            return StopReason.TIME_CAP
        if self.protocol.target_ci is None:
            return StopReason.PLANNED
        return StopReason.TARGET if self._target_reached(group) else StopReason.MAX_ROUNDS

    def _round(self, group: Group, round_: int, budget: Budget) -> None:
        """Run one Round; repeat it if a Worker died, or if noise disturbed it and repeats are left."""
        deaths = disturbed = 0
        left = len({*range(round_, self._planned_rounds(round_))} - group.finished)
        for attempt in itertools.count(self.earlier.next_attempt(group.number, round_) if self.earlier else 0):
            if not (cases := self._live(group)):
                return
            place = Place(group.number, round_, attempt)
            budget.begin_round()
            result = Round(
                *(self.session, place, group.proof, self.kept),
                budget=budget,
                proven=self.proven.get(group.number, frozenset()),
                spare=not deaths,
                left=left,
            ).run(cases)
            budget.end_round()
            self.kept = result.kept
            self.failed |= result.failed
            if result.void:
                deaths += 1
                self.journal.add(events.Void(*place, result.void))
                continue
            again = self.protocol.paired and disturbed < self.protocol.noise_repeats and not self.noise_stays
            if result.disturbed and again and budget.fits(left, share=0.5):
                disturbed += 1
                self.journal.add(events.Void(*place, result.disturbed))
                self.watcher.on_disturbed(place, result.disturbed)
                continue
            self.noise_stays |= bool(result.disturbed)  # permanent noise: later Rounds are not repeated
            self.journal.add(events.RoundEnd(*place, result.disturbed))
            self.proven[group.number] = result.proven
            return

    def _planned_rounds(self, round_: int) -> int:
        """How many Rounds the time is divided among; with --target-ci as many as it needs at least."""
        rules = self.protocol
        return rules.rounds if rules.target_ci is None else min(rules.rounds, max(rules.target_from, round_ + 1))

    def _target_reached(self, group: Group) -> bool:
        """Whether every interval of the group is as narrow as --target-ci; asked between Rounds only."""
        target = self.protocol.target_ci
        if target is None:
            return False
        run, live = Run(self.folder), self._live(group)
        if any(len(run.samples(case)) < self.protocol.target_from for case in live):
            return False
        return pairs.widest(run, live) <= target
