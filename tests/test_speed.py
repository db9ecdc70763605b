"""`make ci-bench` with the null Net: pytest-benchmark stores exactly our samples, and compares with what it stored."""

import json
import os
import re
import subprocess

import pytest
from conftest import ROOT


def ci_bench(storage, make_line):
    env = os.environ | {
        "ALEXNET_BENCH_FRAMEWORK": "null",
        "ALEXNET_BENCH_VARIANT": "half_width",
        "ALEXNET_BENCH_SIZE": "67",
        "ALEXNET_BENCH_ROUNDS": "2",
    }
    return subprocess.run(f"{make_line} --benchmark-storage={storage}", shell=True, cwd=ROOT, env=env, text=True,
                          capture_output=True)  # fmt: skip


@pytest.mark.slow
def test_a_second_run_is_compared_with_the_stored_first(tmp_path):
    import sys

    recipe = re.search(r"^ci-bench:.*\n\t(.*)\\\n\t(.*)\n", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    options = re.sub(r"\$\(if .*?--benchmark-compare\)", "", f"{recipe[1]} {recipe[2]}").replace(
        "$(PY)", sys.executable
    )
    first = ci_bench(tmp_path, options)
    assert first.returncode == 0, first.stdout + first.stderr
    (stored,) = tmp_path.glob("*/*.json")
    data = json.loads(stored.read_text())
    assert [one["stats"]["rounds"] for one in data["benchmarks"]] == [20, 20]
    for one in data["benchmarks"]:
        assert len(one["stats"]["data"]) == 20
        assert one["name"] == f"test_case[{one['extra_info']['case_id']}]"
        assert one["extra_info"]["fingerprint"]["cores"] == os.cpu_count()
    second = ci_bench(tmp_path, f"{options} --benchmark-compare")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "(0001_" in second.stdout
    assert "(NOW)" in second.stdout
