"""Worker processes: start one, send requests, read replies, end it."""

import contextlib
import dataclasses
import json
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench import UsageError
from bench.controller import unpassed
from bench.controller.launch import Launch, environment
from bench.controller.mistakes import mistake_of, shared_memory
from bench.machine import gpu, signals
from bench.worker import messages
from bench.worker.messages import Configure, Request
from bench.worker.replies import Failure, FaultKind, GpuSearch, Ready
from bench.worker.wire import Malformed
from impls.text import one_line

R = TypeVar("R")

TAIL_LINES = 20
WHAT = {FaultKind.MEMORY: "ran out of memory", FaultKind.LOST: "lost its device"}
RECOVER = "`nvidia-smi -q` and `dmesg` tell why; reset or restart the machine"
#: Variable by which the processes that a Worker starts are recognized.
MARK = "ALEXNET_BENCH_WORKER_MARK"
READ_BYTES = 1 << 20
LONGEST_REPLY = 1 << 28
LOOK_S = 0.5  # how often a Worker that is silent is looked at
END_S = 10.0  # for a Worker to exit by itself


class WorkerDied(Exception):
    """A Worker ended, hung or failed; ``reason`` is one line, ``tail`` the end of its stderr.

    ``search`` is what it reported of a GPU that it could not be configured for.
    """

    def __init__(self, worker: str, kind: FaultKind, reason: str, tail: str, search: GpuSearch | None = None):
        super().__init__(f"{worker}: {reason}")
        self.kind, self.reason, self.tail, self.search = kind, reason, tail, search

    @property
    def last_words(self) -> str:
        """Last line of stderr: the error, if the process died before replying."""
        return self.tail.splitlines()[-1] if self.tail else ""


