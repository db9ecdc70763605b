"""The replies of ranks joined to one: worst checks, and ranks that do not hold the same bits."""

import dataclasses

from bench.controller import gate
from bench.controller.team_reply import joined
from bench.worker.replies import Check, CheckKind, FrameworkConditions, Measured, Output, Reading, SyncLag, Verified
from bench.worker.team_batches import EVERY_RANK

SETTINGS = FrameworkConditions(1, True, False, None, {})
GOOD = Check(CheckKind.GRADIENT, "gradient conv1/bias", 1e-6, 1e-6)
BAD = dataclasses.replace(GOOD, error=0.5)


def reading(**changes) -> Reading:
    return Reading(3, 0, [GOOD], "", 10, 5, SETTINGS, **{"digest": "aa"} | changes)


def measured(*readings: Reading, **changes) -> Measured:
    usual = {"ns": [10, 20], "cpu_s": 1.0, "process_peak": 7}
    last = {"readings": list(readings), "reload_ns": None, "again_ns": None, "aside_ns": 0, "aside_cpu_s": 0.5}
    return Measured(start_ns=[0, 10], allocator_peak=None, **usual | last | changes)


class TestVerified:
    def test_the_worst_check_of_any_rank_counts(self):
        found = joined([Verified([GOOD], None), Verified([BAD], None)])
        assert found.checks == [BAD]

    def test_ranks_that_hold_other_bits_are_a_fault(self):
        both = [Verified([GOOD], None, {Output.GRADIENTS: digest}) for digest in ("aa", "aa", "ab")]
        assert joined(both[:2]).checks == [GOOD]
        _, fault = joined(both).checks
        assert (fault.kind, fault.error) == (CheckKind.FAULT, None)
        assert fault.what == "its ranks differ: gradients of ranks 0 and 2 are not the same bits"

    def test_a_rank_that_has_anothers_batch_is_heard_first(self):
        own, other = (Check(CheckKind.FAULT, what, None) for what in ("those of this rank", f"rank 0's: {EVERY_RANK}"))
        assert joined([Verified([own], None), Verified([other], None)]).checks[0] == other


class TestMeasured:
    def test_durations_are_means_and_cpu_time_is_a_sum(self):
        found = joined([measured(), measured(ns=[20, 40], process_peak=9)])
        assert (found.ns, found.rank_ns) == ([15, 30], [[10, 20], [20, 40]])
        assert (found.cpu_s, found.aside_cpu_s, found.process_peak) == (2.0, 1.0, 9)

    def test_a_timed_iteration_after_which_ranks_hold_other_bits_is_refused(self):
        same, other = (joined([measured(reading()), measured(reading(digest=each))]) for each in ("aa", "ab"))
        assert same.readings[0].fault == ""
        (found,) = other.readings
        assert gate.reading_fault(found, [], SETTINGS) == (
            "in a timed iteration its ranks differ: values of ranks 0 and 1 are not the same bits"
        )

    def test_ranks_that_computed_other_batches_are_refused(self):
        other = dataclasses.replace(reading(), batch=1)
        (found,) = joined([measured(reading()), measured(other)]).readings
        assert found.fault == "its ranks computed batches 0, 1"

    def test_a_setting_that_one_rank_changed_shows(self):
        changed = dataclasses.replace(reading(), settings=dataclasses.replace(SETTINGS, tf32=True))
        (found,) = joined([measured(reading()), measured(changed)]).readings
        assert "tf32 False -> True" in gate.reading_fault(found, [], SETTINGS)


def test_the_slowest_copy_and_the_longest_first_call_count():
    assert joined([SyncLag(3, 5, 10), SyncLag(3, 9, 10)]).copy_ns == 9
    assert joined([4, 7, 5]) == 7
    assert joined(["a", "b"]) == "a"
