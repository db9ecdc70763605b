"""Fixtures that tests of several packages share."""

from pathlib import Path

import pytest
from command import Command
from nets import PEERS, configured


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="module", params=PEERS)
def framework(request: pytest.FixtureRequest) -> str:
    configured(request.param)
    return request.param