def started_by(mark: str) -> Iterator[int]:
    """Numbers of the processes that inherited the environment of a Worker; none without Linux's /proc."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


class WorkerProcess:
    """A Worker process, configuring itself from the start. ``ask`` raises WorkerDied if no reply comes."""

    def __init__(self, launch: Launch):
        self.launch, self.name, self.limit_s = launch, launch.name, launch.limit_s
        logs, python, framework = launch.logs, launch.python, launch.framework
        self.mark = f"{os.getpid()}-{self.name}-{secrets.token_hex(4)}"
        env = environment(launch.settings, launch.env, launch.cache.absolute()) | {MARK: self.mark}
        self.stderr = logs / f"{self.name}.stderr"
        try:
            logs.mkdir(parents=True, exist_ok=True)
            err = self.stderr.open("wb")
        except OSError as error:
            raise UsageError(f"cannot write to {logs}: {error.strerror}; nothing more is measured") from error
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        try:
            with err:
                self.process = subprocess.Popen(
                    launch.command,
                    env=None if launch.node else env,  # that of a prefix is the user's
                    stdin=theirs_in,
                    stdout=theirs_out,
                    stderr=err,
                    cwd=logs,
                    start_new_session=True,  # Ctrl-C is the controller's to handle
                )
        except OSError as error:
            raise UsageError(f"cannot start {python} for {framework}: {error.strerror}; check --python") from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self.replies, self.requests = ours_in, ours_out
        self.buffer = bytearray()
        self.begun, self.banner = False, list[bytes]()
        if launch.node:
            order = {"framework": framework, "cores": launch.cores, "env": env}
            with contextlib.suppress(BrokenPipeError):  # as of a request
                os.write(self.requests, json.dumps(order).encode() + b"\n")
        self.configure = Configure(launch.settings)
        self.send(self.configure)

    def ask(self, request: Request[R]) -> R:
        """Send one request and return its reply; raises KeyboardInterrupt if a signal asked to end."""
        signals.check()
        self.send(request)
        return self.receive(request)

    def send(self, request: Request[Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # a dead Worker is reported when its reply is read
            os.write(self.requests, messages.write_request(request))

    def receive(self, request: Request[R]) -> R:
        """Return the reply to the last request. Raises WorkerDied if none comes, or for a Failure."""
        deadline = time.monotonic() + self.limit_s
        while (line := self.next_line(request)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill()
                raise self.hung(request)
            select.select([self.replies], [], [], min(left, LOOK_S))
        return self.read(request, line)

    def read(self, request: Request[R], line: bytes) -> R:
        """Decode the reply to ``request``. Raises WorkerDied for a Failure, with the process killed."""
        try:
            reply = messages.read_reply(request, line)
        except Malformed as error:
            self.kill()
            raise WorkerDied(self.name, FaultKind.ERROR, str(error), self.tail()) from error
        if not isinstance(reply, Failure):
            return reply
        if reply.kind == FaultKind.ERROR and gpu.is_lost(self.launch.settings.device):
            reply = dataclasses.replace(reply, kind=FaultKind.LOST)
        what = WHAT.get(reply.kind, f"failed in {request.do}")
        # of a user's net the message alone, without the name of the exception
        own = reply.why.partition(": ")[2] or "its function raised an error without a message"
        reason = own if reply.kind == FaultKind.NET else f"{what}: {reply.why}"
        if reply.kind == FaultKind.LOST:
            reason += f"; {RECOVER}"
        if reply.kind == FaultKind.NET and (way := unpassed.way_to_missing(reason, self.launch.env)):
            reason += f"; {way}"
        if reply.kind == FaultKind.MEMORY and (shared := shared_memory(self.launch)):
            reason += f"; {shared}"
        died = WorkerDied(self.name, reply.kind, reason, self.tail(), reply.search)
        self.kill()
        raise died

    def wait_until_configured(self) -> Ready:
        """Wait until the framework is imported and return what the Worker reports of itself.

        Raises UsageError if the framework or the device is missing, which the user can correct.
        """
        try:
            return self.receive(self.configure)
        except WorkerDied as died:
            if mistake := mistake_of(self.launch, died):
                raise UsageError(mistake) from died
            raise
        except BaseException:
            self.kill()
            raise

    def end(self) -> None:
        """Have the Worker exit; kill it if it does not."""
        self.close()
        self._wait(END_S)
        self.kill()

    def close(self) -> None:
        """Close the pipe of requests, which tells the Worker to exit."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1

    def kill(self) -> None:
        """Kill the process and all that it started; wait until it has ended."""
        if self.process.returncode is None:  # its group is its own until it is reaped
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for number in started_by(self.mark):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(number, signal.SIGKILL)
        for fd in (self.requests, self.replies):
            if fd >= 0:
                os.close(fd)
        self.requests = self.replies = -1

    def tail(self) -> str:
        """The last lines of stderr; empty if the file is gone."""
        try:
            return "\n".join(self.stderr.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        except OSError:
            return ""

    def stopped(self) -> bool:
        """Whether the process is stopped, as by SIGSTOP; False without Linux's /proc."""
        try:
            state = Path(f"/proc/{self.process.pid}/stat").read_text(errors="replace").rpartition(")")[2]
        except OSError:
            return False
        return state.split()[0] in ("T", "t")

    def hung(self, request: Request[Any]) -> WorkerDied:
        """The error of a process that has not replied in time."""
        how = "stopped" if self.stopped() else "hung"
        why = f"{how}: no answer to {request.do} within {self.limit_s:g} s (--worker-limit)"
        return WorkerDied(self.name, FaultKind.HUNG, why, self.tail())

    def next_line(self, request: Request[Any]) -> bytes | None:
        """The next line of replies, None if it is not there yet. Raises WorkerDied if the process has ended.

        Lines before the first reply, which a launch prefix or an interpreter may print, are put to ``banner``.
        """
        while (line := self._next_line(request)) is not None and not self.begun:
            if line.startswith(b'{"'):
                self.begun = True
                break
            self.banner.append(line)
        return line

    def _next_line(self, request: Request[Any]) -> bytes | None:
        while b"\n" not in self.buffer[-READ_BYTES:]:
            if not select.select([self.replies], [], [], 0)[0]:
                if self._exited():  # a process that it started holds the pipe open
                    raise self._died()
                return None
            received = os.read(self.replies, READ_BYTES)
            if not received:
                raise self._died()
            self.buffer += received
            if len(self.buffer) > LONGEST_REPLY:
                self.kill()
                why = f"wrote {LONGEST_REPLY >> 20} MiB without a line break in reply to {request.do}"
                raise WorkerDied(self.name, FaultKind.ERROR, why, self.tail())
        line, _, rest = bytes(self.buffer).partition(b"\n")
        self.buffer = bytearray(rest)
        return line

    def _exited(self) -> bool:
        """Whether the process has ended; it is not reaped, so that no other group gets its number."""
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _wait(self, seconds: float) -> bool:
        """Wait at most so long until the process has ended; return whether it has."""
        deadline = time.monotonic() + seconds
        while not (ended := self._exited()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return ended

    def _died(self) -> WorkerDied:
        ended = self._wait(END_S)
        self.kill()
        code = self.process.returncode
        if not ended:
            reason = "closed the pipe of its replies"
        elif code < 0:
            name = signal.Signals(-code).name
            hint = "; the kernel does that when memory runs out" if name == "SIGKILL" else ""
            reason = f"killed by {name}{hint}"
        else:
            reason = f"ended by itself with exit code {code}"
        if self.banner and not self.begun:
            reason += f" (it printed: {one_line(self.banner[-1].decode(errors='replace'))})"
        return WorkerDied(self.name, FaultKind.DIED, reason, self.tail())
