"""CaseFacts: figures and facts of one Case, from which the columns of summary.csv are computed."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from statistics import median

from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.machine import noise
from bench.record import device_time, validity
from bench.record.ceiling import ceiling_of, counted_macs
from bench.record.device_time import OnDevice
from bench.record.events import BurnIn, Energy, Worker
from bench.record.reasons import StopReason
from bench.record.recording import Recording
from bench.stats import descriptive
from bench.stats.descriptive import Less
from bench.stats.footprint import footprint
from bench.worker.replies import CheckKind


class CaseFacts:
    """Figures and facts of one Case that the columns of summary.csv share."""

    def __init__(self, run: Recording, case: Case):
        self.run, self.case = run, case
        self.turns = run.turns_of(case)
        self.workers = run.workers(case)
        self.worker = self.workers[0] if self.workers else None
        self.readings = [reading for turn in self.turns for reading in turn.readings]
        self.versions = self.worker.versions if self.worker else {}
        self.burn_in = run.of_case(BurnIn, case)
        self.invalid_reason = validity.invalid_reason(run, case)
        self.summary, self.ceiling = run.summary(case), ceiling_of(run, case)
        self.macs = counted_macs(run, case)

    @cached_property
    def difference(self) -> Less | None:
        return derived_difference(self.run, self.case)

    @cached_property
    def noise(self) -> Mapping[str, float | None]:
        """Percent, by kind of evidence."""
        return noise.percentages([turn.noise for turn in self.turns]) if self.turns else {}

    @property
    def device_name(self) -> str:
        return str(self.versions.get("device_name") or self.run.head.fingerprint.cpu)

    @property
    def threads(self) -> int | None:
        threads = (self.worker and self.worker.conditions.threads) or self.case.threads
        return threads or (None if self.case.foreign else self.run.head.threads)

    @property
    def params(self) -> int | None:
        """Trainable values; of a net that is not proven, those that were counted (earlier Runs have the variant's)."""
        if self.case.foreign or not self.worker:
            return None if self.case.foreign or self.case.input else self.case.net.params
        return self.worker.identity.params if self.macs is not None or self.worker.identity.macs is None else None

    def per_ns(self, amount: float, scale: float = 1.0) -> float | None:
        """``scale`` times an amount per nanosecond of the center; None for another program's benchmark."""
        return amount * scale / self.summary.center.center if self.summary and not self.case.foreign else None

    @property
    def first_call_ms(self) -> float | None:
        """Of Round 0, in which nothing else runs."""
        cold = [ns for event, ns in self._first_calls if not _finds_compiled(event)]
        return max(cold) / 1e6 if cold else None

    @property
    def first_call_warm_ms(self) -> float | None:
        """Median of later Rounds, which may find compiled code in the Run's folder."""
        warm = [ns for event, ns in self._first_calls if _finds_compiled(event)]
        return median(warm) / 1e6 if warm else None

    @property
    def compile_cache(self) -> str | None:
        """State of the compile cache at the start of each Round."""
        states = (event.compile_cache or "none" for event, _ in self._first_calls)
        return " ".join(states) if self.case.compiled else None

    @cached_property
    def _first_calls(self) -> list[tuple[Worker, int]]:
        """Workers that made a first call of the pass, with its duration in ns; includes repeated Rounds."""
        workers = (event for event in self.run.events_of(Worker) if self.case.id in event.case_ids)
        calls = ((event, event.first_call_ns.get(self.case.pass_)) for event in workers)
        return [(event, ns) for event, ns in calls if ns is not None]

    @property
    def cores_used(self) -> float | None:
        """CPU seconds of the Worker's process per second of its turns."""
        wall = sum(turn.noise.wall_s for turn in self.turns)
        known = [turn.cpu_s for turn in self.turns if turn.cpu_s is not None]
        return sum(known) / wall if wall and known else None

    @property
    def stop_reason(self) -> str:
        failed = self.invalid_reason not in ("", "not measured")
        return StopReason.FAILED if failed else self.run.stop_reason(self.case)

    def gpu(self, name: str, fold: Callable[[list[float]], float]) -> float | None:
        """Fold the readings ``name`` of the GPU over the turns."""
        known = [value for turn in self.turns if (value := getattr(turn.noise, name)) is not None]
        return fold(known) if known else None

    @cached_property
    def on_device(self) -> OnDevice | None:
        return device_time.on_device(self.run, self.case)

    @property
    def joules_per_image(self) -> float | None:
        weighed = self.run.of_case(Energy, self.case)
        images = sum(event.iterations for event in weighed) * self.case.images
        return sum(event.joules for event in weighed) / images if images else None

    @property
    def l2(self) -> str | None:
        """Whether all that a pass of our own net holds fits in the L2 cache of a device that tells its size."""
        size, case = self.versions.get("l2_mib"), self.case
        if not isinstance(size, float) or case.foreign or case.guest or case.input or case.part or case.world > 1:
            return None
        if case.pass_ not in PASSES or not PASSES[case.pass_].stages:
            return None
        held = footprint(case.net, case.batch, case.pass_, case.precision).total
        return "warm" if held <= size * 2**20 else "cold"

    def most_mib(self, name: str) -> float | None:
        known = (value for turn in self.turns if (value := getattr(turn, name)) is not None)
        return max((value / 2**20 for value in known), default=None)

    def most_us(self, name: str) -> float | None:
        return max((getattr(worker, name) / 1e3 for worker in self.workers), default=None)

    def worst_parity(self, kind: CheckKind) -> float | None:
        errors = [worker.parity for worker in self.workers] + [reading.parity for reading in self.readings]
        return max((error[kind] for error in errors if kind in error), default=None)

    def probed(self, kind: str) -> str | None:
        return self.worker.precision.shown[kind] if self.worker else None


def _finds_compiled(worker: Worker) -> bool:
    return worker.round > 0 or worker.compile_cache == "warm"


def derived_difference(run: Recording, case: Case) -> Less | None:
    """The difference of the Case's pass in one Worker, from the medians of each Round."""
    timed = PASSES.get(case.pass_)
    if not timed or not timed.difference:
        return None
    less = dataclasses.replace(case, pass_=timed.difference.less)
    if less not in run.cases or validity.invalid_reason(run, less):
        return None
    both = [run.round_medians_ns(case_) for case_ in (case, less)]
    rounds = sorted(both[0].keys() & both[1].keys())
    return descriptive.less(*([medians[number] for number in rounds] for medians in both)) if rounds else None
