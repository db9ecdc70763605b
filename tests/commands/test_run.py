"""`run --resume FOLDER`, what it goes on with and what it refuses; two Runs at once; Ctrl-C."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from command import NULL, SMALL, Command, Inline

from bench import UsageError
from bench.commands import cli, resume
from bench.commands.requests import RunRequest
from bench.controller.rounds import Rounds
from bench.output.progress import Progress
from bench.record.events import Failed, Iterations, Resume, RoundEnd, Void
from bench.record.run import Run

pytestmark = pytest.mark.process

PART = (*NULL, "--mode", "noop,part", "--rounds", "4", "--pass", "forward", "--env")
SPIN = (*PART, "NULL_NET=spin=10")
SHORT = (*SPIN, "--rounds", "3")


def wait_for(ready: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def seen(command: Command, *signs: str) -> bool:
    """Whether there is a line of run.jsonl with all of them."""
    lines = [line for path in command.results.glob("*/run.jsonl") for line in path.read_text().splitlines()]
    return any(all(sign in line for sign in signs) for line in lines)


def cut_off(command: Command, *args: str, sign=signal.SIGKILL, moment=('"event":"turn"', '"round":1')):
    """A Run that was sent a signal in its second Round."""
    process = command.start("run", *args)
    wait_for(lambda: seen(command, *moment) or process.poll() is not None)
    process.send_signal(sign)
    return command.finish(process)


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    return cut_off(Command(tmp_path_factory.mktemp("cut")), *SPIN).folder


@pytest.fixture
def there(cut, tmp_path):
    """A copy of a Run that was killed in its second Round."""
    return Path(shutil.copytree(cut, tmp_path / "there"))


def edit(folder: Path, event: str, change: Callable[[dict], object]) -> None:
    events = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    for one in events:
        if one["event"] == event:
            change(one)
    (folder / "run.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))


def order(run: Run, round_: int) -> list[str]:
    return [turn.case_id for turn in run.turns if turn.round == round_]


def lengths(run: Run) -> list[list[int]]:
    return [[len(ns) for ns in run.samples(case)] for case in run.cases]


class TestGoingOn:
    def test_resume_keeps_finished_rounds_and_measures_the_unfinished_one_again(self, inline, there):
        before = Run(there)
        assert (before.finished(0), before.unfinished) == ({0}, {(0, 1, 0)})
        with (there / "run.jsonl").open("a") as file:
            file.write('{"event":"turn","group":0,"rou')
        finished = inline.resume(there)
        assert finished.code == 0, finished.err
        assert f"{there / 'run.jsonl'}: the last line was cut off; its 30 bytes are removed\n" in finished.err
        assert "left out" not in finished.err
        run = Run(there)
        assert run.events[: len(before.events)] == before.events
        assert [resumed.dropped_bytes for resumed in run.events_of(Resume)] == [30]
        assert [(void.place, void.reason) for void in run.events_of(Void)] == [((0, 1, 0), "the Run was cut off in it")]
        ends = run.events_of(RoundEnd)
        assert [(end.round, end.attempt) for end in ends] == [(0, 0), (1, 1), (2, 0), (3, 0)]
        assert lengths(run) == [[10] * 4] * 2
        assert [run.samples(case)[0] for case in run.cases] == [before.samples(case)[0] for case in before.cases]
        assert [one["stop_reason"] for one in run.rows()] == ["planned"] * 2

        # a later Round is as it would have been in a Run that nobody killed
        whole = Inline(there.parent / "whole")("run", *SPIN)
        assert [order(run, round_) for round_ in (0, 2, 3)] == [order(Run(whole.folder), n) for n in (0, 2, 3)]
        assert len({tuple(order(run, round_)) for round_ in range(4)}) > 1

        # and there is nothing more to do
        journal = (there / "run.jsonl").read_bytes()
        again = inline.resume(there)
        assert again.code == 0, again.err
        assert "half_width" in again.out
        assert "round " not in again.err
        assert (there / "run.jsonl").read_bytes() == journal

    @pytest.mark.slow
    def test_an_event_without_its_end_of_line_is_measured_again(self, command, there):
        """It was not said to be on the disk; going on takes it away, so it must not be held for done."""
        with (there / "run.jsonl").open("a") as file:
            file.write('{"event":"round","group":0,"round":1,"attempt":0,"disturbed":""}')
        assert Run(there).finished(0) == {0}
        again = command.resume(there)
        assert again.code == 0, again.err
        assert lengths(Run(there)) == [[10] * 4] * 2

    @pytest.mark.slow
    def test_resume_continues_after_an_interrupt(self, command):
        first = cut_off(command, *SHORT, sign=signal.SIGINT)
        assert first.code == 130
        assert f"continue with `alexnet-bench run --resume {first.folder}`" in first.err
        again = command.resume(first.folder)
        assert again.code == 0, again.err
        assert lengths(Run(first.folder)) == [[10] * 3] * 2
        assert [end["reason"] for end in first.of("end")] == ["interrupted", "planned"]

    @pytest.mark.slow
    def test_resume_continues_after_max_time(self, command):
        first = command("run", *SHORT, "--max-time", "0.001")
        assert first.code == 0
        assert Run(first.folder).finished(0) == {0}
        again = command.resume(first.folder, "--max-time", "1000")
        assert again.code == 0, again.err
        assert lengths(Run(first.folder)) == [[10] * 3] * 2
        assert [one["stop_reason"] for one in Run(first.folder).rows()] == ["planned"] * 2

    @pytest.mark.slow
    def test_resume_measures_both_arms_of_an_ab(self, command):
        args = (*NULL, "--mode", "part", "--pass", "forward", "--ab", "env:NULL_NET=spin=4,spin=8")
        first = cut_off(command, *args)
        finished = command.resume(first.folder)
        assert finished.code in (0, 1), finished.err  # what `compare` says of them
        run = Run(first.folder)
        assert lengths(run) == [[10] * 2] * 2
        assert [case.arm for case in run.cases] == ["A", "B"]
        fastest = [min(min(ns) for ns in run.samples(case)) for case in run.cases]
        assert 4e6 <= fastest[0] < 8e6 <= fastest[1]

    @pytest.mark.slow
    def test_a_case_that_failed_before_resume_stays_failed(self, command):
        first = cut_off(command, *PART[:-1], "--pass", "forward_backward", "--env", "NULL_NET=wrong")
        assert len(first.of("failed")) == 1
        assert command.resume(first.folder).code == 1
        run = Run(first.folder)
        assert len(run.events_of(Failed)) == 1
        assert lengths(run) == [[10] * 4, []]
        assert "worst gradient" in run.rows()[1]["invalid_reason"]


def test_resume_ends_its_progress_line_if_it_fails(there, monkeypatch):
    ended = []

    class Watched(Progress):
        def __exit__(self, *error):
            ended.append(error[0])

    def full(self):
        raise UsageError("no room")

    monkeypatch.setattr(resume, "progress_of", lambda cases, protocol: Watched(protocol, 1))
    monkeypatch.setattr(Rounds, "run", full)
    with pytest.raises(UsageError, match="no room"):
        resume.main(there, RunRequest())
    assert ended == [UsageError]


class TestRefused:
    def refusal(self, folder, *args):
        before = (folder / "run.jsonl").read_bytes() if (folder / "run.jsonl").is_file() else None
        result = CliRunner().invoke(cli.main, ["run", "--resume", str(folder), *args])
        assert result.exit_code == 2, result.output
        assert before is None or (folder / "run.jsonl").read_bytes() == before
        (line,) = result.output.splitlines()
        return line.removeprefix("alexnet-bench: ")

    @pytest.mark.parametrize(
        "option",
        ["--rounds 5", "--variant owt", "--seed 1", "--pass forward", "--no-gate", "--out x", "--env A=1", "--dry-run"],
    )
    def test_resume_refuses_another_option(self, there, option):
        expected = f"--resume: the Run has its own settings; leave out {option.split()[0]}"
        assert self.refusal(there, *option.split()) == expected

    def test_resume_refuses_another_ab(self, there):
        expected = "--resume: the Run was not made with --ab threads=1,2; leave it out"
        assert self.refusal(there, "--ab", "threads=1,2") == expected

    @pytest.mark.parametrize(
        ("what", "other"),
        [
            *(("host", "another"), ("cpu", "another"), ("system", "another"), ("usable_cores", 999)),
            *(("memory_mib", 1), ("code", "0123456789ab")),
        ],
    )
    def test_resume_refuses_another_machine(self, there, what, other):
        edit(there, "run", lambda head: head["fingerprint"].update({what: other}))
        assert self.refusal(there).startswith(f"--resume: the Run was made with {what} {other}, found ")

    def test_resume_refuses_other_versions(self, there):
        edit(there, "worker", lambda worker: worker["versions"].update(null="0.1"))
        why = self.refusal(there)
        assert why.startswith("--resume: the Run was made with null 0.1 in null-noop, found ")
        assert why.endswith(": start a new Run")

    def test_resume_refuses_another_python(self, there):
        edit(there, "worker", lambda worker: worker.update(python="3.9.0"))
        assert "made with python 3.9.0 in null-noop, found 3." in self.refusal(there)

    def test_resume_refuses_a_worker_that_does_not_start(self, there):
        why = self.refusal(there, "--worker-limit", "0.001")
        assert why.endswith(": hung: no answer to configure within 0.001 s (--worker-limit)")

    def test_resume_refuses_missing_or_other_weights(self, there, tmp_path):
        other = tmp_path / "other.safetensors"
        made = ["verify", *SMALL[:-2], "--mode", "noop", "--save-weights", str(other)]
        assert CliRunner().invoke(cli.main, made).exit_code == 0
        expected = "--resume: the Run was made with weights from {}; expected the same with --weights"
        assert self.refusal(there, "--weights", str(other)) == expected.format("no file")
        edit(there, "run", lambda head: head.update(weights={"file": "w.npy", "sha256": "0" * 64}))
        assert self.refusal(there) == expected.format("w.npy")
        assert self.refusal(there, "--weights", str(other)) == expected.format("w.npy")

    def test_resume_refuses_a_missing_or_additional_interpreter(self, there):
        expected = "--resume: the Run was made with {}; expected the same, found {}"
        assert self.refusal(there, "--python", "null=python3") == expected.format("no --python", ["null"])
        edit(there, "run", lambda head: head.update(pythons=["null"]))
        assert self.refusal(there) == expected.format("--python null=PATH", [])

    @pytest.mark.parametrize("key", ["python", "net"])
    def test_resume_asks_for_the_paths_of_two_arms(self, there, key):
        sides = {"key": key, "values": ["a", "b"], "identical": False}
        edit(there, "run", lambda head: head.update(ab=sides))
        expected = f"--resume: the Run compares two {key}, whose paths it does not store; pass its --ab {key}=A,B again"
        assert self.refusal(there) == expected

    def test_resume_refuses_a_folder_without_a_run(self, there, tmp_path):
        assert "cannot read run.jsonl: No such file or directory" in self.refusal(tmp_path)
        assert "cannot read run.jsonl: Not a directory" in self.refusal(there / "run.jsonl")
        (tmp_path / "run.jsonl").touch()
        assert self.refusal(tmp_path) == f"{tmp_path}: no Run there, run.jsonl has no header"
        edit(there, "run", lambda head: head.update(schema=99))
        assert "schema 99 is newer than" in self.refusal(there)

    def test_resume_makes_no_folder(self, tmp_path):
        assert "No such file or directory" in self.refusal(tmp_path / "gone")
        assert not (tmp_path / "gone").exists()


class TestTwoAtOnce:
    def spans(self, folder):
        timed = [event for event in Run(folder).events if isinstance(event, Iterations)]
        return [(start, start + ns) for one in timed for start, ns in zip(one.start_ns, one.ns, strict=True)]

    def test_the_second_run_waits_and_no_sample_of_one_is_taken_during_the_other(self, command):
        processes = [command.start("run", *SHORT, "--name", name) for name in "ab"]
        finished = [command.finish(process) for process in processes]
        assert [one.code for one in finished] == [0, 0]
        waited = "alexnet-bench: another alexnet-bench run holds this device: waiting for it to end\n"
        assert sorted(one.err.count(waited) for one in finished) == [0, 1]
        spans = sorted(tuple(self.spans(path)) for path in command.results.iterdir())
        assert len(spans) == 2
        assert max(end for _, end in spans[0]) < min(start for start, _ in spans[1])
        assert all(lengths(Run(path)) == [[10] * 3] * 2 for path in command.results.iterdir())

    @pytest.mark.slow
    def test_a_run_that_waits_for_the_device_can_be_interrupted(self, command):
        first = command.start("run", *SHORT)
        wait_for(lambda: seen(command, '"event":"run"'))
        second = command.start("run", *SPIN, "--name", "b")
        assert "waiting for it to end" in second.stderr.readline()
        second.send_signal(signal.SIGINT)
        second.wait(10)
        assert second.stderr.read() == "alexnet-bench: interrupted\n"
        assert second.returncode == 130
        assert command.finish(first).code == 0
        assert len(list(command.results.iterdir())) == 1

    def test_a_lock_that_cannot_be_acquired_is_one_line(self, inline):
        (inline.scratch / "alexnet-bench-cpu.lock").mkdir(parents=True)
        run = inline("run", *SPIN)
        assert run.code == 2
        lock = inline.scratch / "alexnet-bench-cpu.lock"
        assert (
            run.err
            == f"alexnet-bench: cannot lock {lock}: Is a directory; set TMPDIR to a folder that can be written\n"
        )
        assert not inline.results.exists()


class TestInterruption:
    @pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
    def test_samples_of_an_interrupted_run_are_kept_and_summarized(self, command, sign):
        process = command.start("run", *PART[:-1], "--rounds", "30", "--env", "NULL_NET=spin=20")
        wait_for(lambda: seen(command, '"event":"turn"'))
        workers = psutil.Process(process.pid).children()
        process.send_signal(sign)
        run = command.finish(process)
        assert run.code == 130
        assert "interrupted: the results so far are kept and summarized above" in run.err
        assert "Traceback" not in run.err
        assert [end["reason"] for end in run.of("end")] == ["interrupted"]
        assert ",interrupted," in (run.folder / "summary.csv").read_text()
        psutil.wait_procs(workers, timeout=5)
        assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers)
