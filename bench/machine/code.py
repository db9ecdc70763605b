"""Identity of the code that makes a Run: a digest of harness and adapters, their commit, and changes to them."""

import base64
import functools
import hashlib
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import bench
import impls

PACKAGES = tuple(Path(str(package.__file__)).parent for package in (bench, impls))
#: Files that decide what is timed, and how.
SOURCES = ("*.py", "*.json", "*.npz")


@functools.cache
def digest() -> str:
    """Twelve hex digits of a hash of the names and contents of all sources of bench and impls."""
    return hash_of(PACKAGES)[:12]


def hash_of(folders: Sequence[Path]) -> str:
    """Hash of the names and contents of all sources below these folders; raises OSError."""
    sha256 = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for pattern in SOURCES for path in folder.rglob(pattern)):
            source = path.read_bytes()
            sha256.update(f"{path.relative_to(folder.parent).as_posix()}\0{len(source)}\0".encode() + source)
    return sha256.hexdigest()


@functools.cache
def commit() -> str | None:
    """The git commit of a checkout, with ``changed`` if bench or impls are not as committed; None without one."""
    root = PACKAGES[0].parent
    if not (root / ".git").exists():
        return None
    try:
        git = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, check=True, timeout=10)
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        dirty = git(["git", "status", "--porcelain", "--", *(path.name for path in PACKAGES)]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}, changed" if dirty else head


def installed_unchanged() -> bool | None:
    """Whether every source is as pip installed it; None for a checkout, of which pip keeps no hashes."""
    try:
        files = metadata.distribution("alexnet-bench").files or []
    except metadata.PackageNotFoundError:
        return None
    names = {path.name for path in PACKAGES}
    own = [file for file in files if file.parts[0] in names and file.suffix == ".py" and file.hash]
    if not own:
        return None
    for file in own:
        try:
            found = hashlib.sha256(Path(str(file.locate())).read_bytes()).digest()
        except OSError:
            return False
        if file.hash and base64.urlsafe_b64encode(found).decode().rstrip("=") != file.hash.value:
            return False
    return True


def describe() -> str:
    """Version, digest and origin in one line."""
    unchanged = installed_unchanged()
    origin = "installed" if unchanged else "installed, changed" if unchanged is False else ""
    if unchanged is None:
        known = commit()
        origin = f"commit {known}" if known else "no commit known"
    return f"{bench.__version__} (code {digest()}; {origin})"
