"""The fingerprint of a machine: what it holds, and what it must not tell."""

import os
import platform
from pathlib import Path

import pytest

from bench.machine import host


def test_the_fingerprint_names_no_host_and_no_path():
    said = str(host.fingerprint())
    assert platform.node() not in said
    assert str(Path.home()) not in said


def test_fingerprint_has_what_decides_comparability():
    found = host.fingerprint()
    assert all((found.host, found.cpu, found.system, found.usable_cores, found.memory_mib, found.packages))
    assert found.cores == os.cpu_count()


@pytest.mark.parametrize(("numbers", "said"), [([], ""), ([3], "3"), ([0, 1, 2, 3], "0-3"), ([8, 0, 1, 5], "0-1,5,8")])
def test_cores_are_named_as_ranges(numbers, said):
    assert host.ranges(numbers) == said


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_a_process_bound_to_one_core_says_so():
    before = os.sched_getaffinity(0)
    last = max(before)
    os.sched_setaffinity(0, {last})
    try:
        assert host.fingerprint().affinity == str(last)
        assert host.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_quota_cuts_off_cores_but_never_the_last(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for quota, cores in (("max 100000", 64), ("250000 100000", 2), ("50000 100000", 1), (None, 64)):
        monkeypatch.setattr(host, "read_text", lambda path, quota=quota: quota)
        assert host.usable_cores() == cores


@pytest.mark.parametrize(
    ("cpuinfo", "virtual"),
    [
        ("flags\t\t: fpu hypervisor sse", True),
        ("flags\t\t: fpu sse", False),
        ("Features\t: fp asimd", None),
        (None, None),
    ],
)
def test_a_virtual_machine_is_told_by_the_cpus_own_flag(monkeypatch, cpuinfo, virtual):
    monkeypatch.setattr(host, "read_text", lambda path: cpuinfo)
    assert host.virtual() is virtual
