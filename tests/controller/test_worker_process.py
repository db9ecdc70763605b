"""Worker processes with the null Net: start, environment, replies, every way to fail."""

import dataclasses
import os
import signal
import subprocess
import sys

import gpus
import pytest

from bench import UsageError
from bench.cases.case import Case
from bench.controller.launch import Launch, environment
from bench.controller.mistakes import mistake_of, said
from bench.controller.settings import build_request
from bench.controller.worker_process import MARK, WorkerDied, WorkerProcess
from bench.machine import gpu_cause
from bench.worker.bootstrap import OLDEST
from bench.worker.messages import Measure
from bench.worker.net_file import read_nets
from bench.worker.replies import FaultKind, GpuSearch
from impls import weights
from impls.net import Settings

pytestmark = pytest.mark.process

CASE = Case("half_width", "null", "part", "cpu", "fp32", "nhwc", 2, "forward", size=67)


def worker(folder, part="", limit_s=60.0, python=None, env=None):
    child = WorkerProcess(
        Launch(
            "w",
            "null",
            Settings("cpu", 1, "fp32"),
            cache=folder / "cache",
            logs=folder / "logs",
            limit_s=limit_s,
            python=python or sys.executable,
            env={"NULL_NET": part, **(env or {})},
            package=None,
        )
    )
    ready = child.wait_until_configured()
    weights.write_shared(weights.initial(CASE.net), folder / "weights")
    child.ask(build_request(CASE, folder))
    return child, ready


def test_a_worker_measures_what_it_is_told_to(tmp_path):
    child, ready = worker(tmp_path, "spin=1")
    measured = child.ask(Measure("forward", n=5))
    assert ready.devices == ["cpu"]
    assert len(measured.ns) == len(measured.start_ns) == 5
    assert min(measured.ns) >= 1_000_000
    assert measured.start_ns == sorted(measured.start_ns)
    child.end()
    assert child.process.returncode == 0


def test_the_peak_memory_of_a_worker_excludes_its_parents(tmp_path):
    held = bytearray(1 << 30)  # a child's ru_maxrss would start here
    child, _ = worker(tmp_path)
    peak = child.ask(Measure("forward", n=1)).process_peak
    child.kill()
    assert 1 << 20 < peak < 1 << 29 < len(held)


def test_the_environment_of_a_worker_is_the_whitelist_only(tmp_path, monkeypatch):
    poison = {
        "OMP_WAIT_POLICY": "ACTIVE",
        "KMP_AFFINITY": "x",
        "XLA_FLAGS": "x",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    }
    for name, value in poison.items():
        monkeypatch.setenv(name, value)
    child, _ = worker(tmp_path)
    with open(f"/proc/{child.process.pid}/environ") as file:
        seen = dict(line.split("=", 1) for line in file.read().split("\0") if line)
    assert seen.pop(MARK) == child.mark
    child.kill()
    assert seen == environment(Settings("cpu", 1, "fp32"), {"NULL_NET": ""}, tmp_path / "cache")
    assert not poison.keys() & seen.keys()
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert seen["OMP_NUM_THREADS"] == "1"


def test_a_killed_worker_is_reported_with_its_signal(tmp_path):
    child, _ = worker(tmp_path)
    os.kill(child.process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"w: killed by SIGKILL; the kernel does that when memory runs out") as died:
        child.ask(Measure("forward", n=1))
    assert died.value.kind == FaultKind.DIED


def test_a_worker_that_ends_by_itself_is_reported_with_its_code(tmp_path):
    child, _ = worker(tmp_path, "die=1")
    with pytest.raises(WorkerDied, match="w: ended by itself with exit code 9"):
        child.ask(Measure("forward", n=1))


def test_a_worker_out_of_memory_says_so_and_its_stderr_has_the_rest(tmp_path):
    child, _ = worker(tmp_path, "memory=1")
    with pytest.raises(WorkerDied, match="w: ran out of memory: MemoryError: the null Net was told to") as died:
        child.ask(Measure("forward", n=1))
    assert died.value.kind == FaultKind.MEMORY
    assert "Traceback" in died.value.tail


