"""Ray: the shards of a grid as tasks on the nodes of a cluster. The only module that imports ray, when it connects.

A task starts `alexnet-bench run --shard I/N` as a child and returns its Run folder. Only strings, numbers and bytes
travel; the function of the task is imported on its node, where this program must be installed.
"""

import contextlib
import importlib
import os
import platform
import signal
import socket
import tempfile
import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.parse import CLIENT_PORT
from bench.controller.shard_run import Packed, packed, run_shard
from bench.machine import code, fresh
from bench.machine.scratch import scratch_folder
from impls.text import one_line

#: Of which each node of the fleet has one, so that one shard at a time is there.
SLOT = "bench_slot"
REACHED_S = 5.0
ATTEMPTS = 3
#: What the head says if the process that it starts for a client does not begin.
STILLBORN = ("Starting Ray client server failed", "psutil.ZombieProcess")
ANSWER_S = 120.0  # for the first task, whose process Ray starts
WAIT_S = 5.0  # between two looks at which nodes are left
GONE_S = 30.0  # without any node that has the slot
ENDING_S = 25.0  # for tasks that are cancelled: longer than their children are given
TOKEN_FILE = Path(".ray/auth_token")
NO_TOKEN = "without one, whoever reaches the ports of a cluster can run programs on its nodes"


def has_token() -> bool:
    """Whether this process has a token for a cluster, where Ray looks for it."""
    with contextlib.suppress(OSError, RuntimeError):  # no file, no home
        file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / TOKEN_FILE)
        return bool(os.environ.get("RAY_AUTH_TOKEN", "").strip() or file.read_text().strip())
    return False


def require_token(address: str) -> None:
    """Use the token of this process. Raises UsageError if there is none, or it is switched off."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or not has_token():
        raise UsageError(
            f"--on {address}: no token here: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as "
            f"where the cluster was started, or pass --insecure: {NO_TOKEN}"
        )
    os.environ["RAY_AUTH_MODE"] = "token"


@dataclass(frozen=True)
class Returned:
    """What came back of a shard: where it was measured, how long its task took, its Run, and what is to be known."""

    node: str
    seconds: float
    run: Packed
    note: str


@dataclass(frozen=True)
class Lost:
    """Why nothing came back of a shard."""

    reason: str


#: A Returned as it travels: node, seconds, exit code, name, files, end of stderr, note.
Wire = tuple[str, float, int, str, list[tuple[str, bytes]], str, str]


def measured(words: Sequence[str], index: int, count: int, folder: str, digest: str) -> Wire:
    """The task: measure shard ``index`` of ``count`` on this node, in ``folder`` if it is there.

    ``words`` are the other options of `run`, ``digest`` is that of the code that asks. Without the same code here, or
    if no Run is made, there are no files.
    """
    began = time.monotonic()
    here = f"{socket.gethostname()} ({_ray().util.get_node_ip_address()})"
    if (own := code.digest()) != digest:
        run = Packed(2, "", (), f"other code: digest {own}, here {digest}; install the same there")
        return _sent(here, began, run, "")
    asked = os.getpriority(os.PRIO_PROCESS, os.getppid())  # of what started this process: Ray gives its tasks 15
    note = "" if (nice := fresh.as_started(asked)) == asked else _about(nice)
    with scratch_folder() as scratch, tempfile.TemporaryFile() as said:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        exit_code = run_shard(words, index, count, scratch, said)
        said.seek(0)
        return _sent(here, began, packed(exit_code, scratch, said.read()), note)


def _about(nice: int) -> str:
    return (
        f"measured at nice {nice}, which Ray gives its tasks and only root can undo: start Ray there with "
        "RAY_worker_niceness=0"
    )


def _sent(node: str, began: float, run: Packed, note: str) -> Wire:
    return node, time.monotonic() - began, run.code, run.name, list(run.files), run.said, note


def identity() -> tuple[str, str]:
    """A task that tells how a cluster is protected, and its code."""
    return os.environ.get("RAY_AUTH_MODE", ""), code.digest()


def _ray() -> Any:
    """The package. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(
            f"--on needs Ray, of the version of the cluster: pip install 'alexnet-bench[ray]' ({error})"
        ) from error


@dataclass(frozen=True)
class Node:
    """A node of a cluster that takes shards."""

    name: str
    slots: float
    cpus: float
    gpus: float


