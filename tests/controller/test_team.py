"""Teams of ranks of the null Net: joined replies, every way in which a rank fails, and whole Runs."""

import dataclasses
import os
import signal
import socket
import time

import psutil
import pytest
from null_runs import NULL_CASE, run_cases

from bench import UsageError
from bench.cases.case import Case
from bench.cases.teams import teams_of
from bench.controller import parity, settings
from bench.controller.devices import Device
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import LOOPBACK, Team, addresses_of
from bench.controller.watcher import Watcher
from bench.controller.worker_process import MARK, WorkerDied, started_by
from bench.record.events import Turn, Void
from bench.worker.messages import Measure, Verify
from bench.worker.replies import FaultKind, Output
from bench.worker.team_batches import TEAM_UNITS

pytestmark = pytest.mark.process

CASE = dataclasses.replace(NULL_CASE, pass_="forward_backward", world=2)


@pytest.fixture(scope="module")
def parity_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    parity.prepare(CASE.net, folder, batch=CASE.batch, units=TEAM_UNITS, labeled=True)
    return folder


def team(folder, logs, case: Case = CASE, limit_s: float = 60.0, part: str = "") -> Team:
    settings = WorkerSettings(1, limit_s, env={"NULL_NET": part}, devices=[Device((0,)), Device((0,))])
    case = dataclasses.replace(case, mode="part") if part else case
    made = settings.launch("team", case, logs)
    assert isinstance(made, Team)
    made.wait_until_configured()
    made.ask(build_request(case, folder, passes=["train_step"]))
    return made


def ended(made: Team) -> bool:
    return not any(list(started_by(rank.mark)) for rank in made.ranks)


class TestReplies:
    def test_a_sample_is_the_mean_over_the_ranks(self, parity_folder, tmp_path):
        made = team(parity_folder, tmp_path)
        measured = made.ask(Measure("forward_backward", n=5))
        made.end()
        assert [len(each) for each in measured.rank_ns] == [5, 5]
        assert measured.rank_ns[0] != measured.rank_ns[1]
        assert measured.ns == [round(sum(each) / 2) for each in zip(*measured.rank_ns, strict=True)]

    def test_every_rank_is_on_its_slice_of_the_cores(self, parity_folder, tmp_path):
        made = team(parity_folder, tmp_path)
        assert [os.sched_getaffinity(rank.process.pid) for rank in made.ranks] == [{0}, {0}]
        made.end()
        assert ended(made)

    @pytest.mark.parametrize("output", [Output.GRADIENTS, Output.OWN, Output.REDUCED, Output.TRAINED])
    def test_every_output_of_every_rank_is_as_float64_has_it(self, output, parity_folder, tmp_path):
        made = team(parity_folder, tmp_path, dataclasses.replace(CASE, pass_="train_step"))
        verified = made.ask(Verify([output], thorough=False, target="reference"))
        made.end()
        judged = parity.judge(verified.checks, parity.LIMITS["fp32"])
        assert judged
        assert all(check.ok for check in judged), [check.description for check in judged if not check.ok]