class TestGpus:
    """Of a build for CUDA 13 on a machine whose NVML is a stand-in; no device is used."""

    @pytest.fixture
    def cards(self, monkeypatch, tmp_path, nvml):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(gpu_cause, "ROOT", tmp_path)
        return nvml

    def on_gpu(self, child):
        child.launch = dataclasses.replace(child.launch, settings=Settings("cuda", 1, "fp32"))

    def test_a_worker_out_of_memory_names_the_process_that_holds_it(self, tmp_path, cards):
        cards(gpus.card(pids=[7], held=100 << 30))
        child, _ = worker(tmp_path, "memory=1")
        self.on_gpu(child)
        with pytest.raises(WorkerDied) as died:
            child.ask(Measure("forward", n=1))
        assert died.value.reason.startswith("ran out of memory: MemoryError")
        assert died.value.reason.endswith(
            "; GPU 0 of 139.0 GiB is shared with process 7 (100.0 GiB); end it, or choose another GPU"
        )

    def test_on_a_cpu_it_names_no_process_of_a_gpu(self, tmp_path, cards):
        cards(gpus.card(pids=[7], held=100 << 30))
        child, _ = worker(tmp_path, "memory=1")
        with pytest.raises(WorkerDied) as died:
            child.ask(Measure("forward", n=1))
        assert "GPU" not in died.value.reason

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            (
                FaultKind.DEVICE,
                "device 'cuda' asked for, torch sees cpu only: driver 550.54 supports CUDA up to 12.4, ",
            ),
            (
                FaultKind.ERROR,
                "device 'cuda' asked for, which null cannot use (DeviceMissing: torch sees cpu): driver 550.54 ",
            ),
        ],
    )
    def test_a_gpu_that_cannot_be_used_is_a_mistake_that_names_its_cause(self, tmp_path, cards, kind, message):
        cards(driver="550.54.15", cuda=12040)
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text("Kernel Module  550.54  Tue\n")
        child, _ = worker(tmp_path)
        self.on_gpu(child)
        reason = "failed in configure: DeviceMissing: torch sees cpu"
        assert mistake_of(child.launch, WorkerDied("w", kind, reason, "", GpuSearch("13.0", 0))).startswith(message)
        assert mistake_of(child.launch, WorkerDied("w", FaultKind.ERROR, reason, "")) == "", (
            "it was not the GPU that failed"
        )
        another = WorkerDied("w", FaultKind.ERROR, reason, "", GpuSearch("", 1))
        assert mistake_of(child.launch, another) == "", "a build for another kind of GPU"
        child.kill()

    def test_an_error_for_no_known_cause_is_a_fault(self, tmp_path, cards):
        cards()
        child, _ = worker(tmp_path)
        self.on_gpu(child)
        assert mistake_of(child.launch, WorkerDied("w", FaultKind.ERROR, "failed", "", GpuSearch("13.0", 1))) == ""
        child.kill()

    def test_for_no_known_cause_it_says_what_the_framework_wrote(self):
        tail = (
            "W0000 cuda_executor.cc:1228] failed call to cuInit: CUDA_ERROR_UNKNOWN\n"
            "Traceback (most recent call last):\n  in cuda\nimpls.net.DeviceMissing: no cuda"
        )
        assert said(tail) == (
            "check `nvidia-smi`, or pass --device cpu (it wrote: W0000 cuda_executor.cc:1228] failed call to cuInit: "
            "CUDA_ERROR_UNKNOWN)"
        )
        assert said("nothing of it") == "check `nvidia-smi`, or pass --device cpu"


def test_a_reply_that_is_not_as_declared_is_an_error_that_says_what_is_wrong(tmp_path, monkeypatch):
    child, _ = worker(tmp_path)
    monkeypatch.setattr(child, "next_line", lambda request: b'{"reply": {"ns": []}}')
    with pytest.raises(WorkerDied, match="w: reply to measure: Measured lacks start_ns, cpu_s, ") as died:
        child.ask(Measure("forward", n=1))
    assert died.value.kind == FaultKind.ERROR
    assert child.process.returncode == -signal.SIGKILL


def test_a_request_that_is_not_as_declared_is_refused_by_the_worker_in_one_line(tmp_path):
    child, _ = worker(tmp_path)
    with pytest.raises(WorkerDied, match=r"^w: failed in measure: Malformed: measure.n: expected int, found 'five'$"):
        child.ask(Measure("forward", n="five"))


