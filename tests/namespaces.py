"""Nodes on one machine: network namespaces on a bridge, whose links have a rate."""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAUNCH = "ip netns exec {node}"
#: Bytes of a TCP segment's data over those of its frame on Ethernet, with preamble and gap.
TCP_SHARE = 1448 / 1538
_numbers = itertools.count()


def missing() -> str:
    """Why no namespace can be made; empty if one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    if lacking := [tool for tool in ("ip", "tc") if shutil.which(tool) is None]:
        return f"{' and '.join(lacking)} not found: install iproute2"
    name = f"ab-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"ip netns add: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


@dataclass(frozen=True)
class Nodes:
    """Namespaces by name, each with an address."""

    addresses: dict[str, str]
    switch: str

    @property
    def given(self) -> list[tuple[str, str]]:
        return list(self.addresses.items())

    @property
    def option(self) -> str:
        """As --nodes takes them."""
        return ",".join(f"{name}={address}" for name, address in self.addresses.items())

    def limit(self, mbit: int) -> None:
        """Limit what each node sends, in Mbit/s on the wire."""
        burst = "2mb" if mbit >= 1000 else "256kb"
        for name in self.addresses:
            ip("netns", "exec", name, "tc", "qdisc", "replace", "dev", "e0", "root", "tbf", "rate", f"{mbit}mbit",
               "burst", burst, "latency", "200ms")  # fmt: skip

    def sent(self, name: str) -> int:
        """Bytes that a node has sent over its link."""
        words = ["ip", "-n", name, "-s", "-j", "link", "show", "e0"]
        shown = subprocess.run(words, check=True, capture_output=True, text=True)
        return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"])

    def listening(self, name: str) -> set[str]:
        """The ports on which something listens there."""
        shown = subprocess.run(["ip", "netns", "exec", name, "ss", "-Htln"], check=True, capture_output=True, text=True)
        return {line.split()[3].rpartition(":")[2] for line in shown.stdout.splitlines()}

    def cut(self, name: str) -> None:
        """Cut the link of a node, without telling it."""
        ip("-n", self.switch, "link", "set", f"s{list(self.addresses).index(name)}", "nomaster")

    def join(self, name: str) -> None:
        """Join a link that was cut."""
        ip("-n", self.switch, "link", "set", f"s{list(self.addresses).index(name)}", "master", "br0")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """So many namespaces on one bridge in another; all are gone afterwards."""
    mark, subnet = secrets.token_hex(2), next(_numbers) + 100
    switch = f"ab{mark}s"
    names = [f"ab{mark}n{number}" for number in range(count)]
    with contextlib.ExitStack() as stack:
        for name in (switch, *names):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        addresses = {}
        for number, name in enumerate(names):
            ip("-n", switch, "link", "add", f"s{number}", "type", "veth", "peer", "name", "e0", "netns", name)
            ip("-n", switch, "link", "set", f"s{number}", "master", "br0", "up")
            addresses[name] = f"10.{subnet}.0.{number + 1}"
            own = Path("/etc/netns") / name  # XLA's gloo tells others what a node's own host name is there
            own.mkdir(parents=True)
            stack.callback(shutil.rmtree, own)
            (own / "hosts").write_text(f"127.0.0.1 localhost\n{addresses[name]} {socket.gethostname()}\n")
            ip("-n", name, "addr", "add", f"{addresses[name]}/24", "dev", "e0")
            ip("-n", name, "link", "set", "e0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield Nodes(addresses, switch)
