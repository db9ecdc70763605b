"""Identity of the code: its digest, its commit, and whether it is as installed."""

import base64
import hashlib
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import bench
from bench.commands.cli import main
from bench.machine import code, host


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with two packages, committed, in place of the real ones."""
    for name in ("bench", "impls"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(f"{name} = 1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(code, "PACKAGES", (tmp_path / "bench", tmp_path / "impls"))
    for known in (code.digest, code.commit):
        known.cache_clear()
    yield tmp_path
    for known in (code.digest, code.commit):
        known.cache_clear()


def again(function):
    function.cache_clear()
    return function()


def test_any_change_of_a_source_changes_the_digest(checkout):
    digests = [again(code.digest)]
    (checkout / "impls/a.py").write_text("impls = 2\n")
    digests.append(again(code.digest))
    (checkout / "impls/a.py").rename(checkout / "impls/b.py")
    digests.append(again(code.digest))
    (checkout / "bench/draws.json").write_text("{}")
    digests.append(again(code.digest))
    (checkout / "bench/notes.txt").write_text("no source")
    assert again(code.digest) == digests[-1]
    assert len(set(digests)) == 4


def test_a_commit_is_named_and_a_change_of_its_sources_said(checkout):
    clean = again(code.commit)
    assert len(clean) == 12
    (checkout / "README.md").write_text("no source")
    assert again(code.commit) == clean
    (checkout / "bench/new.py").write_text("")
    assert again(code.commit) == f"{clean}, changed"


def test_without_a_checkout_or_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert again(code.commit) is None
    monkeypatch.setattr(code, "PACKAGES", (Path("/nowhere/bench"),))
    assert again(code.commit) is None


@pytest.mark.parametrize(("installed", "words"), [("x = 1\n", "installed"), ("x = 2\n", "installed, changed")])
def test_the_version_tells_an_installed_copy_from_a_changed_one(tmp_path, monkeypatch, installed, words):
    source = tmp_path / "a.py"
    source.write_text("x = 1\n")
    value = base64.urlsafe_b64encode(hashlib.sha256(installed.encode()).digest()).decode().rstrip("=")
    file = SimpleNamespace(
        parts=("bench", "a.py"), suffix=".py", hash=SimpleNamespace(value=value), locate=lambda: source
    )
    monkeypatch.setattr(code.metadata, "distribution", lambda name: SimpleNamespace(files=[file]))
    shown = CliRunner().invoke(main, ["--version"]).stdout
    assert shown == f"alexnet-bench {bench.__version__} (code {code.digest()}; {words})\n"
    source.unlink()
    assert code.installed_unchanged() is False


def test_a_runs_fingerprint_has_the_code():
    made = host.fingerprint()
    assert (made.code, made.commit) == (code.digest(), code.commit())
