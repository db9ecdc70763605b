"""Node: a machine on which Workers run, and the program that a launch prefix such as ``ssh n1`` starts there.

It reads one line from stdin: to describe the machine, or to become a Worker, whose requests follow on stdin. So no
variable of the environment and no quoting has to survive the prefix, and nothing listens.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bench
import impls
from bench.machine import code, host
from bench.worker import bootstrap

SIOCGIFADDR = 0x8915  # of Linux
LONGEST_LINE = 1 << 20
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Described:
    """A machine as its node program reports it.

    ``address`` is what the asked name resolves to there, and ``interface`` the network interface that has it, empty if
    none; ``own_name`` is what its own host name resolves to, and ``sees`` whether the asked file is there. ``boot`` is
    the same for nodes on one machine.
    """

    cores: list[int]
    code: str
    boot: str
    address: str
    interface: str
    own_name: str
    sees: bool


@dataclass(frozen=True)
class Node:
    """A described machine with the words that start a program on it."""

    name: str
    prefix: tuple[str, ...]
    machine: Described


def describe(asked: str, file: str) -> Described:
    """Describe this machine; ``asked`` is the name or address that others reach it by."""
    address = resolved(asked)
    return Described(
        cores=host.core_numbers(),
        code=code.digest() or "",
        boot=host.read_text(BOOT_ID) or socket.gethostname(),
        address=address,
        interface=interface_of(address),
        own_name=resolved(socket.gethostname()),
        sees=Path(file).is_file(),
    )


def resolved(name: str) -> str:
    """The IPv4 address of a name; empty if it has none."""
    try:
        return socket.gethostbyname(name)
    except OSError:
        return ""


def interface_of(address: str) -> str:
    """The network interface with this IPv4 address; empty if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                given = fcntl.ioctl(asked.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(given[20:24]) == address:
                    return name
    return ""


def devices_given(env: Mapping[str, str]) -> dict[str, str]:
    """The variables by which this node has been given some devices, of kinds that a Worker's ``env`` does not hide."""
    kinds = [accelerator for accelerator in impls.ACCELERATORS.values() if env.get(accelerator.hidden_by) != ""]
    return {name: os.environ[name] for kind in kinds for name in kind.visible_by if name in os.environ}


def become(order: dict[str, Any]) -> None:
    """Replace this process by a Worker with the environment of the order; the pipes stay."""
    with contextlib.suppress(OSError):
        os.setsid()  # a group of its own, which it can end
    packages = impls.__file__, bench.__file__
    command = bootstrap.command(sys.executable, packages, order["framework"], order["cores"])
    env = order["env"] | {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    os.execve(command[0], command, env | devices_given(env))


def read_line() -> bytes:
    """A line from stdin, and nothing after it."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LONGEST_LINE and (byte := os.read(0, 1)):
        line += byte
    return bytes(line)


def main() -> None:
    order = json.loads(read_line() or b"{}")
    if "describe" in order:
        print(json.dumps({"node": asdict(describe(order["describe"], order["file"]))}), flush=True)
    elif "framework" in order:
        become(order)


if __name__ == "__main__":
    main()
