"""Nodes: what a launch prefix may do wrong, and Workers behind one."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest
from null_runs import NULL_CASE, run_cases

from bench import UsageError
from bench.cases.teams import teams_of
from bench.controller import nodes
from bench.controller.devices import Device, devices_on
from bench.controller.settings import WorkerSettings
from bench.machine import code
from bench.machine.node import Described, Node

pytestmark = pytest.mark.process

HERE = ("n1", "127.0.0.1")


def reached(launch: str, file: Path, **changes) -> list[Node]:
    given = changes.get("given", [HERE])
    return nodes.reached(given, launch, sys.executable, file)


def prefix(folder: Path, text: str) -> str:
    """A launch prefix that runs these lines of a shell."""
    (script := folder / "launch").write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return f"{script} {{node}}"


RUN = 'shift\nexec "$@"'


class TestReached:
    def test_a_node_is_described_behind_its_prefix(self, tmp_path):
        (file := tmp_path / "seen").touch()
        (found,) = reached(prefix(tmp_path, RUN), file)
        assert found.prefix == (str(tmp_path / "launch"), "n1")
        assert (found.machine.code, found.machine.address, found.machine.sees) == (code.digest(), "127.0.0.1", True)
        assert found.machine.cores
        assert found.machine.interface

    def test_what_a_prefix_prints_before_is_passed_over(self, tmp_path):
        (file := tmp_path / "seen").touch()
        assert reached(prefix(tmp_path, f"echo Welcome to n1\n{RUN}"), file)[0].name == "n1"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("echo Permission denied >&2; exit 255", "ended with exit code 255 and did not describe the machine"),
            ("echo Permission denied >&2; exit 255", "it printed: Permission denied"),
            ("exit 0", "ended with exit code 0 and did not describe the machine; expected"),
            ("shift; shift; exec /nowhere/python $@", "it printed: .*/nowhere/python: "),
        ],
    )
    def test_a_prefix_that_starts_nothing_is_one_line(self, tmp_path, text, message):
        with pytest.raises(UsageError, match=message):
            reached(prefix(tmp_path, text), tmp_path / "seen")

    def test_a_prefix_that_asks_or_hangs_is_ended(self, tmp_path, monkeypatch):
        monkeypatch.setattr(nodes, "ANSWER_S", 0.5)
        launch = prefix(tmp_path, "printf 'Password: ' >&2\nexec sleep 60")
        with pytest.raises(UsageError, match=r"started nothing within 0.5 s \(it printed: Password:\); it must run"):
            reached(launch, tmp_path / "seen")

    def test_a_prefix_that_is_not_there(self, tmp_path):
        with pytest.raises(UsageError, match="--launch: cannot run '/nowhere/ssh n1': No such file or directory"):
            reached("/nowhere/ssh {node}", tmp_path / "seen")

    def test_several_nodes_need_their_name_in_the_prefix(self, tmp_path):
        with pytest.raises(UsageError, match=r"--launch: expected \{node\} in it"):
            reached("ssh", tmp_path / "seen", given=[HERE, ("n2", "n2")])

    def test_a_node_that_does_not_see_the_folder(self, tmp_path):
        with pytest.raises(UsageError, match=f"node n1 does not see {tmp_path}: set TMPDIR"):
            reached(prefix(tmp_path, RUN), tmp_path / "missing")

    def test_a_node_of_other_code(self, tmp_path, monkeypatch):
        (file := tmp_path / "seen").touch()
        monkeypatch.setattr(code, "digest", lambda: "abc")
        with pytest.raises(UsageError, match=r"node n1 has other code: digest \w+, here abc"):
            reached(prefix(tmp_path, RUN), file)

    @pytest.mark.parametrize(
        ("address", "message"),
        [("192.0.2.1", "is 192.0.2.1 there, which no network interface"), ("no.such.name", "has no address")],
    )
    def test_an_address_that_the_node_does_not_have(self, tmp_path, address, message):
        (file := tmp_path / "seen").touch()
        with pytest.raises(UsageError, match=message):
            reached(prefix(tmp_path, RUN), file, given=[("n1", address)])


MACHINE = Described([0, 1, 2, 3], "", "a", "10.0.0.1", "eth0", "10.0.0.1", True)


class TestDevices:
    def test_nodes_of_their_own_have_all_their_cores(self):
        two = [Node("n1", (), MACHINE), Node("n2", (), dataclasses.replace(MACHINE, boot="b"))]
        found = devices_on(two, 4, on_gpu=False)
        assert [(each.node.name, each.cores) for each in found] == [
            *(("n1", (0, 1)), ("n1", (2, 3))),
            *(("n2", (0, 1)), ("n2", (2, 3))),
        ]
        assert len({(each.recorded().machine, core) for each in found for core in each.cores}) == 8

    def test_nodes_on_one_machine_share_its_cores(self):
        two = [Node(name, (), MACHINE) for name in ("n1", "n2")]
        assert [each.cores for each in devices_on(two, 2, on_gpu=False)] == [(0, 1), (2, 3)]

    def test_gpus_are_counted_on_each_machine(self):
        two = [Node("n1", (), MACHINE), Node("n2", (), dataclasses.replace(MACHINE, boot="b"))]
        assert [each.index for each in devices_on(two, 4, on_gpu=True)] == [0, 1, 0, 1]

    def test_more_devices_than_cores_are_refused_or_share_them(self):
        with pytest.raises(
            UsageError, match="--devices: expected at most 4 on the machine of node n1, a core for each"
        ):
            devices_on([Node("n1", (), MACHINE)], 5, on_gpu=False)
        found = devices_on([Node("n1", (), MACHINE)], 5, on_gpu=False, oversubscribe=True)
        assert [each.cores for each in found] == [(0,), (1,), (2,), (3,), (0,)]

    def test_jax_needs_nodes_whose_names_are_their_addresses(self):
        bad = dataclasses.replace(MACHINE, own_name="127.0.1.1")
        two = [Node("n1", (), MACHINE), Node("n2", (), bad)]
        with pytest.raises(UsageError, match=r"node n2: its own host name is 127.0.1.1 there \(Debian's /etc/hosts"):
            nodes.refuse_loopback_names(two, ["torch", "jax"])
        nodes.refuse_loopback_names(two, ["torch"])
        nodes.refuse_loopback_names(two[:1], ["jax"])


def test_a_worker_behind_a_prefix_has_nothing_of_the_users_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("POISON", "of the user's shell")
    (file := tmp_path / "seen").touch()
    (found,) = reached(prefix(tmp_path, RUN), file)
    worker = WorkerSettings(1, 60.0, devices=[Device((0,), 0, found)]).start("w", NULL_CASE, tmp_path)
    number = worker.process.process.pid
    words = Path(f"/proc/{number}/environ").read_text().split("\0")
    assert "OMP_NUM_THREADS=1" in words
    assert not [word for word in words if word.startswith("POISON")]
    assert os.sched_getaffinity(number) == {0}
    worker.process.end()


def test_a_run_of_workers_behind_a_prefix_with_a_banner(tmp_path):
    (file := tmp_path / "seen").touch()
    text = f"echo Welcome to $1\n{RUN}"
    found = reached(prefix(tmp_path, text), file, given=[("n1", "127.0.0.1"), ("n2", "127.0.0.1")])
    devices = [Device((0,), 0, found[0]), Device((0,), 1, found[1])]
    cases = list(teams_of([dataclasses.replace(NULL_CASE, pass_="forward_backward")], [1, 2], False))
    run = run_cases(tmp_path, cases, devices=devices, rounds=1)
    assert [run.invalid_reason(case) for case in run.cases] == [""] * 4
    assert [device.node for device in run.head.devices] == ["n1", "n2"]
