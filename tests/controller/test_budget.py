"""The plan of Rounds within --max-time, on a clock of its own."""

import dataclasses

import pytest

from bench.cases.protocol import Protocol
from bench.controller.budget import ASIDE, Budget

RULES = Protocol(iterations=20, burn_in_later=4, least_iterations=4)


class Machine:
    """Passes through the steps of a group's Rounds; a slot's iteration takes ``passes_s``, imports ``start_s``."""

    def __init__(self, rules, seconds, passes_s=(0.1, 0.3, 0.2, 0.5), start_s=8.0, slows=1.0):
        self.now, self.rules, self.passes_s, self.start_s, self.slows = 0.0, rules, list(passes_s), start_s, slows
        self.budget = Budget(rules, seconds, clock=lambda: self.now)
        self.plans = []

    def run(self, rounds):
        for number in range(rounds):
            if number and not self.budget.fits():
                break
            self.one(number, rounds - number)
        return self.plans

    def one(self, number, left):
        total = sum(self.passes_s)
        self.budget.begin_round()
        self.now += self.start_s if number else 2 * self.start_s
        self.budget.end_start()
        self.now += self.rules.least_burn_in(number) * total
        plan = self.budget.plan(self.passes_s, 2, left, 0 if number else 2)
        self.plans.append(plan.iterations)
        leads_s = sum(seconds / 2 for seconds in self.passes_s if seconds < 0.2)  # turns shorter than 200 ms have one
        self.now += plan.iterations * (total + leads_s) + ASIDE * total + 3 * (number == 0)
        self.budget.end_round()
        self.passes_s = [seconds * self.slows for seconds in self.passes_s]


def test_with_time_enough_every_round_has_all_iterations():
    assert Machine(RULES, 1000).run(5) == [20] * 5
    assert Machine(RULES, None).run(5) == [20] * 5


@pytest.mark.parametrize("seconds", [140, 160, 190])
def test_with_little_time_iterations_are_reduced_and_all_rounds_end_in_time(seconds):
    machine = Machine(RULES, seconds)
    plans = machine.run(5)
    assert len(plans) == 5
    assert all(4 <= iterations < 20 for iterations in plans[:-1])
    assert 0.85 * seconds < machine.now <= seconds


def test_on_a_machine_twice_as_slow_there_are_still_five_rounds():
    machine = Machine(RULES, 290, passes_s=(0.2, 0.6, 0.4, 1.0), start_s=12)
    assert len(machine.run(5)) == 5
    assert machine.now <= 290


def test_a_machine_that_gets_slower_has_fewer_iterations_in_later_rounds():
    machine = Machine(RULES, 220, slows=1.1)
    plans = machine.run(5)
    assert len(plans) == 5
    assert plans[-1] < plans[0]
    assert machine.now <= 220


def test_rounds_are_given_up_last():
    plans = Machine(RULES, 70).run(5)
    assert len(plans) < 5
    assert plans[0] >= RULES.least_iterations


def test_iterations_that_were_asked_for_are_not_reduced():
    rules = dataclasses.replace(RULES, least_iterations=None)
    machine = Machine(rules, 150)
    plans = machine.run(5)
    assert set(plans) == {20}
    assert len(plans) < 5
    assert machine.now <= 150


def test_fewer_iterations_than_the_least_are_obeyed():
    assert Machine(dataclasses.replace(RULES, iterations=2), 1000).run(5) == [2] * 5


def test_a_repeated_first_round_is_not_taken_for_a_later_one():
    machine = Machine(RULES, 1000)
    machine.one(0, 5)
    once = machine.budget.later_s
    machine.one(0, 5)  # proves again, with its longer start and burn-in
    assert machine.budget.later_s == pytest.approx(once)
    machine.one(1, 4)
    assert machine.budget.later_s == pytest.approx(8 + 4 * 1.1)


@pytest.mark.parametrize(("lost_s", "fits"), [(0, True), (20, False)])
def test_a_repeat_must_leave_half_of_the_iterations_to_each_round(lost_s, fits):
    machine = Machine(RULES, 170)
    machine.one(0, 5)
    machine.now += lost_s
    assert machine.budget.fits(5)
    assert machine.budget.fits(5, share=0.5) is fits


def test_time_that_turns_take_beside_their_passes_is_planned():
    budget = Budget(RULES, 24, clock=lambda: 0.0)
    plain, slower = (budget.plan([1.0], 2, 1, 0, turns_aside_s=aside) for aside in (0.0, 1.0))
    assert (plain.iterations, slower.iterations) == (20, 14)  # 21.3 s: an iteration of 1 s, or of 1.5
    assert slower.seconds == pytest.approx(14 * 1.5 + 2)