class Cluster:
    """A cluster that this process is connected to."""

    def __init__(self, ray: Any, address: str):
        self.ray, self.address = ray, address

    def nodes(self) -> list[Node]:
        """Those that are alive and have the slot."""
        found = []
        for each in self.ray.nodes():
            owned: Mapping[str, float] = each["Resources"]
            if each["Alive"] and owned.get(SLOT):
                name = f"{each['NodeManagerHostname']} ({each['NodeManagerAddress']})"
                found.append(Node(name, owned[SLOT], owned.get("CPU", 0.0), owned.get("GPU", 0.0)))
        return found

    def check(self, insecure: bool) -> list[Node]:
        """The nodes. Raises UsageError if there is none, if one would take two shards at a time, or if the cluster
        takes programs from anyone and that is not said to be ``insecure``."""
        nodes = self.nodes()
        give = f"start Ray there with --resources '{{\"{SLOT}\": 1}}'"
        if not nodes:
            raise UsageError(f"--on {self.address}: no node has the resource {SLOT}; {give}")
        for node in nodes:
            if node.slots != 1:
                raise UsageError(f"--on {self.address}: node {node.name} has {node.slots:g} {SLOT}, expected 1; {give}")
        mode, digest = self._asked(identity)
        if mode.lower() != "token" and not insecure:
            raise UsageError(
                f"--on {self.address}: the cluster asks for no token; start all its nodes with RAY_AUTH_MODE=token, or "
                f"pass --insecure: {NO_TOKEN}"
            )
        if digest != code.digest():
            raise UsageError(f"--on {self.address}: it has other code: digest {digest}, here {code.digest()}; install "
                             "the same on all nodes")  # fmt: skip
        return nodes

    def _asked(self, function: Any) -> Any:
        """What a short task returns."""
        task = self.ray.remote(num_cpus=0, max_retries=1, max_calls=1)(function)
        try:
            return self.ray.get(task.remote(), timeout=ANSWER_S)
        except self.ray.exceptions.GetTimeoutError as error:
            raise UsageError(f"--on {self.address}: no task was started within {ANSWER_S:g} s") from error
        except Exception as error:  # whatever another machine raises
            raise UsageError(
                f"--on {self.address}: a task cannot run this program: {_last_line(error)}; expected alexnet-bench to "
                "be installed for the Python of every node"
            ) from error

    def measure(
        self, words: Sequence[str], shards: Sequence[int], count: int, nodes: Sequence[Node], *, on_gpu: bool
    ) -> Generator[tuple[int, Returned | Lost]]:
        """Measure these shards of ``count``, one at a time on each node, each once more if its node is lost.

        Yields them as they end. When it is closed, those that are left are cancelled. Each asks for all CPUs (of the
        smallest node, since one that asks for more fits on none), which keeps away tasks that ask for any.
        """
        needs = {SLOT: 1.0}
        task = self.ray.remote(
            num_cpus=min(node.cpus for node in nodes),
            num_gpus=min(node.gpus for node in nodes) if on_gpu else 0,
            resources=needs,
            max_retries=1,
            max_calls=1,
        )(measured)
        waiting = {task.remote(list(words), each, count, str(Path.cwd()), code.digest()): each for each in shards}
        seen = time.monotonic()
        try:
            while waiting:
                ended, _ = self.ray.wait(list(waiting), timeout=WAIT_S)
                for one in ended:
                    result = self._result(one)
                    yield waiting.pop(one), result
                if ended or self.nodes():
                    seen = time.monotonic()
                elif time.monotonic() - seen > GONE_S:
                    lost = list(waiting.values())
                    self._cancel(waiting)
                    waiting = {}
                    yield from ((each, Lost(f"no node with {SLOT} is left")) for each in lost)
        except ConnectionError as error:
            lost, waiting = list(waiting.values()), {}
            yield from ((each, Lost(f"the connection to {self.address} is lost: {error}")) for each in lost)
        finally:
            self._cancel(waiting)

    def _result(self, task: Any) -> Returned | Lost:
        try:
            node, seconds, exit_code, name, files, said, note = self.ray.get(task)
        except ConnectionError:
            raise
        except Exception as error:  # whatever another machine raises
            return Lost(_last_line(error))
        return Returned(node, seconds, Packed(exit_code, name, tuple(files), said), note)

    def _cancel(self, tasks: Mapping[Any, int]) -> None:
        """Interrupt these tasks, which end their children, and wait for them."""
        if not tasks:
            return
        with contextlib.suppress(Exception):  # the cluster may be gone
            for each in tasks:
                self.ray.cancel(each)
            self.ray.wait(list(tasks), num_returns=len(tasks), timeout=ENDING_S)


@contextlib.contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """A connection to a cluster. Raises UsageError if it cannot be made."""
    ray = _ray()
    host, port = address.removeprefix("ray://").split(":")
    try:
        socket.create_connection((host, int(port)), REACHED_S).close()
    except OSError as error:
        raise UsageError(
            f"--on {address}: nothing answers there: {error.strerror or error}; expected the head of a cluster, on "
            f"which `ray start --head` opens a port for clients, {CLIENT_PORT}"
        ) from error
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _connect(ray, address)
    except Exception as error:  # Ray raises RuntimeError for another version, but also where it stumbles over one
        own = f"Ray {ray.__version__}, Python {platform.python_version()}"
        if isinstance(error, ConnectionError) and "timeout" in str(error):
            raise UsageError(
                f"--on {address}: its server takes no client within 30 s: expected Ray's server for clients, with the "
                f"token of here and of about the same version ({own})"
            ) from error
        why = one_line(str(error)) if "ersion mismatch" in str(error) else _last_line(error)
        raise UsageError(f"--on {address}: cannot connect with {own}, expected to be the cluster's: {why}") from error
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield Cluster(ray, address)
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Connect, again if the head could not start the process that it starts for each client: it forks beside threads
    of gRPC, and now and then what is forked hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each of Ray's own attempts
        for attempt in range(ATTEMPTS):
            try:
                ray.init(address, log_to_driver=False, logging_level="critical")
                return
            except ConnectionError as error:
                if attempt == ATTEMPTS - 1 or not any(each in str(error) for each in STILLBORN):
                    raise


def _last_line(error: Exception) -> str:
    """The last line of an error from another machine, after its traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1].strip() if lines else type(error).__name__)
