"""The replies of the ranks of a Team joined to a single one, as of one Worker."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeVar

from bench.worker.replies import (
    Check,
    CheckKind,
    Conditions,
    FrameworkConditions,
    Measured,
    Reading,
    SyncLag,
    Verified,
)
from bench.worker.team_batches import EVERY_RANK

R = TypeVar("R")


def joined(replies: Sequence[R]) -> R:
    """The reply of a Team: what its ranks report alike, sums of CPU time, means of durations, the worst of checks."""
    reply: R = _join(replies[0], replies)
    return reply


@functools.singledispatch
def _join(first: Any, replies: Sequence[Any]) -> Any:
    return first


@_join.register
def _(first: int, replies: Sequence[int]) -> int:
    """The duration of a first call, or a number that is the same on all ranks."""
    return max(replies)


@_join.register
def _(first: SyncLag, replies: Sequence[SyncLag]) -> SyncLag:
    return max(replies, key=lambda lag: lag.copy_ns / lag.allowed_ns)


@_join.register
def _(first: FrameworkConditions, replies: Sequence[FrameworkConditions]) -> FrameworkConditions:
    """Of each condition the value that is not rank 0's, if there is such; the device is that of rank 0."""
    values = {
        field.name: next(
            (value for reply in replies if (value := getattr(reply, field.name)) != getattr(first, field.name)),
            getattr(first, field.name),
        )
        for field in dataclasses.fields(first)
    }
    return dataclasses.replace(first, **values | ({"device": first.device} if isinstance(first, Conditions) else {}))


@_join.register
def _(first: Verified, replies: Sequence[Verified]) -> Verified:
    checks = _worst([check for reply in replies for check in reply.checks])
    checks.sort(key=lambda check: EVERY_RANK not in check.what)  # a rank with another's batch knows more than that one
    faults = [_unequal([reply.digests.get(what, "") for reply in replies], what) for what in first.digests]
    checks += [Check(CheckKind.FAULT, fault, None) for fault in faults if fault]
    return dataclasses.replace(first, checks=checks)


@_join.register
def _(first: Measured, replies: Sequence[Measured]) -> Measured:
    """The duration of an iteration is the mean over the ranks, whose sum is that of the true periods: the maximum has
    every rank's noise in it."""
    peaks = {
        name: max((peak for reply in replies if (peak := getattr(reply, name)) is not None), default=None)
        for name in ("allocator_peak", "process_peak")
    }
    slowest = max(replies, key=lambda reply: (reply.reload_ns or 0) / (reply.again_ns or reply.reload_ns or 1))
    return Measured(
        start_ns=first.start_ns,
        ns=[round(sum(each) / len(each)) for each in zip(*(reply.ns for reply in replies), strict=True)],
        cpu_s=sum(reply.cpu_s for reply in replies),
        **peaks,
        readings=[_join_readings(each) for each in zip(*(reply.readings for reply in replies), strict=True)],
        reload_ns=slowest.reload_ns,
        again_ns=slowest.again_ns,
        aside_ns=max(reply.aside_ns for reply in replies),
        aside_cpu_s=sum(reply.aside_cpu_s for reply in replies),
        rank_ns=[reply.ns for reply in replies],
    )


def _join_readings(readings: Sequence[Reading]) -> Reading:
    """The worst checks of one iteration, the first fault, and the settings of ranks that differ."""
    first = readings[0]
    faults = [f"rank {number}: {reading.fault}" for number, reading in enumerate(readings) if reading.fault]
    if len({reading.batch for reading in readings}) > 1:
        faults.append(f"its ranks computed batches {', '.join(str(reading.batch) for reading in readings)}")
    faults.append(_unequal([reading.digest for reading in readings], "values"))
    return dataclasses.replace(
        first,
        checks=_worst([check for reading in readings for check in reading.checks]),
        fault=next(filter(None, faults), ""),
        read_ns=max(reading.read_ns for reading in readings),
        copy_ns=max(reading.copy_ns for reading in readings),
        settings=joined([reading.settings for reading in readings]),
    )


def _worst(checks: Sequence[Check]) -> list[Check]:
    """Of each array the check with the largest error; one without an error is the worst."""
    worst: dict[tuple[str, str], Check] = {}
    for check in checks:
        other = worst.setdefault((check.kind, check.what), check)
        if other.error is not None and (check.error is None or check.error > other.error):
            worst[check.kind, check.what] = check
    return list(worst.values())


def _unequal(digests: Sequence[str], what: str) -> str:
    """The first two ranks whose digests differ; empty if all are equal."""
    other = next((number for number, digest in enumerate(digests) if digest != digests[0]), None)
    return "" if other is None else f"its ranks differ: {what} of ranks 0 and {other} are not the same bits"
