"""The steps of `gpu-check`: the commands that they run and what they are given."""

import dataclasses
import importlib.util
import sys

import pytest
from click.testing import CliRunner
from gpu_checks import BY_NAME, FULL, check_of, commands_of, planted_run, taken
from runs import A, make

from bench.commands.cli import main, parse_words
from bench.commands.gpu_check import figures, steps
from bench.commands.gpu_check.child import Ended
from bench.commands.gpu_check.outcome import Result, full_as_expected, judge
from bench.commands.gpu_check.settings import ACCELERATOR, CPU, settings_of
from bench.commands.gpu_check.steps import NAMES, Made
from bench.machine import host
from impls import ACCELERATORS


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


class TestNamed:
    def test_a_cpu_is_named_also_next_to_a_gpu(self, monkeypatch):
        monkeypatch.setattr(steps.gpu, "name", lambda device: pytest.fail("asked"))
        assert steps.named("cpu") == host.fingerprint().cpu

    @pytest.mark.parametrize(
        ("name", "driver", "told"),
        [
            ("NVIDIA H200", "580.95.05", "NVIDIA H200, driver 580.95.05"),
            (None, None, ""),
            ("NVIDIA T4", None, "NVIDIA T4"),
        ],
    )
    def test_a_gpu_is_named_with_its_driver_as_far_as_they_are_known(self, monkeypatch, name, driver, told):
        monkeypatch.setattr(steps.gpu, "name", lambda device: name)
        monkeypatch.setattr(steps.gpu, "driver", lambda: driver)
        assert steps.named("cuda:1") == told


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
