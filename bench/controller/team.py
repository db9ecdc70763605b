"""Team: the processes of several ranks, asked together and answering as one Worker."""

import contextlib
import random
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bench import UsageError
from bench.controller.launch import Launch
from bench.controller.mistakes import mistake_of
from bench.controller.team_reply import joined
from bench.controller.worker_process import LOOK_S, WorkerDied, WorkerProcess
from bench.machine import signals
from bench.worker.messages import Request
from bench.worker.replies import FaultKind, Ready

R = TypeVar("R")

LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 32_000)
#: Seconds after the first failure of a rank in which another's may be its cause: a rank that is killed breaks the
#: connections of the others, which may say so before its end is seen.
GRACE_S = 1.0
#: Kinds of faults that others follow from, most telling first; of the same kind the first is the cause.
CAUSES = (
    FaultKind.DIED,
    FaultKind.LOST,
    FaultKind.MEMORY,
    FaultKind.DEVICE,
    FaultKind.MISSING,
    FaultKind.NET,
    FaultKind.HUNG,
)
ABORTED = "killed by SIGABRT"  # what JAX's agent does to a process when another rank is lost


class Team:
    """The processes of the ranks, by number, with the interface of a WorkerProcess.

    If one of them ends, fails or does not reply in time, all are killed.
    """

    def __init__(self, launches: Sequence[Launch], name: str):
        self.name, self.launch, self.limit_s = name, launches[0], launches[0].limit_s
        self.ranks: list[WorkerProcess] = []
        with self._killed_on_error():
            self.ranks.extend(map(WorkerProcess, launches))

    def ask(self, request: Request[R]) -> R:
        """Send one request to every rank and return their joined reply; as ``WorkerProcess.ask``."""
        signals.check()
        self.send(request)
        return self.receive(request)

    def send(self, request: Request[Any]) -> None:
        for rank in self.ranks:
            rank.send(request)

    def receive(self, request: Request[R]) -> R:
        """Return the joined reply to the last request. Raises WorkerDied for the rank whose fault is the cause."""
        with self._killed_on_error():
            return joined(self._replies(request))

    def wait_until_configured(self) -> Ready:
        """Wait until all ranks have met; return what they report alike.

        Raises UsageError as a WorkerProcess does, and if two ranks have other versions.
        """
        with self._killed_on_error():
            readies = self._replies(self.ranks[0].configure, mistakes=True)
            for number, ready in enumerate(readies):
                if ready.versions != readies[0].versions or ready.python != readies[0].python:
                    found, first = (f"Python {each.python}, {each.versions}" for each in (ready, readies[0]))
                    raise UsageError(f"rank {number} has {found}; rank 0 has {first}: expected the same on all nodes")
            return readies[0]

    def end(self) -> None:
        """Have all ranks exit together: a rank that left alone would fail the others."""
        for rank in self.ranks:
            rank.close()
        for rank in self.ranks:
            rank.end()

    def kill(self) -> None:
        """Kill all ranks; wait until they have ended."""
        for rank in self.ranks:
            rank.kill()

    @contextlib.contextmanager
    def _killed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.kill()
            raise

    def _replies(self, request: Request[R], *, mistakes: bool = False) -> list[R]:
        """The replies of all ranks. Raises WorkerDied, or if ``mistakes`` a UsageError for what a user can correct."""
        deadline = time.monotonic() + self.limit_s
        replies: dict[int, R] = {}
        deaths: dict[int, WorkerDied] = {}
        while (left := deadline - time.monotonic()) > 0:
            waiting = {number: rank for number, rank in enumerate(self.ranks) if number not in replies | deaths}
            if not waiting:
                break
            select.select([rank.replies for rank in waiting.values()], [], [], min(left, LOOK_S))
            for number, rank in waiting.items():
                try:
                    if (line := rank.next_line(request)) is not None:
                        replies[number] = rank.read(request, line)
                except WorkerDied as died:
                    if not deaths:
                        deadline = min(deadline, time.monotonic() + GRACE_S)
                    deaths[number] = died
        if len(replies) == len(self.ranks):
            return [replies[number] for number in sorted(replies)]
        silent = [number for number in range(len(self.ranks)) if number not in replies | deaths]
        stopped = [number for number in silent if self.ranks[number].stopped()]  # the others wait for these
        deaths |= {number: self.ranks[number].hung(request) for number in stopped or ([] if deaths else silent)}
        number = min(deaths, key=lambda each: rank_of_cause(deaths[each]))
        if mistakes and (mistake := mistake_of(self.ranks[number].launch, deaths[number])):
            raise UsageError(mistake)
        raise self._fault(silent if number in silent and not stopped else [number], deaths)

    def _fault(self, numbers: Sequence[int], deaths: Mapping[int, WorkerDied]) -> WorkerDied:
        """The error of the Team for the fault of a rank, whose stderr comes first, or of several that none can tell
        apart."""
        cause = deaths[numbers[0]]
        others = [
            f"{self._named(other)}: {died.last_words or died.reason}"
            for other, died in deaths.items()
            if other != numbers[0]
        ]
        where = " and ".join(map(self._named, numbers))
        return WorkerDied(self.name, cause.kind, f"{where}: {cause.reason}", "\n".join([cause.tail, *others]))

    def _named(self, number: int) -> str:
        node = self.ranks[number].launch.node
        return f"rank {number} on {node.name}" if node else f"rank {number}"


def rank_of_cause(died: WorkerDied) -> int:
    """Order of faults by how much others follow from them; the smallest is taken for the cause."""
    if died.reason.startswith(ABORTED) or died.kind not in CAUSES:
        return len(CAUSES)
    return CAUSES.index(died.kind)


def addresses_of(hosts: Sequence[str]) -> tuple[str, ...]:
    """An address on each of these hosts, with ports that differ: random ones below those that systems give out.

    Here none is taken on which something listens. If it does elsewhere, the rank says so, and the Round is repeated
    with others.
    """
    ports = [port for port in random.sample(PORTS, 8 * len(hosts)) if set(hosts) != {LOOPBACK} or is_free(port)]
    return tuple(f"{host}:{port}" for host, port in zip(hosts, ports, strict=False))


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of this machine."""
    with socket.socket() as tried:
        try:
            tried.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
