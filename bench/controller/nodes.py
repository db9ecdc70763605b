"""Nodes of a Run: machines that a launch prefix reaches, described before anything is timed."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import UsageError
from bench.machine import code, node
from bench.machine.node import Described, Node
from bench.worker import wire
from bench.worker.wire import Malformed
from impls.text import one_line, quoted

PYTHON = sys.executable  # on every node at the same path
ANSWER_S = 60.0  # for a prefix to start a program and that to describe its machine
SHOWN = 200  # characters of what a prefix printed
PLACE = "{node}"


def reached(given: Sequence[tuple[str, str]], launch: str, python: str, file: Path) -> list[Node]:
    """Describe the nodes ``given``, each by its name and the address that others reach it by, one after another.

    ``launch`` is the prefix, with {node} for the name; ``file`` is one that every node must see. Raises UsageError.
    """
    if PLACE not in launch and len(given) > 1:
        raise UsageError(f"--launch: expected {PLACE} in it, such as 'ssh {PLACE}', found {quoted(launch)}")
    try:
        words = shlex.split(launch)
    except ValueError as error:
        raise UsageError(f"--launch: {error}: {quoted(launch)}") from error
    nodes = []
    for name, address in given:
        prefix = tuple(word.replace(PLACE, name) for word in words)
        nodes.append(Node(name, prefix, described(name, prefix, address, python, file)))
    return nodes


def described(name: str, prefix: Sequence[str], address: str, python: str, file: Path) -> Described:
    """What a node reports of itself. Raises UsageError if it does not, or cannot take part."""
    order = json.dumps({"describe": address, "file": str(file)}) + "\n"
    shown = shlex.join(prefix)
    try:
        asked = subprocess.Popen(
            [*prefix, python, "-m", node.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # no terminal to ask for a password on
        )
    except OSError as error:
        raise UsageError(f"--launch: cannot run {quoted(shown)}: {error.strerror}") from error
    try:
        out, err = asked.communicate(order, timeout=ANSWER_S)
    except subprocess.TimeoutExpired as error:
        os.killpg(asked.pid, signal.SIGKILL)  # what the prefix started too
        out, err = asked.communicate()
        raise UsageError(
            f"node {name}: {quoted(shown)} started nothing within {ANSWER_S:g} s{_printed(err or out)}; it must run a "
            "program without asking for anything"
        ) from error
    line = next((line for line in out.splitlines() if line.startswith('{"node"')), None)
    if line is None:
        raise UsageError(
            f"node {name}: {quoted(shown)} ended with exit code {asked.returncode} and did not describe the machine"
            f"{_printed(err or out)}; expected {python} with alexnet-bench there"
        )
    try:
        found = wire.read(Described, wire.parse(line, f"node {name}")["node"], f"node {name}")
    except Malformed as error:
        raise UsageError(f"node {name} has other code ({error}); install the same there") from error
    if (ours := code.digest()) and found.code != ours:
        raise UsageError(f"node {name} has other code: digest {found.code}, here {ours}; install the same there")
    if not found.sees:
        raise UsageError(
            f"node {name} does not see {file.parent}: set TMPDIR to a folder that all nodes share, at the same path"
        )
    if not found.address or not found.interface:
        what = f"is {found.address} there, which no network interface of it has" if found.address else "has no address"
        raise UsageError(f"node {name}: {quoted(address)} {what}; give its address: --nodes {name}=ADDRESS")
    return found


def refuse_loopback_names(nodes: Sequence[Node], frameworks: Sequence[str]) -> None:
    """UsageError if JAX would tell other nodes that a node is reached at its own loopback address."""
    if "jax" in frameworks and len(nodes) > 1:
        for each in nodes:
            own = each.machine.own_name or "no address"
            if each.machine.own_name != each.machine.address:
                raise UsageError(
                    f"node {each.name}: its own host name is {own} there (Debian's /etc/hosts has 127.0.1.1), which "
                    f"XLA's gloo tells the other nodes: expected {each.machine.address}; mend that, or leave jax out"
                )


def _printed(text: str) -> str:
    last = one_line(text.strip().rpartition("\n")[2])[:SHOWN]
    return f" (it printed: {last})" if last else ""
