"""`make ci-bench` with the null Net: pytest-benchmark stores our samples, and compares with a stored run."""

import json
import os
import re
import subprocess
import sys

import pytest
from paths import ROOT

from bench.record.run import Run

pytestmark = pytest.mark.process


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
    recipe = re.search(r"^ci-bench:.*\n\t(.*)\\\n\t(.*)\n", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    options = (
        re.sub(r"\$\(if .*?--benchmark-compare\)", "", f"{recipe[1]} {recipe[2]}")
        .replace("$(CI_ENV) ", "")
        .replace("$(PY)", sys.executable)
    )
    first = ci_bench(tmp_path, options)
    assert first.returncode == 0, first.stdout + first.stderr
    (stored,) = tmp_path.glob("*/*.json")
    data = json.loads(stored.read_text())
    assert [benchmark["stats"]["rounds"] for benchmark in data["benchmarks"]] == [20, 20]
    for benchmark in data["benchmarks"]:
        assert len(benchmark["stats"]["data"]) == 20
        assert benchmark["name"] == f"test_case[{benchmark['extra_info']['case_id']}]"
        assert benchmark["extra_info"]["fingerprint"]["cores"] == os.cpu_count()
    ingest = [sys.executable, "-m", "bench", "ingest", str(stored), "--out", str(tmp_path / "results")]
    assert subprocess.run(ingest, cwd=ROOT, capture_output=True).returncode == 0
    (back,) = (tmp_path / "results").iterdir()
    samples = {case.id: [ns * 1e-9 for round_ in Run(back).samples(case) for ns in round_] for case in Run(back).cases}
    assert samples == {
        benchmark["extra_info"]["case_id"]: benchmark["stats"]["data"] for benchmark in data["benchmarks"]
    }
    second = ci_bench(tmp_path, f"{options} --benchmark-compare")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "(0001_" in second.stdout
    assert "(NOW)" in second.stdout