class TestFaults:
    @pytest.mark.parametrize("number", [0, 1])
    def test_a_killed_rank_is_named_and_the_others_are_killed(self, number, parity_folder, tmp_path):
        made = team(parity_folder, tmp_path)
        made.send(Measure("forward_backward", n=10**6))
        time.sleep(0.3)
        os.kill(made.ranks[number].process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=f"rank {number}: killed by SIGKILL") as caught:
            made.receive(Measure("forward_backward", n=10**6))
        assert caught.value.kind == FaultKind.DIED
        assert ended(made)

    @pytest.mark.parametrize("number", [0, 1])
    def test_a_stopped_rank_is_named_within_the_limit(self, number, parity_folder, tmp_path):
        made = team(parity_folder, tmp_path, limit_s=3)
        os.kill(made.ranks[number].process.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(WorkerDied, match=rf"rank {number}: stopped: no answer to measure within 3 s") as caught:
            made.ask(Measure("forward_backward", n=3))
        assert caught.value.kind == FaultKind.HUNG
        assert 3 <= time.monotonic() - began < 3 + 5
        assert ended(made)

    def test_a_rank_that_fails_comes_first_in_the_stderr(self, parity_folder, tmp_path):
        made = team(parity_folder, tmp_path, part="memory=3")
        with pytest.raises(WorkerDied, match=r"rank [01]: ran out of memory") as caught:
            made.ask(Measure("forward_backward", n=5))
        assert caught.value.kind == FaultKind.MEMORY
        assert "the null Net was told to run out of memory" in caught.value.tail
        assert ended(made)

    def test_all_ranks_that_hang_are_one_fault(self, parity_folder, tmp_path):
        made = team(parity_folder, tmp_path, part="hang=2", limit_s=3)
        with pytest.raises(WorkerDied, match="rank 0 and rank 1: hung: no answer to measure within 3 s"):
            made.ask(Measure("forward_backward", n=5))
        assert ended(made)

    def test_a_rank_that_never_joins_is_a_fault_of_the_start(self, tmp_path):
        settings = WorkerSettings(1, 3.0, devices=[Device((0,))] * 2)
        made = settings.launch("team", CASE, tmp_path)
        os.kill(made.ranks[1].process.pid, signal.SIGSTOP)
        with pytest.raises(WorkerDied, match="rank 1: stopped: no answer to configure within 3 s"):
            made.wait_until_configured()
        assert ended(made)

    @pytest.mark.parametrize(
        ("asked", "expected"), [("cpu", ["cpu"] * 2), ("cuda", ["cuda:0", "cuda:1"]), ("xpu", ["xpu:0", "xpu:1"])]
    )
    def test_each_rank_has_a_device_of_the_kind_that_was_asked_for(self, asked, expected, monkeypatch, tmp_path):
        monkeypatch.setattr(settings, "Team", lambda launches, name: launches)
        devices = [Device((), index) for index in range(2)]
        case = dataclasses.replace(CASE, device=asked)
        launches = WorkerSettings(1, 30.0, devices=devices).launch("team", case, tmp_path)
        assert [launch.settings.device for launch in launches] == expected

    def test_a_missing_device_is_the_users_mistake(self, tmp_path):
        made = WorkerSettings(1, 30.0, devices=[Device((0,))] * 2).launch(
            "team", dataclasses.replace(CASE, device="cuda"), tmp_path
        )
        with pytest.raises(UsageError, match="device 'cuda:0' asked for, the null Net has cpu only"):
            made.wait_until_configured()
        assert ended(made)


class TestRuns:
    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tmp_path_factory):
        cases = [dataclasses.replace(NULL_CASE, pass_=name) for name in ("forward", "forward_backward", "train_step")]
        two = [Device((0,)), Device((1,))]
        return run_cases(tmp_path_factory.mktemp("run"), list(teams_of(cases, [1, 2], False)), devices=two, rounds=3)

    def test_one_device_and_two_take_turns_in_one_group(self, run):
        assert {(case.world, case.pass_) for case in run.cases} == {
            *((world, name) for world in (1, 2) for name in ("forward", "forward_backward", "train_step")),
            *((2, name) for name in ("apart", "all_reduce")),
        }
        assert len(set(run.group_of.values())) == 1
        assert [run.invalid_reason(case) for case in run.cases] == [""] * len(run.cases)

    def test_a_turn_of_a_team_has_a_lead_and_the_times_of_all_ranks(self, run):
        for case in run.cases:
            turns = run.turns_of(case)
            assert turns
            assert all(len(turn.rank_ns) == (case.world if case.world > 1 else 0) for turn in turns)
            assert all(turn.lead >= 1 for turn in turns if case.world > 1)

    def test_every_pass_has_an_efficiency_and_only_forward_backward_is_split(self, run):
        rows = {(row["pass"], row["world"]): row for row in run.rows()}
        assert all(rows[name, 2]["efficiency"] > 0 for name in ("forward", "forward_backward", "train_step"))
        assert all(rows[name, 1]["efficiency"] is None for name in ("forward", "forward_backward", "train_step"))
        row = rows["forward_backward", 2]
        assert row["efficiency"] == pytest.approx(row["interference"] * row["communication"], rel=0.5)
        assert rows["train_step", 2]["interference"] is None
        assert rows["all_reduce", 2]["images_per_s"] is None
        assert rows["all_reduce", 2]["bus_gb_per_s"] > 0
        assert rows["apart", 2]["slowest_rank"] in (0, 1)


class Killer(Watcher):
    """Kills rank 1 of a Team after some of its turns."""

    def __init__(self, after: int):
        self.left, self.faults = after, list[str]()

    def on_turn(self, case, place, ns):
        self.left -= case.world > 1
        if case.world > 1 and self.left == 0:
            mine = psutil.Process().children()
            (victim,) = (child for child in mine if "-rank1-" in child.environ().get(MARK, ""))
            victim.kill()

    def on_fault(self, name, place, reason, tail, again):
        self.faults.append(f"{name} {reason} {again}")


def test_a_round_in_which_a_rank_died_is_repeated_once_and_nothing_is_lost(tmp_path):
    cases = list(teams_of([dataclasses.replace(NULL_CASE, pass_="forward_backward")], [1, 2], False))
    watcher = Killer(after=3)
    run = run_cases(tmp_path, cases, devices=[Device((0,)), Device((1,))], watcher=watcher, rounds=2)
    assert watcher.faults == ["null-noop-x2 rank 1: killed by SIGKILL; the kernel does that when memory runs out True"]
    assert [run.invalid_reason(case) for case in cases] == [""] * 4
    (void,) = run.events_of(Void)
    assert (void.round, void.attempt) == (0, 0)
    voided = [turn for case in cases for turn in run.events_of(Turn) if turn.case_id == case.id and not turn.attempt]
    assert len([turn for turn in voided if turn.round == 0]) >= 3  # they stay on record
    assert not psutil.Process().children()


class TestAddresses:
    def test_the_ports_are_free_and_differ(self, monkeypatch):
        with socket.socket() as taken:
            taken.bind((LOOPBACK, 0))
            taken.listen()
            number = taken.getsockname()[1]
            monkeypatch.setattr("bench.controller.team.PORTS", range(number - 20, number + 20))
            addresses = addresses_of([LOOPBACK] * 4)
        assert len(set(addresses)) == 4
        assert f"{LOOPBACK}:{number}" not in addresses

    def test_on_nodes_the_hosts_are_theirs(self):
        assert [each.partition(":")[0] for each in addresses_of(["10.0.0.1", "10.0.0.2"])] == ["10.0.0.1", "10.0.0.2"]
