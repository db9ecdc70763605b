"""What the numbers of the events in a run.jsonl tell: lines that occur twice, are missing, or are out of order."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from bench.record.events import Event, OfRound


class Line(NamedTuple):
    """A line of run.jsonl that is an event; ``number`` counts lines from 1."""

    number: int
    text: bytes
    event: Event


class Account(NamedTuple):
    """Events in the order they were written, each once.

    ``problems`` are sentences about the file; ``lacking`` are groups and Rounds beside which events are missing.
    """

    events: list[Event]
    problems: list[str]
    lacking: set[tuple[int, int]]


def account(lines: Sequence[Line]) -> Account:
    """Order and check the events of a file. Of events without a number, as in schema 4, only copies are found."""
    once, problems = _once(lines)
    numbers = [line.event.number for line in once]
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(once):
        return Account([line.event for line in once], problems, set())
    if known != sorted(known):
        problems.append("its lines are out of order: read in the order of their numbers")
        once.sort(key=lambda line: line.event.number or 0)
    lacking: set[tuple[int, int]] = set()
    missing = 0
    for before, after in itertools.pairwise(once):
        gap = (after.event.number or 0) - (before.event.number or 0) - 1
        if gap:
            missing += gap
            lacking |= {event.place[:2] for event in (before.event, after.event) if isinstance(event, OfRound)}
    if missing:
        problems.append(f"{missing} of its events are missing: Rounds beside them are not counted")
    return Account([line.event for line in once], problems, lacking)


def _once(lines: Sequence[Line]) -> tuple[list[Line], list[str]]:
    """Each event once, and what was said more than once."""
    first: dict[object, Line] = {}
    kept: list[Line] = []
    copies, others = 0, list[int]()
    for line in lines:
        key = _key(line)
        if key is None or key not in first:
            kept.append(line)
            first[key] = line
        elif first[key].text == line.text:
            copies += 1
        else:
            others.append(line.number)
    problems = [f"{copies} of its lines occur twice: read once"] if copies else []
    problems += [f"line {number}: another event has its number; left out" for number in others]
    return kept, problems


def _key(line: Line) -> object:
    """The number of an event; without one, the text of those of a Round, since others may be alike."""
    if line.event.number is not None:
        return line.event.number
    return line.text if isinstance(line.event, OfRound) else None
