"""Find shared libraries listed in the RECORD of several distributions.

The last one installed wins, and uninstalling either breaks the other.
"""

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

SHARED_OBJECT = re.compile(r"\.(so(\.\d+)*|dylib|pyd|dll)$")


@dataclass(frozen=True)
class OwnedTwice:
    """File name of a shared library, and the distributions that own it."""

    file: str
    owners: list[str]


def owned_twice(path: Sequence[str] | None = None) -> list[OwnedTwice]:
    """Shared libraries with more than one owner among the distributions on ``path`` (default: sys.path)."""
    owners: dict[str, set[str]] = {}
    for distribution in metadata.distributions() if path is None else metadata.distributions(path=list(path)):
        record = distribution.read_text("RECORD") or ""  # missing for some editable or old installs
        home = os.path.realpath(str(distribution.locate_file("")))
        for row in csv.reader(record.splitlines()):
            if row and SHARED_OBJECT.search(row[0]):
                owners.setdefault(os.path.normpath(os.path.join(home, row[0])), set()).add(distribution.name)
    twice = {file: sorted(names) for file, names in owners.items() if len(names) > 1}
    return [OwnedTwice(os.path.basename(file), twice[file]) for file in sorted(twice)]
