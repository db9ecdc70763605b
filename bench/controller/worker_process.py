"""A Worker as the controller sees it: started by exec with a whitelisted environment, asked, and ended."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bench
import impls
from bench import UsageError

# Loads the two packages from where it is told, and nothing else from there: another interpreter must import its own
# framework and its own numpy.
BOOTSTRAP = """
import importlib.util, sys
for name, path in (("impls", sys.argv[1]), ("bench", sys.argv[2])):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from bench.worker.main import main
main(sys.argv[3], *map(int, sys.argv[4:7]))
"""
#: What libraries that several frameworks share take a number of threads from.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
KEPT = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT")
TAIL_LINES = 15


class WorkerDied(Exception):
    """A Worker ended, hung or failed; ``reason`` is one line, ``tail`` the end of its stderr."""

    def __init__(self, worker: str, kind: str, reason: str, tail: str):
        super().__init__(f"{worker}: {reason}")
        self.worker, self.kind, self.reason, self.tail = worker, kind, reason, tail

    @property
    def last_words(self) -> str:
        """The last line of its stderr, where an error stands that ended it before it could answer."""
        return self.tail.splitlines()[-1] if self.tail else ""


def environment(
    device: str,
    threads: int | None,
    precision: str,
    extra: Mapping[str, str | None],
    cache: Path,
    preset: str = "equal",
) -> dict[str, str]:
    """All that a Worker inherits: nothing of the caller's shell can change what is timed, unless it is named in
    ``extra``, which can take away as well. What is compiled is kept in ``cache``."""
    on_gpu = device != "cpu"
    visible = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    inherited: dict[str, str | None] = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        **(visible if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_CACHE_MAXSIZE": "4294967296",
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        **({} if threads is None else dict.fromkeys(THREADS, str(threads))),
        **({"ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"} if preset == "equal" else {}),
        **({} if precision == "tf32" or preset != "equal" else {"NVIDIA_TF32_OVERRIDE": "0"}),
        **impls.environment(device, threads, preset, str(cache)),
        **extra,
    }
    return {name: value for name, value in inherited.items() if value is not None}


class WorkerProcess:
    """One running Worker. ``ask`` raises WorkerDied for whatever keeps an answer from coming."""

    precision = "fp32"
    probed: dict[str, Any] | None = None
    """What precision its process was found to have, once it has been asked."""
    ready: dict[str, Any] | None = None
    """What it said of itself when it was configured."""
    numpy_gflop_per_s: float | None = None
    """numpy's matrix product in its process, once it has been asked."""
    compile_cache: str | None = None
    """Whether what it compiles into was cold or warm when it was started; None where its mode does not compile."""
    ceiling_known = False

    def __init__(
        self,
        name: str,
        framework: str,
        python: str,
        env: Mapping[str, str],
        logs: Path,
        limit_s: float,
        package: Path | None = None,
    ):
        self.name, self.framework, self.python, self.limit_s, self.package = name, framework, python, limit_s, package
        self.stderr = logs / f"{name}.stderr"
        try:
            logs.mkdir(parents=True, exist_ok=True)
            out, err = (logs / f"{name}.stdout").open("wb"), self.stderr.open("wb")
        except OSError as error:
            raise UsageError(f"cannot write to {logs}: {error.strerror}; nothing more is measured") from error
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        try:
            with out, err:
                self.process = subprocess.Popen(
                    [
                        python,
                        "-c",
                        BOOTSTRAP,
                        str(package / "__init__.py") if package else impls.__file__,
                        bench.__file__,
                        framework,
                        str(theirs_in),
                        str(theirs_out),
                        str(os.getpid()),
                    ],
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    pass_fds=(theirs_in, theirs_out),
                    cwd=logs,
                    start_new_session=True,  # Ctrl-C is the controller's to handle
                )
        except OSError as error:
            raise UsageError(f"cannot start {python} for {framework}: {error.strerror}; check --python") from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self.replies, self.requests = ours_in, ours_out
        self.buffer = b""

    def ask(self, do: str, **message: Any) -> dict[str, Any]:
        """Send one request and return its answer."""
        self.send(do, **message)
        return self.receive(do)

    def send(self, do: str, **message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # a dead Worker is reported when its answer is read
            os.write(self.requests, json.dumps({"do": do, **message}).encode() + b"\n")

    def receive(self, do: str) -> dict[str, Any]:
        """The answer to what was sent last; WorkerDied where none comes, or one that it failed."""
        reply = json.loads(self._line(do))
        if "failed" in reply:
            reason = {"memory": "ran out of memory"}.get(reply["failed"], f"failed in {do}")
            reason = f"{reason}: {reply['why']}" if reply["failed"] != "net" else reply["why"].partition(": ")[2]
            died = WorkerDied(self.name, reply["failed"], reason, self.tail())
            self.kill()
            raise died
        return reply

    def end(self) -> None:
        """Close its requests, which tells it to leave; kill it if it does not."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for fd in (self.requests, self.replies):
            if fd >= 0:
                os.close(fd)
        self.requests = self.replies = -1

    def tail(self) -> str:
        """The end of what it wrote to stderr."""
        return "\n".join(self.stderr.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def _line(self, do: str) -> bytes:
        deadline = time.monotonic() + self.limit_s
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.replies], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.kill()
                why = f"hung: no answer to {do} within {self.limit_s:g} s (--worker-limit)"
                raise WorkerDied(self.name, "hung", why, self.tail())
            received = os.read(self.replies, 1 << 20)
            if not received:
                raise self._died()
            self.buffer += received
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def _died(self) -> WorkerDied:
        code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; the kernel does that when memory runs out" if name == "SIGKILL" else ""
            reason = f"killed by {name}{hint}"
        else:
            reason = f"ended by itself with exit code {code}"
        self.kill()
        return WorkerDied(self.name, "died", reason, self.tail())


def launch(
    name: str,
    framework: str,
    *,
    device: str,
    threads: int | None,
    preset: str,
    python: str | None,
    env: Mapping[str, str | None],
    precision: str,
    cache: Path,
    logs: Path,
    limit_s: float,
    package: Path | None = None,
) -> WorkerProcess:
    """Start a Worker, under this interpreter where ``python`` is None and with the ``impls`` of this process where
    ``package`` is, and have it configure itself; ``configured`` waits for that."""
    inherited = environment(device, threads, precision, env, cache.absolute(), preset)
    child = WorkerProcess(name, framework, python or sys.executable, inherited, logs, limit_s, package)
    child.precision = precision
    settings = {"device": device, "threads": threads, "precision": precision, "preset": preset}
    child.send("configure", settings=settings)
    return child


def configured(child: WorkerProcess, device: str) -> dict[str, Any]:
    """What a launched Worker says of itself, once it has imported its framework.

    UsageError where the framework or the device is missing: that is the user's to mend, not a fault.
    """
    try:
        return child.receive("configure")
    except WorkerDied as died:
        framework = child.framework
        where = "" if child.python == sys.executable else f" for {child.python}"
        if child.package and (died.kind in ("died", "error") or "'impls" in died.last_words):
            raise  # its own impls do not fit: no framework is missing
        if died.kind == "missing" or "ModuleNotFoundError" in died.tail:
            raise UsageError(
                f"framework {framework!r} is not installed{where}: pip install {impls.requirement(framework)} "
                f"({died.last_words})"
            ) from died
        if died.kind == "device":
            seen = died.reason.split(": ", 2)[-1]
            raise UsageError(
                f"device {device!r} asked for, {seen} only: pass --device cpu, or a GPU build "
                f"(make setup DEVICE=cuda, or --python {framework}=PATH)"
            ) from died
        if died.kind == "died" and where:
            raise UsageError(
                f"{child.python} cannot run a Worker for {framework}: {died.reason}; check --python"
            ) from died
        raise
    except BaseException:
        child.kill()
        raise
