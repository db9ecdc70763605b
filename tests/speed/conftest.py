"""One Run for the session, which tests replay. Options come from the environment, ALEXNET_BENCH_BATCH=32."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.results import Run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All Cases, turn by turn; exit 1 (a Case failed) still gives a Run, whose bad Cases then fail one by one."""
    folder: Path = tmp_path_factory.mktemp("results")
    code = subprocess.run(
        [sys.executable, "-m", "bench", "run", "--out", str(folder)], stdout=subprocess.DEVNULL
    ).returncode
    if code not in (0, 1):
        pytest.fail(f"alexnet-bench run ended with {code}, see above")
    (made,) = folder.iterdir()
    return Run(made)
