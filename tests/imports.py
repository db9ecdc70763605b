"""The modules that a program imports, from sys.modules of a child."""

import subprocess
import sys

from paths import ROOT

from impls import PEERS

FRAMEWORKS = {package for framework in PEERS.values() for package in (framework.package, *framework.also)}
TABLES = {"numpy", "pandas", "matplotlib", "scipy"}


def loaded(code: str) -> set[str]:
    """Top-level names of all modules that a child has loaded after running the code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}
