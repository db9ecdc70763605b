"""Fixtures for users' files with a net."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def no_keras_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new Worker; a test of TensorFlow in this process has imported Keras."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of that text; its path."""

    def file(text: str | bytes, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return file
