"""`gpu-check`: which frameworks it takes, how it ends, and what is in its archive."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import psutil
import pytest
from click.testing import CliRunner
from command import ONE_THREAD, Finished
from gpu_checks import BY_NAME
from paths import ROOT

from bench import UsageError
from bench.commands import gpu_check
from bench.commands.cli import main, parse_words
from bench.commands.gpu_check import facts, outcome
from bench.commands.gpu_check.outcome import Result
from bench.commands.gpu_check.settings import ACCELERATOR, CPU
from bench.commands.gpu_check.steps import NAMES, STEPS, Check
from bench.machine import host
from bench.record.run import Run

NULL = ("gpu-check", "--device", "cpu", "--framework", "null", *ONE_THREAD)


@pytest.fixture
def small(monkeypatch):
    """Settings of a CPU for the quickest nets there are, whose values come with the project."""
    smaller = dataclasses.replace(CPU, size=67, timed=("fp32",), batches=(1, 2))
    monkeypatch.setattr(gpu_check, "settings_of", lambda device: smaller)
    return smaller


def checked(tmp_path, *words, **variables):
    """The command in this process, its steps in others; and its only folder."""
    out = tmp_path / "out"
    (scratch := tmp_path / "scratch").mkdir(exist_ok=True)  # another Run on this machine is not waited for
    result = CliRunner(env={"TMPDIR": str(scratch), **variables}).invoke(main, [*NULL, "--out", str(out), *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    folders = [path for path in out.glob("*-gpu-check") if path.is_dir()] if out.exists() else []
    return Finished(result.exit_code, result.stdout, result.stderr, out), folders


def stored(folder):
    return json.loads((folder / "steps.json").read_text())


def names_in(archive):
    with tarfile.open(archive) as opened:
        return [member.name.partition("/")[2] for member in opened.getmembers()]


class TestMake:
    @pytest.mark.parametrize(
        ("words", "device"), [([], "cuda"), (["DEVICE=cpu"], "cpu"), (["DEVICE=cuda:1"], "cuda:1")]
    )
    def test_the_device_is_a_gpu_unless_another_is_named(self, words, device):
        assert f"bench gpu-check --device {device} " in made("gpu-check", *words)

    def test_other_targets_are_of_the_cpu_as_before(self):
        assert "bench run --device cpu " in made("bench")

    def test_steps_and_time_are_passed_on(self):
        assert "--step env,run --max-time 60" in made("gpu-check", "STEP=env,run", "MAX_TIME=60")


def made(*words):
    """What make would run."""
    variables = {name: value for name, value in os.environ.items() if name not in ("DEVICE", "MAKEFLAGS")}
    lines = ["make", "-n", "-o", ".venv/ready", f"PYTHON={sys.executable}", *words]
    return subprocess.run(lines, cwd=ROOT, env=variables, capture_output=True, text=True, check=True).stdout


class TestFrameworks:
    def test_those_that_do_not_see_the_device_are_named_and_left_out(self, monkeypatch, capsys):
        monkeypatch.setattr(facts, "installed", lambda request: "torch,tensorflow,jax")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        monkeypatch.setattr(facts, "preflight", refusing("jax"))
        assert facts.usable(parse_words("gpu-check", [])) == ["torch", "tensorflow"]
        assert capsys.readouterr().err == "alexnet-bench: left out: jax sees the CPU only\n"

    def test_one_that_was_asked_for_is_not_left_out(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        monkeypatch.setattr(facts, "preflight", refusing("jax"))
        with pytest.raises(UsageError, match="jax sees the CPU only"):
            facts.usable(parse_words("gpu-check", ["--framework", "torch,jax"]))

    def test_without_any_the_refusal_is_that_of_the_first(self, monkeypatch):
        monkeypatch.setattr(facts, "installed", lambda request: "torch,jax")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        monkeypatch.setattr(facts, "preflight", refusing("torch", "jax"))
        with pytest.raises(UsageError, match="torch sees the CPU only"):
            facts.usable(parse_words("gpu-check", []))


def refusing(*names):
    def preflight(cases, settings):
        if cases[0].framework in names:
            raise UsageError(f"{cases[0].framework} sees the CPU only")

    return preflight


class TestEnds:
    def test_an_unknown_step_is_a_mistake(self, tmp_path):
        done, folders = checked(tmp_path, "--step", "env,speed")
        assert (done.code, folders) == (2, [])
        assert done.err == f"alexnet-bench: unknown step 'speed': choose {', '.join(NAMES[:-1])} or {NAMES[-1]}\n"

    @pytest.mark.process
    def test_a_device_that_is_not_there_is_a_mistake_before_any_step(self, tmp_path):
        pytest.importorskip("torch")
        done, folders = checked(tmp_path, "--framework", "torch", "--device", "cuda:7")
        assert (done.code, folders) == (2, [])
        assert done.err.startswith("alexnet-bench: device 'cuda:7' asked for, ")
        assert done.err.count("\n") == 1

    def test_steps_without_time_are_named_and_have_not_passed(self, tmp_path):
        done, (folder,) = checked(tmp_path, "--max-time", "3", "--step", "verify,report")
        assert done.code == 12
        assert done.err.splitlines()[-1] == "alexnet-bench: not passed: 2 verify, 10 report"
        assert [step["result"] for step in stored(folder)["steps"]] == ["no time", "no time"]
        assert stored(folder)["exit_code"] == 12

    def test_the_code_is_that_of_the_first_step_that_did_not_pass(self):
        def outcomes(*results):
            return [outcome.Outcome(step, result, "") for step, result in zip(STEPS, results, strict=False)]

        assert outcome.exit_code(outcomes(Result.PASSED, Result.SKIPPED)) == 0
        assert outcome.exit_code(outcomes(Result.PASSED, Result.SKIPPED, Result.TIMED_OUT, Result.FAILED)) == 13
        assert outcome.exit_code(outcomes(*[Result.PASSED] * 9, Result.NO_TIME)) == 20

    def test_time_is_kept_for_the_page(self, monkeypatch):
        checking = object.__new__(gpu_check.Checking)
        checking.began, checking.request = time.monotonic() - 480, parse_words("gpu-check", [])
        checking.check, checking.steps = Check(ACCELERATOR, "cuda", (), (), None), list(STEPS)
        assert checking.limit_of(BY_NAME["train"]) == pytest.approx(540 - 480 - 6 - 25, abs=1)
        assert checking.limit_of(BY_NAME["report"]) == 25
        assert checking.limit_of(BY_NAME["memory"]) == 15


@pytest.mark.process
class TestCommand:
    def test_its_page_and_its_archive_are_made(self, tmp_path, small):
        done, (folder,) = checked(tmp_path, "--step", "env,run,sweep,memory,report", ALEXNET_BENCH_BATCH="99")
        assert done.code == 0, done.err
        names = names_in(f"{folder}.tar.gz")
        assert {"steps.json", "report.html", "logs/01-env.log", "logs/03-run.log"} <= set(names)
        assert sum(name.endswith("run.jsonl") for name in names) == 2
        assert not any("compile_cache" in name for name in names)
        assert [(step["name"], step["result"]) for step in stored(folder)["steps"]] == [
            (name, "passed") for name in ("env", "run", "sweep", "memory", "report")
        ]
        assert "fits: batch 2" in done.out
        assert stored(folder)["steps"][0]["told"] == host.fingerprint().cpu
        assert "The peak of the device's allocator is unknown, as on a CPU" in " ".join(done.out.split())
        assert {row["batch"] for path in (folder / "runs").iterdir() for row in Run(path).rows()} == {1, 2}
        for step in stored(folder)["steps"]:
            (command,) = step["commands"]
            assert command["argv"][3:5] == ["bench", {"sweep": "run"}.get(step["name"], step["name"])]
            assert (command["exit_code"], command["wall_s"] > 0) == (0, True)

    def test_a_step_that_fails_stops_nothing_and_is_named(self, tmp_path, small):
        done, (folder,) = checked(tmp_path, "--env", "NULL_NET=nan", "--step", "run,report")
        assert done.code == 13
        assert done.err.splitlines()[-1] == "alexnet-bench: not passed: 3 run"
        failed, page = stored(folder)["steps"]
        assert (failed["result"], failed["commands"][0]["exit_code"], page["result"]) == ("failed", 1, "passed")
        assert "not finite" in failed["told"] or "disagrees" in failed["told"]
        assert "report.html" in names_in(f"{folder}.tar.gz")

    def test_a_device_that_goes_between_two_steps_fails_them_and_the_archive_is_written(
        self, tmp_path, small, monkeypatch
    ):
        monkeypatch.setattr(gpu_check, "settings_of", lambda device: dataclasses.replace(small, until_full=True))
        (python := tmp_path / "python").write_text(
            f"""#!/bin/sh
