"""Variables of this process that no Worker gets, and that lead to what one lacks."""

import os
import re
import site
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path

#: The dynamic linker's words for a library that it did not find, or found in another version.
UNLOADED = r"shared (object|librar)|undefined symbol|symbol lookup|version [`'].*not found"


def way_to_missing(tail: str, passed: Mapping[str, str | None]) -> str:
    """What to pass to a Worker that ended for lack of a module or library which is found from here.

    ``tail`` is the end of its stderr, ``passed`` are the variables of --env. Empty if nothing here leads to it.
    """
    missing = re.findall(r"No module named '?(\w+)", tail)
    if not missing:
        found = re.search(UNLOADED, tail) and _unseen("LD_LIBRARY_PATH", passed)
        return f"LD_LIBRARY_PATH is kept from Workers: pass {_option('LD_LIBRARY_PATH')}" if found else ""
    paths = _unseen("PYTHONPATH", passed)
    if paths and PathFinder.find_spec(missing[-1], paths.split(os.pathsep)):
        return f"PYTHONPATH is kept from Workers: pass {_option('PYTHONPATH')}"
    folders = [str(folder) for folder in Path(site.getuserbase()).glob("lib/python*/site-packages")]
    if "PYTHONNOUSERSITE" not in passed and PathFinder.find_spec(missing[-1], folders):
        base = f" {_option('PYTHONUSERBASE')}" if _unseen("PYTHONUSERBASE", passed) else ""
        return f"the user's site is kept from Workers: pass --env PYTHONNOUSERSITE={base}"
    return ""


def _unseen(name: str, passed: Mapping[str, str | None]) -> str:
    return "" if name in passed else os.environ.get(name, "")


def _option(name: str) -> str:
    """The option that passes a list of folders; absolute ones, since a Worker runs in a folder of its own."""
    parts = os.environ[name].split(os.pathsep)
    value = "" if all(map(os.path.isabs, parts)) else "=" + os.pathsep.join(map(os.path.abspath, parts))
    return f"--env {name}{value}"