def test_a_worker_that_hangs_is_killed_at_its_limit(tmp_path):
    child, _ = worker(tmp_path, "hang=1", limit_s=10)
    child.limit_s = 0.5
    with pytest.raises(WorkerDied, match=r"w: hung: no answer to measure within 0.5 s \(--worker-limit\)"):
        child.ask(Measure("forward", n=1))
    assert child.process.returncode == -signal.SIGKILL


def test_a_framework_that_another_interpreter_lacks_names_its_extra(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    python = str(bare / "bin" / "python")
    with pytest.raises(
        UsageError, match=r"framework 'null' is not installed for .*python: pip install .*No module named"
    ):
        worker(tmp_path, python=python)


def stand_in(path, before="", shell=""):
    """An interpreter that runs ``before`` first of all, after lines of a shell."""
    path.write_text(f'#!/bin/sh\n{shell}\ncode="{before}$2"\nshift 2\nexec {sys.executable} -c "$code" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", [(2, 7), (3, 8), (3, OLDEST[1] - 1)])
def test_an_interpreter_that_is_too_old_is_a_line_with_both_versions(tmp_path, version):
    python = stand_in(tmp_path / "python", f"import sys; sys.version_info = {(*version, 1, 'final', 0)}\n")
    with pytest.raises(UsageError) as error:
        worker(tmp_path, python=python)
    needs = f"Python {version[0]}.{version[1]}: a Worker needs {OLDEST[0]}.{OLDEST[1]} or newer"
    why = f"ended by itself with exit code 1 (it wrote: {needs}); check --python"
    assert str(error.value) == f"{python} cannot run a Worker for null: {why}"


def test_an_interpreter_that_needs_the_path_of_libraries_says_so_and_runs_with_it(tmp_path, monkeypatch):
    wrote = "error while loading shared libraries: libpython3.12.so.1.0: cannot open shared object file"
    shell = f'test -n "$LD_LIBRARY_PATH" || {{ echo "python: {wrote}" >&2; exit 127; }}'
    python = stand_in(tmp_path / "python", shell=shell)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/x")
    with pytest.raises(UsageError) as error:
        worker(tmp_path, python=python)
    why = f"ended by itself with exit code 127 (it wrote: python: {wrote})"
    mend = "LD_LIBRARY_PATH is kept from Workers: pass --env LD_LIBRARY_PATH"
    assert str(error.value) == f"{python} cannot run a Worker for null: {why}; {mend}"
    worker(tmp_path, python=python, env={"LD_LIBRARY_PATH": "/x"})[0].kill()


def test_a_package_that_only_the_callers_pythonpath_has_names_that(tmp_path, monkeypatch):
    """Of the framework itself, and of what a user's net imports."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "turnip.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    python = stand_in(tmp_path / "python", "import turnip\n")
    with pytest.raises(UsageError) as error:
        worker(tmp_path, python=python)
    mend = "PYTHONPATH is kept from Workers: pass --env PYTHONPATH"
    why = f"{mend} (ModuleNotFoundError: No module named 'turnip')"
    assert str(error.value) == f"framework 'null' cannot be imported for {python}: {why}"
    (net := tmp_path / "net.py").write_text("import turnip\ndef build(variant, how): ...")
    child, _ = worker(tmp_path)
    with pytest.raises(WorkerDied) as died:
        child.ask(build_request(CASE, tmp_path, read_nets([f"{net}:build"])[0].guest()))
    why = "its import ended by ModuleNotFoundError: No module named 'turnip' (line 1)"
    assert died.value.reason == f"net.py: {why}; {mend}"


def test_an_interpreter_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(
        UsageError, match="cannot start /nowhere/python for null: No such file or directory; check --python"
    ):
        worker(tmp_path, python="/nowhere/python")


def test_a_worker_leaves_when_the_controller_is_gone(tmp_path):
    child, _ = worker(tmp_path)
    os.close(child.requests)
    child.requests = -1
    assert child.process.wait(10) == 0


def test_children_are_started_in_a_session_of_their_own(tmp_path):
    """Ctrl-C in a terminal reaches the controller alone, which ends its Workers itself."""
    child, _ = worker(tmp_path)
    assert os.getsid(child.process.pid) == child.process.pid
    child.kill()
