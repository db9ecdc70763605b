"""Fixtures shared by tests of several packages."""

import os
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for this process: a second thread slows the products of small nets
import numpy as np  # noqa: F401 (reads the variable)
import pytest
from command import Command, Inline
from nets import PEERS, configured

del os.environ["OPENBLAS_NUM_THREADS"]  # child processes keep their default

#: Fixtures that start a process or a framework; tests with one are marked `process`.
PROCESSES = {"command", "inline", "framework", "browser"}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if PROCESSES & set(item.fixturenames):
            item.add_marker("process")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def inline(tmp_path: Path) -> Inline:
    return Inline(tmp_path)


@pytest.fixture(scope="module", params=PEERS)
def framework(request: pytest.FixtureRequest) -> str:
    configured(request.param)
    return request.param