echo started >> {tmp_path}/starts
[ $(wc -l < {tmp_path}/starts) -gt 1 ]
NULL_NET=gpus=$? exec {sys.executable} "$@"
"""
        )
        python.chmod(0o755)
        words = ("--device", "cuda", "--python", f"null={python}", "--step", "sweep,report")
        done, (folder,) = checked(tmp_path, *words)
        assert done.code == 16, done.err
        swept, page = stored(folder)["steps"]
        assert (swept["result"], swept["commands"][0]["exit_code"], page["result"]) == ("failed", 2, "skipped")
        assert swept["told"].startswith("exit code 2: device 'cuda' asked for")
        assert "steps.json" in names_in(f"{folder}.tar.gz")

    @pytest.mark.parametrize("where", ["commands", "figure"])
    def test_a_mistake_in_a_step_is_its_failure_and_stops_nothing(self, tmp_path, small, monkeypatch, where):
        def mistaken(*given):
            raise IndexError("list index out of range")

        first, *others = STEPS
        monkeypatch.setattr(gpu_check, "STEPS", (dataclasses.replace(first, **{where: mistaken}), *others))
        monkeypatch.setattr(gpu_check, "number_of", lambda step: NAMES.index(step.name) + 1)
        monkeypatch.setattr(outcome, "number_of", lambda step: NAMES.index(step.name) + 1)
        done, (folder,) = checked(tmp_path, "--step", "env,report")
        assert done.code == 11
        assert [(step["result"], step["told"]) for step in stored(folder)["steps"]] == [
            ("failed", "IndexError: list index out of range"),
            ("skipped", "no Run was made before it"),
        ]
        assert 'raise IndexError("list index out of range")' in (folder / "logs/01-env.log").read_text()
        assert f"{folder}.tar.gz" in str(list(folder.parent.iterdir()))

    def test_a_step_beyond_its_limit_is_ended_with_its_workers(self, tmp_path, small, monkeypatch):
        monkeypatch.setattr(gpu_check, "settings_of", lambda device: dataclasses.replace(
            small, limits_s=CPU.limits_s | {"run": 12}))  # fmt: skip
        done, (folder,) = checked(tmp_path, "--env", "NULL_NET=hang=2", "--step", "run,env")
        assert done.code == 13
        env, late = stored(folder)["steps"]
        assert (env["result"], late["result"], late["commands"][0]["exit_code"]) == ("passed", "timed out", None)
        assert late["told"].startswith("asked to end 3 s before its limit of 12 s, to write what it has")
        assert 9 <= late["wall_s"] <= 12.5
        assert_nothing_is_left(folder)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interruption_ends_all_and_writes_the_archive(self, tmp_path, command, number):
        words = (*NULL, "--env", "NULL_NET=hang=1", "--step", "run,report", "--out", str(tmp_path / "out"))
        process = command.start(*words)
        for line in process.stderr:
            if line.startswith("alexnet-bench: 3 run:"):
                break
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/*/runs/*/workers/*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        done = command.finish(process)
        (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
        assert done.code == 130
        assert done.err.splitlines()[-1] == "alexnet-bench: interrupted; what was made is in the archive"
        assert [step["result"] for step in stored(folder)["steps"]] == ["interrupted"]
        assert any(name.endswith("run.jsonl") for name in names_in(f"{folder}.tar.gz"))
        assert_nothing_is_left(folder)

    @pytest.mark.slow
    @pytest.mark.timeout(1800)
    def test_every_step_passes_on_a_cpu(self, tmp_path):
        pytest.importorskip("torch")
        done, (folder,) = checked(tmp_path, "--framework", "torch", "--max-time", "1700")
        assert done.code == 0, done.err
        assert {step["result"] for step in stored(folder)["steps"]} == {"passed"}
        assert (folder.parent / f"{folder.name}.tar.gz").stat().st_size < 16 * 2**20


def assert_nothing_is_left(folder):
    """No process runs in the folder of a check, or has it in its arguments."""
    deadline = time.monotonic() + 5
    while (found := left_behind(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == []


def left_behind(folder):
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        words = [process.info["cwd"] or "", *(process.info["cmdline"] or [])]
        found += [words[:9]] if any(str(folder) in word for word in words) else []
    return found
