"""A report of many Cases takes time and memory in proportion to them."""

import dataclasses
import os
import subprocess
import sys

import pytest
from runs import A, make

from bench.cases.case import Case

MODES = (
    ("torch", "eager", "nchw"),
    ("torch", "compile", "nchw"),
    ("tensorflow", "graph", "nhwc"),
    ("jax", "jit", "nhwc"),
)


def cases(count):
    every = (
        dataclasses.replace(A, variant=variant, batch=batch, framework=framework, mode=mode, layout=layout, pass_=pass_)
        for variant in ("owt", "bvlc", "half_width", "caffenet")
        for batch in (1, 2, 4, 8, 16, 32, 64, 128)
        for framework, mode, layout in MODES
        for pass_ in ("forward", "forward_backward")
    )
    return [case for case, _ in zip(every, range(count), strict=False)]


def test_rows_of_four_times_as_many_cases_are_no_sixteen_times_the_work(tmp_path, monkeypatch):
    asked, counts = Case.id.fget, []

    def counted(case):
        counts[-1] += 1
        return asked(case)

    for count in (16, 64):
        run = make(tmp_path / str(count), cases(count), rounds=2)
        counts.append(0)
        with monkeypatch.context() as patch:
            patch.setattr(Case, "id", property(counted))
            run.rows()
    assert counts[1] < 8 * counts[0]


@pytest.mark.slow
def test_a_report_of_128_cases_takes_less_than_30_seconds_of_cpu_and_a_gigabyte(tmp_path):
    make(tmp_path / "run", cases(128), rounds=10, cycles=15, base_ns=2_000_000)
    report = ["-m", "bench", "report", str(tmp_path / "run"), "--output", str(tmp_path / "a.html")]
    process = subprocess.Popen([sys.executable, *report])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime < 30
    assert usage.ru_maxrss < 10**6  # KiB
    assert "keep fewer rows" in (tmp_path / "a.html").read_text()
