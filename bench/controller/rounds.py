"""The controller of a Run: groups one after another, each in Rounds, until it is done, interrupted or out of time.

It imports no framework. Every measurement is in run.jsonl before the next begins, so nothing is lost and a Run that
was cut off can be resumed.
"""

import dataclasses
import functools
import itertools
import shutil
import tempfile
import time
from pathlib import Path

from bench import UsageError
from bench.cases.case import Case, groups
from bench.cases.protocol import Protocol
from bench.controller import parity
from bench.controller.proof import Reference
from bench.controller.round import Kept, Round
from bench.controller.settings import WorkerSettings
from bench.controller.slot import Session
from bench.controller.watcher import Watcher
from bench.machine import host
from bench.record import events, pairs
from bench.record.events import Place
from bench.record.journal import Journal
from bench.record.run import Run


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
        self.reason = "planned"
        self.noise_stays = bool(earlier and earlier.disturbed)
        self.kept: Kept = {}
        """Workers for the next group of their device and precision, if the Protocol shares Workers."""

    def head(self, run_id: str, name: str = "", selftest: dict[str, events.SelfTest] | None = None) -> None:
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
                selftest=selftest or {},
            )
        )

    def go_on(self) -> int:
        """Resume an earlier Run: Rounds that it had not finished are void and are measured again.

        Returns how many bytes of an unfinished last line were removed.
        """
        dropped = self.journal.cut_torn_line()
        if self.earlier:
            self.journal.add(events.Resume(dropped))
            for group, round_, attempt in sorted(self.earlier.unfinished):
                self.journal.add(events.Void(group, round_, attempt, "the Run was cut off in it"))
        return dropped

    def run(self) -> str:
        """Measure every group and return the stop reason: planned, target, max_rounds, time_cap, interrupted or, if all
        Cases failed, failed. The journal gets an ``end`` event unless the disk is full."""
        scratch = Path(tempfile.mkdtemp(prefix="alexnet-bench-"))
        try:
            if self.protocol.shared_workers:
                self._all_groups(scratch)
            else:
                for number, cases in enumerate(groups(self.cases)):
                    self._stop(number, self._group(number, cases, scratch))
                    shutil.rmtree(scratch / str(number), ignore_errors=True)
        except KeyboardInterrupt:
            self.reason = "interrupted"
        except BaseException:
            self.reason = "failed"
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if not self.journal.broken:
                self.journal.add(events.End(events.StopReason(self.reason)))
        return self.reason

    def _guests(self) -> list[events.GuestNet]:
        """Users' nets, for the header; the two Arms of an --ab may have nets of the same label."""
        guests = ((self.settings.guest(case), case.arm) for case in self.cases)
        distinct = dict.fromkeys((guest, arm) for guest, arm in guests if guest)
        return [events.GuestNet(**guest.recorded(), label=guest.label, arm=arm) for guest, arm in distinct]

    def _stop(self, number: int, reason: str) -> None:
        self.journal.add(events.Stop(number, events.StopReason(reason)))
        self.reason = "time_cap" if "time_cap" in (reason, self.reason) else reason

    def _proof(self, number: int, cases: list[Case], scratch: Path) -> parity.ParitySet:
        """Compute the parity set of a group, while the first Round's Workers import."""
        self.watcher.on_reference(cases[0])
        given = self.settings.given
        weights = given.arrays if given else None
        folder, case = scratch / str(number), cases[0]
        try:
            made = parity.prepare(case.net, folder, batch=case.batch, seed=case.seed, weights=weights)
        except OSError as error:
            why = error.strerror or error  # numpy's error has the number of bytes and no reason
            raise UsageError(f"cannot write the weights to {scratch}: {why}; make room there, or set TMPDIR") from error
        ids, draws = [case.id for case in cases], list(made.draws)
        self.journal.add(events.Parity(number, ids, made.tie_free, draws))
        return made

    def _group(self, number: int, cases: list[Case], scratch: Path) -> str:
        """Run all Rounds of a group and return why it stopped."""
        proof = functools.cache(functools.partial(self._proof, number, cases, scratch))
        finished = self.earlier.finished(number) if self.earlier else set()
        began = time.monotonic()
        for here, round_ in enumerate(round_ for round_ in range(self.protocol.rounds) if round_ not in finished):
            live = [case for case in cases if case.id not in self.failed]
            if not live:
                return "failed"
            if len(finished) + here and self._target_reached(live):
                return "target"
            if here and self._no_time_for((time.monotonic() - began) / here):
                return "time_cap"
            self._round(number, round_, live, proof)
        if all(case.id in self.failed for case in cases):
            return "failed"
        if self.protocol.target_ci is None:
            return "planned"
        return "target" if self._target_reached(cases) else "max_rounds"

    def _all_groups(self, scratch: Path) -> None:
        """Run all groups Round by Round, with one set of Workers per Round."""
        everything = list(enumerate(groups(self.cases)))
        proofs = {
            number: functools.cache(functools.partial(self._proof, number, cases, scratch))
            for number, cases in everything
        }
        finished = {number: self.earlier.finished(number) if self.earlier else set() for number, _ in everything}
        began, done, reason = time.monotonic(), 0, "planned"
        for round_ in range(self.protocol.rounds):
            left = [(number, cases) for number, cases in everything if round_ not in finished[number]]
            if left and done and self._no_time_for((time.monotonic() - began) / done):
                reason = "time_cap"
                break
            try:
                for number, cases in left:
                    if live := [case for case in cases if case.id not in self.failed]:
                        self._round(number, round_, live, proofs[number])
            finally:
                for worker in self.kept.values():
                    worker.process.kill()
                self.kept = {}
            done += bool(left)
        for number, cases in everything:
            self._stop(number, "failed" if all(case.id in self.failed for case in cases) else reason)

    def _round(self, group: int, round_: int, cases: list[Case], proof: Reference) -> None:
        """Run one Round; repeat it if a Worker died, or if noise disturbed it and repeats are left."""
        deaths = disturbed = 0
        for attempt in itertools.count(self.earlier.next_attempt(group, round_) if self.earlier else 0):
            cases = [case for case in cases if case.id not in self.failed]
            if not cases:
                return
            place, began = Place(group, round_, attempt), time.monotonic()
            result = Round(self.session, place, proof, self.kept, spare=not deaths).run(cases)
            self.kept = result.kept
            self.failed |= result.failed
            if result.void:
                deaths += 1
                self.journal.add(events.Void(*place, result.void))
                continue
            again = self.protocol.paired and disturbed < self.protocol.noise_repeats and not self.noise_stays
            if result.disturbed and again and not self._no_time_for(time.monotonic() - began):
                disturbed += 1
                self.journal.add(events.Void(*place, result.disturbed))
                self.watcher.on_disturbed(place, result.disturbed)
                continue
            self.noise_stays |= bool(result.disturbed)  # permanent noise: later Rounds are not repeated
            self.journal.add(events.RoundEnd(*place, result.disturbed))
            return

    def _target_reached(self, cases: list[Case]) -> bool:
        """Whether every interval of the group is as narrow as --target-ci; asked between Rounds only."""
        target = self.protocol.target_ci
        if target is None:
            return False
        run = Run(self.folder)
        live = [case for case in cases if case.id not in self.failed]
        if any(len(run.samples(case)) < self.protocol.target_from for case in live):
            return False
        return pairs.widest(run, live) <= target

    def _no_time_for(self, seconds: float) -> bool:
        """Whether a Round of that length would end after --max-time. The first Round of a group is always run."""
        limit = self.protocol.max_time_s
        return limit is not None and time.monotonic() - self.began + seconds > limit
