"""`gpu-check`: its steps, what they are given, how they end, and what is in its archive."""

import dataclasses
import importlib.util
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
from gpus import card, with_cards
from paths import ROOT
from runs import A, make

from bench import UsageError
from bench.commands import gpu_check
from bench.commands.cli import main, parse_words
from bench.commands.gpu_check import facts, figures, outcome, steps
from bench.commands.gpu_check.child import Ended
from bench.commands.gpu_check.outcome import Result, full_as_expected, judge
from bench.commands.gpu_check.settings import ACCELERATOR, CPU, settings_of
from bench.commands.gpu_check.steps import NAMES, STEPS, Check, Made
from bench.machine import host
from bench.record.events import Failed
from bench.record.journal import Journal
from bench.record.run import Run
from impls import ACCELERATORS

NULL = ("gpu-check", "--device", "cpu", "--framework", "null", *ONE_THREAD)
FULL = "ran out of memory: MemoryError: planted"
BY_NAME = {step.name: step for step in STEPS}


@pytest.fixture
def small(monkeypatch):
    """Settings of a CPU for the quickest nets there are, whose values come with the project."""
    smaller = dataclasses.replace(CPU, size=67, timed=("fp32",), batches=(1, 2))
    monkeypatch.setattr(gpu_check, "settings_of", lambda device: smaller)
    return smaller


def check_of(tmp_path, settings=ACCELERATOR, device="cuda", frameworks=("torch", "jax"), passed_on=()):
    (tmp_path / "runs").mkdir(exist_ok=True)
    return Check(settings, device, frameworks, passed_on, tmp_path)


def taken(name, check, seconds=100.0, ending=lambda line: Made(Ended(line, 0, 1.0), [])):
    """The commands of a step, each of which ends so, and the step's remark."""
    commands, lines, made = BY_NAME[name].commands(check, seconds), [], None
    try:
        while True:
            lines.append(commands.send(made))
            made = ending(lines[-1])
    except StopIteration as end:
        return lines, end.value


def commands_of(name, check, seconds=100.0):
    return taken(name, check, seconds)[0]


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


class TestSteps:
    def test_both_kinds_of_device_have_a_limit_for_every_step(self):
        assert tuple(CPU.limits_s) == tuple(ACCELERATOR.limits_s) == NAMES

    def test_tf32_is_left_out_where_there_is_none(self):
        assert "tf32" in settings_of("cuda:1").verified
        for device in ("mps", "xpu:1"):
            assert settings_of(device).verified == settings_of(device).verified_others == ("fp32", "bf16")

    def test_the_help_numbers_every_step_and_names_every_kind_of_device(self):
        text = " ".join(CliRunner().invoke(main, ["gpu-check", "--help"]).stdout.split())
        assert all(f"{kind}," in text.partition("--device")[2].partition("--framework")[0] for kind in ACCELERATORS)
        assert ", ".join(f"{number} {name}" for number, name in enumerate(NAMES, start=1)) in text

    @pytest.mark.parametrize("name", [name for name in NAMES if name not in ("memory", "report")])
    @pytest.mark.parametrize(("settings", "device"), [(ACCELERATOR, "cuda"), (CPU, "cpu")])
    def test_the_commands_of_a_step_parse_and_get_what_is_passed_on(
        self, tmp_path, monkeypatch, name, settings, device
    ):
        passed_on = ("--python=torch=/bin/sh", "--env=A=b")
        check = check_of(tmp_path, settings, device, passed_on=passed_on)
        for command, *words in commands_of(name, check):
            request = parse_words(command, words)
            assert (request.device, request.python, request.env) == (
                (device,),
                (("torch", "/bin/sh"),),
                (("A", "b"),),
            )
            assert set(request.framework.split(",")) <= {"torch", "jax"}
            if hasattr(request, "out"):
                assert request.out == tmp_path / "runs"
                assert request.max_time_s == pytest.approx(85, abs=0.1)

    def test_all_variants_are_verified_and_tf32_on_accelerators_only(self, tmp_path):
        for settings, device in ((ACCELERATOR, "cuda"), (CPU, "cpu")):
            requests = [
                parse_words(*split(line)) for line in commands_of("verify", check_of(tmp_path, settings, device))
            ]
            assert sorted(name for each in requests for name in each.variant) == sorted(steps.VARIANTS)
            assert [each.precision for each in requests] == (
                ["fp32,tf32,bf16"] * 2 if settings is ACCELERATOR else ["fp32,bf16", "fp32"]
            )

    @pytest.mark.parametrize(
        ("has", "nets", "remark"),
        [
            ("exit 0", 2, "torchvision's own module was timed too"),
            ("exit 3", 1, "only the own net of torchvision's layers: torchvision is not installed"),
            ("exit 1", 1, "only the own net of torchvision's layers: {} did not say whether it has torchvision"),
            ("exec sleep 9", 1, "only the own net of torchvision's layers: {} did not say whether it has torchvision"),
        ],
    )
    def test_torchvision_is_among_the_peers_where_the_interpreter_of_torch_has_it(
        self, tmp_path, monkeypatch, has, nets, remark
    ):
        monkeypatch.setattr(steps, "ASK_S", 3.0)
        (python := tmp_path / "python").write_text(f"#!/bin/sh\n{has}\n")
        python.chmod(0o755)
        passed_on = ("--python=jax=/bin/false", f"--python=torch={python}")
        ((_, *words),), told = taken("peers", check_of(tmp_path, passed_on=passed_on))
        assert sum(word.startswith("--net=") for word in words) == nets
        assert told == remark.format(python)

    def test_an_interpreter_is_asked_for_torchvision_and_nothing_is_imported(self, tmp_path, monkeypatch):
        assert (steps.lacks_torchvision(sys.executable) == "") is (importlib.util.find_spec("torchvision") is not None)
        monkeypatch.setattr(steps, "HAS_TORCHVISION", steps.HAS_TORCHVISION.replace("torchvision", "json"))
        assert steps.lacks_torchvision(sys.executable) == ""
        monkeypatch.setattr(steps, "HAS_TORCHVISION", steps.HAS_TORCHVISION.replace("json", "no_such_module"))
        assert steps.lacks_torchvision(sys.executable) == "torchvision is not installed"

    def test_the_memory_of_the_runs_of_three_steps_is_counted(self, tmp_path):
        with pytest.raises(steps.Skipped, match="no Run was made before it, by the steps run, sweep or train"):
            commands_of("memory", check_of(tmp_path))
        for name in ("run", "train", "aa", "profile-owt"):
            make(tmp_path / f"runs/20260101T000000Z-{name}", [A])
        ((_, *runs),) = commands_of("memory", check_of(tmp_path))
        assert [run.rpartition("Z-")[2] for run in runs] == ["run", "train"]

    def test_the_memory_is_left_out_where_no_row_is_valid(self, tmp_path):
        planted_run(tmp_path / "runs/20260101T000000Z-run", A, {A: FULL})
        with pytest.raises(steps.Skipped, match="no Run of the steps run, sweep and train has a valid row of our nets"):
            commands_of("memory", check_of(tmp_path))


