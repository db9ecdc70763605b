"""The fingerprint of a machine: what it holds, and what it must not tell."""

import os
import platform
from pathlib import Path

import pytest

from bench.machine import host, noise


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
    for quota, cores in ((2.5, 2), (0.5, 1), (None, 64)):
        monkeypatch.setattr(host, "cpu_quota", lambda quota=quota: quota)
        assert host.usable_cores() == cores


class TestQuota:
    @pytest.fixture
    def system(self, tmp_path, monkeypatch):
        """Make these the files of the system: its cgroups, and what a process reads of its own."""

        def system(own: str | None, files: dict[str, str]) -> None:
            monkeypatch.setattr(host, "CGROUPS", tmp_path)
            for name, text in files.items():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
            read = host.read_text
            monkeypatch.setattr(host, "read_text", lambda path: own if path == "/proc/self/cgroup" else read(path))

        return system

    @pytest.mark.parametrize(
        ("own", "files", "quota"),
        [
            ("0::/", {"cpu.max": "150000 100000"}, 1.5),
            ("0::/ci.slice/job.scope", {"ci.slice/job.scope/cpu.max": "100000 100000"}, 1),
            ("0::/ci/job", {"ci/job/cpu.max": "max 100000", "ci/cpu.max": "200000 100000"}, 2),
            ("0::/ci/job", {"ci/job/cpu.max": "300000 100000", "ci/cpu.max": "200000 100000"}, 2),
            ("0::/a:b c", {"a:b c/cpu.max": "50000 100000"}, 0.5),
            ("0::/ci", {"ci/cpu.max": "max 100000", "other/cpu.max": "1 100000"}, None),
            ("0::/docker/host/path", {"cpu.max": "200000 100000"}, 2),
            ("0::/../..", {"cpu.max": "200000 100000"}, 2),
            ("4:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "1000", "cpu/job/cpu.cfs_period_us": "500"}, 2),
            ("4:cpu:/job", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "500"}, None),
            ("4:cpuset:/job", {"cpuset/job/cpu.cfs_quota_us": "1", "cpuset/job/cpu.cfs_period_us": "1"}, None),
            ("1:name=systemd:/\n0::/job", {"unified/job/cpu.max": "100000 100000"}, 1),
            ("0::/job", {"job/cpu.max": "0 0"}, None),
            ("0::/job", {"job/cpu.max": "max"}, None),
            ("0::/job", {"job/cpu.max": ""}, None),
            ("nonsense", {"cpu.max": "100000 100000"}, 1),
            (None, {"cpu.max": "100000 100000"}, 1),
            (None, {}, None),
        ],
    )
    def test_the_least_quota_of_the_own_cgroup_and_those_above_holds(self, system, own, files, quota):
        system(own, files)
        assert host.cpu_quota() == quota

    def test_a_stop_by_the_quota_of_any_of_them_is_counted(self, system, monkeypatch):
        stat = "nr_periods 9\nnr_throttled {}\n{} {}"
        ours, above = stat.format(3, "throttled_usec", 200_000), stat.format(4, "throttled_time", 300_000_000)
        system("0::/ci/job", {"ci/job/cpu.stat": ours, "ci/cpu.stat": above, "cpu.stat": "usage 1"})
        found = noise.snapshot("cpu")
        assert (found.throttled, found.throttled_s) == (7, pytest.approx(0.5))
        system("0::/other", {"other/cpu.stat": stat.format(0, "throttled_time", 0)})
        assert noise.snapshot("cpu").throttled_s == 0.0
        system("0::/elsewhere", {})
        assert noise.snapshot("cpu").throttled is None


@pytest.mark.parametrize("text", [None, b"", b"\xff\xfe", b"0", b"a b c\nd"])
def test_a_system_file_that_is_absent_empty_or_strange_makes_a_fact_unknown_and_no_error(text, tmp_path, monkeypatch):
    file = tmp_path / "file"
    if text is not None:
        file.write_bytes(text)
    read = host.read_text
    for module in (host, noise):
        monkeypatch.setattr(module, "read_text", lambda path: read(file))
    monkeypatch.setattr("psutil.PROCFS_PATH", str(file))
    monkeypatch.setattr("psutil._pslinux.open_binary", lambda name: file.open("rb"))

    def getloadavg() -> None:
        raise OSError("load average is not available")

    monkeypatch.setattr(os, "getloadavg", getloadavg)
    found = host.fingerprint()
    assert (found.memory_mib, found.load_1min, found.virtual) == (None, None, None)
    moved = noise.between(noise.snapshot("cpu"), noise.snapshot("cpu"), 0.0)
    assert (moved.foreign_s, moved.steal_s, moved.psi_s, moved.throttled) == (None, None, None, None)
    assert noise.control().load1 is None


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
