"""Reasons for which a Run, a burn-in, or the samples of a Case in a Round ended."""

from enum import StrEnum


class StopReason(StrEnum):
    """Why a group has no more Rounds, or an invocation ended."""

    PLANNED = "planned"
    TARGET = "target"
    MAX_ROUNDS = "max_rounds"
    TIME_CAP = "time_cap"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class BurnInStop(StrEnum):
    """Why burn-in ended: times were steady, the cap was reached, or it has a fixed count."""

    GATE = "gate"
    CAP = "cap"
    COUNT = "count"


class BlockStop(StrEnum):
    """Why a Case has no more samples in a Round: it has all, or the time of the Round was used up."""

    COUNT = "count"
    TIME_CAP = "time_cap"
