"""Fixtures of tests over several nodes, or of whole nets on Teams; all take long, and are run by `make test-scale`."""

from pathlib import Path

import namespaces
import pytest

from bench.controller import nodes
from bench.controller.devices import Device, devices_on


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slow")
            item.add_marker("process")


@pytest.fixture
def two_nodes():
    """Two network namespaces, and the devices on them."""
    if why := namespaces.missing():
        pytest.skip(why)
    with namespaces.nodes(2) as made:
        yield made


@pytest.fixture
def two_devices(two_nodes, tmp_path) -> list[Device]:
    (seen := tmp_path / "seen").touch()
    reached = nodes.reached(two_nodes.given, namespaces.LAUNCH, nodes.PYTHON, seen)
    return devices_on(reached, 2, on_gpu=False, oversubscribe=True)
