"""Fixtures of tests of the report page."""

import pytest
from pages import DRAWN

from bench.output.page import figures
from bench.output.plots import kinds


@pytest.fixture
def quick_plots(request, monkeypatch):
    """A plot that costs nothing in place of each, in this process, but for a test that asks for real ones."""
    if "real_plots" not in request.fixturenames:
        monkeypatch.setattr(figures, "may_fork", lambda: False)
        for name in kinds.KINDS:
            monkeypatch.setattr(f"bench.output.plots.{name}.draw_files", lambda paths, target: target.write_text(DRAWN))


@pytest.fixture
def real_plots():
    """Named by a test that draws, or asks where."""
