"""Nodes of a Ray cluster on one machine: each in a network namespace, with a host name and a TMPDIR of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import namespaces
import psutil
from paths import ROOT

STARTED_S = 120
#: What a null Net measures in some seconds.
GRID = ("--framework", "null", "--env", "OPENBLAS_NUM_THREADS=1", "--variant", "half_width", "--size", "67")
GRID += (
    "--pass",
    "forward",
    "--mode",
    "noop,part",
    "--rounds",
    "2",
    "--iterations",
    "4",
    "--burn-in",
    "1",
    "--no-gate",
)


def missing() -> str:
    """Why there can be no such nodes; empty if there can."""
    return namespaces.missing() or ("" if shutil.which("unshare") else "unshare not found: install util-linux")


@dataclass
class Cluster:
    """Namespaces, the last of which has no node, and whoever asks is there."""

    net: namespaces.Nodes
    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def names(self) -> list[str]:
        return list(self.net.addresses)[:-1]

    @property
    def address(self) -> str:
        return f"ray://{self.net.addresses[self.names[0]]}"

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        token = (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token} if self.token else {"RAY_AUTH_MODE": "disabled"}
        )
        return kept | token | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"} | variables

    def inside(self, name: str, *words: str) -> list[str]:
        """The command line that runs these words on a node, under its name as host name."""
        return [
            "ip",
            "netns",
            "exec",
            name,
            "unshare",
            "--uts",
            "sh",
            "-c",
            f'hostname {name}; exec "$@"',
            "sh",
            *words,
        ]

    def start(self, name: str, slots: int = 1, **variables: str) -> None:
        """Start Ray on a node; the first is the head."""
        (own := self.folder / name).mkdir(exist_ok=True)
        head = self.net.addresses[self.names[0]]
        role = ["--address", f"{head}:6379"]
        if name == self.names[0]:
            role = ["--head", "--include-dashboard=false", "--disable-usage-stats"]
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, "--node-ip-address"]
        words += [self.net.addresses[name], "--num-cpus=2", "--object-store-memory=80000000", f"--temp-dir={own}/r"]
        words += ["--resources", f'{{"bench_slot": {slots}}}'] if slots else []
        env = self.environment(**{"TMPDIR": str(own)} | variables)
        log = own / "start.log"
        with log.open("wb") as out:  # not a pipe, which what it leaves behind would hold
            done = subprocess.run(
                self.inside(name, *words), env=env, cwd=own, stdout=out, stderr=out, timeout=STARTED_S
            )
        assert done.returncode == 0, log.read_text()

    def command(self, *words: str, program: Sequence[str] = ("-m", "bench")) -> list[str]:
        """The command line of `sweep` of a small grid on this cluster."""
        (asking,) = list(self.net.addresses)[-1:]
        line = [sys.executable, *program, "sweep", *GRID, "--on", self.address, *words]
        return self.inside(asking, *line)

    def sweep(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        (scratch := self.folder / "asking").mkdir(exist_ok=True)
        return subprocess.Popen(
            self.command(*words),
            env=self.environment(**{"TMPDIR": str(scratch)} | variables),
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, name: str) -> list[int]:
        """Of all processes on a node."""
        shown = subprocess.run(["ip", "netns", "pids", name], check=True, capture_output=True, text=True)
        return [int(word) for word in shown.stdout.split()]

    def shards(self, name: str) -> dict[str, psutil.Process]:
        """The shards that are measured on a node now, and the processes of their `run`."""
        found = {}
        for pid in self.pids(name):
            with contextlib.suppress(psutil.Error):
                words = (process := psutil.Process(pid)).cmdline()
                if words[2:5] == ["-m", "bench", "run"]:
                    found[next(word.partition("=")[2] for word in words if word.startswith("--shard="))] = process
        return found

    def kill(self, name: str) -> None:
        """Kill everything on a node at once."""
        for pid in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill all; nothing is left on any node."""
        for name in self.names:
            until = time.monotonic() + 20
            while self.pids(name) and time.monotonic() < until:
                self.kill(name)
                time.sleep(0.2)
            assert not self.pids(name)


@contextlib.contextmanager
def cluster(count: int, slots: Mapping[int, int] | None = None, **settings: str) -> Iterator[Cluster]:
    """A cluster of so many nodes, with other numbers of ``slots`` than 1 by the number of the node."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True)))
        made = Cluster(stack.enter_context(namespaces.nodes(count + 1)), folder, **settings)
        stack.callback(made.stop)
        for number, name in enumerate(made.names):
            made.start(name, (slots or {}).get(number, 1))
        yield made
