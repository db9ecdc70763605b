"""Fixtures shared by tests of several packages."""

import os
import sys
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for this process: a second thread slows the products of small nets
import gpus
import numpy as np  # noqa: F401 (reads the variable)
import pytest
from command import Command, Inline
from nets import PEERS, configured
from paths import ROOT

from bench.machine import gpu

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


@pytest.fixture
def no_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu.start_nvml.cache_clear()
    yield
    gpu.start_nvml.cache_clear()


@pytest.fixture
def nvml(monkeypatch, tmp_path):
    """A function that puts these cards in place of NVML's."""

    def put(*cards, **state):
        variables = gpus.with_cards(tmp_path, *cards, **state)
        monkeypatch.setenv("NVML_STAND_IN", variables["NVML_STAND_IN"])
        monkeypatch.syspath_prepend(str(ROOT / "tests/stand_ins"))
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)
        gpu.start_nvml.cache_clear()

    yield put
    sys.modules.pop("pynvml", None)
    gpu.start_nvml.cache_clear()
