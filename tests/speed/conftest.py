"""One Run for the session, which tests replay. Options come from the environment, ALEXNET_BENCH_BATCH=32."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.output.formats import enclosed
from bench.record.run import Run

MADE = pytest.StashKey[Run]()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Run:
    """All Cases, turn by turn; exit 1 (a Case failed) still gives a Run, whose bad Cases then fail one by one."""
    folder: Path = tmp_path_factory.mktemp("results")
    code = subprocess.run(
        [sys.executable, "-m", "bench", "run", "--out", str(folder)], stdout=subprocess.DEVNULL
    ).returncode
    if code not in (0, 1):
        pytest.fail(f"alexnet-bench run ended with {code}, see above")
    (made,) = folder.iterdir()
    pytestconfig.stash[MADE] = Run(made)
    return pytestconfig.stash[MADE]


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """What is stored holds the whole Run, so that `alexnet-bench ingest` gives it back to `compare`."""
    if MADE in config.stash:
        output_json["alexnet_bench"] = enclosed(config.stash[MADE])
