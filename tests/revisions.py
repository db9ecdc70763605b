"""Checkouts of impls that differ from this one, for tests that compare two revisions."""

import shutil
from pathlib import Path

from paths import ROOT

#: The passes of the null Net, and passes of 4 ms to replace them.
PASSES = """    def forward(self) -> Any:
        self.turn = 1 - self.turn
        return self.turn
"""
SPINNING = """    def forward(self) -> Any:
        until = time.perf_counter_ns() + 4_000_000
        while time.perf_counter_ns() < until:
            pass
        self.turn = 1 - self.turn
        return self.turn
"""


def revision(folder: Path, file: str = "null_alexnet.py", old: str = "", new: str = "") -> Path:
    """A checkout with a copy of impls in which ``old`` is replaced by ``new`` in one file."""
    shutil.copytree(ROOT / "impls", folder / "impls", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "impls" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder
