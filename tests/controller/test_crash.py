"""Kills at any moment, a full disk, a folder that cannot be written: every acknowledged event survives."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from command import NULL
from driver import ROUNDS, SAMPLES
from mounts import fill, mounted
from paths import ROOT

from bench import UsageError
from bench.record.events import End, Turn
from bench.record.run import Run

pytestmark = pytest.mark.process

TWO = (*NULL, "--mode", "noop,part", "--env", "NULL_NET=spin=2")


class Driven:
    """A Run by the driver, in a process of its own."""

    def __init__(self, folder: Path, do: str = "run", part: str = "spin=8"):
        (folder / "run").mkdir(parents=True, exist_ok=True)
        self.folder, self.out, self.scratch = folder / "run", folder / f"{do}.out", folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        with self.out.open("wb") as out, (folder / f"{do}.err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests/driver.py"), str(self.folder), do, part],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.scratch)},
                stdout=out,
                stderr=err,
            )

    def told(self) -> list:
        return [json.loads(line) for line in self.out.read_bytes().split(b"\n")[:-1]]

    def wait_for(self, ready):
        deadline = time.monotonic() + 60
        while not (found := ready()) and self.process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return found

    def kill(self) -> bool:
        alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        return alive

    def kill_worker(self, rng: random.Random) -> bool:
        with contextlib.suppress(psutil.Error, IndexError):
            psutil.Process(rng.choice(psutil.Process(self.process.pid).children()).pid).kill()
            return True
        return False


def left_behind(folder: Path) -> list:
    """Running processes of a Run: its Workers run in its folder, its controller has the folder in its arguments."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        words = [process.info["cwd"] or "", *(process.info["cmdline"] or [])]
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(words[-7:])
    return found


def assert_nothing_is_left_behind(folder: Path) -> None:
    deadline = time.monotonic() + 5
    while (found := left_behind(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == []


def acknowledged(*runs: Driven) -> list[tuple]:
    turns = [told[1:] for run in runs for told in run.told() if told[0] == "on_turn"]
    return [(case_id, *place, *ns) for case_id, place, ns in turns]


def on_disk(run: Run) -> list[tuple]:
    return [(turn.case_id, turn.group, turn.round, turn.attempt, *turn.ns[turn.lead :]) for turn in run.events_of(Turn)]


def assert_whole(run: Run) -> None:
    assert [[len(ns) for ns in run.samples(case)] for case in run.cases] == [[SAMPLES] * ROUNDS] * 2
    assert run.finished(0) == set(range(ROUNDS))
    assert not run.unfinished
    assert run.events_of(End)[-1].reason == "planned"


def kill_one(folder: Path, moment: tuple[float, int], who: str, rng: random.Random, go_on: bool) -> dict:
    """Kill at a moment, seconds after so many lines; what is on the disk then, and after going on, is as it must be."""
    seconds, lines = moment
    driven = Driven(folder)
    driven.wait_for(lambda: driven.out.read_bytes().count(b"\n") >= lines)
    time.sleep(seconds)
    hit = driven.kill_worker(rng) if who == "Worker" else driven.kill()
    if who == "Worker":
        assert driven.process.wait(120) == 0, (folder / "run.err").read_text()
    assert_nothing_is_left_behind(folder)
    said = acknowledged(driven)
    count = {who: hit, "acknowledged": len(said)}
    journal = driven.folder / "run.jsonl"
    if not journal.exists() or b"\n" not in journal.read_bytes():
        with pytest.raises(UsageError, match=r"run\.jsonl"):
            Run(driven.folder)
        assert not said
        return count | {"headless": 1}
    run = Run(driven.folder)
    assert not set(said) - set(on_disk(run))
    assert run.problems == [] or [problem.endswith(": cut off; left out") for problem in run.problems] == [True]
    run.write()
    assert (driven.folder / "samples.csv").read_text().count(",sample,") == sum(len(one) - 4 for one in on_disk(run))
    if who == "Worker":
        assert_whole(run)
    elif go_on:
        again = Driven(folder, "resume")
        assert again.process.wait(120) == 0, (folder / "resume.err").read_text()
        assert_nothing_is_left_behind(folder)
        after = Run(driven.folder)
        assert_whole(after)
        assert not set(acknowledged(driven, again)) - set(on_disk(after))
        assert after.events[: len(run.events)] == run.events
        for case in run.cases:
            kept = {number: run.samples_by_round(case)[number] for number in run.finished(0)}
            assert kept.items() <= after.samples_by_round(case).items()
        count |= {"resumed": 1}
    return count


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """Seconds and lines of a Run that is not killed."""
    folder = tmp_path_factory.mktemp("life")
    driven, began = Driven(folder), time.monotonic()
    assert driven.process.wait(120) == 0, (folder / "run.err").read_text()
    assert_whole(Run(driven.folder))
    return time.monotonic() - began, len(driven.told())


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path, life, kills):
    """Half of the moments are spread over the time of a Run, start-up and all, half over what it does; two of three
    hit the controller."""
    rng, counts, began = random.Random(kills), [], time.monotonic()
    seconds, lines = life
    for number in range(kills):
        share = (number + rng.random()) / kills
        moment = (rng.random() / 200, int(share * lines)) if number % 2 else (share * seconds, 0)
        who = "Worker" if number % 3 == 2 else "controller"
        counts.append(kill_one(tmp_path / str(number), moment, who, rng, go_on=number % 3 == 1))
    names = ("controller", "Worker", "acknowledged", "headless", "resumed")
    total = {name: sum(one.get(name, 0) for one in counts) for name in names}
    print(total, f"{time.monotonic() - began:.0f} s")
    assert total["acknowledged"] > 4 * kills
    assert total["controller"] + total["Worker"] > kills / 2


@pytest.mark.parametrize("part", ["hang=5", "spin=3600000"])
def test_a_worker_in_the_middle_of_a_pass_ends_with_its_controller(tmp_path, part):
    driven = Driven(tmp_path, part=part)
    told, whose = ("on_burn_in", "-part-") if part.startswith("hang") else ("on_reference", "-noop-")
    assert driven.wait_for(lambda: [one for one in driven.told() if one[0] == told and whose in one[1]])
    time.sleep(3)  # the fifth iteration hangs in burn-in, the first of all spins
    workers = psutil.Process(driven.process.pid).children()
    assert len(workers) == 2
    driven.kill()
    assert_nothing_is_left_behind(tmp_path)
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def assert_one_line(run, expected: str) -> None:
    assert run.code == 2, run.err
    assert run.err.splitlines()[-1].startswith(f"alexnet-bench: {expected}")
    assert [line for line in run.err.splitlines() if line.startswith("alexnet-bench:")] == run.err.splitlines()[-1:]
    assert "Traceback" not in run.err


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
class TestDisk:
    """In this process, whose Workers are others: no Run here is killed."""

    @pytest.mark.parametrize("room", [16, 0])
    def test_a_full_disk_ends_the_run_in_one_line_and_room_lets_it_go_on(self, inline, tmp_path, room):
        with mounted(tmp_path / "small", f"mount -t tmpfs -o size=300k tmpfs {tmp_path / 'small'}") as small:
            filler, inline.results = fill(small, but=room), small / "results"
            run = inline("run", *TWO, "--pass", "forward", "--rounds", "3")
            journal = run.folder / "run.jsonl"
            assert_one_line(
                run, f"cannot write to {journal}: No space left on device; what was measured before is kept"
            )
            assert_nothing_is_left_behind(tmp_path)
            if not room:
                assert_one_line(inline.resume(run.folder), f"{run.folder}: no Run there, run.jsonl has no header")
                return
            before = Run(run.folder)
            assert before.problems == []
            assert before.turns
            filler.unlink()
            again = inline.resume(run.folder)
            assert again.code == 0, again.err
            after = Run(run.folder)
            assert after.events[: len(before.events)] == before.events
            assert [len(after.samples(case)) for case in after.cases] == [3] * 2

    def test_no_room_for_the_weights_is_one_line(self, command, tmp_path):
        with mounted(tmp_path / "small", f"mount -t tmpfs -o size=300k tmpfs {tmp_path / 'small'}") as small:
            run = command("run", *TWO, env={"TMPDIR": str(small)})
            assert_one_line(run, f"cannot write the weights to {small}/alexnet-bench-")
            assert run.err.endswith(" written; make room there, or set TMPDIR\n")
            assert not [path for path in small.iterdir() if path.is_dir()]
            assert_nothing_is_left_behind(tmp_path)

    def test_a_read_only_folder_is_one_line(self, inline, tmp_path):
        kept = tmp_path / "kept"
        inline.results = kept
        whole = inline("run", *NULL, "--max-time", "0.001")
        bind = f"mount --bind {kept} {kept}; mount -o remount,bind,ro {kept}"
        with mounted(kept, bind) as read_only:
            inline.results = read_only
            assert_one_line(inline("run", *TWO), f"cannot write to {read_only}: Read-only file system; choose another")
            folder = read_only / whole.folder.name
            run = inline.resume(folder)
            assert_one_line(run, f"cannot write to {folder / 'run.jsonl'}: Read-only file system")
        assert_nothing_is_left_behind(tmp_path)
