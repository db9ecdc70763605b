"""Where the time of a Run went."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from runs import A, event, make, turn, worker

from bench.record.run import Run
from bench.record.wall_time import WallTime

PLACE = {"group": 0, "round": 0, "attempt": 0}
BURN_IN = {"case_id": A.id, "start_ns": [], "ns": [], "stop": "count", "steady_at": None, "spin_ns": 0}
SYNC = {"iterations": 1, "copy_ns": 1, "allowed_ns": 2}


@pytest.fixture
def run(tmp_path):
    """A Run of one Case; ``after`` seconds an event is written."""
    run = make(tmp_path, [A], rounds=1, slower={})
    head, end = run.head, run.events[-1]
    began = datetime(2026, 1, 1, tzinfo=UTC)

    def timed(*parts):
        now, events = began, [replace(head, time=began)]
        for after, each in parts:
            now += timedelta(seconds=after)
            events.append(replace(each, time=now))
        made = Run(tmp_path)
        made.events = [*events, replace(end, time=now)]
        return made

    return timed


def test_the_time_between_events_is_divided_by_what_comes_next(run):
    time = WallTime.of(
        run(
            (6, event("parity", group=0, case_ids=[A.id], tie_free=True, draws=[0, 1])),
            (10, event("worker", **PLACE, **worker(A, proof_s=7.0))),
            (5, event("burn_in", **PLACE, **BURN_IN, sync=SYNC)),
            (20, event("turn", **turn(A, [1000, 1000]))),
            (1, event("round", **PLACE, disturbed="")),
        )
    )
    assert (time.start, time.proof, time.burn_in) == (9, 7, 5)
    assert time.total == pytest.approx(42)
    assert 0 < time.samples < 0.001  # those that `make` wrote, in ns
    assert time.other == pytest.approx(21)


def test_the_time_before_a_resume_is_left_out(run):
    time = WallTime.of(
        run(
            (5, event("burn_in", **PLACE, **BURN_IN, sync=SYNC)),
            (3600, event("resume", dropped_bytes=0)),
            (2, event("round", **PLACE, disturbed="")),
        )
    )
    assert time.total == pytest.approx(7)


def test_a_run_without_times_has_none(tmp_path):
    run = make(tmp_path, [A], rounds=1, slower={})
    run.events = [replace(each, time=None) for each in run.events]
    assert WallTime.of(run) is None
