"""Fixture of tests of plots."""

import matplotlib.figure
import pytest


@pytest.fixture
def unsaved(monkeypatch):
    """A plot is laid out and not painted, which takes most of its time; each kind is painted once at the end."""
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *args, **kwargs: None)