def split(line):
    command, *words = line
    return command, words


class Clock:
    """Time that goes on only where a test lets it."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(steps.time, "monotonic", lambda: self.now)


class TestSweep:
    def swept(self, tmp_path, monkeypatch, memory=None, full_at=10**9, host=2**50, seconds=75.0, takes=None):
        """The batches that are tried on a device where those from ``full_at`` on are too large, and the remark.
        ``takes``: seconds of a batch; those that would end later than ``seconds`` are cut."""
        monkeypatch.setattr(steps.gpu, "memory_bytes", lambda device: memory)
        monkeypatch.setattr(
            steps.psutil, "virtual_memory", lambda: dataclasses.make_dataclass("M", ["available"])(host)
        )
        clock, tried, self.limits = Clock(monkeypatch), [], []

        def ending(line):
            request = parse_words(*split(line))
            (batch,) = request.batch
            case = dataclasses.replace(A, batch=batch)
            tried.append(batch)
            self.limits.append(request.max_time_s)
            wall_s, left_s = (takes or (lambda batch: 1.0))(batch), 1000.0 + seconds - clock.now
            clock.now += min(wall_s, left_s)
            if wall_s > left_s:
                return Made(Ended(line, None, left_s, 8.0), [])
            lacks = {"failed": {case: FULL}} if batch >= full_at else {}
            run = planted_run(tmp_path / f"{len(tried):06}", case, **lacks)
            return Made(Ended(line, 1 if lacks else 0, wall_s), [run])

        _, self.remark = taken("sweep", check_of(tmp_path), seconds, ending)
        return tried

    def test_batches_double_until_the_memory_is_full(self, tmp_path, monkeypatch):
        assert self.swept(tmp_path, monkeypatch, full_at=1024) == [128, 256, 512, 1024]
        assert self.remark == ""

    def test_they_grow_faster_while_they_are_far_below_the_memory(self, tmp_path, monkeypatch):
        memory, net = 139 * 2**30, steps.VARIANTS["tutorial"]
        tried = self.swept(tmp_path, monkeypatch, memory, full_at=16384)
        assert tried == [128, 1024, 4096, 8192, 16384]
        need = {batch: steps.footprint(net, batch, "forward_backward", "fp32").total for batch in (*tried, 2048)}
        assert need[4096] <= memory / 4 < need[8192]

    def test_it_ends_where_the_host_has_no_room(self, tmp_path, monkeypatch):
        image = 4 * 224 * 224 * 3
        assert self.swept(tmp_path, monkeypatch, host=4 * 512 * image) == [128, 256, 512]
        assert "the host has no room" in self.remark

    def test_the_first_batch_is_small_whatever_the_memory_and_the_time(self, tmp_path, monkeypatch):
        assert self.swept(tmp_path, monkeypatch, 2**50, host=1, seconds=9.0, takes=lambda batch: 8.0) == [128]

    def test_the_next_batch_is_begun_only_if_it_fits_the_time_that_is_left(self, tmp_path, monkeypatch):
        """10 s to start, and 2.4 s per 512 images."""
        tried = self.swept(tmp_path, monkeypatch, 139 * 2**30, takes=lambda batch: 10 + 2.4 * batch / 512)
        assert tried == [128, 512, 4096]  # of 128's 10.6 s nobody knows what grows
        assert self.remark == steps.TIME_OVER
        (other := tmp_path / "b").mkdir()
        assert self.swept(other, monkeypatch, takes=lambda batch: batch / 8) == [128, 256]
        (ending := tmp_path / "c").mkdir()  # 256 would take 48 of 51 s, of which 8 are for its end
        assert self.swept(ending, monkeypatch, takes=lambda batch: 24 * batch / 128) == [128]

    def test_each_command_is_given_the_time_that_is_left(self, tmp_path, monkeypatch):
        self.swept(tmp_path, monkeypatch, full_at=512, takes=lambda batch: 20.0)
        assert self.limits == [pytest.approx(steps.OWN_END * left) for left in (75, 55, 35)]

    def test_a_batch_that_is_cut_is_the_last(self, tmp_path, monkeypatch):
        tried = self.swept(tmp_path, monkeypatch, takes=lambda batch: 5.0 if batch < 512 else 80.0)
        assert (tried, self.remark) == ([128, 256, 512], steps.TIME_OVER)

    def test_a_command_that_is_refused_ends_it_whatever_was_made_before(self, tmp_path, monkeypatch):
        monkeypatch.setattr(steps.gpu, "memory_bytes", lambda device: None)
        for before in ([], [128]):
            for batch in before:
                planted_run(tmp_path / f"runs/20260101T000000Z-sweep-{batch}", dataclasses.replace(A, batch=batch))
            lines, _ = taken("sweep", check_of(tmp_path), 75.0, lambda line: Made(Ended(line, 2, 1.0), []))
            assert len(lines) == 1

    @pytest.mark.parametrize(
        ("ends", "expected"),
        [
            ([0, None], (Result.PASSED, "fits: batch 8; its time was over before the memory was full")),
            (
                [None],
                (
                    Result.TIMED_OUT,
                    "asked to end 8 s before its limit of 75 s, to write what it has; fits: batch 8; its time",
                ),
            ),
            ([0, 2], (Result.FAILED, "exit code 2: device 'cuda' asked for, and gone")),
        ],
    )
    def test_it_passes_with_rows_and_says_that_its_time_was_over(self, tmp_path, ends, expected):
        (log := tmp_path / "a.log").write_text("alexnet-bench: device 'cuda' asked for, and gone\n")
        commands = [Ended([], code, 1.0, 8.0) for code in ends]
        remark = steps.TIME_OVER if None in ends else ""
        found = judge(BY_NAME["sweep"], 75.0, commands, [planted_run(tmp_path / "a", A)], log, remark)
        assert (found.result, found.told[: len(expected[1])]) == expected

    def test_its_figure_names_the_batch_that_ran_out_of_memory(self, tmp_path):
        case = dataclasses.replace(A, batch=4096)
        runs = [planted_run(tmp_path / "a", A), planted_run(tmp_path / "b", case, {case: FULL})]
        assert figures.largest_batch(runs, "") == "fits: batch 8, batch 4096 ran out of memory"
        assert figures.largest_batch(runs[1:], "") == "no batch fits, batch 4096 ran out of memory"
        assert figures.largest_batch([], "") == "no batch has a row"  # cut, or refused: nobody knows whether one fits

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ({1: "", 2: "", 4: FULL}, True),
            ({1: FULL}, False),
            ({1: "", 2: "", 4: ""}, False),
            ({1: "", 2: FULL, 4: ""}, False),
            ({1: "", 2: FULL, 4: "killed by SIGKILL"}, False),
        ],
    )
    def test_full_memory_is_expected_above_batches_that_fit(self, tmp_path, rows, expected):
        runs = []
        for batch, reason in rows.items():
            case = dataclasses.replace(A, batch=batch)
            runs.append(planted_run(tmp_path / str(batch), case, **({"failed": {case: reason}} if reason else {})))
        assert full_as_expected(runs) is expected
        result = judge(BY_NAME["sweep"], 9.0, [Ended([], 1, 1.0)], runs, tmp_path / "none.log").result
        assert result == (Result.PASSED if expected else Result.FAILED)
        assert judge(BY_NAME["train"], 9.0, [Ended([], 1, 1.0)], runs, tmp_path / "none.log").result == Result.FAILED


def planted_run(folder, case, failed=None):
    """A Run of one Case, which may have failed for a reason."""
    run = make(folder, [case])
    for each, reason in (failed or {}).items():
        Journal(folder).add(Failed(each.id, reason))
        run = Run(folder)
    return run


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

    def test_the_device_that_is_checked_is_named(self, tmp_path):
        _, (folder,) = checked(tmp_path, "--step", "env", **with_cards(tmp_path, card(name="NVIDIA H200")))
        assert stored(folder)["steps"][0]["told"] == host.fingerprint().cpu  # next to a GPU
        printed = (folder / "logs/01-env.log").read_text()
        assert figures.device([], printed.replace("for cpu\n", "for cuda\n")).startswith(
            "driver 580.95.05, NVIDIA H200"
        )

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
